// CSV as RFC 4180 has it, and the few ways in which files differ from it.

export class Unreadable extends Error {}

// Returns the text of a file. Raises Unreadable where it is no text.
export async function textOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    if (bytes.subarray(0, 4096).includes(0)) throw new Unreadable("This is no text. Give a CSV.");
    return new TextDecoder("windows-1252").decode(bytes); // what old spreadsheets write
  }
}

// Returns rows of cells. Raises Unreadable where a quote is never closed.
export function parse(text, separator = likelySeparator(text)) {
  const rows = [];
  let row = [];
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  const end = text.length;
  while (at < end) {
    let cell;
    if (text[at] === '"') {
      [cell, at] = quoted(text, at, separator, rows.length + 1);
    } else {
      const begin = at;
      while (at < end && text[at] !== separator && text[at] !== "\n" && text[at] !== "\r") at += 1;
      cell = text.slice(begin, at);
    }
    row.push(cell);
    if (text[at] === separator) {
      at += 1;
      if (at < end) continue;
      row.push("");
    }
    if (text[at] === "\r") at += 1;
    if (text[at] === "\n") at += 1;
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  }
  return rows;
}

function quoted(text, begin, separator, number) {
  let cell = "";
  let at = begin + 1;
  for (;;) {
    const close = text.indexOf('"', at);
    if (close < 0) throw new Unreadable(`Row ${number} has a quote that is never closed.`);
    cell += text.slice(at, close);
    if (text[close + 1] !== '"') {
      at = close + 1;
      break;
    }
    cell += '"';
    at = close + 2;
  }
  const begins = at; // what stands behind the quote belongs to the cell, as spreadsheets read it
  while (at < text.length && text[at] !== separator && text[at] !== "\n" && text[at] !== "\r") at += 1;
  return [cell + text.slice(begins, at), at];
}

function likelySeparator(text) {
  const line = text.slice(0, 10_000).split(/[\r\n]/, 1)[0].replace(/"[^"]*"/g, "");
  const times = (mark) => line.split(mark).length;
  return [",", ";", "\t"].reduce((best, mark) => (times(mark) > times(best) ? mark : best));
}

// Returns a CSV that no spreadsheet takes for formulas: see `harmless`.
export function format(rows) {
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  const text = harmless(String(value));
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A spreadsheet computes what begins with one of these, and a review from elsewhere may do anything
// there (OWASP, "CSV injection"). An apostrophe makes it text. Numbers are numbers.
function harmless(text) {
  const formula = /^[\s\0]*[=+\-@＝＋－＠]|^[\t\r\n]/.test(text);
  return formula && !/^[+-]?\d+([.,]\d+)?$/.test(text) ? `'${text}` : text;
}

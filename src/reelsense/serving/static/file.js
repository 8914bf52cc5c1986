// A file of reviews: read here, answered in batches, shown as a table, given back as a CSV.

import { Refusal, ask, model } from "./api.js";
import { histogram } from "./charts.js";
import { Unreadable, format, parse, textOf } from "./csv.js";
import { capital, count, element, percent } from "./show.js";

const LARGEST = 64 * 2 ** 20; // bytes; several times that in memory, and `reelsense score` takes any
// Texts of a request, and requests at a time: the server has work while an answer is on its way, and
// no request waits so long for the one before it that it is refused.
const TOGETHER = 16;
const SIDE_BY_SIDE = 2;
const PAGE = 50; // rows of the table at a time
const BINS = 20;
const REDRAWN = 250; // ms
const LABELS = ["negative", "uncertain", "positive"];
const COLUMNS = ["label", "probability", "tokens", "unknown", "truncated"];

// Makes the view work. `look` is called with a text that is to be seen by itself.
export function mountFile(view, samples, look) {
  const find = (selector) => view.querySelector(selector);
  const encoder = new TextEncoder();

  let table = null; // {name, head, body}: cells as they are in the file
  let rows = []; // {row, cells, text}, and the answer once it is there
  let running = null; // what stops the requests
  let shown = { key: "row", down: false, label: "all", page: 0 };
  let drawn = 0; // when the table was last drawn

  find("input[type=file]").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same file may be chosen again
    if (file) open(file);
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (view.hidden || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      find(".drop").classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) find(".drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (view.hidden) return;
    event.preventDefault();
    find(".drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) open(file);
  });
  find(".sample").addEventListener("click", () => {
    const body = samples.map(({ name, text }) => [name, text]);
    take({ name: "a sample", head: ["example", "text"], body });
  });
  find(".cancel").addEventListener("click", () => running?.abort());
  find(".job-column").addEventListener("change", (event) => start(Number(event.target.value)));
  find(".download").addEventListener("click", download);
  find(".earlier").addEventListener("click", () => turn(-1));
  find(".later").addEventListener("click", () => turn(1));
  for (const button of view.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const key = button.dataset.key;
      shown = { ...shown, key, down: shown.key === key && !shown.down, page: 0 };
      drawTable();
    });
  }

  function refuse(message) {
    find(".file-wrong").textContent = message;
    find(".file-wrong").hidden = !message;
  }

  async function open(file) {
    running?.abort();
    refuse("");
    try {
      if (file.size > LARGEST) {
        throw new Unreadable(`${file.name} has ${Math.round(file.size / 2 ** 20)} MB, more than a `
          + `browser holds well. The command reelsense score ${file.name} answers.csv takes any.`);
      }
      take(read(file.name, await textOf(file)));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      refuse(error.message);
    }
  }

  function take(found) {
    refuse("");
    table = found;
    const column = likelyColumn(table);
    find(".job-name").textContent = `${table.name}: ${count(table.body.length, "row")}`;
    find(".job-column").replaceChildren(...table.head.map((name, place) =>
      element("option", { value: place }, name || `column ${place + 1}`)));
    find(".job-column").value = column;
    find(".job").hidden = false;
    start(column);
  }

  async function start(column) {
    running?.abort();
    const mine = new AbortController();
    running = mine;
    shown = { key: "row", down: false, label: "all", page: 0 };
    rows = table.body.map((cells, place) => ({ row: place + 1, cells, text: cells[column] ?? "" }));
    const todo = rows;
    const begin = performance.now();
    find(".running").hidden = false;
    find(".download").disabled = true;
    find(".job-said").textContent = "";
    progress(todo, begin);
    draw();
    let said;
    try {
      await answer(todo, mine.signal, () => {
        progress(todo, begin);
        if (performance.now() - drawn > REDRAWN) draw();
      });
      said = "All rows are answered.";
    } catch (error) {
      if (mine.signal.aborted && running !== mine) return; // another file has taken its place
      if (!mine.signal.aborted && !(error instanceof Refusal)) throw error;
      if (!mine.signal.aborted) refuse(error.message);
      said = `Stopped after ${count(todo.filter(isAnswered).length, "row")}.`;
      mine.abort();
    }
    find(".running").hidden = true;
    find(".download").disabled = false;
    find(".job-said").textContent = said;
    draw();
  }

  // Gives each row its answer; a few requests at a time, of like length: short ones do not wait.
  async function answer(todo, signal, done) {
    const { limits } = await model();
    const batches = cut(todo, limits);
    const worker = async () => {
      for (let batch = batches.pop(); batch; batch = batches.pop()) {
        const texts = batch.map(({ text }) => text);
        const { predictions } = await ask("/v1/predict", { texts }, signal);
        batch.forEach((row, place) => Object.assign(row, predictions[place]));
        done();
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  }

  function cut(todo, limits) {
    const batches = [];
    let batch = [];
    let size = 0;
    for (const row of todo) {
      const bytes = encoder.encode(JSON.stringify(row.text)).length + 1;
      const long = row.text.length > limits.characters && [...row.text].length > limits.characters;
      if (long || bytes > limits.body_bytes - 100) {
        row.wrong = "too long";
        continue;
      }
      if (batch.length >= Math.min(TOGETHER, limits.texts) || size + bytes > limits.body_bytes - 100) {
        batches.push(batch);
        [batch, size] = [[], 0];
      }
      batch.push(row);
      size += bytes;
    }
    if (batch.length) batches.push(batch);
    return batches.reverse(); // taken from the end
  }

  function progress(todo, begin) {
    const done = todo.filter(isAnswered).length;
    const seconds = (performance.now() - begin) / 1000;
    const bar = find("progress");
    bar.max = Math.max(1, todo.length);
    bar.value = done;
    const pace = done / seconds;
    const left = done ? `, about ${count(Math.ceil((todo.length - done) / pace), "second")} left` : "";
    find(".job-progress").textContent = `${done.toLocaleString("en")} of ${count(todo.length, "row")}${left}`;
  }

  function draw() {
    drawn = performance.now();
    drawHistogram();
    drawFilter();
    drawTable();
  }

  async function drawHistogram() {
    const { confidence } = await model();
    const answered = rows.filter(isAnswered);
    const counts = new Array(BINS).fill(0);
    for (const { probability } of answered) counts[Math.min(BINS - 1, Math.floor(BINS * probability))] += 1;
    const of = (label) => answered.filter((row) => row.label === label).length;
    const said = `How many reviews have which probability of being positive: ${LABELS.map((label) =>
      `${of(label)} ${label}`).join(", ")}.`;
    find(".histogram").replaceChildren(
      element("figcaption", {}, "How sure it is"), histogram(said, counts, [1 - confidence, confidence]));
  }

  function drawFilter() {
    const kinds = ["all", ...LABELS.toReversed(), ...(rows.some((row) => !isAnswered(row)) ? ["unanswered"] : [])];
    if (!kinds.includes(shown.label)) shown.label = "all";
    const legend = find(".filter legend");
    const had = find(".filter").contains(document.activeElement);
    find(".filter").replaceChildren(legend, ...kinds.map((kind) => {
      const input = element("input", { type: "radio", name: "filter", value: kind });
      input.checked = kind === shown.label;
      input.addEventListener("change", () => {
        shown = { ...shown, label: kind, page: 0 };
        drawTable();
      });
      const number = rows.filter((row) => isOf(row, kind)).length.toLocaleString("en");
      return element("label", { class: kind }, input, ` ${capital(kind)} `, element("span", { class: "number" }, number));
    }));
    if (had) find(".filter input:checked").focus();
  }

  function selected() {
    const found = rows.filter((row) => isOf(row, shown.label));
    const value = {
      row: (row) => row.row,
      label: (row) => LABELS.indexOf(row.label),
      probability: (row) => row.probability ?? -1,
      text: (row) => row.text.toLowerCase(),
    }[shown.key];
    const order = shown.down ? -1 : 1;
    return found.sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      return order * (one < other ? -1 : one > other ? 1 : 0) || a.row - b.row;
    });
  }

  function drawTable() {
    const found = selected();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    shown.page = Math.min(shown.page, pages - 1);
    const first = shown.page * PAGE;
    for (const button of view.querySelectorAll("thead button")) {
      const mine = button.dataset.key === shown.key;
      button.parentElement.toggleAttribute("aria-sort", mine);
      if (mine) button.parentElement.setAttribute("aria-sort", shown.down ? "descending" : "ascending");
    }
    find("tbody").replaceChildren(...found.slice(first, first + PAGE).map(drawRow));
    const last = Math.min(first + PAGE, found.length);
    find(".pages-said").textContent = found.length
      ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${found.length.toLocaleString("en")}`
      : "No row is like that.";
    find(".earlier").disabled = shown.page === 0;
    find(".later").disabled = shown.page >= pages - 1;
  }

  function drawRow(row) {
    const text = row.text.length > 300 ? `${row.text.slice(0, 300)}…` : row.text;
    const button = element("button", { type: "button", class: "look", title: "Look at it word by word" }, text || "(empty)");
    button.addEventListener("click", () => look(row.text));
    return element("tr", { class: row.label ?? "unanswered" },
      element("td", { class: "figure" }, row.row.toLocaleString("en")),
      element("td", {}, element("span", { class: "tag" }, row.label ?? row.wrong ?? "")),
      element("td", { class: "figure" }, isAnswered(row) ? percent(row.probability) : ""),
      element("td", {}, button));
  }

  function turn(by) {
    shown.page += by;
    drawTable();
    find(".table-place").scrollTop = 0;
  }

  function download() {
    const taken = COLUMNS.some((name) => table.head.includes(name));
    const names = COLUMNS.map((name) => (taken ? `predicted_${name}` : name));
    const width = table.head.length;
    const lines = rows.map((row) => [
      ...Array.from({ length: Math.max(width, row.cells.length) }, (_, place) => row.cells[place] ?? ""),
      ...COLUMNS.map((name) => row[name] ?? ""),
    ]);
    const file = new Blob([format([[...table.head, ...names], ...lines])], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: `${stem(table.name)}-answers.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

function isAnswered(row) {
  return row.label !== undefined;
}

function isOf(row, kind) {
  if (kind === "all") return true;
  return kind === "unanswered" ? !isAnswered(row) : row.label === kind;
}

// Returns the table of a file: its first row is its head, unless that holds a text.
function read(name, text) {
  if (/\.txt$/i.test(name)) {
    const body = text.split(/\r\n|\r|\n/).filter((line) => line.trim()).map((line) => [line]);
    return filled({ name, head: ["text"], body });
  }
  const all = parse(text, /\.tsv$/i.test(name) ? "\t" : undefined);
  const headless = all.length > 0 && all[0].some((cell) => cell.length > 60);
  if (!headless) return filled({ name, head: all[0] ?? [], body: all.slice(1) });
  return filled({ name, head: all[0].map((_, place) => `column ${place + 1}`), body: all });
}

function filled(table) {
  if (!table.body.length) throw new Unreadable(`${table.name} has no row of texts below its first row.`);
  return table;
}

// Returns the column named like one of texts, or else the one with the longest cells.
function likelyColumn({ head, body }) {
  const named = head.findIndex((name) => /^(text|review|comment|content|body|sentence)s?$/i.test(name.trim()));
  if (named >= 0) return named;
  const some = body.slice(0, 200);
  const length = head.map((_, place) => some.reduce((sum, cells) => sum + (cells[place] ?? "").length, 0));
  return length.indexOf(Math.max(...length));
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "").replaceAll(" ", "-");
}

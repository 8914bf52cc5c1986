"""Rows out of a file of reviews, one at a time, as they stand there: CSV, TSV, JSONL, plain text.

A row that cannot be scored is a row all the same, with what is wrong with it. Only what leaves no
rows to speak of (no text column, a damaged archive) is an error.
"""

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, Final, NamedTuple

from reelsense.errors import BadInput
from reelsense.inference.forms import DAMAGE
from reelsense.text.tables import TEXT_COLUMNS, find_column, find_delimiter

# The model reads 32,768 words and marks of a text, its beginning and its end. What is this long is
# no review but a book or a broken file, and takes a gigabyte to cut into words.
LONGEST: Final = 1_000_000  # characters
MEGABYTES: Final = 64
ROW: Final = MEGABYTES << 20  # bytes of a row: a quote that is never closed ends there
AHEAD: Final = 1000  # lines that are tried for the first row of a JSONL file
ODD: Final = re.compile("[\ud800-\udfff]")  # bytes that are not UTF-8, and halves of characters


class Problem(NamedTuple):
    """Why a row cannot be scored: empty, null, too long, encoding or broken; and in words."""

    kind: str
    said: str


class Row(NamedTuple):
    """A row of a file.

    number: from 1, as rows are counted without a header; line: where it begins, 0 without lines.
    text: of the review; "" where there is a problem.
    raw: the row as it stands, without its line end.
    cells: of CSV; the object of JSONL, None if it is none; of Parquet a batch and a place in it.
    size: about how many bytes it holds.
    """

    number: int
    line: int
    text: str
    problem: Problem | None
    raw: str
    cells: Any
    size: int


@dataclass(frozen=True)
class Header:
    """What stands above the rows: their columns, of JSONL those of its first row.

    line: the header of a CSV as it stands, without its mark of UTF-8 (`mark`) and its line end.
    schema: of a Parquet file.
    """

    columns: tuple[str, ...]
    text: str
    line: str = ""
    mark: str = ""
    end: str = "\n"
    delimiter: str = ""
    schema: Any = None


def read_rows(
    file: IO[bytes], name: str, kind: str, text_column: str | None
) -> tuple[Header, Iterator[Row]]:
    """Return the header and the rows of a file without compression that is not Parquet.

    Raises:
        BadInput: there is no text column, or the file is damaged; names the file and the line.
    """
    lines = _lines(file, name)
    if kind == "text":
        if text_column not in (None, "text"):
            raise BadInput(
                f"{name}: --text-column {text_column}: plain text has no columns, a line is a "
                "review; leave it out"
            )
        return Header(("text",), "text"), _text_rows(lines)
    if kind == "jsonl":
        return _json_rows(lines, name, text_column)
    return _csv_rows(lines, name, kind, text_column)


def problem_of(text: object, raw: str) -> Problem | None:
    """Return what keeps a text, and the row that it stands in, from being scored."""
    if text is None:
        return Problem("null", "the text is null")
    if not isinstance(text, str):
        return Problem("broken", f"the text is not a text but {_short(text)}")
    if not raw.isascii() and (odd := ODD.search(raw)):
        return Problem("encoding", _odd(odd[0]))
    if not text.isascii() and (odd := ODD.search(text)):
        return Problem("encoding", _odd(odd[0]))
    if "\0" in raw or "\0" in text:
        return Problem("encoding", "it has NUL bytes, as UTF-16 has, or a broken file")
    if len(text) > LONGEST:
        said = f"the text has {len(text):,} characters, more than {LONGEST:,}"
        return Problem("too long", said)
    return None if text.strip() else Problem("empty", "the text is empty")


def _odd(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # what Python reads an odd byte as
        return f"the byte 0x{number - 0xDC00:02x} is not UTF-8"
    return f"it has half a character, \\u{number:04x}"


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else text[:37] + "..."


def _lines(file: IO[bytes], name: str) -> Iterator[str]:
    """Yield lines with their ends; a byte that is not UTF-8 becomes a surrogate, as Python's do."""
    number = 0
    while True:
        try:
            raw = file.readline(ROW + 1)
        except DAMAGE as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise BadInput(
                f"{name}: cut short or damaged behind line {number:,} ({reason}); get it again"
            ) from None
        if not raw:
            return
        number += 1
        if len(raw) > ROW:
            raise BadInput(
                f"{name}: line {number:,} is longer than {MEGABYTES} MB; take it out, or end lines "
                "with a line feed"
            )
        if number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadInput(
                f"{name}: UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 IN > OUT"
            )
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            yield raw.decode("utf-8", "surrogateescape")


def _text_rows(lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        raw = (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\r\n")
        problem = problem_of(raw, raw)
        yield Row(number, number, "" if problem else raw, problem, raw, [raw], len(raw))


def _json_rows(
    lines: Iterator[str], name: str, text_column: str | None
) -> tuple[Header, Iterator[Row]]:
    """Return the columns of the first object, and a row a line; blank lines are none."""
    parsed = _objects(lines)
    before = []
    for row in parsed:
        before.append(row)
        if row.cells is not None:
            break
        if len(before) == AHEAD:
            raise BadInput(f"{name}: none of its first {AHEAD:,} lines is a JSON object")
    if not before:
        raise BadInput(f"{name}: the file is empty")
    if (problem := before[-1].problem) is not None:
        raise BadInput(
            f"{name}: no line is a JSON object (line {before[-1].line}: {problem.said}); "
            'each line needs the form {"text": "..."}'
        )
    columns = tuple(before[-1].cells)
    column = find_column(name, columns, text_column, TEXT_COLUMNS, "text")
    rows = (_with_text(row, column) for row in chain(before, parsed))
    return Header(columns, column), rows


def _objects(lines: Iterator[str]) -> Iterator[Row]:
    """Yield the lines as rows whose text has not been looked at."""
    count = 0
    for number, line in enumerate(lines, 1):
        raw = (line.removeprefix("\ufeff") if number == 1 else line).strip()
        if not raw:
            continue
        count += 1
        problem, value = None, None
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            problem = Problem("broken", f"not JSON ({error})")
        if problem is None and not isinstance(value, dict):
            problem, value = Problem("broken", f"not a JSON object but {_short(value)}"), None
        yield Row(count, number, "", problem, raw, value, len(raw))


def _with_text(row: Row, column: str) -> Row:
    """Return a row of JSONL with its text."""
    if row.problem is not None:
        return row
    if column not in row.cells:
        return row._replace(problem=Problem("null", f"it has no {_short(column)}"))
    text = row.cells[column]
    problem = problem_of(text, row.raw)
    return row._replace(text="" if problem else text, problem=problem)


def _csv_rows(
    lines: Iterator[str], name: str, kind: str, text_column: str | None
) -> tuple[Header, Iterator[Row]]:
    """Return the header and the rows below it; blank lines are none."""
    first = next(lines, "")
    mark = "\ufeff" if first.startswith("\ufeff") else ""
    first = first.removeprefix(mark)
    delimiter = find_delimiter(f".{kind}", first)
    records = _records(chain([first], lines), delimiter)
    line, raw, cells, reason = next(records, (0, "", [], ""))
    if cells is None:
        raise BadInput(f"{name}: the header (line {line}) cannot be read: {reason}")
    if not cells:
        raise BadInput(f"{name}: the file is empty")
    if ODD.search(raw) or "\0" in raw:
        raise BadInput(f"{name}: the header is not UTF-8; convert the file with iconv")
    if len(set(cells)) < len(cells):
        twice = next(cell for cell in cells if cells.count(cell) > 1)
        raise BadInput(f"{name}: two columns are called {_short(twice)}; rename one")
    column = find_column(name, cells, text_column, TEXT_COLUMNS, "text")
    end = "\r\n" if first.endswith("\r\n") else "\n"
    header = Header(tuple(cells), column, raw, mark, end, delimiter)
    return header, _below(records, header)


def _below(
    records: Iterator[tuple[int, str, list[str] | None, str]], header: Header
) -> Iterator[Row]:
    place, width = header.columns.index(header.text), len(header.columns)
    for number, (line, raw, cells, reason) in enumerate(records, 1):
        text, problem = "", None
        if cells is None:
            problem = Problem("broken", f"it cannot be read: {reason}")
        elif len(cells) != width:
            problem = Problem(
                "broken",
                f"it has {len(cells)} columns where the header has {width}; a text with "
                "separators in it needs quotes around it",
            )
        else:
            problem = problem_of(cells[place], raw)
            text = "" if problem else cells[place]
        yield Row(number, line, text, problem, raw, [raw] if cells is None else cells, len(raw))


def _records(
    lines: Iterator[str], delimiter: str
) -> Iterator[tuple[int, str, list[str] | None, str]]:
    """Yield (first line, the record as it stands, its cells, ""), blank lines left out.

    A record that cannot be read is its first line, without cells and with the reason; the next
    begins on the line behind: an unbalanced quote does not swallow the rows that follow.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses a field over 128 kB
    ahead: deque[str] = deque()
    taken: list[str] = []

    def feed() -> Iterator[str]:
        size = 0
        while True:
            size = size + len(taken[-1]) if taken else 0
            line = ahead.popleft() if ahead else next(lines, None)
            if line is None or size > ROW:
                if line is not None:
                    ahead.appendleft(line)
                return
            taken.append(line)
            yield line

    number = 1
    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, taken[0].rstrip("\r\n"), None, _why(str(error))
            number += 1
            ahead.extendleft(reversed(taken[1:]))
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
            continue
        if cells:
            raw = taken[0] if len(taken) == 1 else "".join(taken)
            yield number, raw.rstrip("\r\n"), cells, ""
        number += len(taken)


def _why(error: str) -> str:
    """Return in the user's words what the csv module says."""
    if "unexpected end" in error:
        return "a quote is opened and never closed"
    if "expected after" in error:
        return 'an unbalanced quote (a text in quotes doubles the quotes inside it: "")'
    return "a carriage return ends no line; make it a line feed" if "new-line" in error else error

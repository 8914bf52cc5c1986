"""Rows and their answers as the bytes of an output. Every other column stays as it was.

Where input and output are written alike, a row's own characters are kept and the answers stand
behind them: a number keeps its digits, an object the order of its keys.
"""

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reelsense.errors import BadInput
from reelsense.inference import parquet
from reelsense.inference.forms import Form, pack
from reelsense.inference.places import BUFFER
from reelsense.inference.rows import ODD, Header, Problem, Row

ADDED: Final = ("label", "probability", "tokens", "unknown", "truncated")
EXPLAINED: Final = ("logit", "evidence")
PREFIXES: Final = ("", "predicted_", "reelsense_")

Answer = Mapping[str, Any]  # a value for each of ADDED and, if asked for, EXPLAINED


@dataclass(frozen=True)
class Output:
    """What an output looks like.

    names: of each answer the name of its column.
    columns: of the input, with Arrow's name of what they hold; for outputs whose columns must be
        known beforehand, where the input does not say them.
    """

    form: Form
    source: str  # the kind of the input
    header: Header
    names: Mapping[str, str]
    columns: Mapping[str, str]

    @property
    def keeps_raw(self) -> bool:
        """Say whether rows are kept by their own characters."""
        return self.form.kind == self.source and self.form.kind != "parquet"


def names_for(columns: Sequence[str], explained: bool, name: str) -> dict[str, str]:
    """Return the name of each answer's column: its own, or with a prefix if one is taken.

    Raises:
        BadInput: they are taken with every prefix.
    """
    answers = (*ADDED, *EXPLAINED) if explained else ADDED
    for prefix in PREFIXES:
        names = {answer: prefix + answer for answer in answers}
        if not set(names.values()) & set(columns):
            return names
    raise BadInput(f"{name}: has columns {PREFIXES[-1]}... already; rename or drop them")


def collision(row: Row, output: Output) -> Problem | None:
    """Return what is wrong with an object that has a key which the first one did not have."""
    if isinstance(row.cells, dict) and (taken := set(output.names.values()) & row.cells.keys()):
        return Problem("broken", f"it has a key {min(taken)!r}, which the answers need")
    return None


def head(output: Output) -> bytes:
    """Return what stands above the rows."""
    if output.form.kind not in ("csv", "tsv"):
        return b""
    header, names = output.header, list(output.names.values())
    if output.keeps_raw:
        line = header.delimiter.join([header.line, *names])
        return f"{header.mark}{line}{header.end}".encode()
    return _csv_lines([[*_column_names(output), *names]], output.form.kind)


def encode(output: Output, rows: Sequence[Row], answers: Sequence[Answer | None]) -> bytes:
    """Return rows and their answers, None where a row has none, in a form that is not Parquet."""
    if output.form.kind == "jsonl":
        return _json(output, rows, answers)
    pairs = [
        (row, [_cell(answer[key] if answer else None) for key in output.names])
        for row, answer in zip(rows, answers, strict=True)
    ]
    if not output.keeps_raw:
        lines = [[*_cells(output, row), *added] for row, added in pairs]
        return _csv_lines(lines, output.form.kind)
    header = output.header
    return _utf8(
        "".join(
            header.delimiter.join([_raw(row, header), *map(_quoted, added)]) + header.end
            for row, added in pairs
        )
    )


def encode_table(output: Output, rows: Sequence[Row], answers: Sequence[Answer | None]) -> Any:
    """Return rows and their answers as an Arrow table."""
    if output.source == "parquet":
        table = parquet.taken(rows) if rows else output.header.schema.empty_table()
    else:
        cells = [
            {
                name: _arrow_value(value, output.columns[name])
                for name, value in zip(output.columns, _values(output, row), strict=True)
            }
            for row in rows
        ]
        table = parquet.typed(output.columns, cells)
    none = dict.fromkeys(output.names)
    return parquet.with_answers(table, output.names, [answer or none for answer in answers])


def write_part(
    output: Output, path: Path, first: bool, rows: Sequence[Row], answers: Sequence[Answer | None]
) -> None:
    """Write a part of an output, the header in the first."""
    if output.form.kind == "parquet":
        parquet.write_table(path, encode_table(output, rows, answers))
        return
    data = (head(output) if first else b"") + encode(output, rows, answers)
    path.write_bytes(pack(data, output.form.packed) if data else b"")


def join_parts(output: Output, parts: Sequence[Path], target: Path) -> None:
    """Make one file of the parts."""
    if output.form.kind == "parquet":
        parquet.join_tables(parts, target)
        return
    with target.open("wb") as file:
        for part in parts:
            with part.open("rb") as one:
                shutil.copyfileobj(one, file, BUFFER)
        if not file.tell():  # an archive of nothing is not a file of nothing
            file.write(pack(b"", output.form.packed))


def _json(output: Output, rows: Sequence[Row], answers: Sequence[Answer | None]) -> bytes:
    """Return a line of JSON a row. A row that is no object keeps its characters as a text."""
    lines = []
    for row, answer in zip(rows, answers, strict=True):
        added = {name: answer[key] if answer else None for key, name in output.names.items()}
        if output.keeps_raw and row.cells is not None:
            inside = row.raw[:-1].rstrip() + (", " if row.cells else "")
            lines.append(inside + json.dumps(added, ensure_ascii=False)[1:])
            continue
        if row.cells is None:
            values: dict[str, Any] = {output.header.text: row.raw}
        elif output.source == "parquet":
            values = {key: _finite(value) for key, value in parquet.cells_of(row).items()}
        else:
            values = dict(zip(_column_names(output), _cells(output, row), strict=True))
        line = json.dumps(values | added, ensure_ascii=False, default=str)
        lines.append(json.dumps(values | added, default=str) if ODD.search(line) else line)
    return _utf8("".join(f"{line}\n" for line in lines))


def _finite(value: Any) -> Any:
    """Return a value as JSON has it, which knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utf8(text: str) -> bytes:
    """Return a text's bytes; an odd byte is as it was, half a character is spelt out."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _column_names(output: Output) -> list[str]:
    """Return the columns of the input in an output that must know them."""
    return list(output.columns or output.header.columns)


def _values(output: Output, row: Row) -> list[Any]:
    """Return the values of a row under `_column_names`."""
    names = _column_names(output)
    if output.source == "parquet":
        return list(parquet.cells_of(row).values())
    if output.source == "jsonl":
        if row.cells is None:
            return [row.raw if name == output.header.text else None for name in names]
        return [row.cells.get(name) for name in names]
    return _fitted(row.cells, output.header)


def _cells(output: Output, row: Row) -> list[str]:
    return [_cell(value) for value in _values(output, row)]


def _raw(row: Row, header: Header) -> str:
    """Return a row of CSV by its own characters; one of other columns by its cells, mended."""
    if row.problem is None or row.problem.kind != "broken":
        return row.raw
    return _csv_line(_fitted(row.cells, header), header.delimiter)


def _fitted(cells: Sequence[str], header: Header) -> list[str]:
    """Return as many cells as the header has; what is too much stays with the last."""
    width = len(header.columns)
    if len(cells) > width:
        return [*cells[: width - 1], header.delimiter.join(cells[width - 1 :])]
    return [*cells, *[""] * (width - len(cells))]


def _cell(value: Any) -> str:
    """Return a value as a cell: JSON for what is no text, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def _arrow_value(value: Any, kind: str) -> Any:
    """Return a value as a column of that kind takes it."""
    if value is None or kind in ("float64", "int64", "bool"):
        return value
    text = value if isinstance(value, str) else _cell(value)
    # A column of text holds UTF-8: an odd byte is shown as it is in Python, \udce9.
    return text.encode("utf-8", "backslashreplace").decode() if ODD.search(text) else text


def _quoted(cell: str) -> str:
    """Return an answer as a cell of any CSV; labels and numbers need no quotes."""
    return '"' + cell.replace('"', '""') + '"' if '"' in cell or "," in cell else cell


def _csv_lines(lines: Sequence[Sequence[str]], kind: str) -> bytes:
    delimiter = "\t" if kind == "tsv" else ","
    return _utf8("".join(f"{_csv_line(cells, delimiter)}\n" for cells in lines))


def _csv_line(cells: Sequence[str], delimiter: str) -> str:
    line = io.StringIO()
    # A cell that has a character of the line end is quoted, so the line end names both.
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")

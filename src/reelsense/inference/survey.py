"""An input opened, and its first reading, before anything is scored.

The first reading takes a hundredth of the time that the scores take: what is wrong with a row is
said before them, and how long they will take is known.
"""

import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, NamedTuple

from reelsense.errors import BadInput
from reelsense.inference import places
from reelsense.inference.forms import Form, unpacked
from reelsense.inference.parquet import read_parquet
from reelsense.inference.places import PIPE
from reelsense.inference.request import Request
from reelsense.inference.rows import Header, Row, read_rows


class Seen(NamedTuple):
    """Progress: what is going on, rows so far, of how many (0: nobody knows), new errors."""

    doing: str
    rows: int
    of: int
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a first reading finds: rows, and for JSONL its columns with Arrow's names of types."""

    rows: int
    columns: Mapping[str, str]


def open_input(source: str) -> IO[bytes]:
    """Return the bytes of a file, or of standard input."""
    return sys.stdin.buffer if source == PIPE else places.open_to_read(source)


def rows_of(
    file: IO[bytes], source: str, form: Form, request: Request, skip: int = 0, survey: bool = False
) -> tuple[Header, Iterator[Row]]:
    """Return the header and the rows of an opened file behind the first `skip`."""
    name = "standard input" if source == PIPE else source
    if form.kind == "parquet":
        return read_parquet(file, name, request.text_column, skip, all_columns=not survey)
    plain = unpacked(file, name, None if source == PIPE else form.packed)
    header, rows = read_rows(plain, name, form.kind, request.text_column)
    return header, islice(rows, skip, None)


def surveyed(source: str, form: Form, request: Request) -> Generator[Seen, None, Survey]:
    """Read a file once: how many rows, of what, and is there one that cannot be scored?

    Raises:
        BadInput: there is, and `on_error` is "stop".
    """
    count, kinds = 0, dict[str, set[str]]()
    with closing(open_input(source)) as file:
        header, rows = rows_of(file, source, form, request, survey=True)
        for row in rows:
            if row.problem is not None and request.on_error == "stop":
                raise BadInput(refusal(source, row))
            if form.kind == "jsonl" and row.cells is not None:
                for name, value in row.cells.items():
                    kinds.setdefault(name, set()).add(_kind_of(value))
            count = row.number
            if count % 4096 == 0:
                yield Seen("Reading", count, 0)
    kinds.setdefault(header.text, set()).add("string")
    return Survey(count, {name: _common(found) for name, found in kinds.items()})


def _kind_of(value: Any) -> str:
    """Return Arrow's name for the column that would hold a value of JSON; "" for any."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else "string"
    return "float64" if isinstance(value, float) else "string"


def _common(kinds: set[str]) -> str:
    """Return the column that holds values of all these kinds; text where they differ."""
    known = kinds - {""}
    if known == {"int64", "float64"}:
        return "float64"
    return known.pop() if len(known) == 1 else "string"


def header_of(source: str, form: Form, request: Request) -> Header:
    """Return the header of a file."""
    with closing(open_input(source)) as file:
        return rows_of(file, source, form, request)[0]


def refusal(source: str, row: Row) -> str:
    """Return what to say of the first row that cannot be scored."""
    assert row.problem is not None
    line = f" (line {row.line:,})" if row.line else ""
    name = "standard input" if source == PIPE else source
    return (
        f"{name}: row {row.number:,}{line}: {row.problem.said}; mend it, or give --on-error keep "
        "or skip, which list such rows"
    )

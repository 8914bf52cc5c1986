"""The user's own reviews: CSV, TSV, JSONL or Parquet, with its columns and labels found or named.

Gives plain columns; knows nothing of `Reviews`.
"""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import INSTALL, BadInput, Failure

TEXT_COLUMNS = [
    "review", "text", "sentence", "comment", "content", "body", "document",
    "review_text", "reviewtext", "review_body", "comment_text",
]  # fmt: skip
LABEL_COLUMNS = ["sentiment", "label", "labels", "class", "target", "polarity", "category"]
FILM_COLUMNS = ["film", "film_id", "movie", "movie_id", "imdb_id", "imdbid", "tconst", "tt"]
LABEL_NAMES = {
    "0": 0, "neg": 0, "negative": 0, "false": 0,
    "1": 1, "pos": 1, "positive": 1, "true": 1,
}  # fmt: skip


class Table(NamedTuple):
    """The rows of a file that have a text; fields as those of `Reviews`."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: NDArray[np.int8]
    films: NDArray[np.int64]
    empty: int  # rows left out


class _Columns(NamedTuple):
    text: str
    label: str | None
    film: str | None


class _Row(NamedTuple):
    id: str  # "row 17"
    place: str  # the same for an error message: "row 17 (line 19)"
    text: Any
    label: Any
    film: Any


_Choose = Callable[[Sequence[str]], _Columns]


def read_table(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    label_values: tuple[str, str] | None,
    labelled: bool,
) -> Table:
    """Read a file whole; the arguments are those of `read_reviews`.

    Raises:
        BadInput: the file cannot be used; the message names the file and the row.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(
            f"{path}: unknown kind of file; --data takes .csv, .tsv, .jsonl, .parquet, "
            "an aclImdb folder or aclImdb_v1.tar.gz"
        )
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty")
    mapping = _label_mapping(label_values)
    kept: list[_Row] = []
    empty = 0
    for row in reader(path, partial(_choose_columns, path, text_column, label_column, labelled)):
        if row.text is None or not row.text.strip():
            empty += 1
            continue
        if labelled and not _plain(row.label):
            raise BadInput(f"{path}: {row.place} has no label; add it or take the row out")
        kept.append(row)
    if not kept:
        raise BadInput(f"{path}: no reviews in it ({empty} rows, all with an empty text)")
    none = np.full(len(kept), -1, dtype=np.int8)
    return Table(
        ids=tuple(row.id for row in kept),
        texts=tuple(row.text for row in kept),
        labels=_labels(path, kept, mapping, label_values) if labelled else none,
        films=_film_numbers([_plain(row.film) for row in kept]),
        empty=empty,
    )


def _choose_columns(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    labelled: bool,
    names: Sequence[str],
) -> _Columns:
    label = find_column(path, names, label_column, LABEL_COLUMNS, "label") if labelled else None
    text = find_column(path, names, text_column, TEXT_COLUMNS, "text")
    if text == label:
        raise BadInput(f"{path}: --text-column and --label-column are both {text!r}")
    plain = {name.strip().lower(): name for name in reversed(names)}
    film = next((plain[name] for name in FILM_COLUMNS if name in plain), None)
    return _Columns(text, label, None if film in (text, label) else film)


def find_column(
    path: Path | str, names: Sequence[str], named: str | None, usual: Sequence[str], kind: str
) -> str:
    """Return the column that is named or has a usual name, or refuse with what there is."""
    flag = f"--{kind}-column"
    if named is not None and names.count(named) == 1:
        return named
    wanted = usual if named is None else [named.strip().lower()]
    matches = [name for name in names if name.strip().lower() in wanted]
    if len(matches) == 1:
        return matches[0]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    there = ", ".join(repr(_short(name)) for name in names[:12]) + more
    if len(matches) > 1:
        alike = " and ".join(repr(name) for name in matches)
        raise BadInput(f"{path}: {alike} may all be the {kind} column; name one with {flag}")
    if named is not None:
        raise BadInput(f"{path}: no column {named!r} ({flag}); the columns are {there}")
    raise BadInput(
        f"{path}: no column looks like the {kind} (such as {usual[0]!r} or {usual[1]!r}); "
        f"name it with {flag}; the columns are {there}"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _plain(value: Any) -> str:
    """Lower-cased text of a cell; "1.0" and 1.0 are "1", None and NaN are ""."""
    if value is None or value != value:
        return ""
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", str(value).strip().casefold())


def _label_mapping(label_values: tuple[str, str] | None) -> Mapping[str, int]:
    if label_values is None:
        return LABEL_NAMES
    negative, positive = (_plain(value) for value in label_values)
    if not negative or not positive or negative == positive:
        raise BadInput("--labels takes two different values, NEGATIVE,POSITIVE")
    return {negative: 0, positive: 1}


def _labels(
    path: Path,
    rows: Sequence[_Row],
    mapping: Mapping[str, int],
    label_values: tuple[str, str] | None,
) -> NDArray[np.int8]:
    keys = [_plain(row.label) for row in rows]
    strange = next((row for row, key in zip(rows, keys, strict=True) if key not in mapping), None)
    if strange is not None:
        counts = Counter(keys)
        shown = [f"{_short(key)!r} ({n:,})" for key, n in counts.most_common(6)]
        listed = ", ".join(shown + ["..."] * (len(counts) > 6))
        said = f"{path}: {strange.place} has the label {_short(strange.label)!r}"
        if label_values is not None:
            given = ",".join(label_values)
            raise BadInput(f"{said}, neither of --labels {given}; the labels are {listed}")
        if len(counts) == 2:
            raise BadInput(f"{said}; say which of {listed} is which: --labels NEGATIVE,POSITIVE")
        raise BadInput(
            f"{said}; the labels are {listed}, and a review is negative or positive: keep the rows "
            "of two labels and say which is which: --labels NEGATIVE,POSITIVE"
        )
    labels = np.array([mapping[key] for key in keys], dtype=np.int8)
    if labels.min() == labels.max():
        only = "positive" if labels[0] else "negative"
        raise BadInput(
            f"{path}: all {len(labels):,} reviews are {only}; reviews of both classes are needed"
        )
    return labels


def _film_numbers(values: Sequence[str]) -> NDArray[np.int64]:
    """IMDb's numbers ("tt0064354", "64354") as they are; other names numbered as they come."""
    known = [value for value in values if value]
    if all(re.fullmatch(r"(tt)?[0-9]{1,18}", value) for value in known):
        numbers = {value: int(value.removeprefix("tt")) for value in known}
    else:
        numbers = {value: number for number, value in enumerate(dict.fromkeys(known))}
    return np.array([numbers.get(value, -1) for value in values], dtype=np.int64)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file (a byte order mark is taken off), one in memory at a time."""
    recode = f"-t UTF-8 {path.name} > utf8-{path.name}"
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BadInput(f"{path}: UTF-16, not UTF-8; convert it: iconv -f UTF-16 {recode}")
            if number == 1 and raw.startswith(codecs.BOM_UTF8):
                raw, start = raw[3:], 3
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                at = error.start
                raise BadInput(
                    f"{path}: line {number} is not UTF-8 (byte {start + at + 1} of the file, "
                    f"0x{raw[at]:02x}); convert it, for example: iconv -f WINDOWS-1252 {recode}"
                ) from None
            if "\0" in line:
                raise BadInput(
                    f"{path}: line {number} has NUL bytes; this is no UTF-8 text (if it is UTF-16, "
                    f"convert it: iconv -f UTF-16 {recode})"
                )
            yield line
            start += len(raw)


def _csv_rows(path: Path, choose: _Choose) -> Iterator[_Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses a field over 128 kB
    lines = _lines(path)
    first = next(lines, "")
    records = _records(path, chain([first], lines), find_delimiter(path.suffix, first))
    if not (header := next(records, (0, 0, []))[2]):
        raise BadInput(f"{path}: the file is empty")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInput(f"{path}: two columns are called {_short(twice)!r}; rename one")
    columns = choose(header)
    places = [None if name is None else header.index(name) for name in columns]
    for number, line, record in records:
        place = f"row {number} (line {line})"
        if len(record) != len(header):
            raise BadInput(
                f"{path}: {place} has {len(record)} columns where the header has {len(header)}; "
                "a text with separators in it needs quotes around it"
            )
        cells = [None if at is None else record[at] for at in places]
        yield _Row(f"row {number}", place, *cells)


def find_delimiter(suffix: str, header: str) -> str:
    """Tab in a .tsv; comma in a .csv, unless its header knows only ";" or tabs."""
    if suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in ",;\t" if mark in header), ",")


def _records(
    path: Path, lines: Iterable[str], delimiter: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (data row, its first line, fields); row 0 is the header, blank lines are no rows."""
    # strict: an unbalanced quote is an error and does not swallow the rows behind it
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 0
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"row {number} (line {line})" if number else f"the header (line {line})"
            raise BadInput(
                f"{path}: {place} cannot be read ({error}); it has an unbalanced quote or a stray "
                'line end: a text in quotes doubles the quotes inside it ("")'
            ) from error
        if record:
            yield number, line, record
            number += 1


def _json_rows(path: Path, choose: _Choose) -> Iterator[_Row]:
    columns: _Columns | None = None
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{path}: {place} is not JSON ({error}); JSONL has one object a line"
            ) from error
        if not isinstance(value, dict):
            raise BadInput(
                f"{path}: {place} is not a JSON object; each line needs the form "
                '{"text": "...", "label": "positive"}'
            )
        columns = columns or choose(list(value))
        if columns.text not in value:
            raise BadInput(f"{path}: {place} has no {columns.text!r}; add it or take the line out")
        text = value[columns.text]
        if text is not None and not isinstance(text, str):
            raise BadInput(f"{path}: {place}: {columns.text!r} is not a text but {_short(text)}")
        label, film = (None if name is None else value.get(name) for name in columns[1:])
        yield _Row(place, place, text, label, film)


def _parquet_rows(path: Path, choose: _Choose) -> Iterator[_Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise Failure(f"{path}: reading Parquet needs pyarrow; run: {INSTALL}") from error
    try:
        file = pq.ParquetFile(path)
        columns = choose(file.schema_arrow.names)
        kind = file.schema_arrow.field(columns.text).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise BadInput(f"{path}: the column {columns.text!r} holds {kind}, not text")
        names = [name for name in columns if name is not None]
        table = file.read(columns=names)
        texts, labels, films = (
            table[name].to_pylist() if name is not None else [None] * table.num_rows
            for name in columns
        )
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise BadInput(
            f"{path}: broken or not Parquet ({_short(reason)}); make it again"
        ) from error
    for number, cells in enumerate(zip(texts, labels, films, strict=True), 1):
        yield _Row(f"row {number}", f"row {number}", *cells)


_READERS: Mapping[str, Callable[[Path, _Choose], Iterator[_Row]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".parquet": _parquet_rows,
    ".pq": _parquet_rows,
}

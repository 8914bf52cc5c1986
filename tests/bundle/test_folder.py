import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from reelsense.bundle import folder as module
from reelsense.bundle.folder import (
    folder_of,
    in_the_package,
    read_bundle,
    trained_on,
    write_bundle,
)
from reelsense.errors import BadInput, Failure
from reelsense.text.fingerprints import hash_texts, seen, to_npy
from reelsense.text.tokenizer import Tokenizer

TEXTS = ["a fine film", "a dull film", "日本 film", "half a surrogate \ud800"]
WORDS = ("<pad>", "<unk>", *(f"word{number}" for number in range(28)))
ABOUT = {
    "format": 1,
    "name": "toy",
    "made_with": {"reelsense": "0"},
    "variant": "fp32",
    "recipe": {"hidden": 3},
    "labels": ["negative", "positive"],
    "temperature": 1.3,
    "confidence": 0.8,
    "stated_error": 0.05,
    "evidence": True,
    "bias": -0.1,
    "words": 30,
    "longest": 32768,
    "keep": "head+tail",
    "figures": {"accuracy": 0.1 + 0.2, "note": "é \ud800"},
}


@pytest.fixture(scope="module")
def files(small_model):
    return {
        "model.onnx": small_model(),
        "tokenizer.json": Tokenizer(WORDS).to_json().encode(),
        "trained_on.npy": to_npy(hash_texts(TEXTS)),
        "README.md": b"# toy",
        "reliability.png": b"a picture",
    }


@pytest.fixture
def bundle(tmp_path, files):
    write_bundle(tmp_path / "toy", ABOUT, files)
    return tmp_path / "toy"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mend(folder, **changes):
    """Make bundle.json fit the files again, as somebody would who means to deceive."""
    about = json.loads((folder / "bundle.json").read_text())
    about.update(changes)
    for name, entry in [] if "files" in changes else about["files"].items():
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    about.pop("seal", None)
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    about["seal"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(about))


def refusal(folder, read=read_bundle):
    with pytest.raises(BadInput) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400 + len(str(folder))
    return message


# --- A bundle comes back ------------------------------------------------------------------------


def test_what_was_written_is_read(bundle, files):
    read = read_bundle(bundle)
    assert read.model == files["model.onnx"]
    assert read.tokenizer == Tokenizer(WORDS)
    assert read.path == bundle
    assert {key: read.about[key] for key in ABOUT} == ABOUT
    assert content(bundle).keys() == {*files, "bundle.json"}
    assert {name: content(bundle)[name] for name in files} == files


def test_the_hashes_are_those_that_sha256sum_would_give(bundle, files):
    about = json.loads((bundle / "bundle.json").read_text())
    for name, data in files.items():
        assert about["files"][name] == {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }


def test_symlinks_to_the_folder_or_to_its_files_are_fine(bundle, tmp_path, files):
    (tmp_path / "link").symlink_to(bundle, target_is_directory=True)
    (bundle / "model.onnx").rename(tmp_path / "elsewhere")
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere")
    assert read_bundle(tmp_path / "link").model == files["model.onnx"]


def test_a_bundle_json_that_was_laid_out_anew_is_the_same(bundle):
    about = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(dict(reversed(about.items()))))
    assert read_bundle(bundle).about == about


def test_a_bundle_that_is_mended_can_be_read(bundle):
    # Or else the tests of what a deceiver might do would show nothing.
    (bundle / "README.md").write_text("# another card")
    mend(bundle, temperature=2)
    assert read_bundle(bundle).about["temperature"] == 2


def test_a_spread_comes_back_to_the_last_bit(tmp_path, files):
    spread = np.random.default_rng(0).normal(size=50).astype("f4")
    spread = np.maximum(np.abs(spread), np.float32(1e-12))
    spread[0] = 1e-12
    write_bundle(tmp_path / "toy", {**ABOUT, "spread": spread.tolist()}, files)
    read = read_bundle(tmp_path / "toy").about["spread"]
    assert (np.array(read, "f4") == spread).all()


# --- What comes with the package ----------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one bundle and a language model, and a working directory elsewhere."""
    for name in ("small", "language"):
        (tmp_path / "package" / name).mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "package")
    return tmp_path / "package"


def test_names_stand_for_what_comes_with_the_package(package):
    assert folder_of("small") == folder_of("shipped") == package / "small"
    assert folder_of("pretrained") == package / "language"
    assert in_the_package() == ["small", "pretrained"]
    (package / "accurate").mkdir()
    assert folder_of("accurate") == package / "accurate"
    assert in_the_package() == ["small", "accurate", "pretrained"]


def test_a_name_wins_over_a_folder_of_that_name(package):
    Path("small").mkdir()
    assert folder_of("small") == package / "small"
    for folder in ("./small", "small/", Path("small"), Path("small").resolve()):
        assert folder_of(folder).resolve() == Path("small").resolve()
    assert folder_of("language") == Path("language")  # no name, and so a folder


def test_a_name_that_the_package_came_without_is_one_line(package):
    Path("accurate").mkdir()
    assert refusal("accurate", folder_of) == (
        "accurate: did not come with this package, which holds small, pretrained; name one of "
        "these, or a folder (one here: ./accurate)"
    )
    shutil.rmtree(package)
    assert "shipped: did not come with this package, which holds nothing" in refusal(
        "shipped", folder_of
    )


# --- What is no bundle --------------------------------------------------------------------------


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "none").endswith("none: there is no such bundle")
    assert refusal(tmp_path / "file").endswith("file: is a file; give the folder of a bundle")
    assert "not a bundle, it has no bundle.json; `reelsense export" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"format": 1}\xff', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"format": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"[]", "not that of a bundle of Reelsense"),
        (b'{"name": "package"}', "not that of a bundle of Reelsense"),
        (b'{"format": 2}', "format 2, this version of Reelsense reads 1; install the version"),
        (b'{"format": true}', "format True, this version"),
        (b'{"format": "' + b"9" * 1000 + b'"}', "format '999"),
        (b'{"format": 1}', "changed after it was written"),
        (b'{"format": 1, "seal": {}}', "changed after it was written"),
    ],
)
def test_a_bundle_json_that_is_none_is_refused(bundle, text, reason):
    (bundle / "bundle.json").write_bytes(text)
    assert f"bundle.json: {reason}" in refusal(bundle)
    assert f"bundle.json: {reason}" in refusal(bundle, trained_on)


def test_a_bundle_json_that_is_too_large_is_not_read(bundle):
    with (bundle / "bundle.json").open("wb") as file:
        file.truncate(2**40)
    assert "bundle.json: too large" in refusal(bundle)


def test_every_change_to_bundle_json_is_noticed(bundle):
    data = (bundle / "bundle.json").read_bytes()
    for place in range(0, len(data), 7):
        if chr(data[place]).isalnum():
            changed = bytes([data[place] ^ 1])
            (bundle / "bundle.json").write_bytes(data[:place] + changed + data[place + 1 :])
            assert "bundle.json" in refusal(bundle)


# --- Files that are missing or others -----------------------------------------------------------

NAMES = ["model.onnx", "tokenizer.json", "trained_on.npy", "README.md"]
PICTURE = "reliability.png"


@pytest.mark.parametrize("name", [*NAMES, PICTURE])
def test_a_file_that_is_missing_cut_longer_or_changed_is_named(bundle, name):
    path = bundle / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert (
        f"{name}: cut short ({len(data) - 1:,} bytes, bundle.json says {len(data):,}); get the"
        in (refusal(bundle))
    )
    path.write_bytes(data + b"\0")
    assert f"{name}: another file" in refusal(bundle)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert f"{name}: not the file that was written (another SHA-256)" in refusal(bundle)
    path.unlink()
    assert f"{name}: missing; get the bundle again" in refusal(bundle)
    path.mkdir()
    assert f"{name}: missing; get the bundle again" in refusal(bundle)


def test_files_of_another_bundle_are_noticed(bundle, tmp_path, files, small_model):
    other = files | {"model.onnx": small_model(pooling="max")}
    write_bundle(tmp_path / "other", ABOUT, other)
    shutil.copy(tmp_path / "other" / "model.onnx", bundle)
    assert "model.onnx: cut short" in refusal(bundle)


def test_two_files_that_were_swapped_are_noticed(bundle):
    (bundle / "model.onnx").rename(bundle / "x")
    (bundle / "tokenizer.json").rename(bundle / "model.onnx")
    (bundle / "x").rename(bundle / "tokenizer.json")
    assert "model.onnx: cut short" in refusal(bundle)
    mend(bundle)
    assert "tokenizer.json: not a tokenizer" in refusal(bundle)


def test_a_pipe_is_not_waited_for(bundle):
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")
    assert "model.onnx: missing" in refusal(bundle)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_that_may_not_be_read_is_named(bundle):
    (bundle / "model.onnx").chmod(0)
    assert "model.onnx: cannot be read (Permission denied)" in refusal(bundle)


def test_an_error_of_the_disk_names_the_file(bundle, monkeypatch):
    def broken(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", broken)
    assert "model.onnx: cannot be read (Input/output error)" in refusal(bundle)
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: broken(path))
    assert "bundle.json: cannot be read (Input/output error)" in refusal(bundle)


# --- Files that do not fit each other, in a bundle whose hashes are right -----------------------


def test_a_tokenizer_of_another_size_is_refused(bundle):
    (bundle / "tokenizer.json").write_text(Tokenizer(WORDS[:-1]).to_json())
    mend(bundle)
    assert "tokenizer.json: has 29 words and the bundle 30" in refusal(bundle)
    mend(bundle, words=29)
    assert "model.onnx: has 30 words and the tokenizer 29" in refusal(bundle)


def test_a_graph_with_less_than_bundle_json_says_is_refused(bundle, small_model):
    (bundle / "model.onnx").write_bytes(small_model(pooling="last"))
    mend(bundle)
    assert "model.onnx: bundle.json and it differ on whether there is evidence" in refusal(bundle)


def test_a_graph_that_is_none_is_refused(bundle):
    (bundle / "model.onnx").write_bytes(b"not a graph")
    mend(bundle)
    assert f"{bundle / 'model.onnx'}: " in refusal(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("made_with", None),
        ("variant", "int4"),
        ("recipe", []),
        ("labels", ["positive", "negative"]),
        ("temperature", 0),
        ("temperature", True),
        ("temperature", float("nan")),
        ("confidence", 0.4),
        ("confidence", "0.8"),
        ("stated_error", 2),
        ("evidence", 1),
        ("bias", float("nan")),
        ("bias", float("inf")),
        ("spread", 1.0),
        ("spread", [1.0, 0.0]),
        ("spread", [1.0, float("nan")]),
        ("spread", ["1.0"]),
        ("words", 30.0),
        ("longest", 0),
        ("keep", "middle"),
        ("keep", []),
        ("figures", [1] * 1000),
        ("files", ["model.onnx"]),
        ("files", {"model.onnx": "abc"}),
        ("files", {"model.onnx": {"sha256": "", "bytes": None}}),
    ],
)
def test_a_value_that_cannot_be_is_named(bundle, key, value):
    mend(bundle, **{key: value})
    assert f"bundle.json: {key} cannot be " in refusal(bundle)


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_json_that_does_not_list_a_file_is_refused(bundle, name):
    listed = json.loads((bundle / "bundle.json").read_text())["files"]
    mend(bundle, files={key: entry for key, entry in listed.items() if key != name})
    assert f"bundle.json: does not list {name}" in refusal(bundle)


@pytest.mark.parametrize("name", ["/etc/hostname", "../other", "..", "a/b", "c:x", "a\\b", ""])
def test_a_name_that_leaves_the_folder_is_refused(bundle, name, files):
    listed = json.loads((bundle / "bundle.json").read_text())["files"]
    mend(bundle, files=listed | {name: {"sha256": "", "bytes": 0}})
    assert "bundle.json: files cannot be" in refusal(bundle)
    with pytest.raises(ValueError, match=r"a bundle has model\.onnx"):
        write_bundle(bundle.parent / "new", ABOUT, files | {name: b""})


# --- What it was trained on ---------------------------------------------------------------------


def test_texts_that_were_trained_on_are_known_again(bundle):
    assert seen(["new", *TEXTS], trained_on(bundle)).tolist() == [False, True, True, True, True]


def test_hashes_that_are_none_are_refused(bundle):
    (bundle / "trained_on.npy").write_bytes(b"x")
    mend(bundle)
    assert "trained_on.npy: not the hashes of texts" in refusal(bundle, trained_on)


def test_hashes_that_were_changed_are_refused(bundle):
    (bundle / "trained_on.npy").write_bytes(b"x")
    assert "trained_on.npy: cut short" in refusal(bundle, trained_on)


# --- Writing ------------------------------------------------------------------------------------


def test_an_empty_folder_and_missing_parents_will_do(tmp_path, files):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", ABOUT, files)
    write_bundle(tmp_path / "new" / "deep", ABOUT, files)
    assert content(tmp_path / "empty") == content(tmp_path / "new" / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_a_bundle_can_be_read_by_whom_the_umask_lets(tmp_path, files):
    umask = os.umask(0o022)
    try:
        write_bundle(tmp_path / "toy", ABOUT, files)
    finally:
        os.umask(umask)
    assert (tmp_path / "toy").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "toy" / "model.onnx").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_not_empty_stays_unless_told_otherwise(bundle, files):
    before = content(bundle)
    with pytest.raises(BadInput, match=r"toy: is not empty; .*--overwrite"):
        write_bundle(bundle, ABOUT, files)
    assert content(bundle) == before
    write_bundle(bundle, ABOUT | {"name": "second"}, files, overwrite=True)
    assert read_bundle(bundle).about["name"] == "second"
    assert [path.name for path in bundle.parent.iterdir()] == ["toy"]


def test_a_link_to_a_bundle_stays_a_link(bundle, files):
    link = bundle.parent / "link"
    link.symlink_to(bundle, target_is_directory=True)
    write_bundle(link, ABOUT | {"name": "second"}, files, overwrite=True)
    assert link.is_symlink()
    assert read_bundle(bundle).about["name"] == "second"


def test_overwrite_leaves_alone_what_is_no_bundle(tmp_path, bundle, files):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "README.md").write_text("mine")
    with pytest.raises(BadInput, match="home: is not a bundle and stays; name another folder"):
        write_bundle(tmp_path / "home", ABOUT, files, overwrite=True)
    (bundle / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"toy: holds notes\.txt, which is no part of a bundle"):
        write_bundle(bundle, ABOUT, files, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="file: is a file; name a folder"):
        write_bundle(tmp_path / "file", ABOUT, files, overwrite=True)
    assert (tmp_path / "home" / "README.md").read_text() == "mine"
    assert (bundle / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "the disk is full; free some space"), (errno.EROFS, "cannot be written")],
)
@pytest.mark.parametrize("method", ["write_bytes", "rename"])
def test_after_a_failure_what_was_there_is_there(
    bundle, files, monkeypatch, number, reason, method
):
    before = content(bundle)
    real = getattr(Path, method)
    calls = []

    def failing(path, *arguments):
        calls.append(path)
        if len(calls) == 2:  # the second file, or the new folder after the old one has moved
            raise OSError(number, os.strerror(number))
        return real(path, *arguments)

    monkeypatch.setattr(Path, method, failing)
    with pytest.raises(Failure, match=rf"toy: {reason}"):
        write_bundle(bundle, ABOUT | {"name": "second"}, files, overwrite=True)
    monkeypatch.undo()
    assert content(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["toy"]


@pytest.mark.parametrize("after", [1, 2])
def test_after_a_ctrl_c_what_was_there_is_there(bundle, files, monkeypatch, after):
    before = content(bundle)
    real, calls = Path.rename, []

    def interrupted(path, target):
        calls.append(path)
        if len(calls) == after == 2:  # before the new folder moves
            raise KeyboardInterrupt
        real(path, target)
        if len(calls) == after:  # after the old folder has moved
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle, ABOUT | {"name": "second"}, files, overwrite=True)
    monkeypatch.undo()
    assert content(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["toy"]


def test_a_bundle_without_one_of_its_files_is_not_written(tmp_path, files):
    for name in NAMES:
        with pytest.raises(ValueError, match=re.escape(name)):
            write_bundle(tmp_path / "toy", ABOUT, {k: v for k, v in files.items() if k != name})
    assert not (tmp_path / "toy").exists()


# --- Mutated bytes ------------------------------------------------------------------------------


def scratched(data, chance):
    """Change, take out or put in a few bytes."""
    data = bytearray(data)
    for _ in range(chance.integers(1, 4)):
        place, size = chance.integers(len(data) + 1), int(chance.integers(1, 9))
        kind = chance.integers(3)
        data[place : place + (0, 1, size)[kind]] = chance.bytes((size, 1, 0)[kind])
    return bytes(data)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_no_scratched_bundle_ends_the_process(
    tmp_path, files, small_model, outcomes, mutants, variant
):
    chance = np.random.default_rng(1)
    write_bundle(tmp_path / "toy", ABOUT, files | {"model.onnx": small_model(variant=variant)})
    (tmp_path / "all").mkdir()
    names = ["model.onnx"] * 12 + ["tokenizer.json", "trained_on.npy", "README.md", "bundle.json"]
    for number in range(mutants):
        folder = tmp_path / "all" / f"{number:06}"
        shutil.copytree(tmp_path / "toy", folder)
        path = folder / str(chance.choice(names))
        path.write_bytes(scratched(path.read_bytes(), chance))
        if chance.random() < 0.9 and path.name != "bundle.json":
            mend(folder)
    found = list(outcomes(tmp_path / "all").values())
    assert len(found) == mutants
    assert found.count("works") > 2
    assert found.count("refused") > mutants / 2

"""The artefact on disk: one folder whose files say of each other what they must be.

model.onnx, tokenizer.json, trained_on.npy (hashes of the texts it learned from), README.md (the
card) with its pictures, and bundle.json: what the model is, what was measured of it, and size and
SHA-256 of every other file. `seal` is the SHA-256 of the rest of bundle.json. It says that nothing
was lost or changed by accident; it does not say who wrote it.

Some come with the package and have names: `folder_of`. Knows neither torch nor ONNX Runtime.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reelsense.bundle.onnx_file import check_model
from reelsense.errors import BadInput, Failure
from reelsense.text.fingerprints import Hashes, from_npy
from reelsense.text.tokenizer import Tokenizer

FORMAT: Final = 1
ABOUT: Final = "bundle.json"
MODEL: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
TRAINED_ON: Final = "trained_on.npy"
NEEDED: Final = (MODEL, TOKENIZER, TRAINED_ON, "README.md")
PICTURES: Final = ("reliability.png", "risk_coverage.png")  # of the card
PACKAGE: Final = Path(__file__).parent.parent / "pretrained"  # what comes with the package
# Names and the folders there: two bundles and the run of a language model.
NAMES: Final = {"small": "small", "accurate": "accurate", "pretrained": "language"}
SHIPPED: Final = "shipped"  # the bundle by default, which is "small"
LARGEST_ABOUT: Final = 2**24  # bytes of bundle.json; its figures take about 50,000

_AGAIN: Final = "get the bundle again or export it again"


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked. `about` is bundle.json, `model` the bytes of model.onnx."""

    path: Path
    about: dict[str, Any]
    tokenizer: Tokenizer
    model: bytes


# --- what comes with the package ----------------------------------------------------------------


def folder_of(name: str | Path) -> Path:
    """Return the folder of what comes with the package, by its name, or else the folder named.

    A name wins over a folder of that name in the working directory: that one is "./small", or a
    Path.

    Raises:
        BadInput: the package came without it.
    """
    if isinstance(name, Path) or name not in (SHIPPED, *NAMES):
        return Path(name)
    folder = PACKAGE / NAMES["small" if name == SHIPPED else name]
    if not folder.is_dir():
        there = ", ".join(in_the_package()) or "nothing"
        raise BadInput(
            f"{name}: did not come with this package, which holds {there}; name one of these, or a "
            f"folder (one here: ./{name})"
        )
    return folder


def in_the_package() -> list[str]:
    """Return the names of what the package came with."""
    return [name for name, folder in NAMES.items() if (PACKAGE / folder).is_dir()]


# --- reading ------------------------------------------------------------------------------------


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, all of its files checked: each by itself, and that they fit each other.

    Raises:
        BadInput: it is no bundle, or not whole, or of another version; names the file.
    """
    about = _read_about(path)
    files = {name: _read_file(path, about, name) for name in about["files"]}
    tokenizer = _tokenizer(path / TOKENIZER, files[TOKENIZER])
    graph = check_model(files[MODEL], str(path / MODEL))
    words = about["words"]
    if len(tokenizer.vocabulary) != words:
        found = len(tokenizer.vocabulary)
        raise BadInput(f"{path / TOKENIZER}: has {found} words and the bundle {words}; {_AGAIN}")
    if graph.words != words:
        raise BadInput(
            f"{path / MODEL}: has {graph.words} words and the tokenizer {words}; {_AGAIN}"
        )
    if graph.evidence != about["evidence"]:
        raise BadInput(
            f"{path / MODEL}: {ABOUT} and it differ on whether there is evidence; {_AGAIN}"
        )
    return Bundle(path, about, tokenizer, files[MODEL])


def trained_on(path: Path) -> Hashes:
    """Return the hashes of the texts that a bundle's model learned from; see `text.fingerprints`.

    Raises:
        BadInput: it is no bundle, or the file is not whole.
    """
    return from_npy(_read_file(path, _read_about(path), TRAINED_ON), str(path / TRAINED_ON))


def _read_about(path: Path) -> dict[str, Any]:
    """Read bundle.json and check what it says by itself."""
    name = path / ABOUT
    if not path.is_dir():
        what = (
            "is a file; give the folder of a bundle" if path.exists() else "there is no such bundle"
        )
        raise BadInput(f"{path}: {what}")
    if not name.is_file():
        raise BadInput(
            f"{path}: not a bundle, it has no {ABOUT}; `reelsense export RUN {path}` makes one"
        )
    try:
        if name.stat().st_size > LARGEST_ABOUT:
            raise BadInput(f"{name}: too large to be that of a bundle; {_AGAIN}")
        about = json.loads(name.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{name}: cannot be read ({error.strerror})") from None
    except BadInput:  # a ValueError too
        raise
    except (ValueError, RecursionError):
        raise BadInput(f"{name}: not JSON; {_AGAIN}") from None
    if not isinstance(about, dict) or "format" not in about:
        raise BadInput(f"{name}: not that of a bundle of Reelsense")
    version = about["format"]
    if type(version) is not int or version != FORMAT:
        raise BadInput(
            f"{name}: format {version!r:.60}, this version of Reelsense reads {FORMAT}; "
            "install the version that made the bundle or export it again"
        )
    _check_about(name, about)
    return about


def _check_about(name: Path, about: dict[str, Any]) -> None:
    """Check that the seal is right, and that everything is there that others will ask for."""
    if about.get("seal") != _seal(about):
        raise BadInput(f"{name}: changed after it was written (its seal does not fit); {_AGAIN}")
    for key, fits in _FITS.items():
        if not fits(about.get(key)):
            raise BadInput(f"{name}: {key} cannot be {about.get(key)!r:.60}; {_AGAIN}")
    for file in NEEDED:
        if file not in about["files"]:
            raise BadInput(f"{name}: does not list {file}; {_AGAIN}")


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_spread(value: Any) -> bool:
    """Say whether it could be what `weights.weights_of_graph` takes, or is not there."""
    return value is None or (isinstance(value, list) and all(map(_number(1e-13, 1e6), value)))


def _lists_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_plain(name)
        and isinstance(entry, dict)
        and entry.keys() == {"sha256", "bytes"}
        and type(entry["bytes"]) is int
        for name, entry in value.items()
    )


def _is_plain(name: str) -> bool:
    """Say whether a name stays in the folder, whatever the operating system."""
    return name not in ("", ".", "..", ABOUT) and not set(name) & set("/\\:\0")


_FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "name": lambda value: isinstance(value, str),
    "made_with": _is_dict,
    "variant": lambda value: value in ("fp32", "int8"),
    "recipe": _is_dict,
    "labels": lambda value: value == ["negative", "positive"],
    "temperature": _number(1e-6, 1e6),
    "confidence": _number(0.5, 1),
    "stated_error": _number(0, 1),
    "evidence": lambda value: isinstance(value, bool),
    "bias": _number(-1e6, 1e6),
    "spread": _is_spread,
    "words": _count,
    "longest": _count,
    "keep": lambda value: value in ("head", "tail", "head+tail"),
    "figures": _is_dict,
    "files": _lists_files,
}


def _read_file(path: Path, about: Mapping[str, Any], name: str) -> bytes:
    """Return the bytes of a file of the bundle, which are those that bundle.json speaks of."""
    file, expected = path / name, about["files"][name]
    if not file.is_file():  # nor does it wait for a pipe
        raise BadInput(f"{file}: missing; {_AGAIN}")
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size == expected["bytes"] else b""
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror})") from None
    if size != expected["bytes"]:
        how = "cut short" if size < expected["bytes"] else "another file"
        raise BadInput(
            f"{file}: {how} ({size:,} bytes, {ABOUT} says {expected['bytes']:,}); {_AGAIN}"
        )
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise BadInput(f"{file}: not the file that was written (another SHA-256); {_AGAIN}")
    return data


def _tokenizer(file: Path, data: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_json(data.decode("ascii"), str(file))
    except UnicodeDecodeError:
        raise BadInput(f"{file}: not a tokenizer of Reelsense; {_AGAIN}") from None


# --- writing ------------------------------------------------------------------------------------


def write_bundle(
    folder: Path, about: Mapping[str, Any], files: Mapping[str, bytes], overwrite: bool = False
) -> None:
    """Write a bundle, whole or not at all.

    Args:
        folder: must not exist or be empty.
        about: bundle.json but for "files" and "seal".
        files: what each other file holds.
        overwrite: replace the bundle that is there.

    Raises:
        BadInput: something is there that is not to be replaced.
        Failure: the disk is full or the folder cannot be written.
    """
    if not files.keys() >= set(NEEDED) or not all(map(_is_plain, files)):
        raise ValueError(f"a bundle has {', '.join(NEEDED)}, not {', '.join(files)}")
    folder = folder.resolve()
    check_place(folder, overwrite, files)
    listed = {name: _entry(data) for name, data in files.items()}
    content = {**about, "files": listed}
    content["seal"] = _seal(content)
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        new = temporary / "new"
        new.mkdir()
        for name, data in (*files.items(), (ABOUT, json.dumps(content, indent=2).encode() + b"\n")):
            _write(new / name, data)
        _swap(folder, new, temporary / "old")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Failure(f"{folder}: the disk is full; free some space and run again") from error
        raise Failure(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_place(
    folder: Path, overwrite: bool, files: Collection[str] = (*NEEDED, *PICTURES)
) -> None:
    """Refuse to write over what is not a bundle, or over a bundle without being told to.

    Raises:
        BadInput: says what is there and stays.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder}: is a file; name a folder")
    there = {path.name for path in folder.iterdir()}
    if there and not overwrite:
        raise BadInput(f"{folder}: is not empty; name another folder, or replace it: --overwrite")
    if there and ABOUT not in there:
        raise BadInput(f"{folder}: is not a bundle and stays; name another folder")
    if strangers := there - {ABOUT, *files}:
        raise BadInput(
            f"{folder}: holds {min(strangers)}, which is no part of a bundle; name another folder"
        )


def _entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _write(path: Path, data: bytes) -> None:
    """Write a file and see it on the disk."""
    path.write_bytes(data)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _swap(folder: Path, new: Path, old: Path) -> None:
    """Put `new` where `folder` is, which goes to `old`; or leave it where it is."""
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:  # a Ctrl-C too: what is in `old` will be deleted
        if not folder.exists():
            with suppress(OSError):
                old.rename(folder)
        raise


def _seal(about: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that bundle.json says, however it is laid out."""
    rest = {key: value for key, value in about.items() if key != "seal"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()

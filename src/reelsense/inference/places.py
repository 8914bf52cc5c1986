"""Where files are: local paths, and addresses such as s3://bucket/folder through pyarrow.

Everything else of the room sees bytes that come or go whole.
"""

import hashlib
import io
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path, PurePath
from typing import IO, Any, Final

from reelsense.atomic import replacing, write_atomically
from reelsense.errors import INSTALL_FILES, BadInput, Failure

BUFFER: Final = 1 << 20
PIPE: Final = "-"  # standard input or output


def is_address(place: str) -> bool:
    """Say whether a place is in a file system of its own, as s3://bucket/file is."""
    return "://" in place


def inside(folder: str, name: str) -> str:
    """Return the place of a name in a folder."""
    return beside(folder, f"/{name}") if is_address(folder) else str(Path(folder, name))


def beside(place: str, end: str) -> str:
    """Return a place whose name goes on with `end`; an address keeps its options (?region=...)."""
    path, mark, options = place.partition("?") if is_address(place) else (place, "", "")
    return f"{path.rstrip('/')}{end}{mark}{options}"


def name_of(place: str) -> str:
    """Return the last part of a place, its name."""
    return PurePath(place.partition("?")[0] if is_address(place) else place).name


def what_is(place: str) -> str:
    """Return "file" (whatever can be read as one), "folder" or "nothing".

    Raises:
        BadInput: an address of no file system, or one that does not answer.
    """
    if is_address(place):
        kind = _info(place).type.name
        return {"File": "file", "Directory": "folder"}.get(kind, "nothing")
    try:
        return "folder" if Path(place).is_dir() else "file" if Path(place).exists() else "nothing"
    except OSError as error:
        raise BadInput(f"{place[:200]}: {error.strerror}; check it") from None


def files_below(folder: str) -> list[str]:
    """Return the names of the files in a folder and its folders, in order.

    Names that begin with "." or "_" are those of other programs (_SUCCESS, .crc) and are passed by.
    """
    if not is_address(folder):
        paths = [path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()]
        names = [path.as_posix() for path in paths]
    else:
        fs, path = _file_system(folder)
        from pyarrow.fs import FileSelector

        below = fs.get_file_info(FileSelector(path, recursive=True))
        names = [info.path[len(path.rstrip("/")) + 1 :] for info in below if info.is_file]
    return sorted(name for name in names if not any(p[0] in "._" for p in name.split("/")))


def names_in(folder: str) -> set[str]:
    """Return the names of whatever lies in a folder."""
    if not is_address(folder):
        return {path.name for path in Path(folder).iterdir()}
    fs, path = _file_system(folder)
    from pyarrow.fs import FileSelector

    return {info.base_name for info in fs.get_file_info(FileSelector(path))}


def open_to_read(place: str) -> IO[bytes]:
    """Return the bytes of a file, from the first on.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        if not is_address(place):
            return Path(place).open("rb", buffering=BUFFER)
        fs, path = _file_system(place)
        return io.BufferedReader(fs.open_input_file(path), BUFFER)
    except FileNotFoundError:
        raise BadInput(f"{place}: there is no such file; check it") from None
    except OSError as error:
        raise BadInput(f"{place}: cannot be read ({error.strerror or error})") from None


def read(place: str) -> bytes:
    """Return the bytes of a small file.

    Raises:
        BadInput: it cannot be read.
    """
    with closing(open_to_read(place)) as file:
        return file.read()


def is_same(place: str, other: str) -> bool:
    """Say whether two places that are there are one."""
    if is_address(place) or is_address(other):
        return place == other
    return Path(place).samefile(other)


def sha256_of(place: str) -> str:
    """Return the SHA-256 of a file's bytes; a thousandth of the time that its scores take."""
    with closing(open_to_read(place)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def need_place_for(target: str) -> None:
    """Refuse, before any work, a target whose folder cannot be made or written."""
    if is_address(target):
        _file_system(target)
        return
    folder = Path(target).absolute().parent
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not there.is_dir():
        raise BadInput(f"{target}: {there} is a file, not a folder; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{target}: {there} cannot be written; choose another place")


def publish(made: Path, target: str) -> None:
    """Give a finished local file its place, whole or not at all; it may be moved."""
    if is_address(target):
        fs, path = _file_system(target)
        fs.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            # An object store shows an object when its stream is closed; a file system at once.
            if _shows_half(fs):
                _copy(made, fs.open_output_stream(f"{path}.part"))
                fs.move(f"{path}.part", path)
            else:
                _copy(made, fs.open_output_stream(path))
        except OSError as error:
            raise Failure(f"{target}: cannot be written ({error.strerror or error})") from None
        return
    with replacing(Path(target)) as temporary:
        try:
            made.replace(temporary)
        except OSError:  # from another disk
            shutil.copyfile(made, temporary)


def write(place: str, text: str) -> None:
    """Write a small file, whole or not at all."""
    if not is_address(place):
        write_atomically(Path(place), text)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "file")
        made.write_text(text, encoding="utf-8")
        publish(made, place)


def stamp_of(place: str) -> str:
    """Return what changes when a file does: its size and the time of its last change."""
    if is_address(place):
        info = _info(place)
        return f"{info.size} {info.mtime_ns}"
    status = Path(place).stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def replace_folder(made: str, target: str, aside: str) -> None:
    """Give a finished local folder its place; what stood there goes into the folder `aside`."""
    Path(target).absolute().parent.mkdir(parents=True, exist_ok=True)
    if Path(target).exists():
        Path(target).rename(Path(aside, "replaced"))
    Path(made).rename(target)


def remove_tree(place: str) -> None:
    """Delete a folder with all that it holds, if there is one."""
    if what_is(place) != "folder":
        return
    if is_address(place):
        fs, path = _file_system(place)
        fs.delete_dir(path)
    else:
        shutil.rmtree(place)


def remove_if_there(place: str) -> None:
    """Delete a file, if there is one."""
    if not is_address(place):
        Path(place).unlink(missing_ok=True)
    elif what_is(place) == "file":
        fs, path = _file_system(place)
        fs.delete_file(path)


def _copy(made: Path, stream: Any) -> None:
    with made.open("rb") as source, stream:
        shutil.copyfileobj(source, stream, BUFFER)


def _shows_half(fs: Any) -> bool:
    return fs.type_name in ("local", "hdfs")


def _info(place: str) -> Any:
    fs, path = _file_system(place)
    try:
        return fs.get_file_info(path)
    except OSError as error:
        raise BadInput(f"{place}: cannot be reached ({_first_line(error)})") from None


def _file_system(place: str) -> tuple[Any, str]:
    """Return the pyarrow file system of an address, and the path in it."""
    try:
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem
    except ImportError:
        raise Failure(f"{place}: addresses need pyarrow; run: {INSTALL_FILES}") from None
    try:
        fs, path = FileSystem.from_uri(place)
    except (ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{place}: no place that pyarrow knows ({_first_line(error)})") from None
    return fs, path


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")[:200]

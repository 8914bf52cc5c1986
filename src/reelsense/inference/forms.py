"""How the rows of a file are written, by its name, and its bytes without their compression."""

import gzip
import io
import zlib
from pathlib import PurePath
from typing import IO, Final, NamedTuple, cast

from reelsense.errors import INSTALL_FILES, BadInput, Failure
from reelsense.inference.places import name_of

KINDS: Final = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".txt": "text",
}  # fmt: skip
MAGIC: Final = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}
# What a broken or unfinished compressed file raises while it is read; pyarrow says OSError.
DAMAGE: Final = (EOFError, OSError, zlib.error)


class Form(NamedTuple):
    """`kind`: "csv", "tsv", "jsonl", "parquet" or "text" (a review a line).

    `packed`: "", "gz" or "zst".
    """

    kind: str
    packed: str = ""

    @property
    def suffix(self) -> str:
        """The end of a file name of this form."""
        kind = "txt" if self.kind == "text" else self.kind
        return f".{kind}.{self.packed}" if self.packed else f".{kind}"


def form_of(name: str) -> Form:
    """Return how a file of that name is written.

    Raises:
        BadInput: its name does not say.
    """
    suffixes = [suffix.lower() for suffix in PurePath(name_of(name)).suffixes[-2:]]
    packed = suffixes.pop()[1:] if suffixes and suffixes[-1] in (".gz", ".zst") else ""
    kind = KINDS.get(suffixes[-1]) if suffixes else None
    if kind is None:
        known = ", ".join(suffix for suffix in KINDS if suffix not in (".ndjson", ".pq"))
        raise BadInput(
            f"{name}: its name does not say what kind of file it is; names end in {known}, and all "
            "but .parquet may be followed by .gz or .zst"
        )
    if kind == "parquet" and packed:
        raise BadInput(f"{name}: Parquet compresses by itself; leave out the .{packed}")
    return Form(kind, packed)


def unpacked(file: IO[bytes], name: str, packed: str | None) -> IO[bytes]:
    """Return a file's bytes without compression; None takes what the first bytes say.

    Raises:
        BadInput: the file is not packed as it should be.
    """
    first = file.peek(4)[:4] if isinstance(file, io.BufferedReader) else b""
    found = next((how for how, magic in MAGIC.items() if first.startswith(magic)), "")
    if packed and found != packed and first:
        raise BadInput(f"{name}: not {packed}, whatever its name says; rename it, or get it again")
    if found == "gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if found == "zst":
        pa = _pyarrow(name)
        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"))
    return file


def pack(data: bytes, packed: str) -> bytes:
    """Return bytes compressed by themselves: what is packed in parts may be joined."""
    if packed == "gz":
        return gzip.compress(data, 6, mtime=0)
    if packed == "zst":
        packed_bytes: bytes = _pyarrow("output").Codec("zstd").compress(data, asbytes=True)
        return packed_bytes
    return data


def need_packages(name: str, form: Form) -> None:
    """Refuse, before any work, a form that needs a package which is not installed."""
    if form.kind == "parquet" or form.packed == "zst":
        _pyarrow(name)


def _pyarrow(name: str):  # type: ignore[no-untyped-def]
    try:
        import pyarrow as pa
    except ImportError:
        raise Failure(f"{name}: Parquet and .zst need pyarrow; run: {INSTALL_FILES}") from None
    return pa

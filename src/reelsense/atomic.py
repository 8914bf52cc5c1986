"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reelsense.errors import Failure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the name `path` in one step.

    After an exception the temporary file is gone and whatever stood at `path` is unchanged.
    The file is on the disk before it gets its name, so a power cut cannot leave half of it.

    Raises:
        Failure: the disk is full or the folder cannot be written.
    """
    import tempfile  # with what it imports, a third of the time in which a prediction starts

    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; give them the user's usual mode.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        # Libraries raise OSError of their own for other things; those are not ours to word.
        if error.errno == errno.ENOSPC:
            raise Failure(f"{path}: the disk is full; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Failure(f"{path}: cannot be written ({error.strerror})") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all."""
    # A lone surrogate (JSON may hold one, and so may a file's name) has no UTF-8; backslashreplace
    # writes it as \udXXX, which is how JSON spells it.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)

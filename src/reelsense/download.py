"""Fetch the official data files: checked, resumed where they broke off, whole or not there at all.

The standard library's HTTP client is enough, and unlike pooch 1.9 it lets a transfer of 860 MB
continue after a break.
"""

import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from reelsense import __version__
from reelsense.atomic import replacing
from reelsense.cache import cache_folder
from reelsense.errors import BadInput, Failure

BLOCK: Final = 1 << 18
TIMEOUT: Final = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Official:
    """An official file: its name, where it is, its length in bytes and its hash."""

    file: str
    url: str
    size: int
    algorithm: str
    digest: str


FILES: Final[Mapping[str, Official]] = {
    "imdb": Official(
        "aclImdb_v1.tar.gz",
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        84_125_825,
        "md5",
        "7c2ac02c03563afcf9b574c7e56c153a",
    ),
    "glove": Official(
        "glove.6B.zip",
        "https://nlp.stanford.edu/data/glove.6B.zip",
        862_182_613,
        "sha256",
        "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
    ),
}


def download(
    name: str,
    *,
    folder: Path | None = None,
    from_file: Path | None = None,
    progress: bool = True,
    files: Mapping[str, Official] = FILES,
) -> Path:
    """Put an official file into a folder and return its path. Does nothing if it is there.

    A transfer that breaks off leaves `.FILE.part`, from which the next call continues.

    Args:
        name: "imdb" or "glove".
        folder: the cache folder if not given.
        from_file: copy this file, checked the same, for machines without a network.
        progress: a bar on a terminal, lines elsewhere, on stderr; False for silence.
        files: the table of files.

    Raises:
        BadInput: what came is not the official file: too short, another hash, a web page.
        Failure: no network, an HTTP error, a full disk.
    """
    if name not in files:
        raise BadInput(f"{name}: no such file to download; there are {', '.join(files)}")
    official = files[name]
    target = (folder or cache_folder()) / official.file
    say: Callable[[str], object] = _say if progress else lambda line: None
    if target.exists():
        wrong = _wrong(target, official)
        if not wrong:
            say(f"{target}: already there, and right")
            return target
        say(f"{target}: {wrong}; getting it again")
    if from_file is None:
        _fetch(official, target, progress)
    else:
        _copy(from_file, official, target)
    say(f"{target}: {official.size:,} bytes, {official.algorithm} right")
    return target


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- is it the file? ----------------------------------------------------------------------------


def _wrong(path: Path, official: Official) -> str:
    """What is wrong with a file; nothing if it is the official one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if _is_html(file.read(1000)):
            return "a web page saved under this name"
        if size != official.size:
            kind = "cut short" if size < official.size else "too long"
            return f"{kind}: {size:,} bytes, expected {official.size:,}"
        file.seek(0)
        digest = hashlib.file_digest(
            file, lambda: hashlib.new(official.algorithm, usedforsecurity=False)
        ).hexdigest()
    if digest != official.digest:
        return f"wrong hash: {official.algorithm} {digest}, expected {official.digest}"
    return ""


def _is_html(head: bytes) -> bool:
    return head.lstrip()[:20].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


# --- from a file --------------------------------------------------------------------------------


def _copy(source: Path, official: Official, target: Path) -> None:
    try:
        wrong = _wrong(source, official)
    except OSError as error:
        raise BadInput(f"--from {source}: cannot be read ({error.strerror})") from error
    if wrong:
        raise BadInput(f"--from {source}: {wrong}; it is not {official.url}")
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


# --- from the network ---------------------------------------------------------------------------


def _fetch(official: Official, target: Path, progress: bool) -> None:
    part = target.with_name(f".{target.name}.part")
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(official, part, progress)
        wrong = _wrong(part, official)
        if not wrong:
            part.replace(target)
            return
        short = wrong.startswith("cut short")
        if not short:
            part.unlink()
    advice = "run again to continue" if short else "nothing was kept; run again, or use --from FILE"
    raise BadInput(f"{official.url}: {wrong}; {advice}")


def _transfer(official: Official, part: Path, progress: bool) -> None:
    """Bring `part` as far as the connection lasts, continuing what is there."""
    there = part.stat().st_size if part.exists() else 0
    if there >= official.size:
        there = 0
    request = urllib.request.Request(official.url)
    request.add_header("User-Agent", f"reelsense/{__version__}")
    if there:
        request.add_header("Range", f"bytes={there}-")
    with _connect(request) as response:
        # A server that does not know ranges answers 200 and sends everything.
        goes_on = response.status == 206 and _starts_at(response, there)
        done = there if goes_on else 0
        block = _read(response)
        if not done and _is_html(block):
            raise BadInput(
                f"{official.url}: the server sent a web page, not the file; use --from FILE"
            )
        with part.open("ab" if goes_on else "wb") as file, _bar(official, done, progress) as show:
            while block and done <= official.size:
                file.write(block)
                done += len(block)
                show(done)
                block = _read(response)
            file.flush()
            os.fsync(file.fileno())


def _connect(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise Failure(
            f"{request.full_url}: HTTP {error.code} {error.reason}; try later, or use --from FILE"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Failure(
            f"{request.full_url}: no connection ({reason}); without a network use --from FILE"
        ) from error
    return response


def _starts_at(response: http.client.HTTPResponse, there: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {there}-")


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next block; nothing at the end, be it the file's or the connection's."""
    try:
        return response.read(BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException):
        return b""


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Failure(f"{target}: the disk is full; free some space and run again") from error
        raise Failure(f"{target}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _bar(official: Official, there: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """A function to be told how many bytes there are: moves a bar, or prints every tenth.

    Speed and time left count from the bytes that were there before.
    """
    if not progress:
        yield lambda done: None
    elif sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        start = time.monotonic()

        def figures(done: int | None) -> str:
            return _figures(official.size, there, done or there, time.monotonic() - start)

        with click.progressbar(
            length=official.size,
            label=official.file,
            file=sys.stderr,
            width=0,  # as wide as the terminal
            show_eta=False,
            show_percent=False,
            item_show_func=figures,
        ) as bar:
            yield lambda done: bar.update(done - bar.pos, done)
    else:
        tenth = -1

        def line(done: int) -> None:
            nonlocal tenth
            if done * 10 // official.size > tenth:
                tenth = done * 10 // official.size
                _say(f"{official.file}: {done:,} of {official.size:,} bytes")

        yield line


def _figures(size: int, there: int, done: int, seconds: float) -> str:
    """Bytes, speed and time left; always as wide, so that the bar does not tremble."""
    speed = (done - there) / max(seconds, 1e-3)
    left = f"{(size - done) / speed // 60:.0f}:{(size - done) / speed % 60:02.0f}" if speed else ""
    return f"{done / 1e6:5.1f}/{size / 1e6:.1f} MB {speed / 1e6:5.1f} MB/s {left:>6}"

import errno
import hashlib
import http.server
import os
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reelsense import download as module
from reelsense.cache import cache_folder
from reelsense.download import FILES, Official, download
from reelsense.errors import BadInput, Failure

CONTENT = bytes(range(256)) * 4000  # about a megabyte


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every address; `behaviour` says how."""

    behaviour = "good"
    ranges = ()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges += (asked,)
        match self.server.behaviour:
            case "html":
                self.answer(200, b"\n<!DOCTYPE html><title>Log in to the hotel</title>")
            case "missing":
                self.send_error(404)
            case "wrong":
                self.answer(200, CONTENT[::-1])
            case "long":
                self.answer(200, CONTENT + b"x")
            case "cut":
                self.answer(200, CONTENT, stop=700_000)
            case "no ranges":
                self.answer(200, CONTENT)
            case "good" if asked:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.answer(206, CONTENT[start:], f"bytes {start}-{len(CONTENT)}/{len(CONTENT)}")
            case "good":
                self.answer(200, CONTENT)

    def answer(self, status, content, content_range=None, stop=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(content[:stop])


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def files(server):
    url = f"http://127.0.0.1:{server.server_port}/data/file.zip"
    digest = hashlib.sha256(CONTENT).hexdigest()
    return {"it": Official("file.zip", url, len(CONTENT), "sha256", digest)}


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetches_then_leaves_alone(server, files, tmp_path, capsys):
    path = download("it", folder=tmp_path / "new", files=files)
    assert path == tmp_path / "new" / "file.zip"
    assert path.read_bytes() == CONTENT
    assert listing(path.parent) == ["file.zip"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"{path}: 1,024,000 bytes, sha256 right"
    assert "file.zip: 1,024,000 of 1,024,000 bytes" in lines  # plain lines, not a bar
    stamp = path.stat().st_mtime_ns
    assert download("it", folder=path.parent, files=files) == path
    assert capsys.readouterr().err == f"{path}: already there, and right\n"
    assert path.stat().st_mtime_ns == stamp
    assert len(server.ranges) == 1


def test_silence(files, tmp_path, capsys):
    download("it", folder=tmp_path, files=files, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("there", [0, 700_000])
def test_bar_on_a_terminal(files, tmp_path, monkeypatch, capsys, there):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    (tmp_path / ".file.zip.part").write_bytes(CONTENT[:there])
    assert download("it", folder=tmp_path, files=files).read_bytes() == CONTENT
    bar, said = capsys.readouterr().err.rsplit("\n", 2)[:2]
    assert said.endswith("file.zip: 1,024,000 bytes, sha256 right")
    shown = [re.sub(r"\x1b\[\?25[hl]", "", row).rstrip() for row in bar.split("\r")[1:]]
    assert all(len(row) <= 70 for row in shown)
    assert shown[0].endswith(f" {there / 1e6:5.1f}/1.0 MB   0.0 MB/s")
    assert re.search(r"^file\.zip  \[#+\] +1\.0/1\.0 MB +\d+\.\d MB/s +0:00$", shown[-1])


def test_no_bar_on_a_terminal_that_moves_no_cursor(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    download("it", folder=tmp_path, files=files)
    said = capsys.readouterr().err
    assert "file.zip: 1,024,000 of 1,024,000 bytes\n" in said
    assert not {"\r", "\x1b"} & set(said)


@pytest.mark.parametrize(
    ("there", "done", "seconds", "shown"),
    [
        (0, 0, 0.0, "  0.0/862.2 MB   0.0 MB/s       "),
        (0, 62_182_613, 10.0, " 62.2/862.2 MB   6.2 MB/s   2:09"),
        (800_000_000, 810_000_000, 10.0, "810.0/862.2 MB   1.0 MB/s   0:52"),  # after a break
        (0, 862_182_613, 10.0, "862.2/862.2 MB  86.2 MB/s   0:00"),
    ],
)
def test_speed_and_time_left(there, done, seconds, shown):
    assert module._figures(862_182_613, there, done, seconds) == shown


def test_replaces_a_wrong_file(files, tmp_path, capsys):
    (tmp_path / "file.zip").write_bytes(b"PK half")
    assert download("it", folder=tmp_path, files=files).read_bytes() == CONTENT
    assert "cut short: 7 bytes, expected 1,024,000; getting it again" in capsys.readouterr().err


def test_a_cut_transfer_continues(server, files, tmp_path):
    server.behaviour = "cut"
    with pytest.raises(
        BadInput, match=r"cut short: 700,000 bytes, expected 1,024,000; run again to continue"
    ):
        download("it", folder=tmp_path, files=files, progress=False)
    assert listing(tmp_path) == [".file.zip.part"]
    server.behaviour = "good"
    path = download("it", folder=tmp_path, files=files, progress=False)
    assert path.read_bytes() == CONTENT
    assert listing(tmp_path) == ["file.zip"]
    assert server.ranges == (None, "bytes=700000-")


def test_starts_again_where_the_server_knows_no_ranges(server, files, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(CONTENT[:1000])
    server.behaviour = "no ranges"
    path = download("it", folder=tmp_path, files=files, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ("bytes=1000-",)


def test_a_stale_part_is_thrown_away(files, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(b"not the file")
    with pytest.raises(BadInput, match="wrong hash"):
        download("it", folder=tmp_path, files=files, progress=False)
    assert listing(tmp_path) == []
    assert download("it", folder=tmp_path, files=files, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        ("html", BadInput, "the server sent a web page, not the file; use --from FILE"),
        ("missing", Failure, "HTTP 404 Not Found; try later, or use --from FILE"),
        ("wrong", BadInput, "wrong hash: sha256 "),
        ("long", BadInput, "too long: 1,024,001 bytes, expected 1,024,000; nothing was kept"),
    ],
)
def test_what_a_server_may_do(server, files, tmp_path, behaviour, kind, message):
    server.behaviour = behaviour
    with pytest.raises(kind) as caught:
        download("it", folder=tmp_path, files=files, progress=False)
    assert message in str(caught.value)
    assert str(caught.value).startswith(files["it"].url)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == []


def test_a_web_page_does_not_cost_what_was_there(server, files, tmp_path):
    (tmp_path / ".file.zip.part").write_bytes(CONTENT[:1000])
    server.behaviour = "html"
    with pytest.raises(BadInput, match="web page"):
        download("it", folder=tmp_path, files=files, progress=False)
    assert (tmp_path / ".file.zip.part").read_bytes() == CONTENT[:1000]


def test_no_network(files, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.zip"
        nowhere = {"it": replace(files["it"], url=url)}
        with pytest.raises(Failure, match=r"no connection .*without a network use --from FILE"):
            download("it", folder=tmp_path, files=nowhere, progress=False)
    assert listing(tmp_path) == []


def test_full_disk(files, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(Failure, match=r"file\.zip: the disk is full; free some space"):
        download("it", folder=tmp_path, files=files, progress=False)
    assert "file.zip" not in listing(tmp_path)


def test_a_folder_that_is_a_file(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be written"):
        download("it", folder=tmp_path / "file", files=files, progress=False)


def test_from_file(server, files, tmp_path):
    source = tmp_path / "usb stick"
    source.write_bytes(CONTENT)
    path = download("it", folder=tmp_path / "cache", from_file=source, files=files, progress=False)
    assert path.read_bytes() == CONTENT
    assert listing(path.parent) == ["file.zip"]
    assert server.ranges == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "cut short: 0 bytes, expected 1,024,000"),
        (CONTENT[:-1], "cut short: 1,023,999 bytes, expected 1,024,000"),
        (CONTENT[::-1], "wrong hash: sha256 "),
        (b"<html><body>Moved", "a web page saved under this name"),
    ],
)
def test_from_a_wrong_file(files, tmp_path, content, message):
    source = tmp_path / "file"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        download("it", folder=tmp_path / "cache", from_file=source, files=files, progress=False)
    assert str(caught.value).startswith(f"--from {source}: {message}")
    assert not (tmp_path / "cache").exists()


def test_unknown_name(tmp_path):
    with pytest.raises(BadInput, match="word2vec: no such file to download; there are imdb, glove"):
        download("word2vec", folder=tmp_path)


def test_cache_folder(monkeypatch, files, tmp_path):
    monkeypatch.setenv("REELSENSE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert download("it", files=files, progress=False).parent == tmp_path / "mine"
    monkeypatch.delenv("REELSENSE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "reelsense"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "reelsense"


@pytest.mark.network
@pytest.mark.parametrize("name", sorted(FILES))
def test_official_files_are_where_we_say(name):
    """Their lengths only: the files are large."""
    import urllib.request

    official = FILES[name]
    request = urllib.request.Request(official.url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            assert int(response.headers["Content-Length"]) == official.size
    except OSError as error:
        pytest.skip(f"no network: {error}")

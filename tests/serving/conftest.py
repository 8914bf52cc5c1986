"""A server in this process that can be asked, one with a model that waits, and real ones."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from reelsense.inference.answers import Prediction
from reelsense.inference.predictor import load
from reelsense.serving.front import application
from reelsense.serving.limits import Access, Limits
from reelsense.serving.service import Service
from reelsense.serving.worker import Worker
from reelsense.serving.worker_main import answer, loaded

SECONDS = 30  # that anything here may take


class Beside(Worker):
    """A worker that is no process but a thread of this one."""

    lives = True

    def __init__(self, model):
        super().__init__()
        self.model = model

    def ask(self, texts, explain):
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, answer, self.model, texts, explain)

    async def ended(self):
        await asyncio.Event().wait()


class Here:
    """A server in this process, on an event loop in a thread of its own."""

    def __init__(self, model, limits=None, access=None, threads=2):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.service = Service(limits or Limits(), access or Access(), lambda: {"reelsense": "0"})
        self.app = application(self.service)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        if model is not None:
            self.wait(self.take(model, threads))

    async def take(self, model, threads):
        self.service.take(loaded(model), [Beside(model) for _ in range(threads)])

    def begin(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def wait(self, work):
        return self.begin(work).result(SECONDS)

    def ask(self, method, path, **named):
        return self.wait(self.client.request(method, path, **named))

    def get(self, path, **named):
        return self.ask("GET", path, **named)

    def post(self, path, content=None, **named):
        """Ask with JSON, or with bytes as they are."""
        if isinstance(content, bytes):
            headers = {"Content-Type": "application/json"} | named.pop("headers", {})
            return self.ask("POST", path, content=content, headers=headers, **named)
        return self.ask("POST", path, json=content, **named)

    def counted(self):
        """The counters of requests: (route, status) to their number."""
        lines = self.get("/metrics").text.splitlines()
        found = {}
        for line in lines:
            if line.startswith("reelsense_requests_total{"):
                labels, _, value = line.rpartition(" ")
                _, route, _, status, _ = labels.split('"')
                found[route, status] = float(value)
        return found

    def close(self):
        self.wait(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self):
        if self.service.work is not None:
            self.service.work.close()
        await self.client.aclose()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()


@pytest.fixture
def served():
    """Make servers in this process."""
    with contextlib.ExitStack() as ends:

        def make(*arguments, **named):
            here = Here(*arguments, **named)
            ends.callback(here.close)
            return here

        yield make


@pytest.fixture(scope="session")
def model(tiny_bundle):
    return load(tiny_bundle, threads=1)


@pytest.fixture
def here(served, model):
    return served(model)


class Waiting:
    """A model that answers when it is let, and remembers what it was asked."""

    confidence, second = 0.6, None

    def __init__(self):
        self.about = {"labels": ["negative", "positive"], "name": "waiting", "files": {}}
        self.let, self.began, self.asked = threading.Event(), threading.Event(), []

    def __call__(self, texts):
        if isinstance(texts, str):
            return Prediction("positive", 0.9, 1, 0.0, False)
        self.asked.extend(texts)
        self.began.set()
        assert self.let.wait(SECONDS)
        return [Prediction("positive", 0.9, 1, 0.0, False) for _ in texts]


@pytest.fixture
def waiting():
    model = Waiting()
    yield model
    model.let.set()


@pytest.fixture(scope="session")
def until():
    """Wait until something is so."""

    def wait(true, seconds=SECONDS):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def refused():
    """Check that an answer is an error of the one shape; return its message."""

    def check(answer, status, code):
        assert answer.status_code == status, answer.text
        content = answer.json()
        assert content.keys() == {"error"}
        assert content["error"].keys() == {"code", "message"}
        assert content["error"]["code"] == code
        assert content["error"]["message"]
        assert "Traceback" not in answer.text
        assert answer.headers["content-type"] == "application/json"
        return content["error"]["message"]

    return check


# --- real servers ----------------------------------------------------------------------------


@dataclass
class Process:
    """`reelsense serve` as a user starts it."""

    process: subprocess.Popen
    port: int
    said: list = field(default_factory=list)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def client(self):
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=SECONDS)

    def send(self, content, path="/v1/predict", of=None):
        """Send a POST, or the first bytes of it; return the socket."""
        body = json.dumps(content).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection = self.connect()
        connection.sendall((head.encode() + body)[:of])
        return connection

    def descriptors(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def end(self, number=signal.SIGTERM):
        """End it; return its exit code and what it wrote on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self):
        """The same of one that has got its signal."""
        _, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, err


@pytest.fixture(scope="session")
def answer_of():
    """Read a whole answer from a socket: status line, body. Empty where there is none."""

    def read(connection):
        data = b""
        with contextlib.suppress(ConnectionError):
            while True:
                head, blank, body = data.partition(b"\r\n\r\n")
                size = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                if blank and len(body) >= size:
                    return int(head.split()[1]), body[:size]
                more = connection.recv(65536)
                if not more:
                    break
                data += more
        return 0, data

    return read


@contextlib.contextmanager
def servers(bundle):
    with contextlib.ExitStack() as ends:

        def begin(*arguments, model=bundle, env=None):
            command = [sys.executable, "-m", "reelsense", "serve", "--port", "0", *arguments]
            command += ["--model", str(model)]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, **(env or {})},
            )  # fmt: skip
            ends.callback(process.communicate)
            ends.callback(process.kill)
            line = process.stdout.readline()
            assert line.startswith("Listening on http://"), process.stderr.read()
            return Process(process, int(line.rpartition(":")[2]))

        yield begin


@pytest.fixture
def start(tiny_bundle):
    """Start servers; all end with the test."""
    with servers(tiny_bundle) as begin:
        yield begin


@pytest.fixture(scope="module")
def shipped():
    """The server as it comes, with the model of the package."""
    with servers("small") as begin:
        yield begin()


# --- a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    """Chromium: Debian's, or the one that `playwright install chromium` has fetched."""
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--disable-background-networking", "--disable-component-update", "--disable-gpu"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=arguments
            )
        except playwright.Error:
            pytest.skip("there is no Chromium; apt install chromium")
        yield browser
        browser.close()

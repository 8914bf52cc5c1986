"""Pace, waiting times and manners of `reelsense serve`, on loopback.

    python benchmarks/serving.py --flood 60 --requests 100000     # a quarter of an hour
    python benchmarks/serving.py --seconds 2 --rounds 2           # two minutes

The clients share the machine's cores with the server, as nothing else could be had: the server
alone is faster than this. In-process and over HTTP take turns, so that a change of the machine's
speed hits both. Writes results/serving.csv and results/serving.md.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import reelsense
from inference import processor, shown, versions, written
from record import RESULTS
from reelsense.cores import available_cores
from reelsense.text.reviews import read_reviews
from reelsense.training.measure import code_version
from scoring import children

SHORT = "A wonderful film, and never dull."
BATCH = 64
CLIENTS = 8
OPEN = 256
COMMAND = [sys.executable, "-m", "reelsense", "serve", "--port", "0"]
# As pip installs it, compiled: without it, an edited copy is compiled at each start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# --- a server and a client -------------------------------------------------------------------


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Give a server and its port."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(60)


def request(content: object, path: str = "/v1/predict") -> bytes:
    """Return a whole POST; bytes are sent as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@dataclass
class Client:
    """A connection that asks one thing after the other, and opens itself again."""

    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Return status and body; 0 where the connection ended without an answer."""
        if self.reader is not None and self.reader.at_eof():
            self.close()  # idle for so long that the server has closed it
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        try:
            self.writer.write(message)
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            body = await self.reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, b""
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass
class Seen:
    """What clients saw: statuses, and the seconds of the answers that were 200."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    def enter(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)

    def ms(self, share: float) -> float:
        return 1000 * float(np.quantile(self.seconds, share)) if self.seconds else float("nan")

    @property
    def per_second(self) -> float:
        return self.statuses[200] / self.wall


async def closed_loop(
    port: int, messages: Sequence[bytes], clients: int, seconds: float, warm: bool = True
) -> Seen:
    """Return what clients see that ask again as soon as they are answered."""
    seen = Seen()

    async def run(number: int) -> None:
        client, place = Client(port), number
        while time.perf_counter() < end:
            begin = time.perf_counter()
            status, _ = await client.ask(messages[place % len(messages)])
            seen.enter(status, time.perf_counter() - begin)
            place += clients
        client.close()

    if warm:
        await closed_loop(port, messages, clients, 0.3, warm=False)
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(run(number) for number in range(clients)))
    seen.wall = time.perf_counter() - start
    return seen


async def open_loop(port: int, messages: Sequence[bytes], rate: float, seconds: float) -> Seen:
    """Return what comes of so many requests a second, sent whether others are answered or not.

    Where OPEN are without an answer, none is sent: more connections than a server lets in would
    measure that limit.
    """
    seen, free, running = Seen(), list[Client](), set[asyncio.Task[None]]()

    async def one(message: bytes) -> None:
        client = free.pop() if free else Client(port)
        begin = time.perf_counter()
        status, _ = await client.ask(message)
        seen.enter(status, time.perf_counter() - begin)
        free.append(client)

    start, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - start) < seconds:
        while sent < now * rate:
            if len(running) < OPEN:
                task = asyncio.create_task(one(messages[sent % len(messages)]))
                running.add(task)
                task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*running)
    seen.wall = time.perf_counter() - start
    for client in free:
        client.close()
    return seen


@contextlib.contextmanager
def probed(port: int) -> Iterator[list[float]]:
    """Give the seconds that /healthz takes meanwhile, asked by a process of its own."""
    found: list[float] = []
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_probe, args=(port, there), daemon=True)
    process.start()
    try:
        yield found
    finally:
        here.send(None)
        found.extend(here.recv())
        process.join()


def _probe(port: int, asked: Connection) -> None:
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while not asked.poll(0.05):
            begin, answer = time.perf_counter(), b""
            connection.sendall(get("/healthz"))
            while not answer.endswith(b'{"status":"ok"}'):
                answer += connection.recv(4096)
            found.append(time.perf_counter() - begin)
    asked.send(found)


def held(process: subprocess.Popen[str]) -> tuple[float, int]:
    """Return MiB of a server and its workers, what they share counted once, and descriptors."""
    memory, descriptors = 0.0, 0
    for pid in (process.pid, *children(process.pid)):
        folder = Path(f"/proc/{pid}")
        found = re.search(r"Pss:\s+(\d+)", (folder / "smaps_rollup").read_text("utf-8"))
        assert found
        memory += int(found[1]) / 1024
        descriptors += len(list((folder / "fd").iterdir()))
    return memory, descriptors


# --- what is measured ------------------------------------------------------------------------

Rows = Iterator[tuple[str, float, float | str, float | str]]


def spread(what: str, values: Sequence[float]) -> tuple[str, float, float, float]:
    return what, statistics.median(values), min(values), max(values)


def start_up(rounds: int) -> Rows:
    """From the start of the process to the line that says it is ready."""
    found = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        with server():
            found.append(time.perf_counter() - begin)
    yield spread("start to ready: s", found[1:])


def batches(texts: Sequence[str], rounds: int, seconds: float) -> Rows:
    """Batches over HTTP beside the same in this process."""
    model = reelsense.load()
    chunks = [list(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
    messages = [request({"texts": chunk}) for chunk in chunks]
    here, there = [], []
    with server() as (_, port):
        for _ in range(rounds):
            model(chunks[0])
            begin, done = time.perf_counter(), 0
            while (wall := time.perf_counter() - begin) < seconds:
                model(chunks[done % len(chunks)])
                done += 1
            here.append(BATCH * done / wall)
            seen = asyncio.run(closed_loop(port, messages, 2, seconds))
            assert set(seen.statuses) <= {200, 429}, seen.statuses
            there.append(BATCH * seen.per_second)
    yield spread(f"in-process, batches of {BATCH}: reviews/s", here)
    yield spread(f"over HTTP, batches of {BATCH}, 2 clients: reviews/s", there)
    yield spread("ratio of the two", [b / a for a, b in zip(here, there, strict=True)])


def single(rounds: int, seconds: float) -> Rows:
    """One short review at a time."""
    with server() as (_, port):
        for clients in (1, CLIENTS):
            runs = [
                asyncio.run(closed_loop(port, [request({"text": SHORT})], clients, seconds))
                for _ in range(rounds)
            ]
            name = f"a short review, {clients} client{'s' if clients > 1 else ''}"
            yield spread(f"{name}: requests/s", [run.per_second for run in runs])
            for share, percent in ((0.5, "p50"), (0.99, "p99")):
                yield spread(f"{name}, {percent}: ms", [run.ms(share) for run in runs])


def overload(texts: Sequence[str], rounds: int, seconds: float, flood: float) -> Rows:
    """Four times what it can take, of whole reviews one at a time.

    That is what as many clients get as ask again at once and are hardly ever refused.
    """
    messages = [request({"text": text}) for text in texts]

    async def round_of(port: int, flood: float) -> tuple[Seen, Seen, list[float]]:
        can = await closed_loop(port, messages, 2 * CLIENTS, seconds)
        with probed(port) as health:
            much = await open_loop(port, messages, 4 * can.per_second, flood)
        return can, much, health

    with server() as (process, port):
        asyncio.run(round_of(port, seconds))  # what it holds after the first flood, it keeps
        before, _ = held(process)
        found = [asyncio.run(round_of(port, flood)) for _ in range(rounds)]
        after, _ = held(process)
    name = "four times the load"
    yield spread("reviews one at a time, 16 clients: requests/s", [a.per_second for a, *_ in found])
    yield spread("reviews one at a time, 16 clients, p99: ms", [a.ms(0.99) for a, *_ in found])
    sent = [b.statuses.total() / b.wall for _, b, _ in found]
    yield spread(f"{name}, sent and answered: requests/s", sent)
    yield spread(f"{name}, accepted: requests/s", [b.per_second for _, b, _ in found])
    yield spread(f"{name}, accepted, p99: ms", [b.ms(0.99) for _, b, _ in found])
    ratios = [b.ms(0.99) / a.ms(0.99) for a, b, _ in found]
    yield spread(f"{name}, p99 in ratio to that without", ratios)
    rest = [b.statuses.total() - b.statuses[200] - b.statuses[429] for _, b, _ in found]
    yield spread(
        f"{name}, share of 429", [b.statuses[429] / b.statuses.total() for _, b, _ in found]
    )
    yield spread(f"{name}, neither 200 nor 429", rest)
    for share, which in ((0.5, "median"), (0.99, "p99"), (1, "slowest")):
        waits = [1000 * float(np.quantile(health, share)) for *_, health in found]
        yield spread(f"{name}, {which} /healthz: ms", waits)
    yield f"{name}: seconds of each flood", flood, "", ""
    yield f"{name}, memory of all processes after the first flood: MB", before, "", ""
    yield f"{name}, growth of memory from the first flood to the last: MB", after - before, "", ""


def mixed(texts: Sequence[str], requests: int) -> Rows:
    """Requests of which some are wrong, broken off or huge, and what the server counts."""
    chance = random.Random(0)
    counts: Counter[str] = Counter()

    async def run(port: int, number: int) -> None:
        client = Client(port)
        for _ in range(number):
            kind = chance.random()
            if kind < 0.05:  # broken off: in the head, in the body, or before the answer
                whole = request({"text": chance.choice(texts)})
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                sent = whole[: chance.choice([30, len(whole) // 2, len(whole)])]
                writer.write(sent)
                await asyncio.sleep(0.002)
                writer.transport.abort()
                counts["broken off, in the head" if len(sent) == 30 else "broken off"] += 1
                continue
            if kind < 0.15:
                message = request(chance.choice([b"{", b"\xff", {"text": 1}, {}, [1], b"\0" * 9]))
            elif kind < 0.16:
                message = request({"texts": [chance.choice(texts)] * 2000})
            else:
                message = request({"text": chance.choice(texts)})
            status, _ = await client.ask(message)
            counts[str(status)] += 1
        client.close()

    async def all_of(port: int, number: int) -> None:
        await asyncio.gather(*(run(port, number // CLIENTS) for _ in range(CLIENTS)))

    async def counted(port: int) -> Counter[str]:
        await asyncio.sleep(0.5)
        client = Client(port)
        _, body = await client.ask(get("/metrics"))
        client.close()
        pattern = r'reelsense_requests_total{route="/v1/predict",status="(\d+)"} (\S+)'
        return Counter({k: int(float(n)) for k, n in re.findall(pattern, body.decode())})

    with server() as (process, port):
        asyncio.run(all_of(port, requests // 10))
        before = held(process)
        asyncio.run(all_of(port, requests - requests // 10))
        served = asyncio.run(counted(port))
        after = held(process)
        assert process.poll() is None
    # What was broken off in its head is no request. The others are 499, or were answered before the
    # server saw that nobody was there: of more than were broken off neither.
    in_the_head, broken_off = counts.pop("broken off, in the head"), counts.pop("broken off")
    unread = Counter({key: served[key] - counts[key] for key in served.keys() | counts.keys()})
    wrong = abs(unread.total() - broken_off) + sum(-n for n in unread.values() if n < 0)
    name = "mixed with wrong, broken-off and huge requests"
    yield f"{name}: requests", counts.total() + broken_off + in_the_head, "", ""
    yield f"{name}: broken off", broken_off + in_the_head, "", ""
    for status in sorted(counts):
        yield f"{name}: {status}", counts[status], "", ""
    yield f"{name}: 5xx", sum(n for key, n in counts.items() if key >= "500"), "", ""
    yield f"{name}: without an answer", counts["0"], "", ""
    yield f"{name}: counted otherwise by /metrics than by the clients", wrong, "", ""
    yield f"{name}, growth: MB", after[0] - before[0], "", ""
    yield f"{name}, growth: file descriptors", after[1] - before[1], "", ""


def drained(texts: Sequence[str], rounds: int) -> Rows:
    """SIGTERM under load: what was sent on an open connection and got no answer."""
    messages = [request({"text": text}) for text in texts]
    lost, codes, answered = [], [], []

    async def run(process: subprocess.Popen[str], port: int) -> Counter[int]:
        statuses: Counter[int] = Counter()

        async def client() -> None:
            one = Client(port)
            with contextlib.suppress(ConnectionError):  # nobody listens any more
                while True:
                    status, _ = await one.ask(random.choice(messages))
                    statuses[status] += 1

        clients = asyncio.gather(*(client() for _ in range(CLIENTS)))
        await asyncio.sleep(1)
        process.send_signal(signal.SIGTERM)
        await clients
        return statuses

    for _ in range(rounds):
        with server("--max-wait", "10") as (process, port):
            statuses = asyncio.run(run(process, port))
            codes.append(process.wait(60))
            lost.append(statuses[0])
            answered.append(statuses[200])
    yield spread("SIGTERM under load: answered", answered)
    yield spread("SIGTERM under load: lost", lost)
    yield spread("SIGTERM under load: exit code", codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--flood", type=float, default=6.0, help="seconds of each overload")
    parser.add_argument("--requests", type=int, default=4000, help="of the mixture")
    parser.add_argument("--only", metavar="WHAT", help="one part; nothing is written")
    arguments = parser.parse_args()
    texts = read_reviews().texts
    order = np.random.default_rng(0).permutation(len(texts))
    texts = [texts[row] for row in order[: 20 * BATCH]]
    rounds, seconds = arguments.rounds, arguments.seconds
    parts: dict[str, Callable[[], Rows]] = {
        "start": lambda: start_up(rounds),
        "batches": lambda: batches(texts, rounds, seconds),
        "single": lambda: single(rounds, seconds),
        "overload": lambda: overload(texts, min(rounds, 3), seconds, arguments.flood),
        "mixed": lambda: mixed(texts, arguments.requests),
        "drained": lambda: drained(texts, rounds),
    }
    rows = []
    for name, part in parts.items():
        if arguments.only in (None, name):
            for row in part():
                print(*(shown(value) if i else value for i, value in enumerate(row)), flush=True)
                rows.append(row)
    if arguments.only is None:
        write(rows)


def write(rows: Sequence[tuple[str, float, float | str, float | str]]) -> None:
    """Write the rows with what they were measured with."""
    about = reelsense.load().about
    also = ("starlette", "uvicorn", "httptools", "prometheus-client")
    birth = {
        "bundle": f"{about['name']} {about['variant']} {about['seal'][:12]}",
        "cores": available_cores(),
        "processor": processor(),
        # Of the last minute, this benchmark and whatever else the machine does.
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": " ".join(
            f"{k} {v}"
            for k, v in (versions() | {name: metadata.version(name) for name in also}).items()
        ),
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }
    lines = written("serving.csv", rows, birth)
    (RESULTS / "serving.md").write_text(
        f"`reelsense serve` on loopback, clients on the same {birth['cores']} cores, "
        f"{birth['processor']}, bundle {birth['bundle']}, load average of the last minute "
        f"{birth['load']}.\nMade by `python benchmarks/serving.py`.\n\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()

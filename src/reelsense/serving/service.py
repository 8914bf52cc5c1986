"""What all requests of a server share, and the way of one: read, let in, waited for."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from starlette.requests import Request

from reelsense.bundle.hard_sentences import hard_sentences
from reelsense.serving.limits import Access, ClientGone, Limits, Refused
from reelsense.serving.metrics import Metrics, metrics
from reelsense.serving.shapes import encoded, read_json
from reelsense.serving.work import Job, Work
from reelsense.serving.worker import Worker
from reelsense.serving.worker_main import PROBE, Loaded

# Seconds for which a self-test counts: a probe that everybody may ask for is no way to load us.
TESTED: Final = 1.0
# Seconds after which it is watched whether a client is there still. Most have their answer by then,
# and to watch takes 5% of the time of a short review with 8 clients.
WATCH: Final = 0.02


@dataclass(eq=False)
class Service:
    """A server's limits and counters, and its model once that has been loaded.

    draining: it answers what it has, and nothing new is to be sent to it.
    buffered: bytes of the bodies of all requests in hand.
    """

    limits: Limits
    access: Access
    versions: Callable[[], Mapping[str, str]]
    work: Work | None = None
    draining: bool = False
    buffered: int = 0
    tested: float = -math.inf
    log: bool = False
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = metrics(
            lambda: self.work.depth if self.work else 0,
            lambda: self.work.ahead if self.work else 0,
            lambda: self.work.alive if self.work else 0,
        )

    def take(self, loaded: Loaded, workers: Sequence[Worker]) -> None:
        """Begin to answer with a model that the first of the workers has loaded."""
        self.work = Work(loaded, workers, self.metrics.batch.observe)

    @cached_property
    def card(self) -> bytes:
        """What /v1/model answers, of the model that has been taken.

        Made when it is asked for: to find the versions takes 40 ms.
        """
        work = self.work
        if work is None:
            raise _loading()
        return encoded(card_of(work.loaded, len(work.workers), self.versions(), self.limits))

    def let_in(self, mine: int = 0) -> Work:
        """Return where the work is done, for a request that has `mine` of the buffered bytes.

        Raises:
            Refused: the model is being loaded, or too much is to be done already.
        """
        work = self.work
        if work is None:
            raise _loading()
        if (refused := self.overload(mine)) is not None:
            raise refused
        return work

    def overload(self, mine: int = 0) -> Refused | None:
        """Return what a request is told that would have to wait too long, or None.

        Early: what waits too long is given up by its client, and answered for nobody.
        """
        ahead = self.work.ahead if self.work is not None else 0.0
        if ahead <= self.limits.waiting and self.buffered - mine <= self.limits.buffered:
            return None
        seconds = str(max(1, math.ceil(ahead)))
        return Refused(429, "overloaded", f"too many requests wait; try again in {seconds} s",
                       {"Retry-After": seconds})  # fmt: skip

    async def self_test(self) -> None:
        """Predict, as a request does.

        Raises:
            Refused: it is loading, draining or full, or the answer is not what it was.
        """
        if self.draining:
            raise Refused(503, "draining", "the server is being stopped; try another one")
        try:
            work = self.let_in()
        except Refused as error:
            raise Refused(503, error.code, error.message, error.headers) from None
        if time.monotonic() - self.tested < TESTED:
            return
        try:
            job = work.begin([PROBE])
            (found,) = await asyncio.wait_for(job.answered, self.limits.seconds)
        except TimeoutError:
            work.end(job)
            raise Refused(503, "timeout", "the self-test has not come back in time") from None
        if found != work.loaded.probe:
            raise Refused(503, "unsound", "the model's answers have changed; restart the server")
        self.tested = time.monotonic()


async def read(request: Request, service: Service) -> dict[str, Any]:
    """Return the JSON object that a request brings, read no further than the limit.

    Its bytes are counted in `service.buffered`; the caller gives back `request.state.bytes`.

    Raises:
        Refused: no JSON, too large, too slow. ClientGone: the client closed the connection.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also, a form on another site may send any other type without the browser asking us.
        raise Refused(415, "not_json", "send the header Content-Type: application/json")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "compressed", "send the body as it is, without Content-Encoding")
    limit = service.limits.body
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        service.buffered += len(part)
        request.state.bytes = size
        if not message.get("more_body", False):
            return read_json(b"".join(parts))
        if request.state.late:
            raise Refused(408, "too_slow", f"the body had not come after "
                          f"{service.limits.body_seconds:g} s; send it faster",
                          {"Connection": "close"})  # fmt: skip


async def waited_for(request: Request, work: Work, job: Job, service: Service) -> Any:
    """Return the answers to a job, unless it takes too long or the client goes away.

    Raises:
        Refused: it took too long. ClientGone: the client closed the connection.
    """
    loop = asyncio.get_running_loop()
    seconds = service.limits.seconds

    def watch() -> None:
        gone = asyncio.ensure_future(request.receive())
        gone.add_done_callback(lambda _: job.give_up(ClientGone()))
        watches.extend((gone, loop.call_later(seconds - WATCH, too_late)))

    def too_late() -> None:
        job.give_up(Refused(503, "timeout", f"no answer after {seconds:g} s; send fewer or shorter "
                            "texts", {"Retry-After": "1"}))  # fmt: skip

    watches: list[asyncio.TimerHandle | asyncio.Future[Any]] = [loop.call_later(WATCH, watch)]
    try:
        return await job.answered
    finally:
        for one in watches:
            one.cancel()
        work.end(job)


def card_of(
    model: Loaded, processes: int, versions: Mapping[str, str], limits: Limits
) -> dict[str, Any]:
    """Return what a model is and is worth: bundle.json without the hashes, and this server."""
    content = {key: value for key, value in model.about.items() if key not in ("files", "seal")}
    content["confidence"] = model.confidence
    content["bytes"] = sum(file["bytes"] for file in model.about["files"].values())
    content["hard"] = hard_sentences()
    content["second"] = model.second
    content["processes"] = processes
    content["versions"] = dict(versions)
    content["limits"] = {
        "body_bytes": limits.body, "texts": limits.texts, "characters": limits.characters,
        "seconds": limits.seconds,
    }  # fmt: skip
    return content


def _loading() -> Refused:
    return Refused(503, "loading", "the model is being loaded; try again in a second",
                   {"Retry-After": "1"})  # fmt: skip


def _too_large(limit: int) -> Refused:
    return Refused(413, "too_large", f"the body is larger than {limit:,} bytes; send fewer texts "
                   "at a time", {"Connection": "close"})  # fmt: skip

"""One connection: what uvicorn's protocol lacks, which is time limits and errors of our shape.

uvicorn waits for ever for the rest of a head or a body, and for a client that does not read; some
hundreds of such connections ("slow loris") and nobody else is let in.

httptools, not h11: it reads a request's head and writes an answer's in 6 us, h11 in 131.
"""

import asyncio
import re
import time
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reelsense.serving.front import POLICY, SECURITY
from reelsense.serving.limits import Refused
from reelsense.serving.service import Service
from reelsense.serving.shapes import error_json

# Seconds that a request has left to answer when its body is late, before its connection is cut.
GRACE = 2.0
# Bytes that are read of a connection at a time. asyncio's 256 KiB are allocated for each read and
# given back but for what has come, which leaves holes: 100,000 reviews of a flood took 6 MB.
READ = 16 << 10
# Seconds that a connection without a request has left when the server ends: one that was made just
# now may have sent its request already.
LINGER = 0.2
# An offer to go on in another protocol, as Java's client makes it to every server. uvicorn takes
# none, and yet loses the body: to the parser, what follows such a head is the other protocol.
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
CONTINUE = b"HTTP/1.1 100 "
# Where the model works: there a request may be turned away.
WORK = re.compile(rb"(?:(/v1/predict|/v1/explain|/predict|/)|(/models)/[^?]+)(?:\?|$)")
HEADERS = b"".join(
    b"%b: %b\r\n" % header
    for header in (
        *SECURITY, (b"content-security-policy", POLICY.encode()), (b"cache-control", b"no-store"),
        (b"content-type", b"application/json"),
    )
)  # fmt: skip


class Whole:
    """A transport that sends the head of an answer with its body.

    uvicorn writes them one after the other. In one packet, 8 clients with a short review each wait
    4% less (p50; p99: 13%), as they too read once.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Return what else a transport has."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send what has been kept and this, or keep it if it is a head."""
        data, self._head = self._head + data, b""
        if data.endswith(b"\r\n\r\n") and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what has been kept: an answer has no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Send what has been kept, and close."""
        self.flush()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """A connection with time limits on head, body and answer."""

    def __init__(self, *, service: Service, **named: Any) -> None:
        super().__init__(**named)
        self._service = service
        self._reading: str | None = None  # "head" or "body" while one is on its way
        self._head_bytes = 0
        self._turned_away: Refused | None = None  # what the request on its way will be told
        self._route, self._began = "", 0.0  # its
        self._timer: asyncio.TimerHandle | None = None
        self._timed: str | None = None  # what the timer is for
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let a client in, unless too many are."""
        whole: Any = Whole(transport)
        super().connection_made(whole)
        reading: Any = transport
        reading.max_size = READ
        if len(self.connections) > self._service.limits.connections:
            self._refuse(429, "connections", "too many connections are open; try again in 1 s")
        else:
            self._arm("head", self._service.limits.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Read on, and see what is to come."""
        if self._reading != "body" and UPGRADE.search(data):
            head, blank, rest = data.partition(b"\r\n\r\n")
            data = UPGRADE.sub(b"\r\nx-not-offered:", head) + blank + rest
        super().data_received(data)
        limits = self._service.limits
        if self.transport.is_closing():
            self._disarm()
        elif self._reading == "head":
            self._head_bytes += len(data)  # with the end of the request before it, at most READ
            if self._head_bytes > limits.header_bytes:
                self._refuse(431, "head_too_large", f"the head of the request is larger than "
                             f"{limits.header_bytes:,} bytes")  # fmt: skip
            else:
                self._arm("head", limits.header_seconds)
        elif self._reading == "body":
            if self._timed != "answer":
                self._arm("body", limits.body_seconds)
        elif self.timeout_keep_alive_task is None and self._is_answered():
            self._arm("head", limits.header_seconds)  # empty lines, and nothing after them
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers; a request that was to be turned away is counted all the same."""
        super().connection_lost(exc)
        self._disarm()
        if self._turned_away is not None and self._reading == "body":
            self._count(499)
        self.resume_writing()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading, self._head_bytes = "head", 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there. Where too much waits already, no more is done for it than must be."""
        self._reading = "body"
        self._turned_away = self._refusal()
        if self._turned_away is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More of its body is there."""
        if self._turned_away is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there as a whole."""
        self._reading = None
        if self._turned_away is None:
            super().on_message_complete()
        else:
            self._turn_away(self._turned_away)

    def _refusal(self) -> Refused | None:
        """Return what a request is told without a task of its own, or None.

        In a flood most are: 1,560 requests a second got an answer instead of 1,060. What the
        application is needed for, it does as ever.
        """
        service = self._service
        if service.draining or service.log or service.access.origins:
            return None
        if not self._is_answered():
            return None  # sent ahead of the answer to the last one
        work = WORK.match(self.url)
        if work is None or self.parser.get_method() != b"POST":
            return None
        if (refused := service.overload()) is None:
            return None
        sizes = [value for name, value in self.headers if name == b"content-length"]
        if self.expect_100_continue or len(sizes) != 1 or not sizes[0].isdigit():
            return None
        self._route, self._began = (work[1] or work[2]).decode(), time.perf_counter()
        return refused if int(sizes[0]) <= service.limits.body else None

    def _turn_away(self, refused: Refused) -> None:
        """Send an error to a request that has no task."""
        stays = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self.transport.write(_answer(refused, not stays))
        self._service.metrics.rejected(refused.code).inc()
        self._count(refused.status)
        if not stays:
            self.transport.close()
        self.on_response_complete()

    def _count(self, status: int) -> None:
        """Count a request that has no task."""
        metrics = self._service.metrics
        metrics.requests(self._route, str(status)).inc()
        metrics.seconds(self._route).observe(time.perf_counter() - self._began)

    def on_response_complete(self) -> None:
        """Its answer has been sent."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
        if self._reading is None:
            self._disarm()  # from here on uvicorn's own limit counts, that of idle connections

    def pause_writing(self) -> None:
        """The client does not read: give it some time."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(
                self._service.limits.write_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def shutdown(self) -> None:
        """The server ends: finish what has been asked, and wait a moment for what is on its way."""
        self.loop.call_later(LINGER, self._leave)

    def _is_answered(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _leave(self) -> None:
        if self._is_answered():
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "bad_request", "this is not HTTP/1.1; check the client")

    def _arm(self, what: str, seconds: float) -> None:
        """Start the clock for a head or body, unless it runs: slow bytes do not put it back."""
        if self._timed != what:
            self._disarm()
            self._timed = what
            self._timer = self.loop.call_later(seconds, self._late, what, seconds)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = None

    def _late(self, what: str, seconds: float) -> None:
        """Close a connection whose head or body has not come in time."""
        self._timer, self._timed = None, None
        if self.pipeline:  # it sent ahead of its answers, and was not read meanwhile
            self._arm(what, seconds)
        elif what == "head" and self._reading == "head":
            self._refuse(408, "too_slow", f"the head of the request had not come after "
                         f"{seconds:g} s; send it faster")  # fmt: skip
        elif what == "head" or self._is_answered():
            self.transport.close()
        elif what == "body":
            self.cycle.scope["state"]["late"] = True
            self.cycle.message_event.set()  # `read` gets an empty part, and looks
            self._arm("answer", GRACE)
        else:
            self.transport.abort()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Send an error before there is a request, and close."""
        self._disarm()
        if self._is_answered():
            self.transport.write(_answer(Refused(status, code, message), True))
            metrics = self._service.metrics
            metrics.requests("none", str(status)).inc()
            metrics.rejected(code).inc()
        self.transport.close()


def _answer(refused: Refused, closes: bool) -> bytes:
    """Return the whole answer with an error, as the application would give it."""
    content = error_json(refused.code, refused.message)
    headers = refused.headers | {"content-length": len(content)}
    if closes:
        headers |= {"connection": "close"}
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    status = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\n"
    return status.encode("ascii") + HEADERS + lines.encode("ascii") + b"\r\n" + content

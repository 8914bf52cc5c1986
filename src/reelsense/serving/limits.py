"""What a server takes, how much of it and for how long, and how it says no."""

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    body: bytes of a request's body.
    texts: texts of one request.
    characters: of one text. The longest review of IMDB has 13,700; one of 800,000 took
        0.2 s to tokenise and 4 s to explain.
    waiting: seconds that a request may have to wait for those before it; with more than that
        ahead of it, it is refused at once. In a flood of four times the load, those accepted had a
        p99 of 2.6 times that without with 0.1, of 1.5 times with 0.05 (medians of 3 rounds).
    buffered: bytes of the bodies of all requests in hand.
    seconds: until a request is answered, once it has been read.
    header_seconds, body_seconds: until the head and the body of a request have come.
    idle_seconds: for which a connection stays open without a request.
    write_seconds: for which a client may leave an answer unread.
    header_bytes: of the head of a request.
    connections: open at a time.
    """

    body: int = 1 << 20
    texts: int = 256
    characters: int = 100_000
    waiting: float = 0.05
    buffered: int = 64 << 20
    seconds: float = 30.0
    header_seconds: float = 10.0
    body_seconds: float = 20.0
    idle_seconds: float = 30.0
    write_seconds: float = 20.0
    header_bytes: int = 32 << 10
    connections: int = 512


class Refused(Exception):
    """A request that gets no answer: status, a code for programs, a message for people."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client has closed the connection; nobody waits for an answer."""


@dataclass(frozen=True)
class Access:
    """Who may ask.

    hosts: names in the Host header that are answered, in lower case and without a port; "*" is
        any. A page that a browser loaded from elsewhere cannot pass for one of them, even where
        its own name has been made to point here (DNS rebinding).
    token: what clients have to send as a bearer token.
    origins: pages of other hosts that a browser may let ask; "*" is any.
    """

    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "[::1]"})
    token: str | None = field(default=None, repr=False)
    origins: frozenset[str] = frozenset()


def report(error: Exception) -> None:
    """Say on standard error where it failed: lines of code, and no value, which may be a text."""
    places = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places))
    print(f"reelsense: {type(error).__name__} in {where}", file=sys.stderr, flush=True)

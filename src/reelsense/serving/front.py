"""The door that every request goes through: who may ask, what every answer has, what is counted."""

import asyncio
import hmac
import sys
import time
from collections.abc import Iterable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelsense.serving.limits import Access, ClientGone, Refused, report
from reelsense.serving.routes import Endpoint, Routes, route_of, routes_of
from reelsense.serving.service import Service
from reelsense.serving.shapes import error_json

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
# A probe comes with whatever address its network knows us by, and learns nothing.
PROBES: Final = {"/healthz", "/readyz"}
READS: Final = {"GET", "HEAD"}


def application(service: Service) -> ASGIApp:
    """Return the whole server as an ASGI application."""
    routes, without_token = routes_of(service)
    access = service.access

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # nothing else is offered
            return
        begin = time.perf_counter()
        path = scope["path"]
        route = route_of(path, routes)
        headers = dict(scope["headers"])  # of a header that comes twice, the last
        origin = headers.get(b"origin", b"").decode("latin-1")
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_more(message["headers"])]
            await send(message)

        def _more(given: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
            names = {name.lower(): value for name, value in given}
            yield from SECURITY
            page = names.get(b"content-type", b"").startswith(b"text/html")
            yield b"content-security-policy", (PAGE_POLICY if page else POLICY).encode()
            if b"cache-control" not in names:
                yield b"cache-control", b"no-store"
            allowed = _origin(access, origin)
            yield b"cross-origin-resource-policy", b"cross-origin" if allowed else b"same-origin"
            if access.origins:
                yield b"vary", b"Origin"
            if allowed:
                yield b"access-control-allow-origin", allowed.encode("latin-1")
                yield b"access-control-expose-headers", b"Retry-After"
            if service.draining and b"connection" not in names:
                yield b"connection", b"close"

        scope["state"] = {"bytes": 0, "late": False}
        try:
            try:
                if path not in PROBES:
                    _check_host(access, scope["headers"])
                if (
                    scope["method"] == "OPTIONS"
                    and _origin(access, origin)
                    and b"access-control-request-method" in headers
                ):
                    await _allow(sent)
                    return
                if path not in without_token or scope["method"] not in READS:
                    _check_token(access, headers.get(b"authorization", b""))
                endpoint = _endpoint(routes, route, scope["method"])
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, sent)
            except Refused as error:
                await _refuse(error, service, scope["method"], receive, sent)
            except ClientGone:
                status = 499
            except Exception as error:
                report(error)
                if status:
                    raise  # half an answer: the connection is closed
                wrong = Refused(500, "internal", "the server failed; its log says where")
                await _refuse(wrong, service, scope["method"], receive, sent)
        except asyncio.CancelledError:
            status = status or 499
            raise
        finally:
            service.buffered -= scope["state"]["bytes"]
            seconds = time.perf_counter() - begin
            service.metrics.requests(route, str(status or 499)).inc()
            service.metrics.seconds(route).observe(seconds)
            if service.log:
                _log(scope, route, status or 499, seconds)

    return front


def _endpoint(routes: Routes, route: str, asked: str) -> Endpoint:
    """Return what answers at an address.

    Raises:
        Refused: nothing does, or not with this method.
    """
    if route not in routes:
        raise Refused(404, "not_found", "there is nothing at this address; see /docs")
    endpoint = routes[route].get("GET" if asked == "HEAD" else asked)
    if endpoint is None:
        allowed = ", ".join(routes[route]).replace("GET", "GET, HEAD")
        raise Refused(405, "wrong_method", f"this address takes {allowed}", {"Allow": allowed})
    return endpoint


def _origin(access: Access, origin: str) -> str | None:
    """Return what a browser is to be told of a page's origin, if that is allowed."""
    if "*" in access.origins and origin:
        return "*"
    return origin if origin in access.origins else None


async def _allow(send: Send) -> None:
    """Answer a browser that asks whether a page of another host may ask."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"Authorization, Content-Type"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _check_host(access: Access, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Refused unless the request is meant for us."""
    if "*" in access.hosts:
        return
    given = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(given) == 1:
        name, colon, port = given[0].lower().rpartition(":")
        host = name if colon and port.isdecimal() else given[0].lower()
        if host.rstrip(".") in access.hosts:
            return
    raise Refused(400, "wrong_host", "the Host header is none of this server's names; it is "
                  "started with --allow-host NAME for each more")  # fmt: skip


def _check_token(access: Access, given: bytes) -> None:
    """Raise Refused unless the request brings the token, if there is one."""
    if access.token is None:
        return
    scheme, _, token = given.partition(b" ")
    right = hmac.compare_digest(token.strip(), access.token.encode())
    if not right or scheme.lower() != b"bearer":
        raise Refused(401, "unauthorized", "send the header Authorization: Bearer TOKEN with this "
                      "server's token", {"WWW-Authenticate": "Bearer"})  # fmt: skip


async def _refuse(
    error: Refused, service: Service, method: str, receive: Receive, send: Send
) -> None:
    """Send an error. Where the connection is to be closed, read on a little first.

    A connection that is closed with bytes unread is reset, and the answer in it lost: of what is
    still on its way, as much as a body may have is read and thrown away, for a second at most.
    """
    service.metrics.rejected(error.code).inc()
    content = error_json(error.code, error.message)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    lingers = error.headers.get("Connection") == "close" and method != "HEAD"
    await send({"type": "http.response.body", "body": content, "more_body": lingers})
    if not lingers:
        return
    try:
        async with asyncio.timeout(1):
            more, size = True, 0
            while more and size < service.limits.body:
                message = await receive()
                size += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _log(scope: Scope, route: str, status: int, seconds: float) -> None:
    """Write a line about a request, without anything of its texts."""
    client = scope.get("client")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {client[0] if client else '-'} {scope['method']} {route} {status} "
          f"{1000 * seconds:.1f} ms {scope['state']['bytes']} bytes",
          file=sys.stderr, flush=True)  # fmt: skip

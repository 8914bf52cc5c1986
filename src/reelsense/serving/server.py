"""A server from its start to its end: listen, load, answer, drain."""

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn

from reelsense.errors import BadInput, Failure
from reelsense.serving.connection import Connection
from reelsense.serving.front import application
from reelsense.serving.service import Service
from reelsense.serving.worker import Worker

# Seconds between the signal and the end of listening. Meanwhile /readyz says 503 and every answer
# closes its connection, so that hardly a client sends to one that is just being closed.
GRACE = 0.3


class _Server(uvicorn.Server):
    """uvicorn, but for its signals: it would end by the signal after the drain, and not with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        BadInput: there is no such host here. Failure: the port is taken, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Failure(f"port {port} of {host} is in use; end what listens there, or choose "
                          "another with --port (0: any that is free)") from None  # fmt: skip
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Failure(f"port {port} needs the rights of an administrator; choose another with "
                          "--port") from None  # fmt: skip
        raise BadInput(f"--host {host}: {error.strerror or error}; give an address of this "
                       "machine") from None  # fmt: skip
    # Connections take this over. uvicorn sends head and body by themselves, and without it the
    # second waits for the client's word of the first: 48 ms for what takes 2.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


async def serve(
    listening: socket.socket,
    service: Service,
    workers: Sequence[Worker],
    ready: Callable[[], None],
) -> None:
    """Answer until a signal comes, and then what has been accepted; a second one ends at once.

    Args:
        listening: what `listen` returned.
        service: limits, access and counters.
        workers: as many as cores; the first of them has begun.
        ready: called once /readyz says so.

    Raises:
        BadInput: the model cannot be loaded. Failure: its process has died.
    """
    logging.getLogger("uvicorn.error").disabled = True  # it would show the texts of exceptions
    limits = service.limits
    protocol: Any = functools.partial(Connection, service=service)
    server = _Server(
        uvicorn.Config(
            application(service),
            loop="asyncio",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle_seconds),
            timeout_graceful_shutdown=int(limits.seconds + limits.body_seconds + 1),
        )
    )
    loop = asyncio.get_running_loop()
    entering: list[asyncio.Task[Any]] = []  # kept, as the loop keeps no task

    def leave() -> None:
        # asyncio loses whom it has accepted and not yet let in when its server is closed; so it
        # accepts no more, and has a moment for those.
        with contextlib.suppress(NotImplementedError):  # on Windows
            loop.remove_reader(listening)
        loop.call_later(0.05, close)

    def close() -> None:
        # Who is in the line of the system when the socket is closed is reset, with a request that
        # may have been sent: so it is emptied, and closed before anybody else gets into it.
        let_in = functools.partial(
            protocol, config=server.config, server_state=server.server_state, app_state={}
        )
        coming = list(_accepted(listening))
        for one in server.servers:
            one.close()
        entering.extend(loop.create_task(loop.connect_accepted_socket(let_in, s)) for s in coming)
        server.should_exit = True

    def asked_to_end(number: int, _: object) -> None:
        if service.draining:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        service.draining = True
        loop.call_soon_threadsafe(loop.call_later, GRACE, leave)

    before = {
        number: signal.signal(number, asked_to_end) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        serving = asyncio.create_task(server.serve([listening]))
        try:
            service.take(await workers[0].loaded(), workers)
            ready()
            await asyncio.to_thread(lambda: service.card)  # who waits for the start need not
            gc.freeze()  # what was imported is here to stay: a collection took 35 ms
        except BaseException:
            server.should_exit = server.force_exit = True
            await serving
            raise
        await serving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if service.work is not None:
            service.work.close()


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait in the line of the system."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            yield connection

"""A Ray cluster: reached, or started for one job, and kept from printing."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reelsense.errors import BadInput, Failure, installing

REACH: Final = 5.0  # seconds for a cluster to take a connection
RETRIES: Final = 4  # of a file whose actor died: what kills every actor must end some time
# How HTTP/2, which the head of a cluster speaks, begins: the client's words, the server's frame.
HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS: Final = b"\x04"


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how many actors (None: one a core, and no more than files).

    address: HOST:PORT, "auto" (what runs on this machine), "local" (a new one), or "" for what
    RAY_ADDRESS says, or "auto", or "local".
    """

    address: str = ""
    actors: int | None = None


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Give the module ray, connected; a cluster that was started for it ends with it.

    Raises:
        Failure: Ray is not installed, or there is no such cluster, or it takes no work from here.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS", "")
    need_address(address)
    _need_answer(address)
    ray = _quiet_ray()
    ends = signal.getsignal(signal.SIGTERM)
    try:
        _begin(ray, address, cluster.actors)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)  # Ray takes it for a cluster of its own
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # of dead actors
            yield ray
    except ray.exceptions.RayActorError:
        raise Failure(
            f"--ray {address}".rstrip() + ": one file was the end of its actor, and of the next "
            f"{RETRIES}, perhaps for want of memory; its machine's log says more, the rest goes on "
            "with --resume"
        ) from None
    except ray.exceptions.RayError as error:
        raise Failure(f"--ray {address}".rstrip() + f": {_line(error)}") from None
    finally:
        _let_end_unsaid("StreamingExecutor")
        ray.shutdown()


def _let_end_unsaid(name: str) -> None:
    """Let Ray Data's threads, which may lose their connection at work, end without a traceback."""
    before = threading.excepthook

    def say(ended: threading.ExceptHookArgs) -> None:
        if ended.thread is None or not ended.thread.name.startswith(name):
            before(ended)

    threading.excepthook = say


def _begin(ray: Any, address: str, actors: int | None) -> None:
    """Connect to the cluster that runs, or start one.

    Raises:
        Failure: neither can be done.
    """
    options = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        with _silent():
            if address != "local":
                try:
                    ray.init(address or "auto", **options)
                    return
                except ConnectionError:
                    if address:
                        raise
            _start(ray, actors, options)
    except ConnectionError as error:
        raise Failure(
            f"--ray {address}: {_line(error)}; if it asks for a token, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:
        raise Failure(f"--ray {address}".rstrip() + f": {_line(error)}") from None


def _start(ray: Any, actors: int | None, options: Mapping[str, Any]) -> None:
    """Start a cluster for this job on this machine."""
    from reelsense.cores import available_cores

    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())  # or Ray writes one to ~/.ray
    ray.init(
        "local", num_cpus=actors or available_cores(), include_dashboard=False,
        object_store_memory=100 << 20, **options,
    )  # fmt: skip


@contextmanager
def _silent() -> Iterator[None]:
    """Send to nowhere what Ray's own code, which is not Python, writes to standard error."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def need_address(address: str) -> None:
    """Refuse what is not the address of a cluster.

    Raises:
        BadInput: it is not.
    """
    host, colon, port = address.rpartition(":")
    if address not in ("", "auto", "local") and not (
        colon and port.isdecimal() and "/" not in host
    ):
        raise BadInput(
            f"--ray {address}: not the address of a cluster; give HOST:PORT, as `ray start --head` "
            "says it, or put --ray last"
        )


def _need_answer(address: str) -> None:
    """Refuse an address where nobody answers; Ray would try for half a minute.

    Raises:
        Failure: nobody does.
    """
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH) as line:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                line.sendall(HELLO)
                if line.recv(4)[3:] != SETTINGS:
                    raise OSError(0, "something else listens there")
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Failure(
            f"--ray {address}: no cluster answers there ({why}); give the address that "
            "`ray start --head` says, and check that it runs"
        ) from None


def _quiet_ray() -> Any:
    """Import Ray and keep it from printing."""
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # what is left of a job would start a new cluster
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Failure(f"--ray needs the package {error.name}; run: {installing(['ray'])}") from None
    for name in ("ray", "ray.data"):  # what goes wrong comes as an exception, and is one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # Other versions of Ray may not know these: a large file may take longer than half an hour, and
    # an actor that dies while it starts is one that dies.
    for name, value in (
        ("execution_no_progress_timeout_s", -1),
        ("max_consecutive_actor_init_deaths", RETRIES),
    ):
        if hasattr(context, name):
            setattr(context, name, value)
    return ray


def _line(error: BaseException) -> str:
    """Return the line of an exception of Ray's that says what happened."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")

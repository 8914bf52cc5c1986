"""The same scorer on a Ray cluster: each file of a folder is scored whole, by one actor.

The unit is a file, not a row or a block of Ray Data: a row keeps the characters that it has, the
bytes of the answers are those of a run on one machine, whichever actor comes first, and only names
and figures pass through the object store. What follows: a file is not split, so one huge file keeps
one core busy while others wait; repartition it first, into several files a core.

Unfinished work lies in the temporary folder of the actor's machine, a new one for each attempt: two
attempts at a file, one of which Ray believes dead, never meet, whatever locks and renames are worth
in a folder that machines share. What is published is whole, and both publish the same bytes. An
attempt that dies begins its file anew; the finished ones stay for `--resume`.
"""

import logging
import os
import platform
import queue
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from reelsense import __version__
from reelsense.bundle.folder import NAMES, SHIPPED
from reelsense.errors import INSTALL_SCALE, BadInput, Failure, is_out_of_memory
from reelsense.inference import files, folders, places, work
from reelsense.inference.files import Task
from reelsense.inference.folders import Folder
from reelsense.inference.request import Request, forms_of, job_of
from reelsense.inference.survey import Seen
from reelsense.inference.tally import Tally, total
from reelsense.inference.workers import Model, answering

REACH: Final = 5.0  # seconds for a cluster to take a connection
RETRIES: Final = 4  # of a file whose actor died: what kills every actor must end some time
SHARED: Final = 60.0  # seconds after which a network folder shows what another machine wrote
# How HTTP/2, which the head of a cluster speaks, begins: the client's words, the server's frame.
HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS: Final = b"\x04"
BEAT: Final = 0.2  # seconds between two looks at whether the user has pressed Ctrl-C
SCRATCH: Final = "reelsense-ray-"


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how many actors (None: one a core, and no more than files).

    address: HOST:PORT, "auto" (what runs on this machine), "local" (a new one), or "" for what
    RAY_ADDRESS says, or "auto", or "local".
    """

    address: str = ""
    actors: int | None = None


def score_folder(
    folder: Folder, request: Request, cluster: Cluster
) -> Generator[Seen, None, Tally]:
    """Score the files of a folder on a cluster; close the generator to stop.

    Nothing is read before: a row that cannot be scored is found when its file's turn comes.

    Raises:
        BadInput: as `files.score_file`.
        Failure: the same, or the cluster cannot be reached, or a machine of it cannot do the work.
    """
    tallies = {name: folder.tally_of(name) for name in folder.names}
    before = total([tally for tally in tallies.values() if tally is not None])
    tasks = [folders.task_of(folder, n, Path()) for n, tally in tallies.items() if tally is None]
    yield Seen("Reaching the cluster", before.rows, 0)
    with _connected(cluster) if tasks else nullcontext() as ray, folders.opened(folder):
        if tasks:
            yield from _scored(ray, tasks, request, cluster, before, len(folder.names))
        return folders.finish(folder)


def score_file(task: Task, request: Request, cluster: Cluster) -> Generator[Seen, None, Tally]:
    """Score one file on a cluster, by one actor; as `score_folder`."""
    yield Seen("Reaching the cluster", 0, 0)
    with _connected(cluster) as ray:
        whole = yield from _scored(ray, [task], request, cluster, Tally(), 1)
    work.clear(task.folder)  # of a run on this machine that was broken off
    return whole


def _scored(
    ray: Any, tasks: list[Task], request: Request, cluster: Cluster, whole: Tally, of: int
) -> Generator[Seen, None, Tally]:
    """Have actors score files; `whole` came of the others of `of`, which are done."""
    cores = int(ray.cluster_resources().get("CPU", 1))
    actors = max(1, min(cluster.actors or cores, len(tasks)))
    done = of - len(tasks)
    for said in _streamed(lambda: _results(ray, tasks, request, actors)):
        if said is not None:
            task = tasks[said["task"]]
            _refuse(said, task)
            yield from _published(task, said["host"])
            whole = whole.plus(Tally.from_json(said["tally"]))
            done += 1
        yield Seen(f"Scoring  {done:,} of {of:,} files", whole.rows, 0)
    return whole


def _refuse(said: Mapping[str, Any], task: Task) -> None:
    """Raise what an actor could not do, in the words of a run on this machine."""
    if "refused" not in said:
        return
    message = said["refused"]
    for place in (task.source, task.target):  # as the user named it
        message = message.replace(_absolute(place), place)
    if said["is_input"]:
        raise BadInput(message)
    raise Failure(message)


def _published(task: Task, host: str) -> Iterator[Seen]:
    """Wait until this machine sees what another one has written.

    Raises:
        Failure: it does not.
    """
    end = time.monotonic() + SHARED
    while work.finished(task.summary) is None:
        if time.monotonic() > end:
            raise Failure(
                f"{task.target}: machine {host} wrote it and it is not here; IN and OUT must be in "
                "a folder that all machines see under the same path, or at an address (s3://...)"
            )
        yield Seen(f"Waiting for {task.target}", 0, 0)
        time.sleep(BEAT)


# --- the driver: a cluster, and what it is given --------------------------------------------------


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Give the module ray, connected; a cluster that was started for it ends with it.

    Raises:
        Failure: Ray is not installed, or there is no such cluster, or it takes no work from here.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS", "")
    need_address(address)
    _need_answer(address)
    ray = _quiet_ray()
    options = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    ends = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            if not _reached(ray, address, options):
                _start(ray, cluster.actors, options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)  # Ray takes it for a cluster of its own
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # of dead actors
            yield ray
    except (BadInput, Failure):
        raise
    except ConnectionError as error:
        raise Failure(
            f"--ray {address}: {_line(error)}; if it asks for a token, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN"
        ) from None
    except ray.exceptions.RayActorError:
        raise Failure(
            f"--ray {address}".rstrip() + ": one file was the end of its actor, and of the next "
            f"{RETRIES}, perhaps for want of memory; its machine's log says more, the rest goes on "
            "with --resume"
        ) from None
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise Failure(f"--ray {address}".rstrip() + f": {_line(error)}") from None
    finally:
        ray.shutdown()


def _reached(ray: Any, address: str, options: Mapping[str, Any]) -> bool:
    """Connect to a cluster that runs; say whether there was one, if it need not be."""
    if address == "local":
        return False
    try:
        ray.init(address or "auto", **options)
    except ConnectionError:
        if address:
            raise
        return False
    return True


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
    if address not in ("", "auto", "local") and not (colon and port.isdecimal() and "/" not in host):
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
        raise Failure(f"--ray needs the package {error.name}; run: {INSTALL_SCALE}") from None
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


def _results(ray: Any, tasks: list[Task], request: Request, actors: int) -> Iterator[Any]:
    """Yield what actors say of the tasks, as they finish."""
    request = _to_send(request)
    items = [
        {
            "task": number,
            "source": _absolute(task.source),
            "target": _absolute(task.target),
            "errors": _absolute(task.errors),
            "summary": _absolute(task.summary),
        }
        for number, task in enumerate(tasks)
    ]
    kind = forms_of(tasks[0].source, tasks[0].target, request)[1].suffix
    with warnings.catch_warnings(action="ignore"):  # Ray 2.64 has another way to say the last two
        data = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _actor(),
            fn_constructor_args=(__version__, asdict(request), kind, surroundings(kind, request)),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    for batch in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        yield from batch["said"]


def _to_send(request: Request) -> Request:
    """Return a request whose bundles have absolute paths."""
    model = request.model

    def named(name: str | None) -> str | None:
        return name if name is None or name in (SHIPPED, *NAMES) else _absolute(name)

    return replace(
        request, model=replace(model, name=named(model.name), second=named(model.second))
    )


def _absolute(place: str) -> str:
    return place if places.is_address(place) else str(Path(place).absolute())


def _streamed(results: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield results as they come, and None while there is none, so that the caller can stop."""
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    end = object()

    def run() -> None:
        try:
            for result in results():
                came.put(result)
            came.put(end)
        except BaseException as error:  # to the thread that waits
            came.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            result = came.get(timeout=BEAT)
        except queue.Empty:
            result = None
        if result is end:
            return
        if isinstance(result, BaseException):
            raise result
        yield result


def _line(error: BaseException) -> str:
    """Return the line of an exception of Ray's that says what happened."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")


# --- an actor --------------------------------------------------------------------------------------


def _actor() -> type:
    """Return the class of the actors.

    It is sent as it stands, not by its name in this package: a machine that lacks the package, or
    has another version of it, can then still say so.
    """

    class Scorer:
        def __init__(
            self, version: str, asked: dict[str, Any], kind: str, here: dict[str, str]
        ) -> None:
            try:
                import reelsense

                if reelsense.__version__ == version:
                    from reelsense.inference import ray_job

                    self.score = ray_job.scorer(asked, kind, here)
                    return
                problem = f"has reelsense {reelsense.__version__}, and the driver {version}"
            except ImportError as error:
                problem = f"has no package {error.name}"
            host = platform.node()
            said = f"machine {host} {problem}; install the same on every machine of the cluster"
            self.score = lambda item: {"refused": said, "is_input": False, "host": host}

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            item = {name: values[0] for name, values in batch.items()}
            return {"said": [{"task": int(item["task"]), **self.score(item)}]}

    return Scorer


def surroundings(kind: str, request: Request) -> dict[str, str]:
    """Return what, beside the input, decides the bytes of an output: models and versions."""
    import onnxruntime

    job = job_of("", kind, request)
    return {**job, "version of onnxruntime": onnxruntime.__version__}


def scorer(
    asked: Mapping[str, Any], kind: str, here: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return what scores a file on this machine, with the model loaded; it raises nothing.

    `here` has the driver's `surroundings`.
    """
    host = platform.node()
    request = Request(**{**asked, "model": Model(**asked["model"])})
    try:
        there = surroundings(kind, request)
        differ = [f"{key} is {there[key]}, not {here[key]}" for key in here if there[key] != here[key]]
        if differ:
            raise Failure(f"{'; '.join(differ)}; install the same on every machine of the cluster")
        _sweep()
        answered = ExitStack().enter_context(answering(request.model, 1))
    except (BadInput, Failure) as error:
        said = {"refused": f"machine {host}: {error}", "is_input": False, "host": host}
        return lambda item: said

    def score(item: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with _scratch() as folder:
                places_of = (str(item[name]) for name in ("errors", "summary"))
                task = Task(str(item["source"]), str(item["target"]), folder / "file", *places_of)
                if places.what_is(task.source) == "nothing":
                    raise Failure(f"{task.source}: not there on machine {host}; every machine must "
                                  "see IN and OUT under the same path or address")  # fmt: skip
                tally = _run(files.score_file(task, request, answered))
            return {"tally": tally.to_json(), "host": host}
        except (BadInput, Failure) as error:
            said, is_input = str(error), isinstance(error, BadInput)
        except OSError as error:
            said, is_input = f"{error.filename or item['target']}: {error.strerror or error}", False
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said, is_input = f"machine {host} is out of memory; give fewer --workers", False
        return {"refused": said, "is_input": is_input, "host": host}

    return score


def _run(running: Generator[Seen, None, Tally]) -> Tally:
    while True:
        try:
            next(running)
        except StopIteration as end:
            tally: Tally = end.value
            return tally


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a new folder on this machine, held as long as this process lives."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as name, work.alone(Path(name)):
        yield Path(name)


def _sweep() -> None:
    """Delete what attempts that were killed have left on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(BadInput, OSError), work.alone(folder):
            shutil.rmtree(folder)

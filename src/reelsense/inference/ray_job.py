"""The same scorer on a Ray cluster: each file of a folder is scored whole, by one actor.

The unit is a file, not a row or a block of Ray Data: a row keeps the characters that it has, the
bytes of the answers are those of a run on one machine, whichever actor comes first, and only names
and figures pass through the object store. What follows: a file is not split, so one huge file keeps
one core busy while others wait; repartition it first, into several files a core.

An attempt that dies begins its file anew; files that are finished stay for `--resume`. What a run
on one machine refuses is refused in the same words.
"""

import json
import platform
import queue
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from reelsense import __version__
from reelsense.bundle.folder import NAMES, SHIPPED
from reelsense.errors import BadInput, Failure
from reelsense.inference import folders, places, work
from reelsense.inference.files import Task
from reelsense.inference.folders import Folder
from reelsense.inference.ray_actor import surroundings
from reelsense.inference.ray_cluster import RETRIES, Cluster, connected
from reelsense.inference.request import Request, forms_of
from reelsense.inference.survey import Seen
from reelsense.inference.tally import Tally, total

SHARED: Final = 60.0  # seconds after which a network folder shows what another machine wrote
BEAT: Final = 0.2  # seconds between two looks at whether the user has pressed Ctrl-C


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
    with connected(cluster) if tasks else nullcontext() as ray, folders.opened(folder):
        if tasks:
            yield from _scored(ray, tasks, request, cluster, before, len(folder.names))
        return folders.finish(folder)


def score_file(task: Task, request: Request, cluster: Cluster) -> Generator[Seen, None, Tally]:
    """Score one file on a cluster, by one actor; as `score_folder`."""
    yield Seen("Reaching the cluster", 0, 0)
    with connected(cluster) as ray:
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
        yield from map(json.loads, batch["said"])


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
                    from reelsense.inference.ray_actor import scorer

                    self.score = scorer(asked, kind, here)
                    return
                problem = f"has reelsense {reelsense.__version__}, and the driver {version}"
            except ImportError as error:
                problem = f"has no package {error.name}"
            host = platform.node()
            said = f"machine {host} {problem}; install the same on every machine of the cluster"
            self.score = lambda item: {"refused": said, "is_input": False, "host": host}

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            item = {name: values[0] for name, values in batch.items()}
            return {"said": [json.dumps({"task": int(item["task"]), **self.score(item)})]}

    return Scorer

"""What an actor of a Ray cluster does with a file: what a run on one machine does.

Unfinished work lies in the temporary folder of the actor's machine, a new one for each attempt: two
attempts at a file, one of which Ray believes dead, never meet, whatever locks and renames are worth
in a folder that machines share. What is published is whole, and both publish the same bytes.
"""

import platform
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from reelsense.errors import BadInput, Failure, is_out_of_memory
from reelsense.inference import files, places, work
from reelsense.inference.files import Task
from reelsense.inference.request import Request, job_of
from reelsense.inference.survey import Seen
from reelsense.inference.tally import Tally
from reelsense.inference.workers import Model, answering

SCRATCH: Final = "reelsense-ray-"


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
        differ = [
            f"{key} is {there[key]}, not {here[key]}" for key in here if there[key] != here[key]
        ]
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
    new = Path(tempfile.mkdtemp(prefix=f".{SCRATCH}"))
    folder = new.with_name(new.name.removeprefix("."))
    with work.alone(new):
        new.rename(folder)  # only now: an actor that starts beside it sweeps what nobody holds
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Delete what attempts that were killed have left on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(BadInput, OSError), work.alone(folder):
            shutil.rmtree(folder)

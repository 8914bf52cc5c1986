"""The folder of unfinished work beside an output: parts that are there whole or not at all.

`job.json` says what is being done; `000000.rows` and `000000.json` are the first part and what came
of it. A part counts when its JSON is there, so a killed process leaves nothing that is half. Where
parts end follows from the rows alone: the whole has the same bytes however often it was broken off.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reelsense.atomic import replacing, write_atomically
from reelsense.errors import BadInput
from reelsense.inference import places
from reelsense.inference.tally import Tally

JOB, LOCK = "job.json", "lock"


class Done(NamedTuple):
    """How far work has come: so many parts, the rows of the input that they end behind, figures."""

    parts: int = 0
    rows_read: int = 0
    tally: Tally = Tally()


def begun(folder: Path) -> dict[str, Any] | None:
    """Return what work in a folder is about, None where none has begun.

    Raises:
        BadInput: the folder holds something else.
    """
    need_ours(str(folder))
    if not (folder / JOB).exists():
        return None
    try:
        content = json.loads((folder / JOB).read_text(encoding="utf-8"))
        return {"job": dict(content["job"]), "survey": dict(content["survey"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{folder}: damaged; begin anew with --overwrite") from None


def need_ours(folder: str) -> None:
    """Refuse what stands in the place of unfinished work, if anything does, and is none.

    Raises:
        BadInput: it is none.
    """
    there = places.what_is(folder)
    names = places.names_in(folder) if there == "folder" else set()
    if there == "file" or not (JOB in names or names <= {LOCK}):
        raise BadInput(f"{folder}: not unfinished work of `reelsense score`; move it")


def begin(folder: Path, job: Mapping[str, str], survey: Mapping[str, Any]) -> None:
    """Make the folder of new work; what was begun there before is given up."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():  # of a folder that had this name
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    write_atomically(folder / JOB, json.dumps({"job": job, "survey": survey}, indent=2) + "\n")


def finished(summary: str) -> dict[str, Any] | None:
    """Return what stands beside a finished output: "job", "tally", "columns"; None for nothing."""
    try:
        content = json.loads(places.read(summary))
        kinds = {"job": dict, "tally": dict, "columns": list}
        return {key: kind(content[key]) for key, kind in kinds.items()}
    except (BadInput, ValueError, KeyError, TypeError):
        return None


def need_same(before: Mapping[str, str], job: Mapping[str, str], target: str) -> None:
    """Refuse to go on with work that was begun as another.

    Raises:
        BadInput: names each difference.
    """
    changed = [
        f"{key} was {before.get(key, 'none')}, is {job.get(key, 'none')}"
        for key in {**before, **job}
        if before.get(key) != job.get(key)
    ]
    if changed:
        raise BadInput(
            f"--resume: {target} was begun otherwise: {'; '.join(changed)}; give the same as then, "
            "or begin anew with --overwrite"
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let no other process work in the folder at the same time.

    Raises:
        BadInput: one does.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{folder}: another process works in it; wait for it") from None
        yield


def done_in(folder: Path) -> Done:
    """Return how far the work in a folder has come."""
    done = Done()
    while (said := part_path(folder, done.parts, "json")).exists():
        content = json.loads(said.read_text(encoding="utf-8"))
        tally = done.tally.plus(Tally.from_json(content["tally"]))
        done = Done(done.parts + 1, content["rows_read"], tally)
    return done


def part_path(folder: Path, number: int, kind: str) -> Path:
    """Return where the "rows", the "errors" or the figures ("json") of a part are."""
    return folder / f"{number:06d}.{kind}"


@contextmanager
def next_part(
    folder: Path, done: Done, rows_read: int, tally: Tally, errors: Sequence[str]
) -> Iterator[Path]:
    """Yield where to write the rows of the next part; when they are written, it counts.

    `errors` are lines, one for each of its rows that has no answer.
    """
    if errors:
        write_atomically(part_path(folder, done.parts, "errors"), "".join(errors))
    with replacing(part_path(folder, done.parts, "rows")) as temporary:
        yield temporary
    said = {"rows_read": rows_read, "tally": tally.to_json()}
    write_atomically(part_path(folder, done.parts, "json"), json.dumps(said))


def paths_of(folder: Path, done: Done, kind: str) -> list[Path]:
    """Return the files of that kind of the finished parts; not each has errors."""
    paths = (part_path(folder, number, kind) for number in range(done.parts))
    return [path for path in paths if path.exists()]


def clear(folder: Path) -> None:
    """Delete work that is finished or given up."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)

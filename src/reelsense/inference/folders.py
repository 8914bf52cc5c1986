"""A folder of files of reviews to a folder of files of answers, of the same names.

Each file is scored as one alone. What is finished stays when the work is broken off: of each file
its answers, its summary and its errors. The folder of answers appears when all are there; in an
object store, which renames nothing, each file appears when it is whole, and the summary beside the
folder when all are.
"""

import hashlib
import json
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from reelsense.errors import BadInput
from reelsense.inference import places, work
from reelsense.inference.files import Task, score_file, summary_json
from reelsense.inference.forms import Form, form_of, need_packages
from reelsense.inference.request import Request, job_of
from reelsense.inference.rows import Header
from reelsense.inference.survey import Seen, Survey, header_of, surveyed
from reelsense.inference.tally import Tally, total
from reelsense.inference.workers import Answered


@dataclass(frozen=True)
class Folder:
    """A folder to score: its files by name, in order, where answers go, and what it is about."""

    source: str
    target: str
    names: tuple[str, ...]
    job: dict[str, str]

    @property
    def partial(self) -> str:
        """Where unfinished work is."""
        return places.beside(self.target, ".partial")

    @property
    def files(self) -> str:
        """Where finished files are gathered."""
        return self.target if places.is_address(self.target) else f"{self.partial}/files"

    @property
    def summary(self) -> str:
        """Where the summary of the finished folder goes."""
        return places.beside(self.target, ".summary.json")

    @property
    def errors(self) -> str:
        """Where all rows without an answer are listed."""
        return places.beside(self.target, ".errors.jsonl")

    def summary_of(self, name: str) -> str:
        """Return where the summary of a file is while others are unfinished."""
        return places.inside(self.partial, f"summaries/{name}.json")

    def errors_of(self, name: str) -> str:
        """Return where the errors of a file are while others are unfinished."""
        return places.inside(self.partial, f"errors/{name}.jsonl")

    def tally_of(self, name: str) -> Tally | None:
        """Return what came of a file, None where it is not finished."""
        done = work.finished(self.summary_of(name))
        return None if done is None else Tally.from_json(done["tally"])


def read_folder(source: str, target: str, request: Request) -> Folder:
    """Return what is to be done with a folder.

    Raises:
        BadInput: it has no files, or they are not of one kind, or their columns differ.
    """
    names = places.files_below(source)
    if not names:
        raise BadInput(f"{source}: a folder without files; check it")
    forms = {name: form_of(places.inside(source, name)) for name in names}
    first = forms[names[0]]
    for name, form in forms.items():
        if form.kind != first.kind:
            raise BadInput(
                f"{source}: {names[0]} and {name} are of different kinds; score each kind by itself"
            )
        need_packages(places.inside(source, name), form)
    _need_same_columns(source, forms, request)
    stamps = [f"{name} {places.stamp_of(places.inside(source, name))}" for name in names]
    digest = hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]
    about = f"{places.name_of(source)} ({len(names):,} files, {digest})"
    return Folder(source, target, tuple(names), job_of(about, f"folder of .{first.kind}", request))


def _need_same_columns(source: str, forms: dict[str, Form], request: Request) -> None:
    """Refuse files whose columns differ; objects of JSONL may have keys of their own."""
    headers = {
        name: header_of(places.inside(source, name), form, request) for name, form in forms.items()
    }
    (name, first), *others = headers.items()
    for other, header in others:
        if forms[name].kind == "jsonl":
            same = first.text == header.text
        elif first.schema is not None:
            same = bool(first.schema.equals(header.schema))
        else:
            same = first.columns == header.columns
        if not same:
            raise BadInput(f"{source}: {name} and {other} differ: {_difference(first, header)}")


def _difference(first: Header, other: Header) -> str:
    if first.text != other.text:
        return f"the text is in {first.text!r} and in {other.text!r}; name it with --text-column"
    if first.columns != other.columns:
        return f"the columns are {', '.join(first.columns)} and {', '.join(other.columns)}"
    kinds = zip(first.columns, first.schema.types, other.schema.types, strict=True)
    return "; ".join(f"{name!r} holds {a} and {b}" for name, a, b in kinds if a != b)


def finished_before(folder: Folder, resume: bool, overwrite: bool) -> Tally | None:
    """Return what came of a folder that is done; None where there is work to do.

    Raises:
        BadInput: something stands in its way, and neither flag says what to do with it.
    """
    target = folder.target
    there, done = places.what_is(target), work.finished(folder.summary)
    if there == "file":
        raise BadInput(f"{target}: is a file, and {folder.source} is a folder; name a folder")
    if there == "folder" and places.is_same(folder.source, target):
        raise BadInput(f"{target}: is the input; name another folder")
    work.need_ours(folder.partial)  # it will be removed
    # A begun folder has its files there in an object store, or right after it was given its place.
    if folder.files == target:
        is_moved = places.what_is(folder.partial) == "folder"
    else:
        are_scored = places.what_is(f"{folder.partial}/summaries") == "folder"
        is_moved = are_scored and places.what_is(folder.files) == "nothing"
    is_others = there == "folder" and done is None and not is_moved and places.files_below(target)
    if is_others and (overwrite or resume):
        raise BadInput(f"{target}: was not made by `reelsense score` and stays; name another")
    if overwrite:
        places.remove_tree(folder.partial)
        return None
    if (begun := _job_in(folder)) is not None:
        if not resume:
            raise BadInput(
                f"{target}: was begun and interrupted; --resume goes on, --overwrite begins anew"
            )
        work.need_same(begun, folder.job, target)
        return None
    if there == "nothing" or not places.files_below(target):
        return None
    if not resume:
        raise BadInput(f"{target}: exists; --overwrite replaces it")
    assert done is not None  # or it would be others'
    work.need_same(done["job"], folder.job, target)
    return Tally.from_json(done["tally"])


@contextmanager
def opened(folder: Folder) -> Iterator[None]:
    """Begin work on a folder, or go on with it, alone."""
    local = not places.is_address(folder.partial)
    with work.alone(Path(folder.partial)) if local else nullcontext():
        if _job_in(folder) is None:
            places.write(places.inside(folder.partial, work.JOB), json.dumps(folder.job) + "\n")
        yield


def _job_in(folder: Folder) -> dict[str, str] | None:
    place = places.inside(folder.partial, work.JOB)
    try:
        return dict(json.loads(places.read(place))) if places.what_is(place) == "file" else None
    except (ValueError, TypeError):
        raise BadInput(f"{folder.partial}: damaged; begin anew with --overwrite") from None


def task_of(folder: Folder, name: str, scratch: Path) -> Task:
    """Return the task of scoring a file of a folder; its unfinished work is in `scratch`."""
    return Task(
        places.inside(folder.source, name),
        places.inside(folder.files, output_name(name)),
        scratch / name,
        folder.errors_of(name),
        folder.summary_of(name),
    )


def output_name(name: str) -> str:
    """Return the name of a file's answers: its own, but plain text becomes a CSV."""
    form = form_of(name)
    if form.kind != "text":
        return name
    end = f".{form.packed}" if form.packed else ""
    return str(Path(name.removesuffix(end)).with_suffix(".csv")) + end


def score_folder(
    folder: Folder, request: Request, answered: Answered
) -> Generator[Seen, None, Tally]:
    """Score the files of a folder, one after the other; close the generator to stop.

    All are read once before the first is scored: a row that cannot be scored is found then.

    Raises:
        BadInput, Failure: as `score_file`.
    """
    with opened(folder), _scratch(folder) as scratch:
        todo = [name for name in folder.names if folder.tally_of(name) is None]
        surveys: dict[str, Survey] = {}
        for name in todo:
            place = places.inside(folder.source, name)
            surveys[name] = yield from surveyed(place, form_of(name), request)
        tallies = [folder.tally_of(name) or Tally() for name in folder.names]
        before = total(tallies).rows
        of = before + sum(survey.rows for survey in surveys.values())
        for name in todo:
            task = task_of(folder, name, scratch)
            running = score_file(task, request, answered, resume=True, survey=surveys[name])
            with closing(running):
                for seen in running:
                    yield Seen(f"Scoring {name}", before + seen.rows, of)
            before += surveys[name].rows
        return finish(folder)


@contextmanager
def _scratch(folder: Folder) -> Iterator[Path]:
    """Give the folder of unfinished files; that of an address lies on this machine, for a while."""
    if not places.is_address(folder.partial):
        yield Path(folder.partial, "work")
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def finish(folder: Folder) -> Tally:
    """Give a folder whose files are all scored its place, and what came of it."""
    tallies = [folder.tally_of(name) for name in folder.names]
    whole = total([one for one in tallies if one is not None])
    with tempfile.TemporaryDirectory() as name:
        errors = Path(name, "errors")
        with errors.open("w", encoding="utf-8") as file:
            for of_file in folder.names:
                place = folder.errors_of(of_file)
                if places.what_is(place) == "file":
                    for line in places.read(place).decode().splitlines():
                        file.write(json.dumps({"file": of_file} | json.loads(line)) + "\n")
        if whole.problems:
            places.publish(errors, folder.errors)
        else:
            places.remove_if_there(folder.errors)
    first = work.finished(folder.summary_of(folder.names[0]))
    columns = first["columns"] if first else []
    # Where it is not there, the last attempt ended right after it was given its place.
    if folder.files != folder.target and places.what_is(folder.files) == "folder":
        places.replace_folder(folder.files, folder.target, folder.partial)
    places.write(folder.summary, summary_json(folder.job, columns, whole))
    places.remove_tree(folder.partial)
    return whole

"""A file of reviews to a file of answers: read, score, write, in constant memory.

The rows come in chunks, the answers in the same order, and every few chunks become a part that
survives a kill (`work.py`); at the end the parts become the output in one step. A row gets the
answer that it would get alone. Where the output is a pipe, the chunks are written as they come.
"""

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from reelsense.atomic import replacing, write_atomically
from reelsense.errors import BadInput
from reelsense.inference import outputs, places, work
from reelsense.inference.outputs import Output
from reelsense.inference.places import PIPE
from reelsense.inference.request import Request, forms_of, job_of, output_for
from reelsense.inference.rows import Row
from reelsense.inference.survey import Seen, Survey, open_input, refusal, rows_of, surveyed
from reelsense.inference.tally import Tally, tally
from reelsense.inference.workers import Answered, Answers

# A chunk is what a process scores at a time. Sorted by length its batches have little padding, and
# what two processes hold is a few megabytes, also where every text is as long as it may be.
CHUNK, CHUNK_BYTES = 512, 4 << 20
EXPLAINED_CHUNK: Final = 32  # evidence takes ten times as long
PART: Final = 16  # chunks of a part: what a kill may cost, some seconds of work


@dataclass(frozen=True)
class Task:
    """A file to score, and places: of its answers, of the unfinished work, of what went wrong."""

    source: str
    target: str
    folder: Path
    errors: str
    summary: str


def task_for(source: str, target: str) -> Task:
    """Return the task of scoring one file, its other places beside the target.

    Of a target that has an address the unfinished work is in the folder where the program runs.
    """
    local = places.name_of(target) if places.is_address(target) else target
    errors, summary = (places.beside(target, end) for end in (".errors.jsonl", ".summary.json"))
    return Task(source, target, Path(f"{local}.partial"), errors, summary)


def score_file(
    task: Task,
    request: Request,
    answered: Answered,
    resume: bool = False,
    survey: Survey | None = None,
) -> Generator[Seen, None, Tally]:
    """Score a file; close the generator to stop, and what is finished of it stays.

    With `resume` the work in the task's folder goes on, if there is any. `survey` saves the first
    reading, if there has been one.

    Raises:
        BadInput: the input cannot be used, or has a row that cannot be scored and `on_error` is
            "stop", or it is not what the unfinished work was about.
        Failure: the output cannot be written.
    """
    source, target = task.source, task.target
    piped = source == PIPE
    forms = forms_of(source, target, request)
    job = {} if piped else job_of(identity(source), forms[1].suffix, request)
    before = work.begun(task.folder) if resume else None
    if before:
        work.need_same(before["job"], job, target)
        survey = Survey(**before["survey"])
    elif survey is None:
        survey = Survey(0, {}) if piped else (yield from surveyed(source, forms[0], request))
    with work.alone(task.folder):
        if not before:
            work.begin(task.folder, job, asdict(survey))
        try:
            done = work.done_in(task.folder)
            with closing(open_input(source)) as file:
                header, rows = rows_of(file, source, forms[0], request, skip=done.rows_read)
                output = output_for(header, forms, request, source, survey.columns)
                done = yield from _score_parts(task, output, rows, request, answered, done, survey)
            _finish(task, output, job, done)
        except BadInput:
            work.clear(task.folder)  # the same again would say the same
            raise
        finally:
            if piped:
                work.clear(task.folder)
        work.clear(task.folder)
    return done.tally


def finished_before(task: Task, request: Request, resume: bool, overwrite: bool) -> Tally | None:
    """Return what came of a task that is done and may not be done again; None to go on with it.

    Raises:
        BadInput: something stands in its way, and neither flag says what to do with it.
    """
    source, target = task.source, task.target
    there = places.what_is(target)
    if there == "folder":
        raise BadInput(f"{target}: is a folder; name a file in it")
    if there == "file" and source != PIPE and places.is_same(source, target):
        raise BadInput(f"{target}: is the input; name another file")
    if overwrite:
        work.need_ours(str(task.folder))
        return None
    if work.begun(task.folder) is not None:
        if not resume:
            raise BadInput(
                f"{target}: was begun and interrupted; --resume goes on, --overwrite begins anew"
            )
        return None
    if there == "nothing":
        return None
    if not resume:
        raise BadInput(f"{target}: exists; --overwrite replaces it")
    done = work.finished(task.summary)
    if done is None:
        raise BadInput(
            f"{target}: exists and nothing says how it was made; --overwrite replaces it"
        )
    job = job_of(identity(source), forms_of(source, target, request)[1].suffix, request)
    work.need_same(done["job"], job, target)
    return Tally.from_json(done["tally"])


def identity(source: str) -> str:
    """Return the name of a file and the beginning of the hash of what it holds."""
    return f"{places.name_of(source)} (sha256 {places.sha256_of(source)[:16]})"


def score_to_pipe(
    source: str, request: Request, answered: Answered, stream: IO[bytes]
) -> Generator[Seen, None, Tally]:
    """Score a file to a stream, a chunk at a time, as it comes.

    Raises:
        BadInput: as `score_file`; what stands before the row has been written.
    """
    forms = forms_of(source, PIPE, request)
    survey = Survey(0, {})
    if source != PIPE:
        survey = yield from surveyed(source, forms[0], request)
    whole = Tally()
    with closing(open_input(source)) as file:
        header, rows = rows_of(file, source, forms[0], request)
        output = output_for(header, forms, request, source, survey.columns)
        stream.write(outputs.head(output))
        for chunk, answers in _answered(_chunks(rows, output, request), answered):
            kept, found, errors, part = _sorted(chunk, answers, request, source)
            stream.write(outputs.encode(output, kept, found))
            stream.flush()
            whole = whole.plus(part)
            yield Seen("Scoring", whole.rows, survey.rows, tuple(errors))
    return whole


def _chunks(rows: Iterable[Row], output: Output, request: Request) -> Iterator[list[Row]]:
    """Yield the rows in chunks of a number and a size; where they end follows from them alone."""
    most = EXPLAINED_CHUNK if request.model.explain else CHUNK
    chunk: list[Row] = []
    size = 0
    for row in rows:
        if row.problem is None and (problem := outputs.collision(row, output)):
            row = row._replace(text="", problem=problem)
        chunk.append(row)
        size += row.size
        if len(chunk) == most or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _answered(
    chunks: Iterable[list[Row]], answered: Answered
) -> Iterator[tuple[list[Row], Answers]]:
    """Yield each chunk with the answers to its texts, those of bad rows left out."""
    waiting: deque[list[Row]] = deque()

    def texts() -> Iterator[list[str]]:
        for chunk in chunks:
            waiting.append(chunk)
            yield [row.text for row in chunk if row.problem is None]

    for answers in answered(texts()):
        yield waiting.popleft(), answers


def _sorted(
    chunk: list[Row], answers: Answers, request: Request, source: str
) -> tuple[list[Row], list[dict[str, Any] | None], list[str], Tally]:
    """Return the rows of a chunk that are written, their answers, errors and figures.

    Raises:
        BadInput: a row cannot be scored, and `on_error` is "stop".
    """
    given = iter(answers)
    kept: list[Row] = []
    found: list[dict[str, Any] | None] = []
    errors, problems = [], []
    for row in chunk:
        if row.problem is None:
            kept.append(row)
            found.append(next(given))
            continue
        if request.on_error == "stop":
            raise BadInput(refusal(source, row))
        problems.append(row.problem.kind)
        errors.append(_error_line(row))
        if request.on_error == "keep":
            kept.append(row)
            found.append(None)
    return kept, found, errors, tally(found, problems)


def _error_line(row: Row) -> str:
    assert row.problem is not None
    said = {"row": row.number} | ({"line": row.line} if row.line else {})
    return json.dumps(said | {"kind": row.problem.kind, "problem": row.problem.said}) + "\n"


def _score_parts(
    task: Task,
    output: Output,
    rows: Iterator[Row],
    request: Request,
    answered: Answered,
    done: work.Done,
    survey: Survey,
) -> Generator[Seen, None, work.Done]:
    """Score the rows behind those that are done, and write a part every few chunks."""
    yield Seen("Scoring", done.rows_read, survey.rows)
    kept: list[Row] = []
    found: list[dict[str, Any] | None] = []
    errors: list[str] = []
    part, chunks, last = Tally(), 0, done.rows_read

    def write() -> work.Done:
        with work.next_part(task.folder, done, last, part, errors) as path:
            outputs.write_part(output, path, done.parts == 0, kept, found)
        return work.Done(done.parts + 1, last, done.tally.plus(part))

    for chunk, answers in _answered(_chunks(rows, output, request), answered):
        some, theirs, wrong, figures = _sorted(chunk, answers, request, task.source)
        kept += some
        found += theirs
        errors += wrong
        part, chunks, last = part.plus(figures), chunks + 1, chunk[-1].number
        if chunks == PART:
            done = write()
            kept, found, errors, part, chunks = [], [], [], Tally(), 0
        yield Seen("Scoring", last, survey.rows)
    if chunks or not done.parts:
        done = write()
    return done


def _finish(task: Task, output: Output, job: Mapping[str, str], done: work.Done) -> None:
    """Give output, errors and summary their places; the output last but for the summary."""
    errors = task.folder / "errors"
    with replacing(errors) as path:
        path.write_bytes(b"")
        for part in work.paths_of(task.folder, done, "errors"):
            with path.open("ab") as file:
                file.write(part.read_bytes())
    if errors.stat().st_size:
        places.publish(errors, task.errors)
    else:
        places.remove_if_there(task.errors)
    whole = task.folder / "whole"
    with replacing(whole) as path:
        outputs.join_parts(output, work.paths_of(task.folder, done, "rows"), path)
    places.publish(whole, task.target)
    summary = task.folder / "summary"
    write_atomically(summary, summary_json(job, list(output.names.values()), done.tally))
    places.publish(summary, task.summary)


def summary_json(job: Mapping[str, str], columns: Sequence[str], figures: Tally) -> str:
    """Return what stands beside an output: how it was made, the new columns, what came of it."""
    content = {"job": job, "columns": columns, "tally": figures.to_json()}
    return json.dumps(content, indent=2) + "\n"

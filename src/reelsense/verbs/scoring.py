"""score: a file of reviews, or a folder of them, to the same with the answers beside them."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from reelsense.errors import BadInput
from reelsense.verbs.columns import cut
from reelsense.verbs.interruption import interruptible
from reelsense.verbs.prediction import MODEL, SECOND, THRESHOLD
from reelsense.verbs.progress import clock

if TYPE_CHECKING:
    from reelsense.inference.ray_cluster import Cluster
    from reelsense.inference.request import Request
    from reelsense.inference.survey import Seen
    from reelsense.inference.tally import Tally

# Seconds between two lines of progress: on a terminal, where one is written over, and elsewhere.
REDRAWN, PAUSE = 0.2, 10.0
BAR: Final = 40  # columns of the histogram


def _address(_: click.Context, __: click.Parameter, address: str | None) -> str | None:
    """Return the value of --ray, unless it is IN or OUT."""
    if address is not None:
        from reelsense.inference.ray_cluster import need_address

        need_address(address)
    return address


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@MODEL
@SECOND
@THRESHOLD
@click.option("--text-column", metavar="NAME", help="Column of the texts, if not found.")
@click.option("--explain", is_flag=True,
              help="Add the evidence of every word, with its place, and the log-odds.")  # fmt: skip
@click.option("--on-error", type=click.Choice(["stop", "keep", "skip"]), default="stop",
              show_default=True,
              help="What to do with a row that cannot be scored: stop before anything is scored, "
                   "keep it without an answer, or leave it out. The last two list such rows in "
                   "OUT.errors.jsonl.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N",
              help="Processes; by default as many as this process may use cores.")  # fmt: skip
@click.option("--format", "pipe", type=click.Choice(["csv", "tsv", "jsonl", "text"]),
              help="What a pipe holds, where IN or OUT is - (text: a review a line).")  # fmt: skip
@click.option("--ray", is_flag=False, flag_value="", metavar="[HOST:PORT]", callback=_address,
              help="Score on a Ray cluster, each file by one of --workers actors: the one at that "
                   "address, or without it that of RAY_ADDRESS or of this machine, or one started "
                   "for the job. Without an address it stands last.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what was interrupted.")
@click.option("--overwrite", is_flag=True, help="Replace OUT, or begin anew.")
def score(
    source: str,
    target: str,
    name: str | None,
    second: str | None,
    threshold: float | None,
    text_column: str | None,
    explain: bool,
    on_error: str,
    workers: int | None,
    pipe: str | None,
    ray: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Score a file of reviews of any size.

    IN is a .csv, .tsv, .jsonl, .parquet or .txt file (a review a line), also .gz or .zst, a folder
    of such files, or - for a pipe. OUT has its rows with their columns as they are, and the columns
    label, probability, tokens, unknown and truncated beside them. It appears whole or not at all;
    what was interrupted goes on with --resume.
    """
    if threshold is not None and math.isnan(threshold):
        raise BadInput("--threshold nan: must lie between 0.5 and 1")
    if resume and overwrite:
        raise BadInput("--resume goes on and --overwrite begins anew; give one of the two")

    from reelsense.cores import available_cores
    from reelsense.inference.places import PIPE
    from reelsense.inference.ray_cluster import Cluster
    from reelsense.inference.request import Request
    from reelsense.inference.workers import Model

    if PIPE in (source, target) and resume:
        raise BadInput("--resume: a pipe cannot be read or written again; name files")
    if PIPE in (source, target) and ray is not None:
        raise BadInput("--ray: other machines cannot reach a pipe of this one; name files")
    if source == PIPE and sys.stdin is None:
        raise BadInput("standard input is closed; as in: reelsense score - OUT < reviews.csv")
    if target == PIPE and sys.stdout is None:
        raise BadInput("standard output is closed; name a file")
    request = Request(Model(name, second, threshold, explain), text_column, on_error, pipe)
    job = _Job(source, target, request, workers or available_cores(), resume, overwrite)
    if target == PIPE:
        _to_pipe(job)
    else:
        _to_file(job, None if ray is None else Cluster(ray, workers))


@dataclass(frozen=True)
class _Job:
    """What is to be done, and how."""

    source: str
    target: str
    request: "Request"
    workers: int
    resume: bool
    overwrite: bool


def _to_pipe(job: _Job) -> None:
    """Score a file to standard output."""
    from reelsense.inference.files import score_to_pipe
    from reelsense.inference.workers import answering

    with answering(job.request.model, job.workers) as answered:
        running = score_to_pipe(job.source, job.request, answered, sys.stdout.buffer)
        whole = _drawn(running, lambda: False)
    _say(_summary(whole, None))


def _to_file(job: _Job, on: "Cluster | None") -> None:
    """Score a file or a folder to another, on this machine or on a cluster."""
    from reelsense.inference import files, folders, places, ray_job
    from reelsense.inference.workers import answering

    kind = "file" if job.source == places.PIPE else places.what_is(job.source)
    if kind == "nothing":
        raise BadInput(f"{job.source}: there is no such file or folder; check it")
    places.need_place_for(job.target)
    request = job.request
    if kind == "folder":
        folder = folders.read_folder(job.source, job.target, request)
        done = folders.finished_before(folder, job.resume, job.overwrite)
        errors, summary = folder.errors, folder.summary
    else:
        task = files.task_for(job.source, job.target)
        done = files.finished_before(task, request, job.resume, job.overwrite)
        errors, summary = task.errors, task.summary
    if done is not None:
        _say(f"{job.target} has been scored already")
        _say_what_came_of_it(done, errors, summary)
        return
    if on is not None:
        with interruptible() as interrupted:
            if kind == "folder":
                running = ray_job.score_folder(folder, request, on)
            else:
                running = ray_job.score_file(task, request, on)
            whole = _drawn(running, interrupted)
        _say_what_came_of_it(whole, errors, summary)
        return
    with (
        interruptible(resume=job.source != places.PIPE) as interrupted,
        answering(request.model, job.workers) as answered,
    ):
        if kind == "folder":
            running = folders.score_folder(folder, request, answered)
        else:
            running = files.score_file(task, request, answered, job.resume)
        whole = _drawn(running, interrupted)
    _say_what_came_of_it(whole, errors, summary)


def _say_what_came_of_it(whole: "Tally", errors: str, summary: str) -> None:
    """Print the summary of a file or folder, and the names that the answers have to have."""
    from reelsense.inference import work
    from reelsense.inference.outputs import ADDED

    if (made := work.finished(summary)) and made["columns"][0] != ADDED[0]:
        _say(f"Columns    {', '.join(made['columns'])} (the short names are taken)")
    _say(_summary(whole, errors))


def _drawn(running: "Generator[Seen, None, Tally]", interrupted: Callable[[], bool]) -> "Tally":
    """Show on standard error how far the work is; close it if it is interrupted.

    Returns what came of the whole, or of nothing after an interruption.
    """
    from reelsense.inference.tally import Tally

    terminal = sys.stderr is not None and sys.stderr.isatty()
    begin = last = time.monotonic()
    first: int | None = None  # rows that were done before: a resumed file begins in its middle
    whole = Tally()

    def until_the_end() -> "Generator[Seen, None, None]":
        nonlocal whole
        whole = yield from running

    with closing(until_the_end()) as events:
        for seen in events:
            now = time.monotonic()
            for line in seen.errors:
                _say(line.rstrip())
            if first is None and seen.doing != "Reading":
                first, begin = seen.rows, now
            if now - last >= (REDRAWN if terminal else PAUSE):
                last = now
                line = _progress(seen, seen.rows - (first or 0), now - begin)
                _say(_over(line) if terminal else line, end=not terminal)
            if interrupted():
                break
    if terminal:
        _say(_over(""), end=False)
    return whole


def _over(line: str) -> str:
    """Return what writes a line over the one that the cursor stands on."""
    return f"\r\033[K{cut(line, shutil.get_terminal_size((100, 24)).columns - 1)}"


def _progress(seen: "Seen", rows: int, seconds: float) -> str:
    """Return a line: what is going on, rows, rows a second, time left."""
    if not seen.of:
        return f"{seen.doing}  {seen.rows:,} rows"
    line = f"{seen.doing}  {seen.rows / seen.of:4.0%}  {seen.rows:,} of {seen.of:,} rows"
    if rows and seconds:
        pace = rows / seconds
        line += f"  {pace:,.0f} rows/s  {clock((seen.of - seen.rows) / pace)} left"
    return line


def _summary(whole: "Tally", errors: str | None) -> str:
    """Return what came of the rows: counts, shares, a histogram."""
    lines = [f"Rows       {whole.rows:,}"]
    if whole.problems:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(whole.problems.items()))
        listed = f"; listed in {errors}" if errors else ""
        lines.append(f"No answer  {sum(whole.problems.values()):,} ({kinds}){listed}")
    for label, count in sorted(whole.labels.items()):
        lines.append(f"{label.capitalize():<9}  {count:,} ({count / whole.scored:.1%})")
    if whole.truncated:
        lines.append(f"Truncated  {whole.truncated:,}, of which only a part was read")
    if whole.tokens:
        unknown = whole.unknown / whole.tokens
        lines.append(f"Words      {whole.tokens:,}, {unknown:.1%} of them unknown to the model")
    if whole.scored:
        lines += ["", "P(positive)", *_histogram(whole.histogram)]
    return "\n".join(lines)


def _histogram(counts: Sequence[int]) -> Iterator[str]:
    """Yield a row for each bin."""
    for place, count in enumerate(counts):
        low, high = place / len(counts), (place + 1) / len(counts)
        bar = "#" * round(BAR * count / max(counts))
        yield f"{low:.1f} to {high:.1f}  {count:>11,}  {bar}".rstrip()


def _say(line: str, end: bool = True) -> None:
    """Print beside the output, which may be standard output."""
    click.echo(line, nl=end, err=True)

"""Runs in processes of their own, several at once; each is the `reelsense train` that users have.

What a run prints goes to `logs/NAME.out`, what went wrong to `logs/NAME.err`. A run that fails
leaves the others alone. When the generator is closed, those that run get a Ctrl-C, save themselves
and go on the next time.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reelsense.experiments.plan import Cell, Plan
from reelsense.training.checkpoint import is_finished

LOOK: Final = 0.2  # seconds between two looks at who has ended


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its accuracy, or the reason why it failed."""

    cell: Cell
    seconds: float
    accuracy: float | None
    reason: str | None


@dataclass(frozen=True)
class Working:
    """How far the runs are: how many of all have ended, which go on, and what is left."""

    done: int
    of: int
    at_work: tuple[str, ...]
    share_done: float
    seconds_left: float | None  # None until a run has ended


@dataclass(frozen=True, eq=False)
class _Process:
    cell: Cell
    process: subprocess.Popen[bytes]
    started: float


def train_all(
    plan: Plan, flags: Sequence[str], at_once: int, lock: int
) -> Generator[Ended | Working]:
    """Train every run of the plan that has not finished, `at_once` at a time.

    Args:
        plan: the comparison.
        flags: of `reelsense train`, the same for all: where the reviews are, on what to compute.
        at_once: processes at a time.
        lock: a descriptor that every process inherits.
    """
    took = {
        cell: float(_metrics(plan, cell)["run_seconds"])
        for cell in plan.cells()
        if _ended(plan, cell)
    }
    waiting = [cell for cell in plan.cells() if cell not in took]
    ended = len(took)
    running: list[_Process] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(plan, waiting.pop(0), flags, lock))
            yield _working(plan, ended, took, running, waiting, at_once)
            time.sleep(LOOK)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                _note_a_signal(plan, one)
                ended += 1
                yield _outcome(plan, one, took)
    finally:
        _stop(running)


def _outcome(plan: Plan, one: _Process, took: dict[Cell, float]) -> Ended:
    """Say what became of a run; note how long it took if it finished."""
    seconds, reason = time.monotonic() - one.started, why_it_failed(plan, one.cell)
    if reason is not None:
        return Ended(one.cell, seconds, None, reason)
    took[one.cell] = seconds
    return Ended(one.cell, seconds, _metrics(plan, one.cell)[plan.part]["accuracy"], None)


def why_it_failed(plan: Plan, cell: Cell) -> str | None:
    """Return the line that says why a run has not finished; None for one that has."""
    if _ended(plan, cell):
        return None
    said = _log(plan, cell, "err")
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("reelsense: ") if lines else "ended without a word"


def _ended(plan: Plan, cell: Cell) -> bool:
    return is_finished(plan.run(cell))


def _metrics(plan: Plan, cell: Cell) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((plan.run(cell) / "metrics.json").read_text("utf-8"))
    return content


def _note_a_signal(plan: Plan, one: _Process) -> None:
    """Write down which signal ended a run that had no time to say so."""
    if one.process.returncode < 0:
        number = -one.process.returncode
        why = "; is there too little memory for so many at once?" if number == 9 else ""
        with _log(plan, one.cell, "err").open("a", encoding="utf-8") as file:
            file.write(f"killed by signal {number}{why}\n")


def _log(plan: Plan, cell: Cell, kind: str) -> Path:
    return plan.folder / "logs" / f"{cell.name}.{kind}"


def command_of(plan: Plan, cell: Cell, flags: Sequence[str]) -> list[str]:
    """Return the arguments of `reelsense` that make a run."""
    reads_more = plan.recipes[cell.recipe].unlabelled_share > 0
    more = [part for name in plan.unlabelled if reads_more for part in ("--unlabelled", name)]
    return [
        "train", "--recipe", str(plan.recipe_file(cell.recipe)), "--seed", str(cell.seed),
        "--label-share", f"{cell.share!r}", "--passes", str(plan.passes_of(cell)), *more, *flags,
        "--run", str(plan.run(cell)),
    ]  # fmt: skip


def _start(plan: Plan, cell: Cell, flags: Sequence[str], lock: int) -> _Process:
    """Start a run, or go on with it."""
    run = plan.run(cell)
    arguments = command_of(plan, cell, flags)
    if (run / "data.json").exists():
        arguments.append("--resume")
    elif run.exists():  # killed before there was anything to go on with
        shutil.rmtree(run)
    logs = [_log(plan, cell, kind) for kind in ("out", "err")]
    logs[0].parent.mkdir(exist_ok=True)
    with logs[0].open("wb") as out, logs[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "reelsense", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[lock],
            process_group=0,  # a Ctrl-C on the terminal is for us; we pass it on once
        )
    return _Process(cell, process, time.monotonic())


def _stop(running: Sequence[_Process]) -> None:
    """Have the runs save themselves; a second Ctrl-C ends them as they are."""
    try:
        for one in running:
            one.process.send_signal(signal.SIGINT)
        for one in running:
            one.process.wait()
    except BaseException:
        for one in running:
            one.process.kill()
            one.process.wait()
        raise


def _working(
    plan: Plan,
    ended: int,
    took: Mapping[Cell, float],
    running: Sequence[_Process],
    waiting: Sequence[Cell],
    at_once: int,
) -> Working:
    """Say how far it is; what is left is told from the runs of the same recipe, if there are."""
    now = time.monotonic()
    left = 0.0
    for cell in waiting:
        left += _expected(plan, cell, took)
    for one in running:
        left += max(0.0, _expected(plan, one.cell, took) - (now - one.started))
    spent = sum(took.values()) + sum(now - one.started for one in running)
    return Working(
        done=ended,
        of=len(plan.cells()),
        at_work=tuple(one.cell.name for one in running),
        share_done=spent / (spent + left) if took else ended / len(plan.cells()),
        seconds_left=left / max(1, min(at_once, len(waiting) + len(running))) if took else None,
    )


def _expected(plan: Plan, cell: Cell, took: Mapping[Cell, float]) -> float:
    """Return the seconds that a run will take, in proportion to the reviews that it goes through.

    And a part that all runs have: reading, measuring, drawing.
    """
    alike = {other: seconds for other, seconds in took.items() if other.recipe == cell.recipe}
    known = alike or took
    if same := [seconds for other, seconds in known.items() if other.share == cell.share]:
        return sum(same) / len(same)
    read = sum(_read(plan, other) for other in known)
    return sum(known.values()) / read * _read(plan, cell) if read else 0.0


def _read(plan: Plan, cell: Cell) -> int:
    """Return how many reviews a run goes through."""
    return plan.labelled(cell.share) * plan.passes_of(cell) * plan.recipe_of(cell).epochs

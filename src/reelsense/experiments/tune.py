"""Search over the ranges of a recipe: each trial is a training as any other.

A trial is worth the lowest validation log loss of its epochs, that of the epoch whose weights a
training keeps; the pruner stops those that are behind by the same figure. The test part is never
looked at. Log loss, because accuracy is noisier: the settings in `results/choices.csv` that learned
from the labelled reviews alone differ by 4.1 times the spread of seeds in log loss, by 1.8 times in
accuracy.
"""

import contextlib
import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from reelsense.atomic import write_atomically
from reelsense.errors import BadInput, Failure, is_out_of_memory
from reelsense.evaluation.study_plots import draw_study
from reelsense.experiments.ranges import Range
from reelsense.experiments.study import (
    STEPS,
    Joined,
    best_of,
    claim,
    fail,
    finish,
    folder_of,
    give_back,
    importance,
    known_already,
    rows_of,
    show_life,
)
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.alike import words_alike
from reelsense.text.reviews import Reviews
from reelsense.training.augment import guards_of
from reelsense.training.checkpoint import best_epoch, read_history
from reelsense.training.loop import EpochEnd, Step, train
from reelsense.training.machine import Machine
from reelsense.training.pools import make_pools
from reelsense.training.prepare import SHAPES_DATA, Prepared, prepare

SIGN_OF_LIFE: Final = 30  # seconds between two
ENDED: Final = ("complete", "pruned", "failed")


@dataclass(frozen=True, eq=False)
class Given:
    """What every trial is given: its data, by its recipe, and a machine."""

    prepared: Callable[[Recipe], Prepared]
    unlabelled: Sequence[Reviews]
    machine: Machine


@dataclass(frozen=True)
class TrialStep:
    """Progress after a step of a trial: how much of the whole study is done, and seconds left."""

    trial: int
    step: Step
    share_done: float
    seconds_left: float


@dataclass(frozen=True)
class TrialEnd:
    """What came of a trial, a row of `study.rows_of`, and how the study stands."""

    row: Mapping[str, Any]
    ended: int
    best: Mapping[str, Any] | None


def stated(base: Recipe, ranges: Sequence[Range], hashes: Mapping[str, str] | None) -> Any:
    """Return what a study is, as `storage.check_study` compares it; without hashes not its data."""
    values = {key: value for key, value in asdict(base).items() if key not in ("name", "about")}
    what = {"recipe": values, "ranges": {each.name: str(each) for each in ranges}}
    return what if hashes is None else what | {"hashes": dict(hashes)}


def preparing(reviews: Reviews) -> Callable[[Recipe], Prepared]:
    """Return `prepare` for these reviews, done again only where the recipe needs other data.

    The last are kept: of 25,000 reviews, 8 seconds of work and 27 MB of token ids.
    """
    kept: dict[tuple[Any, ...], Prepared] = {}

    def prepared(recipe: Recipe) -> Prepared:
        shape = tuple(getattr(recipe, name) for name in SHAPES_DATA)
        if shape not in kept:
            kept.clear()
            kept[shape] = prepare(recipe, reviews)
        return kept[shape]

    return prepared


def tune(
    joined: Joined, base: Recipe, given: Given, wanted: int
) -> Generator[TrialStep | TrialEnd]:
    """Try values until `wanted` trials have ended, or are being tried by other processes.

    Close the generator to stop: the trial in hand is saved, and goes on when it is claimed again.
    A trial that cannot be trained, or whose loss is not a number, has failed, and the next begins.

    Raises:
        Failure: the folder or the storage cannot be written.
    """
    started, before = time.perf_counter(), _ended(joined)
    while (trial := claim(joined, wanted)) is not None:
        ended = _ended(joined)
        with contextlib.closing(_one(joined, trial, base, given)) as steps:
            for step in steps:
                done = ended + step.share_done
                pace = (time.perf_counter() - started) / (done - before)  # of all processes
                yield TrialStep(trial.number, step, done / wanted, max(wanted - done, 0) * pace)
        rows = rows_of(joined)
        yield TrialEnd(rows[trial.number], _ended(joined), best_of(rows))


def _one(joined: Joined, trial: Trial, base: Recipe, given: Given) -> Generator[Step]:
    """Train a trial and tell the study what came of it."""
    try:
        if known_already(joined, trial):
            return
        pruned = yield from _train(joined, trial, base, given)
        finish(joined, trial, _figures(folder_of(joined, trial)), pruned)
    except UpdateFinishedTrialError:
        return  # asleep for so long that another machine took it over
    except (BadInput, Failure, MemoryError, RuntimeError) as error:
        if not _comes_from_its_values(error):
            give_back(joined, trial)
            raise
        fail(joined, trial, "out of memory" if is_out_of_memory(error) else str(error))
    except BaseException:  # also when it is interrupted
        give_back(joined, trial)
        raise


def _train(joined: Joined, trial: Trial, base: Recipe, given: Given) -> Generator[Step, None, bool]:
    """Train a trial, from where its folder says; return whether it was pruned."""
    recipe = base.changed(**trial.params)
    prepared = given.prepared(recipe)
    run = folder_of(joined, trial)
    running = train(
        recipe,
        build(recipe, prepared.vectors.matrix, prepared.vectors.found),
        prepared.examples(recipe, "train"),
        prepared.examples(recipe, "validation"),
        run,
        given.machine,
        make_pools(recipe, prepared, given.unlabelled),
        words_alike(prepared.tokenizer.vocabulary) if recipe.tie_names else [],
        guards_of(recipe, prepared) if recipe.augment != "none" else None,
    )
    reported: set[int] = set()

    def report(record: Mapping[str, Any]) -> None:
        step = round(STEPS * record["epoch"] / recipe.epochs)
        if step not in reported:
            reported.add(step)
            trial.report(record["validation"]["loss"], step)

    for record in read_history(run):
        report(record)
    last_sign = time.monotonic()
    with contextlib.closing(running):
        for event in running:
            if isinstance(event, EpochEnd):
                report(event.record)
                if event.record["epoch"] < recipe.epochs and trial.should_prune():
                    return True
                continue
            if time.monotonic() - last_sign > SIGN_OF_LIFE:
                last_sign = time.monotonic()
                show_life(trial)
            yield event
    return False


def _figures(run: Path) -> dict[str, Any]:
    """Return what a trial is worth, from the history of its run."""
    history = read_history(run)
    best = history[best_epoch(history) - 1]
    return {
        **best["validation"],
        "epoch": best["epoch"],
        "epochs": len(history),
        "seconds": sum(record["seconds"] for record in history),
    }


def _comes_from_its_values(error: Exception) -> bool:
    """Say whether other values could have done without an error, unlike one of the disk."""
    if isinstance(error, Failure):
        return not isinstance(error.__cause__, OSError)
    return isinstance(error, BadInput) or is_out_of_memory(error)


def _ended(joined: Joined) -> int:
    return sum(row["state"] in ENDED for row in rows_of(joined))


# --- What it leaves behind ------------------------------------------------------------------------


def write_results(joined: Joined, base: Recipe, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write study.json, trials.csv, and where a trial was whole best.toml and history.png.

    Returns what study.json holds: `about`, and "trials" (how many, by state), "best" and "usual"
    (the rows of the best trial and of the recipe as it is; None where there is none) and
    "importance".
    """
    rows = rows_of(joined)
    whole = [row for row in rows if row["state"] == "complete"]
    result = {
        **about,
        "trials": Counter(row["state"] for row in rows),
        "best": best_of(rows),
        "usual": next((row for row in whole if row["as_it_is"]), None),
        "importance": importance(joined),
    }
    write_atomically(joined.folder / "trials.csv", _csv(rows))
    write_atomically(joined.folder / "study.json", json.dumps(result, indent=2) + "\n")
    if best := result["best"]:
        recipe = best_recipe(base, best, sum(row["state"] in ENDED for row in rows))
        write_atomically(joined.folder / "best.toml", recipe.to_toml())
        draw_study(rows, result["importance"], joined.folder / "history.png")
    return result


def best_recipe(base: Recipe, best: Mapping[str, Any], ended: int) -> Recipe:
    """Return the recipe of the best trial, with a name that says what it comes from."""
    about = (
        f"{base.name} with the best values of {ended} trials of `reelsense tune`, validation "
        f"log loss {best['loss']:.4f}"
    )
    return base.changed(name=f"{base.name}-tuned", about=about, **best["values"])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line a trial; the figures are those of its best epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("loss", "accuracy", "epoch", "epochs", "seconds")
    names = list(rows[0]["values"]) if rows else []
    writer.writerow(["trial", "state", "validation_loss", "validation_accuracy", "best_epoch",
                     "epochs", "seconds", "reason", *names])  # fmt: skip
    writer.writerows(
        [row["trial"], row["state"], *(row[key] for key in figures), row["reason"],
         *row["values"].values()]
        for row in rows
    )  # fmt: skip
    return text.getvalue()

"""tune: from a recipe and ranges of its values to the best of many trainings."""

import json
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput, Failure
from reelsense.model.recipe import Recipe, read_recipe
from reelsense.verbs import training_output as output
from reelsense.verbs.interruption import interruptible
from reelsense.verbs.options import (
    UNLABELLED,
    RecipeCommand,
    data_options,
    machine_options,
    need_folder,
    place_of_unlabelled,
    read,
    read_unlabelled,
    recipe_options,
    source_of,
    values_of,
)
from reelsense.verbs.progress import Progress, clock, draw_progress

if TYPE_CHECKING:
    from reelsense.experiments.ranges import Range
    from reelsense.experiments.tune import TrialEnd, TrialStep


class _Tune(RecipeCommand):
    recipe = Recipe


@dataclass(frozen=True)
class _Request:
    """The values of the flags that are not in a recipe."""

    recipe: str
    ranges: tuple[str, ...]
    trials: int
    study: Path | None
    storage: str | None
    unlabelled: tuple[str, ...]
    data: str | None
    text_column: str | None
    label_column: str | None
    labels: str | None
    device: str
    threads: int | None


@click.command(cls=_Tune)
@click.option("--recipe", metavar="NAME", default="default", show_default=True,
              help="The recipe whose values are searched, as with `reelsense train`.")  # fmt: skip
@click.option(
    "--range", "ranges", multiple=True, metavar="FIELD=VALUES",
    help="What to search: learning_rate=1e-3..1e-2, hidden=64..256, pooling=max,mean; comes "
         "several times. By default the learning rate, the width and the dropouts.",
)  # fmt: skip
@click.option("--trials", type=click.IntRange(1, 100_000), default=20, show_default=True,
              metavar="N", help="Trials in all, those of other processes counted.")  # fmt: skip
@click.option("--study", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the study is; runs/tune-RECIPE by default.")  # fmt: skip
@click.option(
    "--storage", metavar="URL", envvar="REELSENSE_STORAGE",
    help="A database that several machines share, as SQLAlchemy writes it; with a password better "
         "in the variable REELSENSE_STORAGE. By default SQLite in the study's folder.",
)  # fmt: skip
@UNLABELLED
@data_options
@machine_options
@recipe_options(Recipe)
def tune(**given: Any) -> None:
    """Search for better values of a recipe, on the validation part.

    Each trial is a training; those that are behind are stopped early. The same command again, also
    at the same time (then with --threads), on another machine with the same --storage, or after a
    Ctrl-C, goes on with the same study.
    """
    chosen = {field.name: given.pop(field.name) for field in values_of(Recipe)}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    request = _Request(**given)
    usual = read_recipe(request.recipe)
    plan = usual.changed(**chosen)
    folder = request.study or Path("runs") / f"tune-{plan.name}"
    ranges = _ranges(request, plan, list(chosen))
    _check_place(folder)
    source = source_of(request.data, request.text_column, request.label_column, request.labels)
    source["unlabelled"] = [place_of_unlabelled(name) for name in request.unlabelled]

    from reelsense.experiments import study, tune
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import write_environment

    # Before a minute of reading, not after.
    study.refuse_another(folder, request.storage, tune.stated(plan, ranges, None))
    reviews, more = read(source), read_unlabelled(source["unlabelled"], source["text_column"])
    machine = find_machine(request.device, request.threads, plan.precision)
    prepared_for = tune.preparing(reviews)
    prepared = prepared_for(plan)
    hashes = prepared.hashes()
    hashes |= {f"unlabelled {place}": part.sha256 for place, part in enumerate(more, 1)}
    what = tune.stated(plan, ranges, hashes)
    all_given = tune.Given(prepared_for, more, machine)
    with (
        interruptible(resume=False) as interrupted,
        study.joined(folder, request.storage, what, ranges) as joined,
    ):
        write_environment(folder, plan.seed, machine, hashes)
        click.echo(output.what_it_trains_on(usual, plan, prepared, machine))
        click.echo(_what_it_searches(ranges, folder, study.rows_of(joined)))
        _draw(tune.tune(joined, plan, all_given, request.trials), request.trials, interrupted)
        result = tune.write_results(joined, plan, what | {"source": source})
        _print_result(result, folder, request.trials)
    if result["best"] is None and result["trials"].get("failed", 0) >= request.trials:
        raise Failure(
            f"{folder}: every trial failed; trials.csv says why; begin another study, with other "
            "ranges"
        )


def _ranges(request: _Request, plan: Recipe, fixed: Sequence[str]) -> "tuple[Range, ...]":
    """Return what is searched; refuse a recipe that cannot be."""
    from reelsense.experiments.ranges import read_ranges, usual_ranges

    if not plan.validation:
        raise BadInput(
            "--validation 0 leaves no review to compare trials on; hold some out for validation"
        )
    if not request.ranges:
        return usual_ranges(plan, fixed)
    return read_ranges(request.ranges, fixed)


def _check_place(folder: Path) -> None:
    """Refuse, before any work, a folder that holds something else than a study."""
    need_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ".lock").exists():
        raise BadInput(f"--study {folder}: exists already and holds no study; name another folder")


def _what_it_searches(
    ranges: "Sequence[Range]", folder: Path, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Return a few lines that say what is searched, and what is known already."""
    width = max(len(each.name) for each in ranges)
    listed = "\n          ".join(
        f"{each.name:<{width}}  {each}{'  (factors)' if each.log else ''}" for each in ranges
    )
    known = sum(row["state"] not in ("waiting", "cut off", "running") for row in rows)
    trials = "trial has" if known == 1 else "trials have"
    return f"Search    {listed}\nStudy     {folder}" + (
        f": {known:,} {trials} ended already" if known else ""
    )


def _draw(
    running: "Generator[TrialStep | TrialEnd]", wanted: int, interrupted: Callable[[], bool]
) -> None:
    """Show the trials as they go on, and a row for each that has ended."""
    from reelsense.experiments.tune import TrialEnd

    def show(event: "TrialStep | TrialEnd") -> Progress | str:
        if isinstance(event, TrialEnd):
            return _row(event, wanted)
        step = event.step
        now = f"epoch {step.epoch}  loss {step.loss:.3f}  {clock(event.seconds_left)} left"
        return Progress(f"Trial {event.trial}", event.share_done, now)

    titles = "  ended  trial  log loss  accuracy  best loss  epochs    time"
    click.echo(f"\n{'':16}on the validation part\n{titles}")
    draw_progress(running, show, interrupted)


def _row(end: "TrialEnd", wanted: int) -> str:
    """Return what came of a trial as a row under the titles."""
    row, best = end.row, end.best
    figures = f"{'-':>8}  {'-':>8}"
    if row["loss"] is not None:
        figures = f"{row['loss']:8.4f}  {row['accuracy']:8.2%}"
    lowest = "-" if best is None else f"{best['loss']:.4f}"
    epochs, seconds = row["epochs"] or "-", clock(row["seconds"] or 0)
    state = "" if row["state"] == "complete" else f"{row['state']}  "
    reason = f"  ({row['reason']})" if row["reason"] else ""
    ended = f"{end.ended}/{wanted}"
    return (
        f"{ended:>7}  {row['trial']:>5}  {figures}  {lowest:>9}  {epochs:>6}  {seconds:>6}  "
        f"{state}{_values(row)}{reason}"
    )


def _values(row: Mapping[str, Any]) -> str:
    """Return the values of a trial in short."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={json.dumps(value)}"
        for name, value in row["values"].items()
    ).replace('"', "")


def _print_result(result: Mapping[str, Any], folder: Path, wanted: int) -> None:
    """Print what the search found and where it is."""
    counts, best, usual = result["trials"], result["best"], result["usual"]
    listed = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    click.echo(f"\nTrials    {listed or 'none'}; {wanted:,} were asked for")
    click.echo(f"Table     {folder / 'trials.csv'}")
    if best is None:
        return
    click.echo(f"Picture   {folder / 'history.png'}")
    click.echo(f"Best      trial {best['trial']}: {_figures(best)}\n          {_values(best)}")
    if usual is not None and usual is not best:
        click.echo(f"As it is  trial {usual['trial']}: {_figures(usual)}")
    click.echo(
        "          The best of many on the reviews that chose it: these figures flatter; a "
        "training measures\n          it on the test part.\n"
        f"Train     reelsense train --recipe {shlex.quote(str(folder / 'best.toml'))}"
    )


def _figures(row: Mapping[str, Any]) -> str:
    return (
        f"validation log loss {row['loss']:.4f}, accuracy {row['accuracy']:.2%} in epoch "
        f"{row['epoch']}"
    )

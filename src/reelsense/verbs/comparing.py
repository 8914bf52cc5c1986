"""compare: recipes, seeds and shares of the labels, side by side."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.cores import available_cores
from reelsense.errors import BadInput, Failure
from reelsense.model.recipe import read_recipe
from reelsense.verbs.interruption import Interrupted, how_to_go_on, interruptible
from reelsense.verbs.options import (
    DEVICE,
    UNLABELLED,
    data_options,
    need_folder,
    place_of_unlabelled,
    read,
    source_of,
)
from reelsense.verbs.progress import Progress, clock, draw_progress
from reelsense.verbs.training import TRIAL

if TYPE_CHECKING:
    from reelsense.experiments.compare import Measuring
    from reelsense.experiments.plan import Plan
    from reelsense.experiments.runs import Ended, Working
    from reelsense.experiments.summary import Summary

LEAST_STEPS = 150
PAUSE = 60  # seconds between two lines where there is no terminal: a comparison takes hours


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, metavar="N",
              help="Seeds of each recipe, from 0 on.")  # fmt: skip
@click.option("--fractions", default="1", show_default=True, metavar="X,X,...",
              help="Shares of the labels to learn from, as in 0.01,0.1,1.")  # fmt: skip
@click.option("--steps", type=click.IntRange(0), default=LEAST_STEPS, show_default=True,
              metavar="N", help="Fewest steps of a run: where few labels make an epoch short, "
              "it goes through them more often.")  # fmt: skip
@click.option("--split-seed", type=click.IntRange(0, 2**31), metavar="N",
              help="Seed of the split, in place of the recipes'.")  # fmt: skip
@data_options
@UNLABELLED
@TRIAL
@click.option("--folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the comparison goes; runs/compare-RECIPE-RECIPE by default.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the comparison in that folder.")
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N",
              help="Runs at a time; by default as many as there are cores for.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
              help="Processor cores of a run.")  # fmt: skip
@DEVICE
def compare(recipes: tuple[str, ...], **given: Any) -> None:
    """Compare recipes: seeds, intervals, paired tests.

    Each RECIPE, one that `reelsense recipes` lists or a TOML file, is trained with each seed and
    each share of the labels, all on the same split, and measured on the test part when it has been
    trained. The first RECIPE is the one that the others, and a linear baseline that learns from the
    same reviews, are tested against. Ctrl-C saves the runs; the same command with --resume goes on,
    also with more recipes, seeds and fractions.
    """
    named = [(name, read_recipe(name)) for name in recipes]
    if given["split_seed"] is not None:
        named = [(name, recipe.changed(split_seed=given["split_seed"])) for name, recipe in named]
    shares = _shares(given["fractions"])
    folder = given["folder"] or Path("runs", "-".join(["compare", *(r.name for _, r in named)]))
    unlabelled = [place_of_unlabelled(name) for name in given["unlabelled"]]
    need_folder(folder)

    from reelsense.experiments.compare import compare as events
    from reelsense.experiments.plan import check_folder, make_plan

    check_folder(folder, given["resume"])  # before a minute of reading, not after
    source = source_of(*(given[key] for key in ("data", "text_column", "label_column", "labels")))
    reviews = read(source)
    plan = make_plan(
        folder, named, shares, given["seeds"], reviews, given["trial"], given["steps"], unlabelled
    )
    at_once = given["jobs"] or max(1, available_cores() // given["threads"])
    click.echo(_what_is_compared(plan, at_once, given["threads"]))
    with interruptible() as interrupted:
        draw_progress(events(plan, _flags(given), at_once), _shown, interrupted, PAUSE)
    try:
        _conclude(plan)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {how_to_go_on()}") from None


def _shares(fractions: str) -> list[float]:
    """Return the shares that --fractions names."""
    shares = []
    for part in fractions.split(","):
        try:
            shares.append(float(part))
        except ValueError:
            raise BadInput(
                f"--fractions {fractions}: {part!r} is no number; give shares of the labels, as in "
                "--fractions 0.01,0.1,1"
            ) from None
    return shares


def _flags(given: dict[str, Any]) -> list[str]:
    """Return the flags of `reelsense train` that all runs have."""
    flags = ["--threads", str(given["threads"]), "--device", given["device"]]
    for name in ("data", "text_column", "label_column", "labels"):
        if given[name] is not None:
            flags += [f"--{name.replace('_', '-')}", given[name]]
    return [*flags, *(["--trial"] if given["trial"] else [])]


def _what_is_compared(plan: "Plan", at_once: int, threads: int) -> str:
    """Return a few lines that say what is about to happen."""
    split, runs = plan.split, len(plan.cells())
    shares = ", ".join(f"{100 * share:.3g}%" for share in plan.shares)
    each = "each on a core" if threads == 1 else f"each on {threads} cores"
    return (
        f"Recipes   {', '.join(plan.recipes)}\n"
        f"Runs      {runs:,}: {plan.seeds} x {shares} of the labels; {at_once} at a time, {each}\n"
        f"Reviews   {plan.reviews.source}\n"
        f"          {len(split.train):,} to train on, {len(split.validation):,} for validation, "
        f"{len(split.test):,} for the test\n"
        f"Split     {split.method}, seed {split.seed}\n"
        f"Measured  on the {plan.part} part, when a run has been trained\n"
        f"Folder    {plan.folder}\n"
    )


def _shown(event: "Ended | Working | Measuring") -> Progress | str:
    """Return a row for a run that has ended, and else how far it is."""
    from reelsense.experiments.compare import Measuring
    from reelsense.experiments.runs import Ended

    if isinstance(event, Ended):
        what = f"{event.accuracy:8.2%}" if event.accuracy is not None else f"failed: {event.reason}"
        return f"  {event.cell.name:<28}  {clock(event.seconds):>6}  {what}"
    if isinstance(event, Measuring):
        now = f"network {event.done + 1} of {event.of}"
        return Progress("Speed and memory", event.done / max(1, event.of), now)
    left = "" if event.seconds_left is None else f"  {clock(event.seconds_left)} left"
    now = f"{', '.join(event.at_work)}{left}"
    return Progress(f"{event.done}/{event.of} runs", event.share_done, now)


def _conclude(plan: "Plan") -> None:
    """Write the tables and the page, and print what came of it."""
    from reelsense.experiments.conclusion import conclude
    from reelsense.experiments.page import write_page
    from reelsense.experiments.results import LINEAR, read_results
    from reelsense.experiments.summary import summarise

    results = read_results(plan)
    summaries = summarise(results)
    page = write_page(results, summaries, shlex.join(["reelsense", *sys.argv[1:]]))
    for share in reversed(plan.shares):
        _print_table(plan, [row for row in summaries if row.share == share])
    click.echo()
    for sentence in conclude(results, summaries):
        click.echo(sentence)
    click.echo(f"\nRuns      {plan.folder / 'runs.csv'}\nRecipes   {plan.folder / 'recipes.csv'}")
    click.echo(f"Report    {page}")
    if failed := sum(cell.recipe != LINEAR for cell in results.failed):
        raise Failure(
            f"{failed:,} of {len(plan.cells()):,} runs failed; {page} says why, and --resume tries "
            "them again"
        )


def _print_table(plan: "Plan", rows: "Sequence[Summary]") -> None:
    """Print the recipes with one share of the labels."""
    if not rows:
        return
    width = max(len(row.recipe) for row in rows)
    click.echo(f"\n{rows[0].labelled:,} training reviews")
    click.echo(
        f"{'':<{width}}  seeds  accuracy  over seeds and reviews  points against {plan.first} (p)"
    )
    for row in rows:
        low, high = row.interval
        line = f"{row.recipe:<{width}}  {row.seeds:>5}  {row.accuracy:>8.2%}  "
        line += f"{f'{low:.2%} to {high:.2%}':<22}"
        if row.against is not None:
            of = row.against.estimate
            low, high = 100 * of.low, 100 * of.high
            line += f"  {100 * of.mean:+.2f} ({low:+.2f} to {high:+.2f}; {row.against.p_holm:.2g})"
        click.echo(line.rstrip())

"""What the command line prints: progress, figures, counts. Computes nothing."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import click

from reelsense.model.recipe import Recipe, differences, flag

if TYPE_CHECKING:
    from reelsense.training.loop import EpochEnd, Step
    from reelsense.training.machine import Machine
    from reelsense.training.prepare import Prepared


def draw_progress(
    running: "Generator[Step | EpochEnd]", recipe: Recipe, interrupted: Callable[[], bool]
) -> None:
    """Show the steps of a training as they come: a bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from reelsense.training.loop import EpochEnd

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, force_terminal=terminal)
    columns = (
        TextColumn("Epoch {task.fields[epoch]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[now]}"),
    )
    bar = Progress(*columns, console=console, transient=True, expand=True, disable=not terminal)
    task = bar.add_task("", total=1.0, epoch=f"1/{recipe.epochs}", now="")
    last_line = time.monotonic()
    click.echo(EPOCH_TITLES)
    # A broken pipe ends the loop too; closing then saves the run, as after a Ctrl-C.
    with bar, contextlib.closing(running):
        for event in running:
            if isinstance(event, EpochEnd):
                line = _epoch_line(event.record, recipe)
                # Above the bar; elsewhere a line has no width to be folded at.
                console.print(line, soft_wrap=True) if terminal else click.echo(line)
            else:
                now = _step_line(event)
                epoch = f"{event.epoch}/{recipe.epochs}"
                bar.update(task, completed=event.share_done, epoch=epoch, now=now)
                if not terminal and time.monotonic() - last_line > 10:
                    last_line = time.monotonic()
                    click.echo(f"  {event.share_done:5.0%}  {now}")
            if interrupted():
                break


EPOCH_TITLES = """
               train             validation
  Epoch    loss  accuracy    loss  accuracy   reviews/s   time"""


def _epoch_line(record: dict[str, Any], recipe: Recipe) -> str:
    """Return an epoch's figures as a row under EPOCH_TITLES."""
    parts = "  ".join(
        f"{record[part]['loss']:6.3f}  {record[part]['accuracy']:8.2%}"
        for part in ("train", "validation")
    )
    epoch, clock = f"{record['epoch']}/{recipe.epochs}", _clock(record["seconds"])
    return f"{epoch:>7}  {parts}  {record['reviews_per_second']:>10,.0f}  {clock:>5}"


def _step_line(step: "Step") -> str:
    """Return the figures of the epoch so far and the time that is left."""
    return (
        f"loss {step.loss:.3f}  accuracy {step.accuracy:.1%}  "
        f"{step.reviews_per_second:,.0f} reviews/s  {_clock(step.seconds_left)} left"
    )


def _clock(seconds: float) -> str:
    """Return seconds as minutes:seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def what_it_trains_on(
    started_from: Recipe, plan: Recipe, prepared: "Prepared", machine: "Machine"
) -> str:
    """Return a few lines that say what is about to happen."""
    split, known = prepared.split, prepared.coverage()
    changed = " ".join(
        f"{flag(key)} {json.dumps(value) if isinstance(value, bool) else value}"
        for key, (_, value) in differences(started_from, plan).items()
    )
    return (
        f"Recipe    {plan.name}: {plan.about}\n"
        + (f"Changed   {changed}\n" if changed else "")
        + f"Reviews   {prepared.reviews.source}\n"
        f"          {len(split.train):,} to train on, {len(split.validation):,} for validation, "
        f"{len(split.test):,} for the test\n"
        f"Split     {split.method}\n"
        f"Words     {len(prepared.tokenizer.vocabulary) - 2:,}; {known['tokens']:.1%} of the "
        f"running words have a vector\n"
        f"Vectors   {prepared.vectors.source}\n"
        f"Machine   {machine}"
    )


def print_figures(measured: dict[str, Any], part: str) -> None:
    """Print what a person wants to know first; the figures stand under "test" whatever the part."""
    network, linear, paired = measured["test"], measured["baseline"]["test"], measured["mcnemar"]
    of = "all reviews" if part == "all" else f"the {part} part"
    click.echo(f"Measured on {of}: {network['n']:,} reviews\n")
    click.echo("          accuracy  95% interval      ROC AUC  log loss  Brier  calib. error")
    for name, figures in (("BiLSTM", network), ("Linear", linear)):
        low, high = figures["accuracy_interval"]
        interval = f"{low:.2%} to {high:.2%}"
        auc = "-" if figures["roc_auc"] is None else f"{figures['roc_auc']:.4f}"
        click.echo(
            f"{name:<8}  {figures['accuracy']:>8.2%}  {interval:<16}  {auc:>7}  "
            f"{figures['log_loss']:>8.3f}  {figures['brier']:>5.3f}  "
            f"{figures['calibration_error']:>12.3f}"
        )
    low, high = (100 * value for value in paired["difference_interval"])
    verdict = "more than chance explains" if paired["p_value"] < 0.05 else "chance may explain it"
    click.echo(
        f"Between   {100 * paired['difference']:+.2f} points ({low:+.2f} to {high:+.2f}), "
        f"{verdict} (McNemar p = {paired['p_value']:.2g})\n\n"
        "BiLSTM    precision  recall      F1  reviews"
    )
    for name, row in network["by_class"].items():
        precision, recall, f1 = (
            "-" if row[key] is None else f"{row[key]:.1%}" for key in ("precision", "recall", "f1")
        )
        click.echo(f"{name:<8}  {precision:>9}  {recall:>6}  {f1:>6}  {row['n']:>7,}")
    click.echo()


def print_data(described: dict[str, Any]) -> None:
    """Print the counts, leaks and words of a set of reviews."""
    empty = described["empty"]
    left_out = f"; rows without text left out: {empty:,}" if empty else ""
    click.echo(
        f"Source    {described['source']}\n"
        f"Reviews   {described['n']:,}{left_out}\n"
        f"Split     {described['method']}\n\n"
        "            reviews  positive  negative   films"
    )
    for name, part in described["parts"].items():
        films = f"{part['films']:,}" if part["films"] else "-"
        click.echo(
            f"{name:<10}  {part['n']:>7,}  {part['positive']:>8,}  {part['negative']:>8,}  "
            f"{films:>6}"
        )
    lengths = described["lengths"]
    click.echo(
        f"\nLength    {lengths['mean']:,.0f} words in the mean, half under "
        f"{lengths['median']:,.0f}, 95% under {lengths['p95']:,.0f}, longest {lengths['max']:,}\n"
        f"Leaks     {_leaks_in_words(described['leaks'])}\n"
    )
    for title, key in (("Frequent words", "frequent"), ("Telling words", "words"),
                       ("Telling phrases", "ngrams")):  # fmt: skip
        click.echo(title)
        for label, rows in described[key].items():
            words = ", ".join(str(row[0]) for row in rows[:10]) or "none stands out"
            click.echo(f"{label:<8}  {words}")
    click.echo()


def _leaks_in_words(leaks: dict[str, Any]) -> str:
    """Say what the parts of a split have in common; see `text.splits.leaks`."""
    texts = sum(count for key, count in leaks["duplicate_texts"].items() if "within" not in key)
    films, unknown = sum(leaks["shared_films"].values()), leaks["rows_without_film"]
    return (
        f"{texts or 'no'} texts and {films or 'no'} known films in two parts"
        f"; copies left out: {leaks['dropped']:,}"
        + (f"; film not known: {unknown:,}" if unknown else "")
    )

"""What train, evaluate and export print: progress and figures. Computes nothing."""

import json
import math
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from reelsense.model.recipe import Recipe
from reelsense.model.settings import differences, flag
from reelsense.verbs.progress import Progress, clock, draw_progress

if TYPE_CHECKING:
    from reelsense.training.loop import EpochEnd, Step
    from reelsense.training.machine import Machine
    from reelsense.training.prepare import Prepared

# From the package's language models, on 320 reviews: 5 steps 48% of the validation reviews, 35
# steps 85%.
FEW_STEPS: Final = 50


def draw_training(
    running: "Generator[Step | EpochEnd]", recipe: Recipe, interrupted: Callable[[], bool]
) -> None:
    """Show the steps of a training as they come, and a row an epoch."""
    from reelsense.training.loop import EpochEnd

    def show(event: "Step | EpochEnd") -> Progress | str:
        if isinstance(event, EpochEnd):
            return _epoch_line(event.record, recipe)
        part = f"Epoch {event.epoch}/{recipe.epochs}"
        return Progress(part, event.share_done, _step_line(event))

    click.echo(_epoch_titles(recipe))
    draw_progress(running, show, interrupted)


def _epoch_titles(recipe: Recipe) -> str:
    """Return the two lines over the rows of `_epoch_line`; without validation, without its part."""
    parts = ["train", "validation"] if recipe.validation else ["train"]
    above = "".join(f"  {part:<16}" for part in parts)
    columns = "    loss  accuracy" * len(parts)
    return f"\n{'':13}{above}".rstrip() + f"\n  Epoch{columns}   reviews/s   time"


def _epoch_line(record: dict[str, Any], recipe: Recipe) -> str:
    """Return an epoch's figures as a row under `_epoch_titles`."""
    parts = "  ".join(
        f"{record[part]['loss']:6.3f}  {record[part]['accuracy']:8.2%}"
        for part in ("train", "validation")
        if part in record
    )
    epoch, took = f"{record['epoch']}/{recipe.epochs}", clock(record["seconds"])
    return f"{epoch:>7}  {parts}  {record['reviews_per_second']:>10,.0f}  {took:>5}"


def _step_line(step: "Step") -> str:
    """Return the figures of the epoch so far and the time that is left."""
    return (
        f"loss {step.loss:.3f}  accuracy {step.accuracy:.1%}  "
        f"{step.reviews_per_second:,.0f} reviews/s  {clock(step.seconds_left)} left"
    )


def what_it_trains_on(usual: Recipe, plan: Recipe, prepared: "Prepared", machine: "Machine") -> str:
    """Return a few lines that say what is about to happen."""
    split, known = prepared.split, prepared.coverage()
    changed = " ".join(
        f"{flag(key)} {json.dumps(value) if isinstance(value, bool) else value}"
        for key, (_, value) in differences(usual, plan).items()
    )
    return (
        f"Recipe    {plan.name}: {plan.about}\n"
        + (f"Changed   {changed}\n" if changed else "")
        + f"Reviews   {prepared.reviews.source}\n"
        f"          {len(split.train):,} to train on{_of_more(split.unused, len(split.train))}, "
        f"{_or_none(split.validation)} for validation, {_or_none(split.test)} for the test\n"
        f"Split     {split.method}\n"
        f"Words     {len(prepared.tokenizer.vocabulary) - 2:,}; {known['tokens']:.1%} of the "
        f"running words have a vector\n"
        f"Vectors   {prepared.vectors.source}\n"
        f"Machine   {machine}" + _few_steps(plan, len(split.train))
    )


def _of_more(unused: int, used: int) -> str:
    """Return of how many reviews these are, if not of themselves."""
    return f" of {unused + used:,} whose labels are known" if unused else ""


def _few_steps(plan: Recipe, reviews: int) -> str:
    """Return a line for trainings too short to learn anything, and nothing for others."""
    steps = math.ceil(reviews / plan.batch_reviews) * plan.passes * plan.epochs
    if steps >= FEW_STEPS:
        return ""
    return (
        f"\nSteps     {steps}: with so few reviews a network needs more --passes, "
        f"{math.ceil(plan.passes * FEW_STEPS / steps)} or more"
    )


def _or_none(rows: Sized) -> str:
    """Return how many there are."""
    return f"{len(rows):,}" if len(rows) else "none"


def what_it_measures_on(prepared: "Prepared", wanted: Sequence[str]) -> str:
    """Return the line between the training and the measuring of a run."""
    split = prepared.split
    part = _measured_part({name: len(getattr(split, name)) for name in wanted})
    if part is None:
        return "\nWriting the report ..."
    return f"\nMeasuring on the {part} part, beside the linear baseline ..."


def print_result(measured: dict[str, Any]) -> None:
    """Print what a finished run is: whose weights, and its figures on the part held out."""
    why = "with the lowest validation loss" if "validation" in measured else "the last"
    click.echo(f"Weights of epoch {measured['best_epoch']}, {why}\n")
    part = _measured_part(measured)
    if part is None:
        click.echo("No review was held out: nothing says how good this network is.\n")
        return
    print_figures(measured, part, part)
    if part == "validation":
        click.echo("No test review was measured. Validation chose the epoch: it flatters.\n")


def _measured_part(sizes: Mapping[str, Any]) -> str | None:
    """Return the part that says how good a run is: the test, else validation, else none."""
    return next((part for part in ("test", "validation") if sizes.get(part)), None)


def print_figures(measured: dict[str, Any], key: str, part: str) -> None:
    """Print what a person wants to know first of the figures that stand under `key`."""
    network = measured[key]
    of = "all reviews" if part == "all" else f"the {part} part"
    click.echo(f"Measured on {of}: {network['n']:,} reviews\n")
    click.echo("          accuracy  95% interval      ROC AUC  log loss  Brier  calib. error")
    click.echo(_figures_line("Network", network))
    if "baseline" in measured:
        click.echo(_figures_line("Linear", measured["baseline"][key]))
        click.echo(_difference_line(measured["mcnemar"]))
    click.echo("\nNetwork   precision  recall      F1  reviews")
    for name, row in network["by_class"].items():
        precision, recall, f1 = (
            "-" if row[key] is None else f"{row[key]:.1%}" for key in ("precision", "recall", "f1")
        )
        click.echo(f"{name:<8}  {precision:>9}  {recall:>6}  {f1:>6}  {row['n']:>7,}")
    click.echo()


def _figures_line(name: str, figures: dict[str, Any]) -> str:
    """Return the figures of `metrics.evaluate` as a row of `print_figures`."""
    low, high = figures["accuracy_interval"]
    interval = f"{low:.2%} to {high:.2%}"
    auc = "-" if figures["roc_auc"] is None else f"{figures['roc_auc']:.4f}"
    return (
        f"{name:<8}  {figures['accuracy']:>8.2%}  {interval:<16}  {auc:>7}  "
        f"{figures['log_loss']:>8.3f}  {figures['brier']:>5.3f}  "
        f"{figures['calibration_error']:>12.3f}"
    )


def _difference_line(paired: dict[str, Any]) -> str:
    """Return in words what `metrics.mcnemar` says."""
    low, high = (100 * value for value in paired["difference_interval"])
    verdict = "more than chance explains" if paired["p_value"] < 0.05 else "chance may explain it"
    return (
        f"Between   {100 * paired['difference']:+.2f} points ({low:+.2f} to {high:+.2f}), "
        f"{verdict} (McNemar p = {paired['p_value']:.2g})"
    )


def what_was_seen(seen: int, n: int) -> str:
    """Return the warning that reviews which are measured on were trained on; "" for none."""
    if not seen:
        return ""
    percent = min(max(round(100 * seen / n), 1), 100 if seen == n else 99)
    return (
        f"{percent}% of these reviews were in the training data ({seen:,} of {n:,}); "
        "the figures flatter"
    )


def what_is_decided(decided: dict[str, Any], stated_error: float) -> str:
    """Return in words what `calibrate.decided` says."""
    low, high = decided["error_interval"]
    wrong = "" if decided["error"] is None else (
        f"; {decided['error']:.1%} of these labels are wrong ({low:.1%} to {high:.1%}; "
        f"stated: {stated_error:.0%})"
    )  # fmt: skip
    return (
        f"{decided['coverage']:.0%} of the reviews get a label, the others are uncertain "
        f"(below {decided['confidence']:.1%}){wrong}"
    )


def what_was_exported(folder: Path, about: Mapping[str, Any], size: int) -> str:
    """Return where a bundle of `size` bytes is and what it is worth."""
    figures, before = about["figures"], about["figures"]["before"]
    low, high = figures["accuracy_interval"]
    return (
        f"Bundle      {folder} ({about['variant']}, {size / 1e6:.1f} MB)\n"
        f"Accuracy    {figures['accuracy']:.2%} ({low:.2%} to {high:.2%}) on {figures['n']:,} "
        f"held-out {figures['part']} reviews\n"
        f"Calibrated  off by {before['calibration_error']:.1%} before, "
        f"{figures['calibration_error']:.1%} after (shift {about['shift']:+.3f}, "
        f"temperature {about['temperature']:.3f})\n"
        f"Decided     {what_is_decided(figures['decided'], about['stated_error'])}\n"
        f"Int8        {_cost(figures['int8'])}\n"
        f"Parity      fp32 logits within {figures['parity']:.1e} of the network's\n"
        f'Try it      reelsense predict --model {shlex.quote(str(folder))} "A fine film."'
    )


def _cost(cost: Mapping[str, Any] | None) -> str:
    """Return in words what `bundle.held_out.cost_of_int8` says."""
    if cost is None:
        return "not for this network"
    return (
        f"{cost['fp32']:.2%} of {cost['reviews']:,} validation reviews right in fp32, "
        f"{cost['int8']:.2%} in int8; {cost['changed']:,} change sides"
    )

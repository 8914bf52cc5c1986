"""Accuracy and loss by epoch, from the lines of history.jsonl -> PNG files.

Each curve has its own colour, marker and line, and carries its name instead of a legend.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reelsense.errors import BadInput
from reelsense.evaluation.plain_plots import (
    BASELINE,
    INK,
    NETWORK,
    QUIET,
    Json,
    Name,
    canvas,
    head,
    names_at_the_end,
    save,
)

# Part -> colour, marker, line. Told apart in grey print as well.
CURVES: dict[str, tuple[str, str, str]] = {
    "train": ("#555555", "o", "--"),
    "validation": ("#AA3377", "s", "-"),
    "test": (NETWORK, "^", "-"),
}

NOTHING_HELD_OUT = "no review was held out: these are the reviews that it learned from"


def draw_accuracy(
    history: Sequence[Json],
    path: Path,
    best_epoch: int | None = None,
    baseline: Json | None = None,
) -> Path:
    """Accuracy of train, validation and (where computed) test by epoch.

    `best_epoch` is the one whose weights were kept; `baseline` the entry of metrics.json, drawn as
    a dotted line at its accuracy on test, or on validation where there is no test.

    Raises:
        BadInput: no epoch in the history.
    """
    figure, axes = canvas(7.6, 4.7)
    lines = []
    for part in ("test", "validation"):
        if baseline and baseline.get(part):
            lines.append(_level(axes, baseline[part]["accuracy"], f"linear baseline, {part}"))
            break
    _curves(axes, history, "accuracy", best_epoch, "{:.1%}".format, lines)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.4g}%"))
    head(
        axes,
        "Accuracy by epoch",
        "share of reviews on the right side · a gap between train and the others is overfitting"
        if _held_out(history)
        else NOTHING_HELD_OUT,
    )
    return save(figure, path)


def draw_loss(history: Sequence[Json], path: Path, best_epoch: int | None = None) -> Path:
    """Log loss of train, validation and (where computed) test by epoch.

    Raises:
        BadInput: no epoch in the history.
    """
    figure, axes = canvas(7.6, 4.7)
    _curves(axes, history, "loss", best_epoch, "{:.3f}".format, [])
    head(
        axes,
        "Loss by epoch",
        "mean log loss, lower is better · once validation turns upwards, the network memorises"
        if _held_out(history)
        else NOTHING_HELD_OUT,
    )
    return save(figure, path)


def draw_perplexity(history: Sequence[Json], path: Path) -> Path:
    """Perplexity of the two language models on held-out reviews, over the epochs that were read.

    Raises:
        BadInput: nothing was measured.
    """
    if not history:
        raise BadInput("no perplexity to draw: history.jsonl is empty")
    figure, axes = canvas(7.6, 4.7)
    epochs = [row["epochs"] for row in history]
    names = []
    for direction, (colour, marker, line) in {
        "forward": (NETWORK, "^", "-"),
        "backward": ("#AA3377", "s", "--"),
    }.items():
        values = [row["perplexity"][direction] for row in history]
        axes.plot(epochs, values, color=colour, marker=marker, linestyle=line, linewidth=2)
        names.append((values[-1], f"{direction}s {values[-1]:.1f}", colour))
    axes.set_xlabel("epochs (passes over the text)")
    axes.margins(y=0.1)
    head(
        axes,
        "Perplexity of held-out reviews",
        "among how many words the next one is still open, on average · lower is better",
    )
    names_at_the_end(axes, names)
    return save(figure, path)


def _held_out(history: Sequence[Json]) -> bool:
    return any(row.get(part) for row in history for part in ("validation", "test"))


def _curves(
    axes: Axes,
    history: Sequence[Json],
    figure: str,
    best_epoch: int | None,
    words: Any,
    names: list[Name],
) -> None:
    """One line a part, its name and last value at its end, and a mark at the epoch kept."""
    if not history:
        raise BadInput("no epoch to draw: history.jsonl is empty")
    for part, (colour, marker, line) in CURVES.items():
        points = [(row["epoch"], row[part][figure]) for row in history if row.get(part)]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        axes.plot(
            epochs,
            values,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5 if len(points) <= 30 else 0,
            linewidth=2,
            clip_on=False,
            zorder=3,
        )
        names.append((values[-1], f"{part} {words(values[-1])}", colour))
    first, last = history[0]["epoch"], history[-1]["epoch"]
    margin = min(max(0.04 * (last - first), 0.15), 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlabel("epoch (one pass over the training reviews)")
    axes.margins(y=0.1)
    low, high = axes.get_ylim()
    if high - low < 0.04:  # a difference of nothing must not fill the picture
        axes.set_ylim((low + high) / 2 - 0.02, (low + high) / 2 + 0.02)
    if len(history) > 1:
        _mark_best(axes, history, figure, best_epoch, words)
    names_at_the_end(axes, names)


def _mark_best(
    axes: Axes, history: Sequence[Json], figure: str, best_epoch: int | None, words: Any
) -> None:
    """A line, a ring on each curve and the figures of the epoch whose weights were kept."""
    row = next((row for row in history if row["epoch"] == best_epoch), None)
    if row is None:
        return
    kept = {part: row[part][figure] for part in CURVES if row.get(part)}
    for part, value in kept.items():
        axes.plot(row["epoch"], value, marker="o", markersize=13, markerfacecolor="none",
                  markeredgecolor=CURVES[part][0], markeredgewidth=1.6, clip_on=False,
                  zorder=4)  # fmt: skip
    axes.axvline(row["epoch"], color=QUIET, linewidth=1, alpha=0.45, zorder=1)
    # Room for the note below every curve, so that it can never lie on one.
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.16 * (high - low), high)
    left = 2 * row["epoch"] > history[0]["epoch"] + history[-1]["epoch"]
    axes.annotate(
        f"{'best' if row.get('validation') else 'last'} epoch {row['epoch']}, "
        "its weights were kept:\n"
        + " · ".join(f"{part} {words(value)}" for part, value in kept.items()),
        (row["epoch"], 0),
        xycoords=("data", "axes fraction"),
        xytext=(-8 if left else 8, 7),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom",
        fontsize=9,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def _level(axes: Axes, value: float, name: str) -> Name:
    axes.axhline(value, color=BASELINE, linestyle=":", linewidth=2, zorder=2)
    return value, f"{name} {value:.1%}", BASELINE

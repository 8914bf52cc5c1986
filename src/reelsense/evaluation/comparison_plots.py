"""Recipes side by side: how accurate, how dear, with how many labels, and how they learned.

Computes no figure: `rows` are those of a comparison, a row a recipe and share of the labels, with
"recipe", "share", "accuracy", "low", "high", "runs" (the accuracy of each seed) and "is_baseline".
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reelsense.evaluation.epoch_plots import CURVES
from reelsense.evaluation.plain_plots import (
    BASELINE,
    INK,
    NETWORK,
    QUIET,
    Json,
    apart,
    canvas,
    head,
    names_at_the_end,
    page,
    plain_axes,
    printable,
    save,
)

# Paul Tol's muted colours, told apart by colour-blind readers; the marker is a second sign.
TONES = (
    "#332288", "#117733", "#CC6677", "#0077BB", "#AA4499", "#997700", "#44AA99", "#882255",
    "#666666",
)  # fmt: skip
MARKERS = "os^Dv<>P"
COLUMNS = 4  # pictures of curves beside each other
LONGEST = 24  # letters of a name in a picture


def draw_accuracies(rows: Sequence[Json], path: Path) -> Path:
    """A dot a run, the mean of each recipe and its interval; a column for each share of labels."""
    names, shares = _order(rows, "recipe"), sorted({row["share"] for row in rows})
    figure = page(3.1 + 4.4 * len(shares), 0.52 * len(names) + 1.9)
    for column, share in enumerate(shares):
        axes = figure.add_subplot(1, len(shares), column + 1)
        plain_axes(axes)
        for row in rows:
            if row["share"] == share:
                _accuracy(axes, names.index(row["recipe"]), row)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), [_short(name) for name in names] if not column else [])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(_percents())
        of = next(row["labelled"] for row in rows if row["share"] == share)
        how = "" if column else " · a dot a run · bars: 95% over seeds and reviews"
        head(axes, _of_labels(share).capitalize(), f"{of:,} training reviews{how}")
    return save(figure, path)


def _accuracy(axes: Axes, place: int, row: Json) -> None:
    """One recipe's mean, interval and runs, at its place."""
    colour = BASELINE if row["is_baseline"] else NETWORK
    axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.4, zorder=2)
    axes.plot(row["accuracy"], place, color=colour, marker="|", markersize=17, markeredgewidth=2.6)
    axes.plot(row["runs"], [place] * len(row["runs"]), color=INK, marker="o", markersize=4.5,
              linestyle="none", alpha=0.75, zorder=3)  # fmt: skip
    axes.text(1.01, place, f"{row['accuracy']:.2%}", transform=axes.get_yaxis_transform(),
              va="center", color=colour, fontsize=10, fontweight="bold")  # fmt: skip


def draw_learning_curves(rows: Sequence[Json], path: Path) -> Path:
    """The accuracy of each recipe over the number of labels that it had, on a log scale."""
    figure, axes = canvas(8.4, 5.4)
    names = []
    for place, name in enumerate(_order(rows, "recipe")):
        own = sorted((row for row in rows if row["recipe"] == name), key=lambda row: row["share"])
        colour, marker, line = _style(place, own[0])
        labels, values = [row["labelled"] for row in own], [row["accuracy"] for row in own]
        # Beside each other: intervals on one spot would hide each other.
        apart_by = 1.02 ** (place % 7 - 3)
        axes.plot([apart_by * x for x in labels], values, color=colour, marker=marker,
                  linestyle=line, linewidth=2, markersize=6)  # fmt: skip
        for x, row in zip(labels, own, strict=True):
            axes.plot([apart_by * x] * 2, [row["low"], row["high"]], color=colour, linewidth=1,
                      alpha=0.6)  # fmt: skip
        names.append((values[-1], f"{_short(name)} {values[-1]:.1%}", colour))
    axes.set_xscale("log")
    ticks = sorted({row["labelled"] for row in rows})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_percents())
    axes.set_xlabel("training reviews with a label")
    head(axes, "Accuracy by number of labels", "bars: 95% over seeds, which draw the reviews too")
    names_at_the_end(axes, names)
    return save(figure, path)


def draw_costs(rows: Sequence[Json], path: Path) -> Path:
    """Accuracy against the time to train, and against the time to answer a review.

    `rows` are of one share; those without "training_seconds" or "milliseconds" are left out.
    """
    figure = page(13.2, 5.2)
    for column, (key, title, label) in enumerate(
        (
            (
                "training_seconds",
                "Accuracy and time to train",
                "seconds of training, quickest seed",
            ),
            ("milliseconds", "Accuracy and time to answer", "milliseconds a review, one core"),
        )
    ):
        axes = figure.add_subplot(1, 2, column + 1)
        plain_axes(axes)
        known = [row for row in rows if row.get(key)]
        names = _order(rows, "recipe")
        for row in known:
            colour, marker, _ = _style(names.index(row["recipe"]), row)
            axes.plot([row[key]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.2)
            axes.plot(
                row[key], row["accuracy"], color=colour, marker=marker, markersize=8, zorder=6
            )
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_percents())
        axes.set_xlabel(label)
        head(axes, title, "up and to the left is better · bars: 95% over seeds and reviews")
        _name_points(axes, [(row[key], row["accuracy"], row, names) for row in known])
    return save(figure, path)


def _name_points(axes: Axes, points: Sequence[tuple[float, float, Json, list[str]]]) -> None:
    """Write the name of each point right of it, pushed up or down where names would meet."""
    low, high = axes.get_ylim()
    ordered = sorted(points, key=lambda point: point[1])
    places = apart([(y - low) / (high - low) for _, y, _, _ in ordered], 0.055)
    for (x, y, row, names), place in zip(ordered, places, strict=True):
        axes.annotate(
            _short(row["recipe"]),
            (x, y),
            xytext=(13, (place - (y - low) / (high - low)) * 270),  # points; the axes have 270
            textcoords="offset points",
            color=_style(names.index(row["recipe"]), row)[0],
            fontsize=10,
            va="center",
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.6},
        )


def draw_curves(
    histories: Mapping[str, Sequence[Sequence[Json]]], figure_name: str, share: float, path: Path
) -> Path:
    """The curves of train and validation of every recipe beside each other, on one scale.

    `histories` has the lines of history.jsonl of each seed, by recipe; `figure_name` is "accuracy"
    or "loss".
    """
    rows = math.ceil(len(histories) / COLUMNS)
    columns = min(COLUMNS, len(histories))
    figure = page(1.2 + 3.2 * columns, 0.9 + 2.7 * rows)
    shared: Axes | None = None
    for place, (name, seeds) in enumerate(histories.items()):
        axes = figure.add_subplot(rows, columns, place + 1, sharey=shared)
        shared = shared or axes
        plain_axes(axes)
        for history in seeds:
            for part in ("train", "validation"):
                _curve(axes, history, part, figure_name)
        axes.set_title(printable(name, LONGEST), loc="left", fontsize=11, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
        axes.tick_params(labelleft=place % columns == 0)
    if shared is not None and figure_name == "accuracy":
        shared.yaxis.set_major_formatter(_percents())
    figure.suptitle(
        f"{figure_name.capitalize()} by epoch, {_of_labels(share)} · "
        "dashed: train, solid: validation · a pair a seed",
        x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip
    return save(figure, path)


def _curve(axes: Axes, history: Sequence[Json], part: str, figure_name: str) -> None:
    points = [(row["epoch"], row[part][figure_name]) for row in history if row.get(part)]
    if points:
        colour, marker, line = CURVES[part]
        size = 3.5 if len(points) <= 12 else 0
        axes.plot(*zip(*points, strict=True), color=colour, linestyle=line, linewidth=1.4,
                  marker=marker, markersize=size)  # fmt: skip


def _order(rows: Sequence[Json], key: str) -> list[str]:
    """Return the values of the rows, each once, in their order."""
    return list(dict.fromkeys(row[key] for row in rows))


def _style(place: int, row: Json) -> tuple[str, str, str]:
    """Return colour, marker and line of a recipe."""
    if row["is_baseline"]:
        return BASELINE, "x", ":"
    return TONES[place % len(TONES)], MARKERS[place % len(MARKERS)], "-"


def _short(name: str) -> str:
    return printable(name, LONGEST)


def _of_labels(share: float) -> str:
    return "all labels" if share == 1 else f"{100 * share:.3g}% of the labels"


def _percents() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value * 100:.4g}%")

"""The history of a search, from the rows of its trials -> a PNG file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reelsense.errors import BadInput
from reelsense.evaluation.plain_plots import (
    BASELINE,
    INK,
    NEGATIVE,
    NETWORK,
    QUIET,
    RAW,
    Json,
    canvas,
    head,
    page,
    plain_axes,
    save,
)

# State -> colour, marker, what it means. Told apart in grey print as well.
STATES = {
    "complete": (NETWORK, "o", "trained to its end"),
    "pruned": (RAW, "x", "pruned"),
    "failed": (NEGATIVE, "v", "failed"),
}


def draw_study(rows: Sequence[Json], importance: Mapping[str, float], path: Path) -> Path:
    """Draw the validation log loss of each trial and the best so far; what mattered, if known.

    Args:
        rows: a trial each, with its "trial" (number), "state", "loss", and "as_it_is" for the
            recipe that the search began with.
        importance: the share of the spread of the losses that each field explains alone.
        path: the file.

    Raises:
        BadInput: no trial was trained to its end.
    """
    if not any(row["state"] == "complete" for row in rows):
        raise BadInput("no trial to draw: none was trained to its end")
    if importance:
        figure = page(7.6, 5.2 + 0.32 * len(importance))
        grid = figure.add_gridspec(2, 1, height_ratios=[4.4, 0.5 + 0.32 * len(importance)])
        axes, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        plain_axes(axes)
        plain_axes(below)
        _bars(below, importance, sum(row["state"] == "complete" for row in rows))
    else:
        figure, axes = canvas(7.6, 4.7)
    _points(axes, rows)
    return save(figure, path)


def _points(axes: Axes, rows: Sequence[Json]) -> None:
    """A mark a trial in the order in which they began, and the line of the best."""
    whole = [row for row in rows if row["state"] == "complete"]
    best = min(row["loss"] for row in whole)
    top = _top([row["loss"] for row in rows if row["loss"] is not None])
    for state, (colour, marker, name) in STATES.items():
        shown = [row for row in rows if row["state"] == state]
        if shown:
            heights = [top if row["loss"] is None else min(row["loss"], top) for row in shown]
            axes.plot([row["trial"] for row in shown], heights, color=colour, marker=marker,
                      markersize=6, linestyle="", clip_on=False, zorder=3,
                      label=f"{name} ({len(shown)})")  # fmt: skip
    so_far = [min(row["loss"] for row in whole[: place + 1]) for place in range(len(whole))]
    last = max(row["trial"] for row in rows)
    places = [row["trial"] for row in whole]
    axes.plot([*places, last], [min(height, top) for height in (*so_far, best)], color=INK,
              linewidth=2, drawstyle="steps-post", zorder=2, label="best so far")  # fmt: skip
    usual = next((row["loss"] for row in whole if row["as_it_is"]), None)
    if usual is not None:
        axes.axhline(min(usual, top), color=BASELINE, linewidth=1.4, linestyle=":", zorder=1,
                     label=f"the recipe as it is: {usual:.4f}")  # fmt: skip
    axes.set_ylim(top=top)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlabel("trial, in the order in which they began")
    axes.set_ylabel("validation log loss")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False,
                fontsize=9.5, labelcolor=QUIET)  # fmt: skip
    above = sum((row["loss"] or 0) > top for row in rows)
    note = f"lower is better · at the upper edge: {above} far above" if above else "lower is better"
    head(axes, f"Validation log loss of {len(rows)} trials, {best:.4f} at best", note)


def _top(losses: Sequence[float]) -> float:
    """Return where to cut: few trials that went wrong must not squeeze all others together."""
    ordered = sorted(losses)
    best, middle = ordered[0], ordered[len(ordered) // 2]
    return min(ordered[-1] + 0.02 * (ordered[-1] - best) + 1e-4, best + 4 * (middle - best) + 0.02)


def _bars(axes: Axes, importance: Mapping[str, float], trials: int) -> None:
    """How much of the spread each field explains, the largest above."""
    names = list(importance)[::-1]
    shares = [importance[name] for name in names]
    axes.barh(names, shares, color=NETWORK, alpha=0.75, height=0.62)
    for place, share in enumerate(shares):
        axes.text(share, place, f" {share:.0%}", va="center", fontsize=9.5, color=INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.08 * max(shares) or 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    head(
        axes,
        "What mattered",
        f"share of the spread of the losses that a field explains alone · from {trials} trials",
    )

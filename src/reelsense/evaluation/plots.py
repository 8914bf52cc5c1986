"""Pictures from JSON: the history of a run, its metrics, the description of its data -> PNG files.

Computes no metric: every number that is drawn stands in a run folder or a bundle already. Here
are the pictures of one evaluation; the curves by epoch, the data and what all pictures have in
common are in the other files named for plots, the only ones that import matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from reelsense.evaluation.data_plots import draw_data
from reelsense.evaluation.epoch_plots import draw_accuracy, draw_loss
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
    thousands,
)


def draw_run(history: Sequence[Json], metrics: Json, folder: Path) -> list[Path]:
    """Every picture that these results allow, into the run folder; the paths in reading order.

    `history` holds the lines of history.jsonl, `metrics` the content of metrics.json. What is
    missing (a baseline, the test curve, the description of the data) is left out. Without a test
    its place is taken by the validation part.
    """
    baseline = metrics.get("baseline") or None
    best = metrics.get("best_epoch")
    drawn = []
    if history:
        drawn.append(draw_accuracy(history, folder / "accuracy.png", best, baseline))
        drawn.append(draw_loss(history, folder / "loss.png", best))
    part = next((part for part in ("test", "validation") if metrics.get(part)), None)
    if part is not None:
        drawn.append(draw_confusion(metrics[part], folder / "confusion.png", part))
        drawn.append(draw_roc(metrics[part], folder / "roc.png", baseline, part))
        drawn.append(draw_calibration(metrics[part], folder / "calibration.png"))
    if metrics.get("data"):
        drawn.append(draw_data(metrics["data"], folder / "data.png"))
    return drawn


def draw_confusion(evaluation: Json, path: Path, part: str = "test") -> Path:
    """The four outcomes as counts and as shares of what the reviews really were."""
    figure, axes = canvas(6.2, 5.2, grid=False)
    matrix = evaluation["confusion"]
    for truth, row in enumerate(matrix):
        whole = sum(row)
        for called, n in enumerate(row):
            share = n / whole if whole else 0.0
            colour = NETWORK if truth == called else NEGATIVE
            axes.fill(
                [called - 0.49, called + 0.49, called + 0.49, called - 0.49],
                [truth - 0.49, truth - 0.49, truth + 0.49, truth + 0.49],
                color=colour,
                alpha=0.10 + 0.80 * share,
                linewidth=0,
            )
            ink = "white" if share > 0.5 else INK
            axes.text(called, truth - 0.06, f"{n:,}", ha="center", fontsize=21, color=ink,
                      fontweight="bold")  # fmt: skip
            kind = "right" if truth == called else "wrong"
            note = f"{share:.1%} of these, {kind}" if whole else "no such review"
            axes.text(called, truth + 0.14, note, ha="center", fontsize=10, color=ink)
    axes.set_xlim(-0.5, 1.5)
    axes.set_ylim(1.5, -0.5)
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["really\nnegative", "really\npositive"])
    axes.tick_params(length=0, labelsize=11, labelcolor=INK)
    axes.xaxis.tick_bottom()
    for side in axes.spines.values():
        side.set_visible(False)
    head(
        axes,
        f"Right and wrong on the {part} reviews",
        f"{evaluation['n']:,} reviews, threshold 0.5",
    )
    return save(figure, path)


def draw_roc(
    evaluation: Json, path: Path, baseline: Json | None = None, part: str = "test"
) -> Path:
    """The ROC curve on a part, the linear baseline's beside it where there is one."""
    figure, axes = canvas(6.2, 5.8)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
    axes.text(0.52, 0.47, "a coin", color=QUIET, fontsize=9.5, rotation=45,
              rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    other = (baseline or {}).get(part) or {}
    rows = [
        ("network", evaluation, NETWORK, "-", 2.2),
        ("linear baseline", other, BASELINE, ":", 2),
    ]
    height = 0.26
    for name, source, colour, line, width in rows:
        curve = source.get("roc") or {}
        if not curve.get("fpr"):
            continue
        axes.plot(curve["fpr"], curve["tpr"], color=colour, linestyle=line, linewidth=width)
        axes.plot([0.50, 0.58], [height, height], color=colour, linestyle=line, linewidth=width)
        text = f"{name}  {source['roc_auc']:.3f}"
        axes.text(0.60, height, text, color=colour, fontsize=11, fontweight="bold", va="center")
        height -= 0.08
    axes.set_xlim(-0.01, 1)
    axes.set_ylim(0, 1.01)
    axes.set_aspect("equal")
    axes.set_xlabel("negative reviews called positive (false alarms)")
    axes.set_ylabel("positive reviews found")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    auc = evaluation.get("roc_auc")
    if auc is None:
        head(axes, f"No ROC curve: the {part} reviews are all of one class", "")
    else:
        note = f"a positive review outscores a negative one {auc:.1%} of the time"
        head(axes, f"ROC curve: area {auc:.3f}", note)
    return save(figure, path)


def draw_calibration(evaluation: Json, path: Path) -> Path:
    """What the network says against what is true, bin by bin, with the reviews in each below."""
    figure = page(6.2, 6.6)
    grid = figure.add_gridspec(2, 1, height_ratios=[3.4, 1], hspace=0.04)
    axes, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _said_and_seen(axes, below, evaluation["reliability"], NETWORK)
    axes.text(0.03, 0.97, "dotted: a perfect network\nabove it: more are positive than it says",
              color=QUIET, fontsize=9.5, va="top", linespacing=1.5)  # fmt: skip
    axes.text(0.97, 0.05, "below it: fewer are positive than it says", color=QUIET, fontsize=9.5,
              ha="right")  # fmt: skip
    axes.set_ylabel("share really positive")
    below.set_ylabel("reviews")
    below.set_xlabel("probability of “positive” that the network gives")
    error = evaluation["calibration_error"]
    head(
        axes,
        "Does a probability mean what it says?",
        f"of the reviews it calls 80% positive, 80% should be · off by {error * 100:.1f} points "
        "on average",
    )
    return save(figure, path)


def draw_reliability_pair(before: Json, after: Json, path: Path) -> Path:
    """The same reviews before and after calibration, side by side on the same scales.

    Each is what `metrics.evaluate` gives, or its `reliability` and `calibration_error` alone.
    """
    figure = page(10.4, 6.4)
    # The title stands on a row without height, so that it reaches over both columns.
    grid = figure.add_gridspec(3, 2, height_ratios=[0.001, 3.4, 1], hspace=0.03, wspace=0.04)
    over = figure.add_subplot(grid[0, :])
    over.axis("off")
    points = [100 * side["calibration_error"] for side in (before, after)]
    head(
        over,
        f"Probabilities are off by {points[1]:.1f} points after calibration, "
        f"by {points[0]:.1f} before",
        "on average · of the reviews called 80% positive, 80% should be: the dotted line",
    )
    most = max((row["n"] for side in (before, after) for row in side["reliability"]), default=1)
    for column, (name, side, colour) in enumerate(
        (("before", before, RAW), ("after", after, NETWORK))
    ):
        axes, below = figure.add_subplot(grid[1, column]), figure.add_subplot(grid[2, column])
        _said_and_seen(axes, below, side["reliability"], colour)
        below.set_ylim(0, 1.08 * most)
        axes.text(0.04, 0.95, name, color=colour, fontsize=14, fontweight="bold", va="top")
        axes.text(0.04, 0.875, f"off by {points[column]:.1f} points", color=colour, fontsize=11,
                  va="top")  # fmt: skip
        below.set_xlabel("probability of “positive” that the network gives")
        if column:
            axes.tick_params(labelleft=False)
            below.tick_params(labelleft=False)
        else:
            axes.set_ylabel("share really positive")
            below.set_ylabel("reviews")
    return save(figure, path)


def _said_and_seen(axes: Axes, below: Axes, bins: Sequence[Json], colour: str) -> None:
    """Each bin of `metrics.reliability` against the diagonal, its reviews on the axes below."""
    plain_axes(axes)
    plain_axes(below)
    said = [row["mean_probability"] for row in bins]
    seen = [row["share_positive"] for row in bins]
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
    axes.vlines(said, said, seen, color=NEGATIVE, linewidth=3, alpha=0.35)
    axes.plot(said, seen, color=colour, marker="o", markersize=6, linewidth=1.6)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelbottom=False)
    starts = [row["from"] for row in bins]
    widths = [row["to"] - row["from"] for row in bins]
    below.bar(starts, [row["n"] for row in bins], widths, align="edge", color=colour, alpha=0.75,
              edgecolor="white")  # fmt: skip
    below.yaxis.set_major_formatter(thousands())
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for each in (axes, below):
        each.set_xlim(0, 1)


# --- Saying "uncertain" ---------------------------------------------------------------------------


def draw_risk_coverage(curve: Json, decided: Json, path: Path) -> Path:
    """How the share of mistakes grows as more is decided, and where the model stops to decide.

    `curve` and `decided` are what the functions of `evaluation/calibrate.py` give.
    """
    figure, axes = canvas(7.6, 5.2)
    coverage, risk = curve["coverage"], curve["risk"]
    # The first few reviews say nothing: a single mistake among them would fill the picture.
    top = max([1.25 * r for c, r in zip(coverage, risk, strict=True) if c >= 0.05] + [0.01])
    if decided["error"] is not None:
        top = max(top, 1.45 * decided["error_interval"][1])  # room for the words above it
    axes.set_xlim(-0.01, 1)
    axes.set_ylim(0, top)
    axes.plot(coverage, risk, color=NETWORK, linewidth=2.2, zorder=3)
    _stop(axes, decided, top)
    _how_sure(axes, curve, top)
    axes.plot(1, risk[-1], color=NETWORK, marker="o", markersize=6, clip_on=False, zorder=4)
    axes.text(1.02, risk[-1] / top, f"all decided:\n{risk[-1]:.1%} wrong", color=NETWORK,
              fontsize=10.5, fontweight="bold", va="center", transform=axes.transAxes)  # fmt: skip
    axes.set_xlabel("reviews that get an answer, the surest first")
    axes.set_ylabel("wrong answers among them")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.3g}%"))
    head(axes, _what_doubt_buys(decided, risk[-1]),
         f"{decided['n']:,} reviews · mean share of mistakes over the whole curve (AURC): "
         f"{curve['aurc']:.1%}")  # fmt: skip
    return save(figure, path)


def _what_doubt_buys(decided: Json, risk: float) -> str:
    if decided["error"] is None:
        return "Sure of nothing: every answer is “uncertain”"
    if decided["decided"] == decided["n"]:
        return f"Every review gets an answer, {risk:.1%} of them are wrong"
    doubt = 100 - round(100 * decided["coverage"])
    return f"“Uncertain” for {doubt}%: mistakes go from {risk:.1%} to {decided['error']:.1%}"


def _stop(axes: Axes, decided: Json, top: float) -> None:
    """The band of the uncertain, and the mark with its interval where the answers end."""
    share, wrong = decided["coverage"], decided["error"]
    if share < 1:
        axes.axvspan(share, 1, color=RAW, alpha=0.13, linewidth=0, zorder=0)
        axes.text((1 + share) / 2, 0.02 * top, "“uncertain”", color=QUIET, fontsize=11.5,
                  ha="center", fontweight="bold", rotation=90 if share > 0.75 else 0)  # fmt: skip
    if wrong is None:
        return
    low, high = decided["error_interval"]
    axes.vlines(share, low, high, color=INK, linewidth=1.8, zorder=5, clip_on=share < 1)
    axes.plot(share, wrong, color=INK, marker="o", markersize=9, zorder=6, clip_on=False)
    interval = f"95% interval {low:.1%} to {high:.1%}"
    words = (
        f"answers from {decided['confidence']:.0%} sure on:\n{share:.0%} of the reviews, "
        f"{wrong:.1%} of them wrong\n{interval}"
    )
    # Left of the point and above the curve there is always room, but not beside an early point.
    near = share >= 0.55
    axes.annotate(
        words if share < 1 else interval,
        (share, wrong),
        xytext=(-14, 12) if near else (0.03, max(0.5, high / top + 0.03)),
        textcoords="offset points" if near else "axes fraction",
        ha="right" if near else "left",
        va="bottom",
        color=INK,
        fontsize=10,
        linespacing=1.4,
        bbox={"facecolor": "white" if near else "none", "edgecolor": "none", "pad": 2},
        arrowprops=None if near else {"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )


def _how_sure(axes: Axes, curve: Json, top: float) -> None:
    """Along the top: how sure the least sure review is, up to that point."""
    taken, named = 0.0, False
    for level in (0.99, 0.95, 0.9, 0.8, 0.7, 0.6):
        rows = zip(curve["coverage"], curve["confidence"], strict=True)
        place = max((c for c, sure in rows if sure >= level), default=0.0)
        if place - taken >= 0.055 and place <= 0.98:
            axes.vlines(place, 0.965 * top, top, color=QUIET, linewidth=1)
            axes.text(place, 0.955 * top, f"{level:.0%}{'' if named else ' sure'}", color=QUIET,
                      fontsize=8.5, ha="center", va="top")  # fmt: skip
            taken, named = place, True

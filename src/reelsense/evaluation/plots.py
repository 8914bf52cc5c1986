"""Pictures from JSON: the history of a run, its metrics, the description of its data -> PNG files.

Computes no metric: every number that is drawn stands in a run folder already. Built on matplotlib's
Figure objects without pyplot, so there is no global state, no window, and threads may draw at once.
Colours are safe for colour-blind readers and never the only sign: each curve has its own marker
and line, and carries its name instead of a legend.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from reelsense.atomic import replacing
from reelsense.errors import BadInput

DPI = 160
INK, QUIET, GRID = "#222222", "#6b6b6b", "#e3e3e3"
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
NETWORK, BASELINE = "#117733", "#997700"
CLASSES = (("negative", NEGATIVE), ("positive", POSITIVE))
# Part -> colour, marker, line. Told apart in grey print as well.
CURVES: dict[str, tuple[str, str, str]] = {
    "train": ("#555555", "o", "--"),
    "validation": ("#AA3377", "s", "-"),
    "test": (NETWORK, "^", "-"),
}

Json = Mapping[str, Any]


def draw_run(history: Sequence[Json], metrics: Json, folder: Path) -> list[Path]:
    """Every picture that these results allow, into the run folder; the paths in reading order.

    `history` holds the lines of history.jsonl, `metrics` the content of metrics.json. What is
    missing (a baseline, the test curve, the description of the data) is left out.
    """
    baseline = metrics.get("baseline") or None
    best = metrics.get("best_epoch")
    drawn = []
    if history:
        drawn.append(draw_accuracy(history, folder / "accuracy.png", best, baseline))
        drawn.append(draw_loss(history, folder / "loss.png", best))
    if metrics.get("test"):
        drawn.append(draw_confusion(metrics["test"], folder / "confusion.png"))
        drawn.append(draw_roc(metrics["test"], folder / "roc.png", baseline))
        drawn.append(draw_calibration(metrics["test"], folder / "calibration.png"))
    if metrics.get("data"):
        drawn.append(draw_data(metrics["data"], folder / "data.png"))
    return drawn


# --- Curves by epoch ------------------------------------------------------------------------------


def draw_accuracy(
    history: Sequence[Json],
    path: Path,
    best_epoch: int | None = None,
    baseline: Json | None = None,
) -> Path:
    """Accuracy of train, validation and (where computed) test by epoch.

    `best_epoch` is the one whose weights were kept; `baseline` the entry of metrics.json, drawn as
    a dotted line at its accuracy on test.

    Raises:
        BadInput: no epoch in the history.
    """
    figure, axes = _canvas(7.6, 4.7)
    lines = []
    if baseline and baseline.get("test"):
        lines.append(_level(axes, baseline["test"]["accuracy"], "linear baseline, test"))
    _curves(axes, history, "accuracy", best_epoch, "{:.1%}".format, lines)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.4g}%"))
    _head(
        axes,
        "Accuracy by epoch",
        "share of reviews on the right side · a gap between train and the others is overfitting",
    )
    return _save(figure, path)


def draw_loss(history: Sequence[Json], path: Path, best_epoch: int | None = None) -> Path:
    """Log loss of train, validation and (where computed) test by epoch.

    Raises:
        BadInput: no epoch in the history.
    """
    figure, axes = _canvas(7.6, 4.7)
    _curves(axes, history, "loss", best_epoch, "{:.3f}".format, [])
    _head(
        axes,
        "Loss by epoch",
        "mean log loss, lower is better · once validation turns upwards, the network memorises",
    )
    return _save(figure, path)


# A name at the right end of a line: height, words, colour.
Name = tuple[float, str, str]


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
    _names_at_the_end(axes, names)


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
        f"best epoch {row['epoch']}, its weights were kept:\n"
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


def _names_at_the_end(axes: Axes, names: Iterable[Name]) -> None:
    """Write each name right of the axes at the height of its line, pushed apart where too close."""
    low, high = axes.get_ylim()
    ordered = sorted((value, text, colour) for value, text, colour in names)
    places = _apart([(value - low) / (high - low) for value, _, _ in ordered], 0.062)
    for (_, text, colour), place in zip(ordered, places, strict=True):
        axes.text(
            1.015,
            place,
            text,
            transform=axes.transAxes,
            color=colour,
            fontsize=10.5,
            fontweight="bold",
            va="center",
            clip_on=False,
        )


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Rising places moved as little as needed to be at least `gap` from each other."""
    groups: list[tuple[float, int]] = []  # centre and number of the places that lean on each other
    for place in places:
        centre, size = place, 1
        while groups and centre - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            other, number = groups.pop()
            centre = (centre * size + other * number) / (size + number)
            size += number
        groups.append((centre, size))
    return [centre + gap * (i - (size - 1) / 2) for centre, size in groups for i in range(size)]


# --- One evaluation -------------------------------------------------------------------------------


def draw_confusion(evaluation: Json, path: Path) -> Path:
    """The four outcomes as counts and as shares of what the reviews really were."""
    figure, axes = _canvas(6.2, 5.2, grid=False)
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
    _head(
        axes, "Right and wrong on the test reviews", f"{evaluation['n']:,} reviews, threshold 0.5"
    )
    return _save(figure, path)


def draw_roc(evaluation: Json, path: Path, baseline: Json | None = None) -> Path:
    """The ROC curve on test, the linear baseline's beside it where there is one."""
    figure, axes = _canvas(6.2, 5.8)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
    axes.text(0.52, 0.47, "a coin", color=QUIET, fontsize=9.5, rotation=45,
              rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    other = (baseline or {}).get("test") or {}
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
        _head(axes, "No ROC curve: the test reviews are all of one class", "")
    else:
        note = f"a positive review outscores a negative one {auc:.1%} of the time"
        _head(axes, f"ROC curve: area {auc:.3f}", note)
    return _save(figure, path)


def draw_calibration(evaluation: Json, path: Path) -> Path:
    """What the network says against what is true, bin by bin, with the reviews in each below."""
    figure = Figure(figsize=(6.2, 6.6), dpi=DPI, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 1, height_ratios=[3.4, 1], hspace=0.04)
    axes, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _plain_axes(axes)
    _plain_axes(below)
    bins = evaluation["reliability"]
    said = [row["mean_probability"] for row in bins]
    seen = [row["share_positive"] for row in bins]
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
    axes.vlines(said, said, seen, color=NEGATIVE, linewidth=3, alpha=0.35)
    axes.plot(said, seen, color=NETWORK, marker="o", markersize=6, linewidth=1.6)
    axes.text(0.03, 0.97, "dotted: a perfect network\nabove it: more are positive than it says",
              color=QUIET, fontsize=9.5, va="top", linespacing=1.5)  # fmt: skip
    axes.text(0.97, 0.05, "below it: fewer are positive than it says", color=QUIET, fontsize=9.5,
              ha="right")  # fmt: skip
    axes.set_ylabel("share really positive")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelbottom=False)
    starts = [row["from"] for row in bins]
    widths = [row["to"] - row["from"] for row in bins]
    below.bar(starts, [row["n"] for row in bins], widths, align="edge", color=NETWORK, alpha=0.75,
              edgecolor="white")  # fmt: skip
    below.set_ylabel("reviews")
    below.yaxis.set_major_formatter(_thousands())
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set_xlabel("probability of “positive” that the network gives")
    below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for each in (axes, below):
        each.set_xlim(0, 1)
    error = evaluation["calibration_error"]
    _head(
        axes,
        "Does a probability mean what it says?",
        f"of the reviews it calls 80% positive, 80% should be · off by {error * 100:.1f} points "
        "on average",
    )
    return _save(figure, path)


# --- The data -------------------------------------------------------------------------------------


def draw_data(description: Json, path: Path) -> Path:
    """The data in five pictures: parts and balance, lengths, and the words of each class."""
    figure = Figure(figsize=(13.5, 10.2), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.12)
    grid = figure.add_gridspec(2, 6, height_ratios=[1, 1.75])
    _parts(figure.add_subplot(grid[0, :3]), description)
    _lengths(figure.add_subplot(grid[0, 3:]), description["lengths"])
    _words(
        figure.add_subplot(grid[1, :2]),
        description.get("frequent") or {},
        "Most frequent words",
        "number: reviews with it · without stop words",
        by_log_odds=False,
    )
    _words(
        figure.add_subplot(grid[1, 2:4]),
        description.get("words") or {},
        "Words that tell the classes apart",
        "bar: how lopsided (log odds) · number: reviews with it",
    )
    _words(
        figure.add_subplot(grid[1, 4:]),
        description.get("ngrams") or {},
        "Phrases that tell them apart",
        "pairs and triples: what word order adds",
    )
    return _save(figure, path)


def _parts(axes: Axes, description: Json) -> None:
    """A bar a part, split by class."""
    _plain_axes(axes)
    parts = {name: part for name, part in description["parts"].items() if part["n"]}
    widest = max((part["n"] for part in parts.values()), default=1)
    for place, part in enumerate(parts.values()):
        left = 0
        for name, colour in CLASSES:
            n = part.get(name) or 0
            axes.barh(place, n, left=left, height=0.62, color=colour, edgecolor="white")
            if n > 0.12 * widest:
                axes.text(left + n / 2, place, f"{n:,} {name}", color="white", ha="center",
                          va="center", fontsize=10, fontweight="bold")  # fmt: skip
            left += n
        note = f"{part['n']:,}"
        if left:
            note += f" · {(part.get('positive') or 0) / left:.0%} positive"
        if part.get("films"):
            note += f"\n{part['films']:,} films"
        axes.text(part["n"] + 0.015 * widest, place, note, va="center", fontsize=9.5, color=QUIET)
    axes.set_xlim(0, widest * 1.32)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.tick_params(axis="y", length=0, labelsize=11, labelcolor=INK)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    total = sum(part["n"] for part in parts.values())
    notes = [description.get("method") or ""]
    if description.get("duplicates"):
        notes.append(f"{description['duplicates']:,} duplicates left out")
    _head(axes, f"{total:,} reviews in {len(parts)} parts", " · ".join(filter(None, notes)))


def _lengths(axes: Axes, lengths: Json) -> None:
    """Outlines of both classes over each other, with the median and the long tail marked."""
    _plain_axes(axes)
    edges = lengths["histogram"]["edges"]
    top = 1
    for (name, colour), line in zip(CLASSES, ("--", "-"), strict=True):
        counts = lengths["histogram"][name]
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.12)
        axes.stairs(counts, edges, color=colour, linewidth=2, linestyle=line)
        top = max(top, *counts)
    end = edges[-1]
    axes.set_xlim(0, end)
    axes.set_ylim(0, top * 1.2)
    # The names of the marks stand on two levels, so that neighbours cannot run into each other.
    for value, words, side, height in (
        (lengths["median"], " half are shorter than {:,.0f}", "left", 1.19),
        (lengths["p95"], "95% are shorter than {:,.0f} ", "right", 1.09),
        (lengths["p99"], "99% than {:,.0f} ", "right", 1.19),
    ):
        axes.axvline(value, color=QUIET, linewidth=1, linestyle=":")
        axes.text(value, top * height, words.format(value), color=QUIET, fontsize=9, va="top",
                  ha=side, in_layout=False)  # fmt: skip
    for place, (name, colour) in enumerate(CLASSES):
        axes.text(0.98, 0.62 - 0.10 * place, ("- - " if name == "negative" else "— ") + name,
                  transform=axes.transAxes, ha="right", color=colour, fontsize=11,
                  fontweight="bold")  # fmt: skip
    axes.set_xlabel("words in a review")
    axes.set_ylabel("reviews")
    axes.yaxis.set_major_formatter(_thousands())
    axes.xaxis.set_major_formatter(_thousands())
    note = f"mean {lengths['mean']:,.0f}, the longest {lengths['max']:,.0f} words"
    if lengths["max"] > end:
        note += "; the last step holds all that are longer"
    _head(axes, "How long a review is", note)


def _words(
    axes: Axes, lists: Json, title: str, note: str, *, by_log_odds: bool = True, most: int = 15
) -> None:
    """Negative words grow to the left, positive ones to the right, the strongest on top.

    A row is [word, count, log odds], or [word, count] where the count itself is drawn.
    """
    _plain_axes(axes)
    longest = 1e-9
    for name, _ in CLASSES:
        for row in (lists.get(name) or [])[:most]:
            longest = max(longest, abs(row[2]) if by_log_odds else row[1])
    for (name, colour), side in zip(CLASSES, (-1, 1), strict=True):
        for place, row in enumerate((lists.get(name) or [])[:most]):
            size = (abs(row[2]) if by_log_odds else row[1]) / longest
            axes.barh(place, side * size, color=colour, alpha=0.28, height=0.8, linewidth=0)
            ha = ("right", "left") if side < 0 else ("left", "right")
            # A word such as "$5" is no formula, and a long one must not squeeze the axes.
            axes.text(side * 0.03, place, _printable(row[0], 28), ha=ha[0], va="center",
                      fontsize=10.5 if len(row[0]) <= 14 else 9, color=INK,
                      parse_math=False, in_layout=False)  # fmt: skip
            axes.text(side * 1.45, place, f"{row[1]:,}", ha=ha[1], va="center", fontsize=8.5,
                      color=QUIET)  # fmt: skip
        axes.text(side * 0.03, -0.95, name, ha="right" if side < 0 else "left", va="center",
                  color=colour, fontsize=11, fontweight="bold")  # fmt: skip
    axes.axvline(0, color="white", linewidth=3)
    axes.set_xlim(-1.47, 1.47)
    axes.set_ylim(most - 0.4, -1.5)
    axes.grid(visible=False)
    axes.axis("off")
    _head(axes, title, note)


# --- Common strokes -------------------------------------------------------------------------------


def _canvas(width: float, height: float, *, grid: bool = True) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _plain_axes(axes, grid=grid)
    return figure, axes


def _plain_axes(axes: Axes, *, grid: bool = True) -> None:
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(color=QUIET, labelcolor=QUIET, labelsize=10, length=0)
    axes.xaxis.label.set_color(QUIET)
    axes.yaxis.label.set_color(QUIET)


def _head(axes: Axes, title: str, note: str) -> None:
    """A bold line that says what is seen, and under it a quiet one that says how to read it."""
    axes.set_title(
        title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=26 if note else 8
    )
    axes.annotate(
        _printable(note),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 9),
        textcoords="offset points",
        fontsize=9.5,
        color=QUIET,
        parse_math=False,
        # A long note may reach over its axes; it must not squeeze them.
        in_layout=False,
    )


def _thousands() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that the font in use can draw."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _printable(text: str, longest: int = 90) -> str:
    """The text as one short line, with a box for what the font cannot draw."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(c if ord(c) in _glyphs() and c.isprintable() else "□" for c in cut)


def _save(figure: Figure, path: Path) -> Path:
    """Write the PNG whole or not at all; without a version in it, equal data give equal bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path

"""The description of the data (text/describe.py) -> one PNG file of five pictures."""

from pathlib import Path

from matplotlib.axes import Axes

from reelsense.evaluation.plain_plots import (
    INK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    Json,
    head,
    page,
    plain_axes,
    printable,
    save,
    thousands,
)

CLASSES = (("negative", NEGATIVE), ("positive", POSITIVE))


def draw_data(description: Json, path: Path) -> Path:
    """The data in five pictures: parts and balance, lengths, and the words of each class."""
    figure = page(13.5, 10.2)
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
    return save(figure, path)


def _parts(axes: Axes, description: Json) -> None:
    """A bar a part, split by class."""
    plain_axes(axes)
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
    head(axes, f"{total:,} reviews in {len(parts)} parts", " · ".join(filter(None, notes)))


def _lengths(axes: Axes, lengths: Json) -> None:
    """Outlines of both classes over each other, with the median and the long tail marked."""
    plain_axes(axes)
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
    axes.yaxis.set_major_formatter(thousands())
    axes.xaxis.set_major_formatter(thousands())
    note = f"mean {lengths['mean']:,.0f}, the longest {lengths['max']:,.0f} words"
    if lengths["max"] > end:
        note += "; the last step holds all that are longer"
    head(axes, "How long a review is", note)


def _words(
    axes: Axes, lists: Json, title: str, note: str, *, by_log_odds: bool = True, most: int = 15
) -> None:
    """Negative words grow to the left, positive ones to the right, the strongest on top.

    A row is [word, count, log odds], or [word, count] where the count itself is drawn.
    """
    plain_axes(axes)
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
            axes.text(side * 0.03, place, printable(row[0], 28), ha=ha[0], va="center",
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
    head(axes, title, note)

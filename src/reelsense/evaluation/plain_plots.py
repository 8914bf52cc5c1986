"""What the pictures have in common: colours, an empty sheet, titles, saving.

Built on matplotlib's Figure objects without pyplot, so there is no global state, no window, and
threads may draw at once. Colours are safe for colour-blind readers and never the only sign.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter

from reelsense.atomic import replacing

DPI = 160
INK, QUIET, GRID = "#222222", "#6b6b6b", "#e3e3e3"
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
NETWORK, BASELINE = "#117733", "#997700"
RAW = "#777777"  # before calibration, and what is left undecided

Json = Mapping[str, Any]
# A name at the right end of a line: height, words, colour.
Name = tuple[float, str, str]


def page(width: float, height: float) -> Figure:
    """An empty sheet of so many inches, whose parts keep clear of each other."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def canvas(width: float, height: float, *, grid: bool = True) -> tuple[Figure, Axes]:
    """A sheet with one pair of axes on it."""
    figure = page(width, height)
    axes = figure.add_subplot()
    plain_axes(axes, grid=grid)
    return figure, axes


def plain_axes(axes: Axes, *, grid: bool = True) -> None:
    """No frame, no tick marks, quiet figures: what is drawn stands out."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(color=QUIET, labelcolor=QUIET, labelsize=10, length=0)
    axes.xaxis.label.set_color(QUIET)
    axes.yaxis.label.set_color(QUIET)


def head(axes: Axes, title: str, note: str) -> None:
    """A bold line that says what is seen, and under it a quiet one that says how to read it."""
    axes.set_title(
        title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=26 if note else 8
    )
    axes.annotate(
        printable(note),
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


def names_at_the_end(axes: Axes, names: Iterable[Name]) -> None:
    """Write each name right of the axes at the height of its line, pushed apart where too close."""
    low, high = axes.get_ylim()
    ordered = sorted((value, text, colour) for value, text, colour in names)
    places = apart([(value - low) / (high - low) for value, _, _ in ordered], 0.062)
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


def apart(places: Sequence[float], gap: float) -> list[float]:
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


def thousands() -> FuncFormatter:
    """Numbers on an axis as 12,000."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that the font in use can draw."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def printable(text: str, longest: int = 90) -> str:
    """The text as one short line, with a box for what the font cannot draw."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(c if ord(c) in _glyphs() and c.isprintable() else "□" for c in cut)


def save(figure: Figure, path: Path) -> Path:
    """Write the PNG whole or not at all; without a version in it, equal data give equal bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path

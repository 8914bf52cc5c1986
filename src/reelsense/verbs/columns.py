"""Text in the columns of a terminal: how wide it is, cut, wrapped, coloured."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from unicodedata import category, east_asian_width

import click

Style = Mapping[str, Any]  # what click.style takes; an empty one is none
Piece = tuple[str, Style]

WIDEST: Final = 100  # columns that are read with ease
AS_EMOJI: Final = "\ufe0f"  # behind a sign: two columns wide, also where it is narrow alone
_PARTS: Final = re.compile(r"\n| +|[^ \n]+")


def is_terminal() -> bool:
    """Say whether someone looks at standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_coloured() -> bool:
    """Say whether standard output is a terminal that has colours and may show them."""
    bare = os.environ.get("TERM") in ("dumb", "unknown")
    return is_terminal() and not bare and not os.environ.get("NO_COLOR")


def width_of(text: str) -> int:
    """Return the columns of a text: a Chinese letter takes two, an accent of its own none."""
    return len(text) if text.isascii() else sum(_widths(text))


def cut(text: str, columns: int) -> str:
    """Return a text that is wider than the columns as its beginning with an ellipsis."""
    if width_of(text) <= columns:
        return text
    return f"{text[: _fitting(text, columns - 1)]}…"


def wrapped(pieces: Iterable[Piece], columns: int) -> str:
    """Return pieces of text, in their styles, in rows of that many columns at most.

    Rows end at line ends and at spaces of pieces without a style; a piece with one is a mark and
    stays whole. A run without a space that is wider than a row is broken between its pieces, and a
    piece that is wider between its letters.
    """
    rows, row, used, gap = [], "", 0, ""
    for run in _runs(pieces):
        if run[0][0] == "\n":
            rows.append(row)
            row, used, gap = "", 0, ""
            continue
        if run[0][0].isspace():
            gap += run[0][0]
            continue
        if used + len(gap) + sum(width_of(letters) for letters, _ in run) <= columns:
            row, used = row + gap, used + len(gap)
        elif used:
            rows.append(row)
            row, used = "", 0
        gap = ""
        for letters, style in _folded(run, columns):
            if used and used + width_of(letters) > columns:
                rows.append(row)
                row, used = "", 0
            row += click.style(letters, **style) if style else letters
            used += width_of(letters)
    return "\n".join([*rows, row])


def _runs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield the pieces that no space separates, and between them spaces and line ends."""
    run: list[Piece] = []
    for letters, style in pieces:
        for part in [letters] if style else _PARTS.findall(letters):
            if run and part.startswith(AS_EMOJI):  # which the tokenizer leaves out of its word
                run[-1] = run[-1][0] + AS_EMOJI, run[-1][1]
                part = part.removeprefix(AS_EMOJI)
            if style or not part.isspace():
                run.append((part, style))
                continue
            if run:
                yield run
            yield [(part, style)]
            run = []
    if run:
        yield run


def _folded(run: list[Piece], columns: int) -> Iterator[Piece]:
    """Yield the pieces of a run, those that are wider than a row in parts."""
    for letters, style in run:
        while width_of(letters) > columns:
            end = _fitting(letters, columns) or 1
            yield letters[:end], style
            letters = letters[end:]
        yield letters, style


def _fitting(text: str, columns: int) -> int:
    """Return how many characters at the beginning fit; an accent stays with its letter."""
    used = start = 0
    for place, (letter, width) in enumerate(zip(text, _widths(text), strict=True)):
        if width and letter != AS_EMOJI:
            start = place
        used += width
        if used > columns:
            return start
    return len(text)


def _widths(text: str) -> Iterator[int]:
    """Yield the columns of each character."""
    last = 0  # of the letter or sign before
    for letter in text:
        if letter == AS_EMOJI:
            width = 2 - last if last else 0
            last += width
        # Accents, and the vowels and ends of a Korean syllable that is written in its parts.
        elif category(letter) in ("Mn", "Me") or "\u1160" <= letter <= "\u11ff":
            width = 0
        else:
            last = width = 2 if east_asian_width(letter) in "WF" else 1
        yield width

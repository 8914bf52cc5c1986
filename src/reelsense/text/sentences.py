"""Where the sentences of a review begin and end: rules over the tokenizer's words, for evidence.

The words have settled most of it: the points of "Mr.", "U.S." and "8.5" belong to words. What is
left is which of the marks that are words end a sentence. Many reviewers forget the space after a
mark and others the capital, so a sentence needs one of the two, and both after "..." or a quote.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.text.words import STOP_WORDS, TAGS, tokenize_with_offsets

# What ends a sentence wherever it stands: a tag that begins a new line, or an empty line.
LINE_TAG: Final = re.compile(r"\b(?:br|p|hr|div|blockquote)\b", re.IGNORECASE)
EMPTY_LINE: Final = re.compile(r"\n[^\S\n]*+\n|\u2029")

MARKS: Final = frozenset([".", "...", "!", "?"])
CLOSING: Final = frozenset("\"')]}*")
OPENING: Final = frozenset("\"'([{*-")
# What these stand for goes on after the point. Other words with a point at their end ("etc.",
# "U.S.", "Jr.") may be the last of a sentence.
UNFINISHED: Final = frozenset(
    "mr. mrs. ms. dr. st. prof. lt. sgt. capt. gen. col. rev. vs. e.g. i.e.".split()  # noqa: SIM905
)

Bounds = Sequence[Sequence[int]]  # of each word, in characters: start and end


def sentences(text: str) -> NDArray[np.int32]:
    """The characters of `text` that each of its sentences takes, start and end, (sentences, 2).

    In order and without the space around them. Each word of `tokenize_with_offsets` lies in
    exactly one. Any string will do; the time is linear in its length.
    """
    words, offsets = tokenize_with_offsets(text)
    if not words:
        return np.zeros((0, 2), np.int32)
    after_marks = list(_after_marks(text, words, offsets.tolist()))
    firsts = np.union1d(_after_breaks(text, offsets), np.array(after_marks, np.int64))
    first, last = np.append(0, firsts), np.append(firsts, len(words)) - 1
    return np.stack([offsets[first, 0], offsets[last, 1]], axis=1)


def _after_breaks(text: str, offsets: NDArray[np.int32]) -> NDArray[np.int64]:
    """The numbers of the words that begin a line or a paragraph, except for the first word."""
    breaks = [match.end() for match in EMPTY_LINE.finditer(text)]
    if "<" in text or "&lt;" in text:
        breaks += [tag.end() for tag in TAGS.finditer(text) if LINE_TAG.search(tag[0])]
    places = np.searchsorted(offsets[:, 0], np.array(breaks, np.int64))
    return places[(places > 0) & (places < len(offsets))]


def _after_marks(text: str, words: Sequence[str], bounds: Bounds) -> Iterator[int]:
    """The numbers of the words that begin a sentence, the one before having ended with a mark."""
    first = here = 0
    while here < len(words):
        place, word = here, words[here]
        if word in MARKS:
            here, ends = _after_mark(text, words, bounds, place)
            ends = ends and not (place == first + 1 and words[first].isdigit())  # "1. The plot"
        else:
            here += 1
            ends = (
                word[-1] == "."
                and word not in UNFINISHED
                and here < len(words)
                and words[here] in STOP_WORDS  # "the U.S. The film", but not "the U.S. Army"
                and text[bounds[here][0]].isupper()
            )
        if ends:
            yield here
            first = here


def _after_mark(text: str, words: Sequence[str], bounds: Bounds, place: int) -> tuple[int, bool]:
    """The word after a mark and what belongs to it, and whether a sentence begins there."""
    here = place
    while here < len(words) and words[here] in MARKS:
        here += 1
    mark = "".join(words[place:here])
    goes_on = len(mark) > 1 and not mark.strip(".")  # "it was... good"
    while here < len(words) and words[here] in CLOSING and bounds[here][0] == bounds[here - 1][1]:
        goes_on = True  # '"Why?" he asked'
        here += 1
    if here < len(words) and len(words[here]) == 2 and words[here][0] in ":;=":  # :)
        here += 1
    name = here
    while name < len(words) and words[name] in OPENING:
        name += 1
    if name == len(words):
        return here, False
    letter = text[bounds[name][0]]
    if bounds[here][0] == bounds[here - 1][1]:  # no space: "bad.The", but not "imdb.com"
        return here, letter.isupper()
    return here, not (goes_on and letter.islower())

"""Text to words: the only path, in training and in prediction.

Words follow the conventions of the GloVe 6B vectors (the Stanford tokenizer's Penn Treebank
style, lower case): punctuation marks are words, "don't" is "do" "n't", "film's" is "film" "'s".

A text is cut at white space, and each chunk between spaces is cut into words on its own. What a
chunk becomes depends on nothing but the chunk, so results are remembered by chunk: in reviews
95% of the chunks have been seen before, and looking one up is many times faster than cutting it.

Hyphenated words are split, and the hyphen is a word: it is the twelfth most frequent of GloVe 6B,
so its makers did the same. Measured on the 25,000 bundled reviews, GloVe 6B has vectors for 99.67%
of the words and 81% of the distinct words that way, for 99.41% and 70% with hyphenated words whole.

Knows no vocabulary: the words' numbers are `tokenizer.py`'s.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Cleanup = Literal["none", "classic"]
CLEANUPS: Final = ("none", "classic")
Value = TypeVar("Value")

# The stop words of NLTK, which the classic notebooks remove. The last line is what this file's
# splitting leaves of "can't", "won't", "shan't" and "ain't".
STOP_WORDS: Final = frozenset(
    """
    i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
    yourselves he him his himself she she's her hers herself it it's its itself they them their
    theirs themselves what which who whom this that that'll these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at
    by for with about against between into through during before after above below to from up down
    in out on off over under again further then once here there when where why how all any both
    each few more most other some such no nor not only own same so than too very s t can will just
    don don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't
    doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't
    needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
    ca wo sha ai
    """.split()  # noqa: SIM905
)

# --- from text to chunks ------------------------------------------------------------------------

CHUNK: Final = re.compile(r"\S+")  # finds the chunks of str.split()

# A line break is a boundary between words however it is spelt, also when escaped twice; so are a
# few tags that reviewers type. Lengths are bounded, which keeps the search linear.
TAGS: Final = re.compile(
    r"(?:<|&lt;)\s{0,3}/?\s{0,3}"
    r"(?:br(?:\s[^<>&]{0,80})?|(?:hr|p|i|b|u|em|strong|div|span|a|blockquote)"
    r"(?:\s[^<>&=]{1,20}=[^<>&]{0,200})?)"
    r"\s{0,3}/?\s{0,3}(?:>|&gt;)",
    re.IGNORECASE,
)


def blank_tags(text: str) -> str:
    """Put spaces for tags. Every other character stays where it was."""
    if "<" in text:
        text = text.replace("<br />", "      ")  # nearly all there are; 5x as fast as the pattern
    if "<" in text or "&lt;" in text:
        text = TAGS.sub(lambda match: " " * len(match[0]), text)
    # Windows' "..." read as Latin-1 (700 times in the IMDB reviews), which `split` takes for a
    # line end.
    return text.replace("\x85", "…") if "\x85" in text else text


# --- from a chunk to words ----------------------------------------------------------------------

# One character for another or for several. The range 0x80-0x9f is Windows-1252 read as Latin-1,
# as it stands in the IMDB reviews.
PLAIN: Final = {
    **dict.fromkeys("‘’‚‛′´`\x91\x92ʼ＇", "'"),
    **dict.fromkeys("“”„‟″«»\x93\x94\x84＂¨", '"'),
    **dict.fromkeys("–—―−\x96\x97", "--"),
    **dict.fromkeys("‐‑", "-"),
    "…": "...",
    "\x95": "*",
    "•": "*",
    "\x80": "€",
    # Soft hyphen, zero-width marks and control characters are not seen by a reader.
    **dict.fromkeys("\xad\u200b\u200c\u200d\u2060\ufeff\ufe0e\ufe0f", ""),
    **dict.fromkeys(map(chr, [*range(0x09), *range(0x0E, 0x1C), 0x7F]), ""),
}
ODD: Final = re.compile(
    r"&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});"
    rf"|[{re.escape(''.join(PLAIN))}]"
    r"|[^\W\d_][\u0300-\u036f]{1,4}"  # a letter and its accents as characters of their own
)


def _plain(odd: str) -> str:
    if odd in PLAIN:
        return PLAIN[odd]
    if odd[0] != "&":
        return unicodedata.normalize("NFC", odd)
    import html  # with its table of names a third of this file's import; few texts need it

    decoded = html.unescape(odd)
    return "".join(PLAIN.get(character, character) for character in decoded)


# The pieces of a chunk: every character of it falls into exactly one. No part of the pattern runs
# on without bound and then fails, so the time is proportional to the length. The first line is
# there for speed alone: it takes plain words, half of all pieces, past the rest.
PIECE: Final = re.compile(
    r"""
      [^\W\d_]{3,}+(?![\w.':/-])
    | (?:https?://|www\.)[^\s<>"']*[\w/]                # addresses
    | [:;=]-?[()\]DP](?![^\W_])                         # :) ;-) :D
    | (?<![^\W_])(?:[a-z]\.){2,}                        # u.s. e.g. a.k.a.
    | (?<![^\W_])(?:mr|mrs|ms|dr|jr|sr|st|vs|etc|ph\.d|prof|lt|sgt|capt|gen|col|rev)\.
    | (?<![^\W_])(?-i:[A-HJ-Z])\.(?=\w|\Z)              # initials; "than I." ends a sentence
    | \d++(?:[.,:]\d++)+                                # 8.5 1,000 10:30
    | \d{1,2}/\d{1,3}(?!\d)                             # 10/10 1/2
    | [^\W_]++(?:'[^\W_]++)*                            # words, also with apostrophes inside
    | '(?:\d\ds?|em|til|tis|twas|cause|n'|[smd]|re|ve|ll|nt)(?![^\W_])   # '90s 'em 's
    | \.\.+ | --+ | ''                                  # ... -- and two quotes for one
    | =+ | _+ | ~+ | \#+ | \++ | \^+ | <+ | >+          # a ruled line is one mark
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
ENDING: Final = re.compile(r"(?:n't|'nt|'(?:s|m|re|ve|ll|d))\Z", re.IGNORECASE)
# Written without the apostrophe, as reviewers do, they still negate.
BARE_NEGATIONS: Final = frozenset(
    """
    aint arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt shouldnt wasnt werent wont
    wouldnt
    """.split()  # noqa: SIM905
)


def _pieces(plain: str) -> list[str]:
    """Cut a chunk in plain spelling into pieces, which joined are the chunk again."""
    if plain.isalpha() and plain[-1] not in "tT":
        return [plain]  # what the pattern says too, five times faster
    pieces: list[str] = []
    for piece in PIECE.findall(plain):
        if "'" in piece or (piece[-1] in "tT" and piece.lower() in BARE_NEGATIONS):
            pieces += _without_endings(piece)
        else:
            pieces.append(piece)
    return pieces


def _without_endings(piece: str) -> list[str]:
    """Split endings off a piece: "wouldn't've" is "would" "n't" "'ve"."""
    endings = []
    end = len(piece)
    while (match := ENDING.search(piece, max(0, end - 3), end)) and match.start() > 0:
        endings.append(match[0])
        end = match.start()
    stem = piece[:end]
    if stem.lower() in BARE_NEGATIONS:
        endings.append(stem[-2:])
        stem = stem[:-2]
    return [stem, *reversed(endings)]


def _spell(piece: str) -> str:
    """The word that a piece stands for, spelt as GloVe spells it."""
    word = piece.lower()
    first = word[0]
    if first.isalnum():
        return "n't" if word == "nt" else word
    if len(word) == 1:
        return word
    if first == "'":
        return {"''": '"', "'nt": "n't"}.get(word, word)
    if first == ".":
        return "..."
    if first == "-":
        return "--"
    if first == word[1]:
        return first
    return word.replace("-", "")  # noses of :-)


def _respell(chunk: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Plain spelling of a chunk, and where in `chunk` each of its characters starts and ends."""
    if chunk.isascii() and "&" not in chunk and "`" not in chunk and chunk.isprintable():
        return chunk, range(len(chunk)), range(1, len(chunk) + 1)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    here = 0
    for match in ODD.finditer(chunk):
        start, end = match.span()
        plain = _plain(match[0])
        parts += (chunk[here:start], plain)
        starts += (*range(here, start), *[start] * len(plain))
        ends += (*range(here + 1, start + 1), *[end] * len(plain))
        here = end
    parts.append(chunk[here:])
    starts += range(here, len(chunk))
    ends += range(here + 1, len(chunk) + 1)
    return "".join(parts), starts, ends


# Marks that are words of their own wherever they follow a letter at the end of a chunk.
LAST_MARKS: Final = ',!?)"'


def words_of(chunk: str) -> tuple[str, ...]:
    """The words of a chunk, which is text without white space. Linear in its length."""
    stem = chunk.rstrip(LAST_MARKS)
    if stem.isascii() and stem.isalpha() and stem[-1] not in "tT":
        # What the rest of this function says too, three times faster; half of all chunks.
        return (stem.lower(), *chunk[len(stem) :])
    parts = _respell(chunk)[0].split()  # &nbsp; is white space after all
    return tuple([_spell(piece) for part in parts for piece in _pieces(part)])


class Located(NamedTuple):
    """The words of a chunk, and where each starts and ends in it: start, end, start, end, ..."""

    words: tuple[str, ...]
    bounds: tuple[int, ...]


def locate(chunk: str) -> Located:
    """The words of `words_of` and where in the chunk they come from."""
    plain, starts, ends = _respell(chunk)
    words: list[str] = []
    bounds: list[int] = []
    for part in CHUNK.finditer(plain):
        here = part.start()
        for piece in _pieces(part[0]):
            words.append(_spell(piece))
            bounds += (starts[here], ends[here + len(piece) - 1])
            here += len(piece)
    return Located(tuple(words), tuple(bounds))


# --- remembering chunks -------------------------------------------------------------------------

# Of each of two generations: what a dictionary's table of 2**17 places holds before it doubles.
# Word numbers of the bundled reviews (265,000 distinct chunks) take 25 MB that way. Half as many
# again take 38 MB and are 1% faster.
REMEMBERED_CHUNKS: Final = (1 << 18) // 3
LONGEST_REMEMBERED: Final = 40


class Remembered(dict[str, Value]):
    """A pure function of a chunk with a memory of bounded size. Reading a known chunk is C code.

    When it is full, everything moves to an older generation, from which chunks in use come back,
    and what was there is forgotten. Threads may share it: each step is one dictionary operation
    and what is stored depends on the key alone, so a race costs at most some work done twice.
    """

    def __init__(self, compute: Callable[[str], Value], limit: int = REMEMBERED_CHUNKS) -> None:
        self.compute = compute
        self.limit = limit
        self.older: dict[str, Value] = {}

    def __missing__(self, chunk: str) -> Value:
        value = self.older.get(chunk)
        if value is None:
            value = self.compute(chunk)
        if len(chunk) <= LONGEST_REMEMBERED:
            if len(self) >= self.limit:
                self.older = self.copy()
                self.clear()
            self[chunk] = value
        return value


# Locations take three times the memory of numbers, and four times as many were no faster.
LOCATED: Final = Remembered(locate, limit=1 << 14)


# --- whole texts --------------------------------------------------------------------------------


def tokenize(text: str) -> list[str]:
    """The words of a text: lower case, GloVe's conventions. Any string will do."""
    chunks = map(LOCATED.__getitem__, blank_tags(text).split())
    return list(chain.from_iterable([chunk.words for chunk in chunks]))


def tokenize_with_offsets(text: str) -> tuple[list[str], NDArray[np.int32]]:
    """The words of `tokenize`, and the characters of `text` that each comes from, (words, 2).

    text[start:end] is the word as the user wrote it.
    """
    text = blank_tags(text)
    words: list[str] = []
    bounds: list[int] = []
    firsts: list[int] = []
    counts: list[int] = []
    end = 0
    for chunk in text.split():
        # Only white space lies between, so this finds the chunk itself, and in one step.
        start = text.index(chunk, end)
        end = start + len(chunk)
        located = LOCATED[chunk]
        words += located.words
        bounds += located.bounds
        firsts.append(start)
        counts.append(len(located.words))
    shift = np.repeat(np.array(firsts, np.int32), counts)
    return words, np.array(bounds, np.int32).reshape(-1, 2) + shift[:, None]


def kept(words: Iterable[str], cleanup: Cleanup) -> list[str]:
    """The words that the clean-up leaves.

    "classic" keeps words of two letters or more that are not stop words: no punctuation, number
    or single character, and no negation. That is what most notebooks do, and it costs accuracy.
    """
    if cleanup == "none":
        return list(words)
    return [word for word in words if is_classic(word)]


def is_classic(word: str) -> bool:
    """Whether the classic clean-up keeps the word."""
    return len(word) > 1 and word.isalpha() and word not in STOP_WORDS


def count_words(texts: Iterable[str], cleanup: Cleanup = "none") -> Counter[str]:
    """How often each word occurs in the texts, each distinct chunk being cut once."""
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(blank_tags(text).split())
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word in kept(words_of(chunk), cleanup):
            words[word] += count
    return words

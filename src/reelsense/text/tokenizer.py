"""Words to numbers, and the vocabulary as JSON; how a text becomes words says `words.py`.

Knows no vectors and no network: which words have a number is `Tokenizer.vocabulary`.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.text.words import (
    CLEANUPS,
    STOP_WORDS,
    Cleanup,
    Remembered,
    blank_tags,
    count_words,
    is_classic,
    kept,
    tokenize,
    tokenize_with_offsets,
    words_of,
)

PADDING: Final = 0
UNKNOWN: Final = 1
NUMBER: Final = struct.Struct("=i")  # a word's number in bytes, as in an array of int32
UNKNOWN_BYTES: Final = NUMBER.pack(UNKNOWN)
SPECIAL: Final = ("<pad>", "<unk>")
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Tokenizer:
    """Texts to word numbers. Number 0 is padding, 1 every word that the vocabulary lacks.

    Immutable, safe to share between threads, and pickled without what it remembers.

    Raises:
        BadInput: the vocabulary does not begin with the special entries, or repeats a word.
    """

    vocabulary: tuple[str, ...]
    cleanup: Cleanup = "none"
    _numbers: dict[str, bytes] = field(init=False, repr=False, compare=False)
    _chunks: "Remembered[bytes]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.vocabulary, self.cleanup)
        size = len(self.vocabulary)
        numbers = dict(zip(self.vocabulary, map(NUMBER.pack, range(size)), strict=True))
        if len(numbers) < size:
            word = next(word for word, count in Counter(self.vocabulary).items() if count > 1)
            raise BadInput(f"the vocabulary holds {word!r} twice")
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "_chunks", Remembered(self._chunk_numbers))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[str, ...], Cleanup]]:
        return type(self), (self.vocabulary, self.cleanup)

    def _chunk_numbers(self, chunk: str) -> bytes:
        # Joining one piece of bytes gives that piece, so chunks of one word take no memory here.
        return b"".join(self._in_bytes(kept(words_of(chunk), self.cleanup)))

    def _in_bytes(self, words: Iterable[str]) -> list[bytes]:
        get = self._numbers.get
        return [get(word, UNKNOWN_BYTES) for word in words]

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        min_count: int = 2,
        max_words: int | None = None,
        cleanup: Cleanup = "none",
    ) -> Self:
        """A vocabulary of the words that occur at least `min_count` times in the texts.

        The most frequent first, ties in alphabetical order; at most `max_words` of them, the
        special entries not counted.
        """
        return cls.from_counts(count_words(texts, cleanup), min_count, max_words, cleanup)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        min_count: int = 2,
        max_words: int | None = None,
        cleanup: Cleanup = "none",
    ) -> Self:
        """A vocabulary from what `count_words` returned; see `fit`."""
        frequent = [word for word, count in counts.items() if count >= min_count]
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls((*SPECIAL, *frequent[:max_words]), cleanup)

    def words(self, text: str) -> list[str]:
        """The words of a text after the clean-up, also those that the vocabulary lacks."""
        return kept(tokenize(text), self.cleanup)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Word numbers of a text, shape (words,); empty for a text without words."""
        chunks = blank_tags(text).split()
        joined = bytearray().join(map(self._chunks.__getitem__, chunks))
        return np.frombuffer(joined, dtype=np.int32)

    def encode_with_offsets(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Word numbers (words,), the same as `encode`'s, and their characters in `text` (words, 2).

        text[start:end] is what a word comes from, as the user wrote it.
        """
        words, offsets = tokenize_with_offsets(text)
        if self.cleanup == "classic":
            left = [place for place, word in enumerate(words) if is_classic(word)]
            words, offsets = [words[place] for place in left], offsets[left]
        joined = bytearray().join(self._in_bytes(words))
        return np.frombuffer(joined, dtype=np.int32), offsets

    def to_json(self) -> str:
        """Everything that `from_json` needs; ASCII."""
        content: dict[str, Any] = {"format": FORMAT_VERSION, "cleanup": self.cleanup}
        if self.cleanup == "classic":
            content["stop_words"] = sorted(STOP_WORDS)
        content["vocabulary"] = self.vocabulary
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, name: str = "tokenizer.json") -> Self:
        """The tokenizer that `to_json` wrote.

        Raises:
            BadInput: anything else, naming the file as `name`.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name}: not JSON ({error})") from error
        try:
            return cls(*_read(content))
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from error

    def save(self, path: Path) -> None:
        """Write `to_json` to a file, whole or not at all."""
        write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            BadInput: there is no such file, or it holds something else.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise BadInput(f"{path}: cannot be read as a tokenizer ({reason})") from error
        return cls.from_json(text, str(path))


def _read(content: object) -> tuple[tuple[str, ...], Cleanup]:
    """Vocabulary and clean-up out of parsed JSON."""
    if not isinstance(content, dict) or "format" not in content:
        raise BadInput("not a tokenizer of Reelsense")
    version = content["format"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise BadInput(
            f"tokenizer format {version!r}; this version of Reelsense reads {FORMAT_VERSION}"
        )
    classic = content.get("cleanup") == "classic"
    keys = {"format", "cleanup", "vocabulary"} | ({"stop_words"} if classic else set())
    if content.keys() != keys:
        odd = ", ".join(sorted(content.keys() ^ keys))
        raise BadInput(f"missing or unknown entry: {odd}")
    if classic and content["stop_words"] != sorted(STOP_WORDS):
        raise BadInput("its stop words are not those of this version of Reelsense")
    if not isinstance(content["vocabulary"], list):
        raise BadInput("the vocabulary is not a list")
    return tuple(content["vocabulary"]), content["cleanup"]


def _check(vocabulary: tuple[str, ...], cleanup: str) -> None:
    if cleanup not in CLEANUPS:
        raise BadInput(f"clean-up {cleanup!r} is not one of: {', '.join(CLEANUPS)}")
    if vocabulary[:2] != SPECIAL:
        raise BadInput(f"the vocabulary does not begin with {SPECIAL[0]}, {SPECIAL[1]}")
    for number, word in enumerate(vocabulary):
        if not isinstance(word, str) or not word:
            raise BadInput(f"entry {number} of the vocabulary is not a word: {word!r}")


def shorten(ids: NDArray[np.int32], tokens: int, keep: str) -> NDArray[np.int32]:
    """Return at most `tokens` of the ids (0: all): head, tail, or head+tail.

    head+tail keeps the first quarter and the last three (Sun et al. 2019, 128 + 382 of 510).
    """
    if not tokens or len(ids) <= tokens:
        return ids
    head = {"head": tokens, "tail": 0, "head+tail": tokens // 4}[keep]
    return np.concatenate([ids[:head], ids[len(ids) - (tokens - head) :]])

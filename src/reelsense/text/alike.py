"""Words that say who or where and nothing about a film: names, places, kinds of people."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.text.tokenizer import UNKNOWN

FILE: Final = Path(__file__).parent / "alike.toml"


def words_alike(vocabulary: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the numbers of the words of each group that share a meaning for a review.

    Names are of one group with the unknown word: most names are in no vocabulary.
    """
    numbers = {word: number for number, word in enumerate(vocabulary)}
    groups = tomllib.loads(FILE.read_text(encoding="utf-8"))
    found = {
        name: sorted({numbers[word] for word in words.split() if word in numbers})
        for name, words in groups.items()
    }
    found["names"] = [UNKNOWN, *found["names"]]
    return [np.array(rows, np.int64) for rows in found.values() if len(rows) > 1]

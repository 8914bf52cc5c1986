"""What a network says of many texts, as arrays, and of the words of one, by sentence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reelsense.inference.answers import Evidence
from reelsense.text.sentences import sentences


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Of each text: P(positive), how sure a label is, tokens, share unknown, whether it was cut."""

    probability: NDArray[np.float64]
    confidence: NDArray[np.float64]
    tokens: NDArray[np.int64]
    unknown: NDArray[np.float64]
    truncated: NDArray[np.bool_]

    def unsure(self, confidence: float | NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which texts have words and no label that is as likely as that."""
        likelier = np.maximum(self.probability, 1 - self.probability)
        return (likelier < confidence) & (self.tokens > 0)


def by_sentence(text: str, words: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """Return the evidence of the words summed by the sentences that they stand in."""
    spans = sentences(text)
    place = np.searchsorted(spans[:, 0], [word.start for word in words], side="right") - 1
    sums = np.bincount(place, [word.evidence for word in words], minlength=len(spans))
    return tuple(
        Evidence(text[start:end], start, end, total)
        for (start, end), total in zip(spans.tolist(), sums.tolist(), strict=True)
    )

"""What a predictor says of a text: records, and the evidence of words summed by sentence."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reelsense.text.sentences import sentences


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of a text.

    label: "positive", "negative", or "uncertain" where max(P, 1 - P) is below the confidence that
        the model was given, and for a text without words.
    probability: calibrated P(positive).
    tokens: words and marks in the text, read or not.
    unknown: share of them that the model has no vector for.
    truncated: whether only a part was read.
    """

    label: str
    probability: float
    tokens: int
    unknown: float
    truncated: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the characters start:end of the text add to the logit: > 0 speaks for positive."""

    text: str
    start: int
    end: int
    evidence: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a prediction comes from: the evidence of all words + bias = logit.

    logit: log(P / (1 - P)) of the calibrated probability.
    words: what was read, in order; sentences: the same evidence summed by sentence.
    """

    prediction: Prediction
    logit: float
    bias: float
    words: tuple[Evidence, ...]
    sentences: tuple[Evidence, ...]


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


def finite(content: Any) -> Any:
    """Return what JSON can hold of the content: None in place of NaN and infinity."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return content

"""What a predictor says of a text."""

import math
from dataclasses import dataclass
from typing import Any


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


def finite(content: Any) -> Any:
    """Return what JSON can hold of the content: None in place of NaN and infinity."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return content

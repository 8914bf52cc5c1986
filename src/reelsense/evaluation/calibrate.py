"""How sure a model may be: a shift and a temperature of its logits, and where it decides.

All three are fitted on held-out reviews and travel in the bundle. Whether it worked is measured on
others: `cross_fitted` gives each review what was fitted without its film. A label is 1 or 0, a
probability is P(positive); the confidence of a review is max(p, 1 - p), from 0.5 to 1.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reelsense.errors import BadInput
from reelsense.evaluation.metrics import (
    CURVE_POINTS,
    calibration_error,
    checked,
    sigmoid,
    wilson_interval,
)

# Networks that need more than this know nothing about these labels, whatever they say.
COLDEST, HOTTEST = 0.1, 10.0
# How far a network's logits usually lie to one side; a shift is believed as far as the reviews say
# more than this. On 8,814 it keeps 97% of its size, on 40 a tenth.
USUAL_SHIFT = 0.25
FOLDS = 5


def fit_shift(labels: ArrayLike, logits: ArrayLike) -> float:
    """What to add to the logits so that they call as many reviews positive as there are.

    The intercept of Platt's scaling (1999), with a normal prior of spread `USUAL_SHIFT` around 0:
    the s where the sum of sigmoid(logit + s) - label is -s / USUAL_SHIFT^2. A student learns from
    teachers and from edited sentences, whose positives are not as many as those of the reviews.

    Raises:
        BadInput: no review, not one logit a label, a logit that is not finite.
    """
    z, truth = _checked_logits(labels, logits)
    low, high = -10.0, 10.0
    for _ in range(50):
        shift = (low + high) / 2
        if np.sum(sigmoid(z + shift) - truth) + shift / USUAL_SHIFT**2 >= 0:
            high = shift
        else:
            low = shift
    return (low + high) / 2


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """The T that makes sigmoid(logit / T) fit the labels best, by log loss (Guo et al. 2017).

    Above 1 the network was too sure, below 1 too modest; the side of 0.5, and so the accuracy,
    never changes. The targets are Platt's (1999), (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) instead of
    1 and 0: twenty reviews that are all right do not prove that the network is never wrong. With
    thousands of reviews that moves T by less than 1%.

    The result lies in 0.1..10; 10 where the logits say nothing about the labels.

    Raises:
        BadInput: no review, one class only, not one logit a label, a logit that is not finite.
    """
    z, truth = _checked_logits(labels, logits)
    positive = int(truth.sum())
    if positive in (0, len(truth)):
        only = "positive" if positive else "negative"
        raise BadInput(f"all {len(truth)} reviews are {only}: a temperature needs both classes")
    target = np.where(truth == 1, (positive + 1) / (positive + 2), 1 / (len(truth) - positive + 2))
    # The loss is convex in 1 / T, so its slope changes sign once: halve the interval on log T.
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        said = sigmoid(z * math.exp(-middle))
        if np.mean(z * (said - target)) >= 0:  # still too sure
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _checked_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return logits and labels as arrays of one length."""
    z = np.asarray(logits, dtype=np.float64).ravel()
    if not np.isfinite(z).all():
        bad = int(np.argmin(np.isfinite(z)))
        raise BadInput(f"review number {bad + 1}: its logit must be a finite number, got {z[bad]}")
    truth, _ = checked(labels, np.full(z.shape, 0.5))
    return z, truth


def confidence_for(labels: ArrayLike, probabilities: ArrayLike, error: float = 0.05) -> float:
    """The confidence from which a model decides, so that at most the share `error` is wrong.

    Below it the honest answer is "uncertain". Of all places that keep the promise on these
    reviews, the one that decides the most: from the surest review downwards the share of mistakes
    jumps about at first (one mistake among the first ten is 10%), so the first place where it is
    broken means nothing. 0.5 where all may be decided; 1 where no place keeps the promise.

    Raises:
        BadInput: `error` outside 0..1, no review, labels or probabilities that are none.
    """
    if not 0 <= error <= 1:
        raise BadInput(f"error {error}: a share from 0 to 1 is needed, such as 0.05")
    confidence, reviews, mistakes = _surest_first(labels, probabilities)
    kept = np.flatnonzero(mistakes <= error * reviews + 1e-9)  # 0.29 * 100 is below 29
    if len(kept) == 0:
        return 1.0
    last = int(kept[-1])
    if last == len(confidence) - 1:
        return 0.5
    # Half-way to the first review left out: rounding in another runtime changes no decision.
    return float((confidence[last] + confidence[last + 1]) / 2)


def cross_fitted(
    labels: ArrayLike, logits: ArrayLike, groups: ArrayLike, error: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each review would be told if all constants had been fitted on the others.

    Two sets of films differ by more than chance alone: the same network got 93.4% of one and 91.6%
    of another. So the constants are fitted on all held-out reviews, and this says how good they
    are on films that they were not fitted on (Stone 1974, cross-validatory assessment).

    Args:
        labels: 1 or 0.
        logits: before any temperature.
        groups: a whole number a review; reviews with the same one stay together when the
            groups are dealt to five parts, each fitted on the others.
        error: as `confidence_for`.

    Returns:
        The calibrated probability of each review, and the confidence from which it is decided.

    Raises:
        BadInput: as `fit_temperature`, of the reviews without one of the parts.
    """
    truth, z = np.asarray(labels), np.asarray(logits, np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[group]
    probabilities, confidences = np.zeros(len(z)), np.zeros(len(z))
    for part in np.unique(fold):
        here = fold == part
        shift = fit_shift(truth[~here], z[~here])
        said = sigmoid((z + shift) / fit_temperature(truth[~here], z[~here] + shift))
        probabilities[here] = said[here]
        confidences[here] = confidence_for(truth[~here], said[~here], error)
    return probabilities, confidences


def decided(
    labels: ArrayLike, probabilities: ArrayLike, confidence: float | NDArray[np.float64]
) -> dict[str, Any]:
    """What comes of answering only from this confidence on, one for all or one a review.

    Returns:
        confidence (as given, or the median), n (reviews), decided (how many get an answer),
        coverage (their share), error (share of the decided that is wrong; None where none is
        decided) and error_interval (95%, Wilson).

    Raises:
        BadInput: confidence outside 0.5..1, no review, labels or probabilities that are none.
    """
    if not np.all((np.asarray(confidence) >= 0.5) & (np.asarray(confidence) <= 1)):
        raise BadInput(f"confidence {confidence}: must lie between 0.5 (decide all) and 1")
    truth, p = checked(labels, probabilities)
    sure = np.maximum(p, 1 - p) >= confidence
    n, wrong = int(sure.sum()), int(np.sum(sure & ((p >= 0.5) != truth)))
    return {
        "confidence": float(np.median(confidence)),
        "n": len(truth),
        "decided": n,
        "coverage": n / len(truth),
        "error": wrong / n if n else None,
        "error_interval": list(wilson_interval(wrong, n)),
    }


def risk_coverage(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Any]:
    """The share of mistakes as more is decided, the surest first (El-Yaniv and Wiener 2010).

    Returns:
        coverage (share decided, rising to 1), risk (share of them that is wrong) and confidence
        (of the least sure of them): parallel lists of at most 200 points. And aurc, the area
        under the whole curve (Geifman et al. 2019): the mean risk over all coverages; lower is
        better. Reviews of equal confidence enter together, in the area as if in random order.

    Raises:
        BadInput: no review, labels or probabilities that are none.
    """
    confidence, reviews, mistakes = _surest_first(labels, probabilities)
    n = int(reviews[-1])
    every = np.arange(1, n + 1)
    so_far = np.interp(every, np.append(0, reviews), np.append(0, mistakes))
    keep = np.arange(len(reviews))
    if len(reviews) > CURVE_POINTS:  # evenly along the coverage, up to and with the last
        wanted = np.linspace(n / CURVE_POINTS, n, CURVE_POINTS)
        keep = np.unique(np.searchsorted(reviews, wanted - 1e-9))
    return {
        "coverage": (reviews[keep] / n).tolist(),
        "risk": (mistakes[keep] / reviews[keep]).tolist(),
        "confidence": confidence[keep].tolist(),
        "aurc": float(np.mean(so_far / every)),
    }


def _surest_first(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Falling distinct confidences; the reviews and the mistakes at or above each of them."""
    truth, p = checked(labels, probabilities)
    confidence, group = np.unique(-np.maximum(p, 1 - p), return_inverse=True)
    wrong = np.bincount(group, weights=(p >= 0.5) != truth).astype(np.int64)
    return -confidence, np.cumsum(np.bincount(group)), np.cumsum(wrong)


def calibration_noise(probabilities: ArrayLike, draws: int = 200) -> float:
    """The calibration error that these probabilities would show if each were exactly right.

    A bin of few reviews is off by chance alone, so the measured error never is 0: 1.7 points on
    2,500 reviews, 0.5 on 25,000. The mean over `draws` sets of labels drawn from the
    probabilities, always the same ones.
    """
    p = np.asarray(probabilities, dtype=np.float64).ravel()
    chance = np.random.default_rng(0)
    return float(np.mean([calibration_error(chance.random(len(p)) < p, p) for _ in range(draws)]))

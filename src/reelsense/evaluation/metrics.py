"""From labels and probabilities to numbers. Pure numpy; every result can be written as strict JSON.

A label is 1 (positive) or 0 (negative), a probability is P(positive), and a review counts as
called positive from 0.5 upwards. What cannot be known (the AUC of a single class, the precision
of a class that was never called) is None, never NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reelsense.errors import BadInput

# 97.5% quantile of the normal distribution: two-sided 95% intervals.
Z95 = 1.959963984540054
# A float32 sigmoid saturates at exactly 1 from a logit of 17 on; without a floor one such
# mistake would make the whole mean infinite. It bounds the loss of a single review to 16.1.
CLIP = 1e-7
BINS = 15
CURVE_POINTS = 200
# Tokens. The median review has 200 and 95% have fewer than 680; each bin is about twice the last.
LENGTH_BINS: tuple[tuple[int, int | None], ...] = (
    (0, 50),
    (51, 100),
    (101, 200),
    (201, 400),
    (401, 800),
    (801, None),
)

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def sigmoid(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return P(positive) of logits; overflows nowhere."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def evaluate(
    labels: ArrayLike, probabilities: ArrayLike, lengths: ArrayLike, ids: Sequence[str]
) -> dict[str, Any]:
    """Everything that is said about one set of scored reviews, as a JSON-safe dict.

    Labels, probabilities, lengths (in tokens) and ids are parallel, one entry a review.

    Raises:
        BadInput: no review, parts of different length, a label that is not 0 or 1,
            a probability outside 0..1 (or NaN). The message names the first such review.
    """
    truth, p = checked(labels, probabilities, ids)
    sizes = np.asarray(lengths, dtype=np.int64).ravel()
    if len(sizes) != len(truth):
        raise BadInput(f"{len(truth)} labels but {len(sizes)} lengths: one a review is needed")
    called = _called(p)
    matrix = confusion(truth, called)
    correct = int(np.sum(called == truth))
    fpr, tpr = roc_curve(truth, p)
    return {
        "n": len(truth),
        "accuracy": correct / len(truth),
        "accuracy_interval": list(wilson_interval(correct, len(truth))),
        "by_class": _by_class(matrix),
        "roc_auc": roc_auc(truth, p),
        "log_loss": log_loss(truth, p),
        "brier": brier(truth, p),
        "calibration_error": calibration_error(truth, p),
        "confusion": matrix,
        "roc": {"fpr": fpr, "tpr": tpr},
        "reliability": reliability(truth, p),
        "by_length": accuracy_by_length(truth, p, sizes),
        "mistakes": confident_mistakes(truth, p, ids),
    }


def accuracy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Share of reviews on the right side of 0.5."""
    truth, p = checked(labels, probabilities)
    return float(np.mean(_called(p) == truth))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; 0.693 is what a constant 0.5 gets.

    Probabilities are clipped to [1e-7, 1 - 1e-7], so one review costs 16.1 at the most.
    """
    truth, p = checked(labels, probabilities)
    p = np.clip(p, CLIP, 1 - CLIP)
    # log1p keeps the digits of 1 - p where p is tiny.
    return float(-np.mean(np.where(truth == 1, np.log(p), np.log1p(-p))))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance between P(positive) and what happened; 0.25 is a constant 0.5."""
    truth, p = checked(labels, probabilities)
    return float(np.mean((p - truth) ** 2))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share after `successes` out of `n` (Wilson 1927).

    Unlike the textbook p +- 1.96 s.e. it stays inside 0..1 and keeps its coverage near the ends.
    With n = 0 nothing is known: (0, 1).

    Raises:
        BadInput: successes outside 0..n.
    """
    if not 0 <= successes <= n:
        raise BadInput(f"{successes} successes out of {n}: must lie between 0 and n")
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the two ends the formula is exactly 0 or 1; rounding would leave 1e-17 beside it.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> dict[str, Any]:
    """Do two classifiers scored on the same reviews differ? McNemar's test, exact and two-sided.

    Takes one boolean a review for each. Only reviews on which exactly one is right carry
    information; if both were equally good, each such review would be a fair coin, so the p-value
    is binomial: p = min(1, 2 P(X <= min(only_a, only_b))), X ~ B(only_a + only_b, 1/2).
    The 95% interval of accuracy(a) - accuracy(b) is the paired one of Agresti and Min (2005).

    Returns:
        n, both, only_a, only_b, neither (counts), difference, difference_interval, p_value.

    Raises:
        BadInput: no review, or not the same number of them.
    """
    a, b = np.asarray(correct_a, dtype=bool).ravel(), np.asarray(correct_b, dtype=bool).ravel()
    if len(a) != len(b) or len(a) == 0:
        raise BadInput(f"McNemar's test needs the same reviews twice, got {len(a)} and {len(b)}")
    only_a, only_b, n = int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)
    # Half a review is added to each of the four cells, which keeps the interval honest
    # where the discordant counts are small.
    middle = (only_a - only_b) / (n + 2)
    spread = ((only_a + only_b + 1) / (n + 2) - middle**2) / (n + 2)
    half = Z95 * math.sqrt(spread)
    return {
        "n": n,
        "both": int(np.sum(a & b)),
        "only_a": only_a,
        "only_b": only_b,
        "neither": int(np.sum(~a & ~b)),
        "difference": (only_a - only_b) / n,
        "difference_interval": [max(-1.0, middle - half), min(1.0, middle + half)],
        "p_value": _fair_coin_p(only_a, only_b),
    }


def _fair_coin_p(heads: int, tails: int) -> float:
    """Two-sided exact p-value of `heads` against `tails` under a fair coin."""
    n, k = heads + tails, min(heads, tails)
    if 2 * k >= n - 1:  # the two tails meet (or there is nothing to count)
        return 1.0
    # Sum downwards from the largest term, in units of it: neither 2**n nor a binomial
    # coefficient is ever formed, so a million discordant reviews are as easy as ten.
    log_largest = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    total, term = 0.0, 1.0
    while k >= 0 and term > total * 1e-17:
        total += term
        term *= k / (n - k + 1)
        k -= 1
    return min(1.0, 2 * math.exp(log_largest - n * math.log(2)) * total)


def roc_auc(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Chance that a random positive review scores above a random negative one; a tie is half.

    By ranks (Mann-Whitney U), so ties are exact. None where one class is absent.
    """
    truth, p = checked(labels, probabilities)
    positive = int(np.sum(truth))
    negative = len(truth) - positive
    if not positive or not negative:
        return None
    _, group, counts = np.unique(p, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle_rank = last - (counts - 1) / 2  # ties share the mean of their ranks 1..n
    above = float(np.sum(middle_rank[group][truth == 1])) - positive * (positive + 1) / 2
    return above / (positive * negative)


def roc_curve(labels: ArrayLike, probabilities: ArrayLike) -> tuple[list[float], list[float]]:
    """False and true positive rate as the threshold falls: from (0, 0) to (1, 1), <= 200 points.

    Two empty lists where one class is absent.
    """
    truth, p = checked(labels, probabilities)
    positive = int(np.sum(truth))
    negative = len(truth) - positive
    if not positive or not negative:
        return [], []
    order = np.argsort(-p, kind="stable")
    ordered, hits = p[order], truth[order]
    # One point after each group of equal probabilities: a threshold cannot split a tie.
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    tpr = np.concatenate([[0.0], np.cumsum(hits)[ends] / positive])
    fpr = np.concatenate([[0.0], np.cumsum(1 - hits)[ends] / negative])
    if len(fpr) > CURVE_POINTS:
        # Evenly along the curve, not along one axis: a good curve is steep, then flat.
        way = fpr + tpr
        wanted = np.linspace(0.0, 2.0, CURVE_POINTS)
        keep = np.unique(np.append(np.searchsorted(way, wanted[:-1]), len(way) - 1))
        fpr, tpr = fpr[keep], tpr[keep]
    return fpr.tolist(), tpr.tolist()


def reliability(labels: ArrayLike, probabilities: ArrayLike) -> list[dict[str, Any]]:
    """Said against seen, in 15 equal bins of P(positive); empty bins are left out.

    Each: from, to, n, mean_probability (what was said), share_positive (what was true).
    """
    truth, p = checked(labels, probabilities)
    which = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    n = np.bincount(which, minlength=BINS)
    said = np.bincount(which, weights=p, minlength=BINS)
    seen = np.bincount(which, weights=truth, minlength=BINS)
    return [
        {
            "from": i / BINS,
            "to": (i + 1) / BINS,
            "n": int(n[i]),
            "mean_probability": float(said[i] / n[i]),
            "share_positive": float(seen[i] / n[i]),
        }
        for i in np.flatnonzero(n).tolist()
    ]


def calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Expected calibration error: mean distance |said - seen| over the bins, weighted by reviews.

    Naeini et al. 2015, on P(positive) with 15 equal-width bins. 0.03 means: probabilities are
    off by three points on average.
    """
    bins = reliability(labels, probabilities)
    off = sum(b["n"] * abs(b["mean_probability"] - b["share_positive"]) for b in bins)
    return float(off / sum(b["n"] for b in bins))


def confusion(labels: ArrayLike, called: ArrayLike) -> list[list[int]]:
    """Counts [[true neg., false pos.], [false neg., true pos.]]: a row is what was true."""
    truth, said = np.asarray(labels).astype(np.int64), np.asarray(called).astype(np.int64)
    tn, fp, fn, tp = np.bincount(truth * 2 + said, minlength=4).tolist()
    return [[tn, fp], [fn, tp]]


def accuracy_by_length(
    labels: ArrayLike, probabilities: ArrayLike, lengths: ArrayLike
) -> list[dict[str, Any]]:
    """Accuracy with its interval in bins of review length; empty bins are left out.

    `from` and `to` are inclusive numbers of tokens; `to` of the last bin is None (no end).
    """
    truth, p = checked(labels, probabilities)
    right, sizes = _called(p) == truth, np.asarray(lengths).ravel()
    rows = []
    for low, high in LENGTH_BINS:
        inside = (sizes >= low) & (sizes <= (np.inf if high is None else high))
        n, k = int(np.sum(inside)), int(np.sum(right & inside))
        if n:
            rows.append(
                {
                    "from": low,
                    "to": high,
                    "n": n,
                    "accuracy": k / n,
                    "accuracy_interval": list(wilson_interval(k, n)),
                }
            )
    return rows


def confident_mistakes(
    labels: ArrayLike, probabilities: ArrayLike, ids: Sequence[str], most: int = 20
) -> list[dict[str, Any]]:
    """The `most` wrong reviews furthest from 0.5, the worst first; ties in the order given."""
    truth, p = checked(labels, probabilities, ids)
    wrong = np.flatnonzero(_called(p) != truth)
    worst = wrong[np.argsort(-np.abs(p[wrong] - 0.5), kind="stable")][:most]
    return [
        {"id": str(ids[i]), "label": int(truth[i]), "probability": float(p[i])}
        for i in worst.tolist()
    ]


def _by_class(matrix: list[list[int]]) -> dict[str, dict[str, float | int | None]]:
    (tn, fp), (fn, tp) = matrix
    return {
        "negative": _precision_recall(hits=tn, false_alarms=fn, missed=fp),
        "positive": _precision_recall(hits=tp, false_alarms=fp, missed=fn),
    }


def _precision_recall(hits: int, false_alarms: int, missed: int) -> dict[str, float | int | None]:
    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "precision": share(hits, hits + false_alarms),
        "recall": share(hits, hits + missed),
        "f1": share(2 * hits, 2 * hits + false_alarms + missed),
        "n": hits + missed,
    }


def _called(probabilities: Probabilities) -> Labels:
    return (probabilities >= 0.5).astype(np.int64)


def checked(
    labels: ArrayLike, probabilities: ArrayLike, ids: Sequence[str] | None = None
) -> tuple[Labels, Probabilities]:
    """Labels as integers and probabilities as float64, or BadInput that names the review."""
    truth = np.asarray(labels).ravel()
    p = np.asarray(probabilities, dtype=np.float64).ravel()
    if len(truth) == 0:
        raise BadInput("no review to evaluate: the part is empty")
    if len(truth) != len(p) or (ids is not None and len(ids) != len(p)):
        given = f"{len(truth)} labels and {len(p)} probabilities"
        raise BadInput(f"{given}{'' if ids is None else f' and {len(ids)} ids'}: one a review")
    for bad, values, want in (
        ((truth != 0) & (truth != 1), truth, "label must be 0 or 1"),
        (~((p >= 0) & (p <= 1)), p, "probability must lie between 0 and 1"),
    ):
        if bad.any():
            i = int(np.argmax(bad))
            name = ids[i] if ids is not None else f"number {i + 1}"
            raise BadInput(f"review {name}: {want}, got {values[i]}")
    return truth.astype(np.int64), p

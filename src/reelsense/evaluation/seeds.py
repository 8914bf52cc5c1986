"""Means over seeds and reviews, and how sure they are: what a comparison of recipes rests on.

S seeds were measured on the same N reviews. A recipe trained again would have other figures, and
so it would on other reviews; a difference between two recipes has to be larger than both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from reelsense.errors import BadInput
from reelsense.evaluation.metrics import mcnemar, wilson_interval


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, and the p-value of a mean of 0."""

    mean: float
    low: float
    high: float
    p_value: float


def over_seeds(values: ArrayLike) -> tuple[float, float] | None:
    """Return the 95% interval of the mean of one figure a seed (Student 1908); None for one seed.

    It speaks of other seeds on the same reviews, and not of other reviews.
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    if len(found) < 2:
        return None
    half = _quantile(len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return float(found.mean()) - half, float(found.mean()) + half


def over_seeds_and_reviews(table: ArrayLike, films: ArrayLike | None = None) -> Estimate:
    """Return the mean of a table (S, N) for other seeds and other reviews than these.

    Seeds are to reviews what readers are to cases where several doctors read the same pictures. As
    there (Gallas, Pennello and Myers, J. Opt. Soc. Am. A 24, 2007), each cell is the mean, plus
    what its seed, what its review, and what chance adds, each drawn at random:

        Var(mean) = V_seeds / S + V_reviews / N + V_rest / (S N)

    estimated by the mean squares of a two-way table, with the degrees of freedom of Satterthwaite
    (Biometrics Bulletin 2, 1946): few seeds that differ make the interval as wide as Student's t of
    few values. Reviews of one film are alike, and so it is films that are drawn, with the sums of
    their reviews, as in a sample of clusters; a negative number is a review of its own.

    Why not what is more usual: McNemar's test on all seeds together takes a review that S seeds
    get wrong for S reviews, and no seed's luck for luck; it finds 11 to 58 of 100 differences that
    are none, at 5%. A bootstrap over seeds and reviews draws three seeds from three, which have a
    third less spread than those that they stand for: 2 to 19 of 100. This finds 3 to 7
    (tests/evaluation/test_seeds.py).

    Raises:
        BadInput: no cell, or films for other reviews.
    """
    cells = np.atleast_2d(np.asarray(table, dtype=np.float64))
    drawn = _by_film(cells, films)
    mean, (seeds, count) = float(cells.mean()), drawn.shape
    of_seeds, of_reviews = drawn.mean(axis=1), drawn.mean(axis=0)
    square_reviews = seeds * _variance(of_reviews)
    square_seeds = square_rest = 0.0
    if seeds > 1:
        square_seeds = count * _variance(of_seeds)
        rest = drawn - of_seeds[:, None] - of_reviews + mean
        square_rest = float((rest**2).sum()) / ((seeds - 1) * max(1, count - 1))
    square = square_reviews + max(0.0, square_seeds - square_rest)
    parts = (
        (square_seeds, seeds - 1),
        (square_reviews, count - 1),
        (square_rest, (seeds - 1) * (count - 1)),
    )
    doubt = sum(value**2 / freedom for value, freedom in parts if freedom)
    freedom = max(1.0, seeds - 1, square**2 / doubt) if doubt else 1.0
    return _estimate(mean, math.sqrt(square / (seeds * count)), freedom)


def accuracy(correct: ArrayLike, films: ArrayLike | None = None) -> tuple[float, float, float]:
    """Return the mean of booleans (S, N) and its 95% interval for other seeds and reviews.

    Of one seed, or of seeds that are right alike, it is Wilson's; see `metrics`.

    Raises:
        BadInput: as `over_seeds_and_reviews`.
    """
    cells = np.atleast_2d(np.asarray(correct, dtype=bool))
    if cells.size and _alike(cells):
        low, high = wilson_interval(int(cells[0].sum()), cells.shape[1])
        return float(cells.mean()), low, high
    found = over_seeds_and_reviews(cells, films)
    return found.mean, max(0.0, found.low), min(1.0, found.high)


def difference(
    correct_a: ArrayLike, correct_b: ArrayLike, films: ArrayLike | None = None
) -> Estimate:
    """Return by how much recipe `a` is more accurate than `b`, of booleans (S, N) of each.

    The row of a seed in both is of the same labels and the same reviews. Of one seed, or of
    seeds that are right alike, nothing says how much was luck: then it is McNemar's exact test of
    these two networks; see `metrics`.

    Raises:
        BadInput: not the same seeds and reviews twice.
    """
    a, b = (np.atleast_2d(np.asarray(rows, dtype=bool)) for rows in (correct_a, correct_b))
    if a.shape != b.shape:
        raise BadInput(f"a difference needs the same seeds and reviews, got {a.shape}, {b.shape}")
    if a.size and _alike(a) and _alike(b):
        paired = mcnemar(a[0], b[0])
        low, high = paired["difference_interval"]
        return Estimate(paired["difference"], low, high, paired["p_value"])
    return over_seeds_and_reviews(a.astype(np.float64) - b, films)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values for many tests at once (Holm, Scandinavian Journal of Statistics 6, 1979).

    That any of them is below 0.05 by chance alone, has a chance of 5%, however they hang together.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _by_film(cells: NDArray[np.float64], films: ArrayLike | None) -> NDArray[np.float64]:
    """Return a table (S, films) with the same mean, whose columns are drawn at random together.

    A film's value is what its reviews add to the mean: with m of all N reviews in G films and the
    sum t of them, mean + (t - m mean) G / N, the linear form of a ratio of two sums.
    """
    if cells.size == 0:
        raise BadInput("no review to take a mean of: the part is empty")
    if films is None:
        return cells
    n, numbers = cells.shape[1], np.asarray(films).ravel()
    if len(numbers) != n:
        raise BadInput(f"{n} reviews but {len(numbers)} films: one a review is needed")
    alone = -1 - np.arange(n)
    _, film, sizes = np.unique(
        np.where(numbers < 0, alone, numbers), return_inverse=True, return_counts=True
    )
    sums = np.stack([np.bincount(film, row, len(sizes)) for row in cells])
    mean = cells.mean()
    return np.asarray(mean + (sums - sizes * mean) * len(sizes) / n)


def _alike(cells: NDArray[np.bool_]) -> bool:
    return bool((cells == cells[0]).all())


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _estimate(mean: float, error: float, freedom: float) -> Estimate:
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = _quantile(freedom) * error
    p_value = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Estimate(mean, mean - half, mean + half, p_value)


def _quantile(freedom: float) -> float:
    """The 97.5% quantile of Student's t."""
    return float(stdtrit(freedom, 0.975))

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.evaluation.metrics import mcnemar, wilson_interval
from reelsense.evaluation.seeds import (
    accuracy,
    difference,
    holm,
    over_seeds,
    over_seeds_and_reviews,
)

# Student's t in every table of it: 97.5% quantiles by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 9: 2.262, 10: 2.228}


def within_student(t, freedom):
    """The share of Student's t between -t and t: its density, added up."""
    x = (np.arange(400_000) + 0.5) * t / 400_000
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    return 2 * float((scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)).mean()) * t


# --- Seeds alone ----------------------------------------------------------------------------------


def test_the_interval_over_seeds_is_students_by_hand():
    # 0.90, 0.91, 0.92: standard deviation 0.01, error 0.01 / sqrt(3).
    low, high = over_seeds([0.90, 0.91, 0.92])
    half = T[2] * 0.01 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.91 - half, 0.91 + half), abs=1e-5)
    low, high = over_seeds([0.5, 0.6])
    assert high - 0.55 == pytest.approx(T[1] * 0.05, rel=1e-4)


def test_one_seed_has_no_interval_and_equal_ones_none_of_any_width():
    assert over_seeds([0.9]) is None
    assert over_seeds([0.9, 0.9, 0.9]) == pytest.approx((0.9, 0.9))


# --- Seeds and reviews ----------------------------------------------------------------------------


def test_two_seeds_and_three_reviews_by_hand():
    """The two-way table of any textbook.

    Rows 1 2 6 and 3 4 5: mean 3.5; rows 3 and 4; columns 2, 3, 5.5.
    Squares: seeds 3 * 0.5 = 1.5; reviews 2 * 3.25 = 6.5; rest, of the cells less row and column,
    -0.5 -0.5 1 and 0.5 0.5 -1, 3 / 2 = 1.5. So nothing is left for the seeds, and the error is
    sqrt(6.5 / 6); freedom 6.5^2 / (1.5^2 / 1 + 6.5^2 / 2 + 1.5^2 / 2) = 42.25 / 24.5.
    """
    found = over_seeds_and_reviews([[1, 2, 6], [3, 4, 5]])
    assert found.mean == 3.5
    error = math.sqrt(6.5 / 6)
    # Between the quantiles of 1 and of 2 degrees of freedom.
    assert T[2] * error < found.high - 3.5 < T[1] * error
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert within_student((found.high - 3.5) / error, 42.25 / 24.5) == pytest.approx(0.95, abs=1e-5)
    assert within_student(3.5 / error, 42.25 / 24.5) == pytest.approx(1 - found.p_value, abs=1e-5)


def test_seeds_that_differ_are_as_few_as_they_are():
    """Where no review differs from another, it is Student's t of the seeds' means."""
    table = np.repeat([[0.1], [0.2], [0.6]], 500, axis=1)
    found = over_seeds_and_reviews(table)
    assert (found.low, found.high) == pytest.approx(over_seeds([0.1, 0.2, 0.6]))


def test_seeds_that_are_alike_are_as_many_reviews_as_there_are():
    """Where no seed differs from another, it is Student's t of the reviews' means."""
    row = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1, 1.0])
    found = over_seeds_and_reviews([row] * 5)
    assert (found.low, found.high) == pytest.approx(over_seeds(row))
    half = T[9] * row.std(ddof=1) / math.sqrt(10)
    assert found.high - found.mean == pytest.approx(half, rel=1e-3)


def test_the_variance_is_right_on_average():
    """The estimate of Var(mean), over many tables, is the variance of their means."""
    random = np.random.default_rng(0)
    seeds, reviews = 6, 40
    means, errors = [], []
    for _ in range(3000):
        table = (
            random.normal(0, 0.3, (seeds, 1))
            + random.normal(0, 1.0, reviews)
            + random.normal(0, 2.0, (seeds, reviews))
        )
        found = over_seeds_and_reviews(table)
        means.append(found.mean)
        errors.append(found.high - found.low)
    expected = 0.3**2 / seeds + 1 / reviews + 4 / (seeds * reviews)
    assert np.var(means) == pytest.approx(expected, rel=0.1)
    inside = np.abs(means) < np.array(errors) / 2
    assert 0.935 < inside.mean() < 0.975


@pytest.mark.parametrize(
    ("seeds", "luck", "films"), [(3, 0.0, None), (3, 0.1, None), (5, 0.1, None), (3, 0.1, 60)]
)
def test_it_finds_few_differences_that_are_none_where_pooling_finds_many(seeds, luck, films):
    """Two recipes of the same worth, each with the luck of its seeds."""
    random = np.random.default_rng(seeds)
    n, times, found, pooled, without_films = 600, 500, 0, 0, 0
    for _ in range(times):
        film = None if films is None else random.integers(films, size=n)
        ease = random.normal(2.0, 1.5, n)

        def right(ease=ease, film=film):
            of_recipe = random.normal(0, 0.5, n)
            if film is not None:
                of_recipe = of_recipe + random.normal(0, 0.5, films)[film]
            of_seed = random.normal(0, luck, (seeds, 1))
            return ease + of_recipe + of_seed + random.normal(0, 0.5, (seeds, n)) > 0

        a, b = right(), right()
        found += difference(a, b, film).p_value < 0.05
        pooled += mcnemar(a, b)["p_value"] < 0.05
        without_films += difference(a, b).p_value < 0.05
    assert found / times < 0.09
    assert pooled / times > (0.2 if luck else 0.07)
    assert found < 0.6 * pooled
    if films is not None:
        assert without_films > 1.4 * found


def test_a_real_difference_is_found():
    random = np.random.default_rng(1)
    ease = random.normal(2.0, 1.5, 2500)
    a, b = (ease + shift + random.normal(0, 0.7, (3, 2500)) > 0 for shift in (0.3, 0.0))
    found = difference(a, b)
    assert found.p_value < 0.001
    assert 0 < found.low < found.mean < found.high
    assert found.mean == pytest.approx(a.mean() - b.mean())
    back = difference(b, a)
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))
    assert back.p_value == pytest.approx(found.p_value)


def test_films_of_one_review_each_change_nothing_and_large_ones_widen():
    random = np.random.default_rng(2)
    films = np.repeat(np.arange(20), 10)
    ease = random.normal(1, 1, 200) + random.normal(0, 1, 20)[films]
    table = (ease + random.normal(0, 1, (3, 200)) > 0).astype(float)
    plain = over_seeds_and_reviews(table)
    for films_of_one in (np.arange(200), np.full(200, -1)):
        found = over_seeds_and_reviews(table, films_of_one)
        assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    by_film = over_seeds_and_reviews(table, films)
    assert by_film.mean == pytest.approx(plain.mean)
    assert by_film.high - by_film.low > 1.2 * (plain.high - plain.low)


def test_films_of_two_reviews_are_their_means():
    table = np.random.default_rng(3).normal(size=(3, 10))
    halves = table.reshape(3, 5, 2).mean(axis=2)
    by_film = over_seeds_and_reviews(table, np.repeat(np.arange(5), 2))
    plain = over_seeds_and_reviews(halves)
    assert (by_film.low, by_film.high) == pytest.approx((plain.low, plain.high))


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=60)
def test_whatever_comes_is_an_interval_around_the_mean(seeds, n, seed):
    random = np.random.default_rng(seed)
    a, b = random.random((2, seeds, n)) < random.random()
    films = random.integers(-1, 6, n)
    found = difference(a, b, films)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.low <= found.high
    assert 0 <= found.p_value <= 1
    mean, low, high = accuracy(a, films)
    assert 0 <= low <= mean + 1e-12
    assert mean <= high + 1e-12 <= 1 + 1e-11


# --- One seed, and seeds that are alike -----------------------------------------------------------


def test_one_seed_is_mcnemar_and_wilson():
    random = np.random.default_rng(4)
    a, b = random.random((2, 1, 300)) < 0.9
    found, paired = difference(a, b), mcnemar(a[0], b[0])
    assert found.p_value == paired["p_value"]
    assert [found.low, found.high] == paired["difference_interval"]
    assert accuracy(a)[1:] == wilson_interval(int(a.sum()), 300)


def test_seeds_that_are_alike_are_no_more_than_one():
    random = np.random.default_rng(5)
    a, b = np.repeat(random.random((2, 1, 300)) < 0.9, 4, axis=1)
    assert difference(a, b) == difference(a[:1], b[:1])
    assert accuracy(a) == accuracy(a[:1])
    all_right = accuracy(np.ones((3, 20), bool))
    assert all_right == (1.0, wilson_interval(20, 20)[0], 1.0)


def test_against_the_same_model_for_every_seed_the_seeds_of_the_other_count():
    random = np.random.default_rng(6)
    fixed = np.repeat(random.random((1, 400)) < 0.9, 3, axis=0)
    moving = random.random((3, 400)) < 0.9
    found = difference(moving, fixed)
    assert found == over_seeds_and_reviews(moving.astype(float) - fixed)


@pytest.mark.parametrize("empty", [np.zeros((3, 0), bool), np.zeros((0, 5), bool)])
def test_nothing_to_measure_is_named(empty):
    for measured in (accuracy, over_seeds_and_reviews, lambda rows: difference(rows, rows)):
        with pytest.raises(BadInput):
            measured(empty)


def test_other_seeds_or_reviews_are_no_pair():
    with pytest.raises(BadInput, match=r"same seeds and reviews, got \(2, 5\), \(3, 5\)"):
        difference(np.ones((2, 5)), np.ones((3, 5)))
    with pytest.raises(BadInput, match="5 reviews but 4 films"):
        over_seeds_and_reviews(np.ones((2, 5)), [1, 2, 3, 4])


# --- Many tests -----------------------------------------------------------------------------------


def test_holm_by_hand():
    """Holm 1979: times 4, 3, 2, 1 from the smallest up, and never below one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(values):
    adjusted = holm(values)
    for value, larger in zip(values, adjusted, strict=True):
        assert value <= larger <= min(1.0, len(values) * value) + 1e-12
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()

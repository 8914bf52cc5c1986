"""The words say no more than the figures."""

from dataclasses import replace

import pytest

from reelsense.evaluation.seeds import Estimate
from reelsense.experiments.conclusion import conclude
from reelsense.experiments.plan import Cell
from reelsense.experiments.results import LINEAR, Results
from reelsense.experiments.summary import Against, Summary


def summary(recipe, accuracy=0.9, against=None, share=1.0, seconds=100.0, speed=500.0):
    costs = {"training_seconds": seconds, "reviews_per_second": speed}
    interval = (accuracy - 0.02, accuracy + 0.02)
    return Summary(recipe, share, 3, 0, accuracy, interval, interval, 0.3, 300, costs, against)


def against(mean, half, p_value, p_holm=None, seeds_half=0.001):
    estimate = Estimate(mean, mean - half, mean + half, p_value)
    over = (mean - seeds_half, mean + seeds_half)
    return Against(3, estimate, over, p_value if p_holm is None else p_holm)


@pytest.fixture
def words(plan_of):
    """Return the conclusion of some summaries."""

    def say(*summaries, failed=None, **given):
        names = [row.recipe for row in summaries if row.recipe != LINEAR] or ["first"]
        plan = plan_of(*dict.fromkeys(names), seeds=given.pop("seeds", 3), **given)
        return " ".join(conclude(Results(plan, {}, failed or {}), summaries))

    return say


FIRST = summary("first")


def test_what_is_sure_is_said_with_its_interval(words):
    said = words(
        FIRST,
        summary("up", 0.92, against(0.02, 0.01, 0.001)),
        summary("down", 0.87, against(-0.03, 0.01, 0.001)),
    )
    assert (
        "With all labels, first has 90.00%. Better: up (+2.00 ± 1.00 points). "
        "Worse: down (−3.00 ± 1.00 points)."
    ) in said
    assert "Cannot be told" not in said


def test_what_is_not_sure_is_said_with_why(words):
    said = words(
        FIRST,
        summary("luck", 0.901, against(0.001, 0.02, 0.9, seeds_half=0.01)),
        summary("reviews", 0.905, against(0.005, 0.01, 0.3)),
        summary("many", 0.91, against(0.01, 0.009, 0.03, p_holm=0.09)),
        summary(LINEAR, 0.9, against(0.0, 0.01, 1.0)),
    )
    assert "Better" not in said
    assert "Worse" not in said
    assert (
        "With all labels, first has 90.00%. Not sure, though each alone would count, for there are "
        "so many tests: many (+1.00 ± 0.90 points). Cannot be told from it, the interval over 3 "
        "seeds being wider than the difference: luck (+0.10 ± 2.00 points), the linear baseline "
        "(+0.00 ± 1.00 points). Cannot be told from it, for on other reviews it may be as good: "
        "reviews (+0.50 ± 1.00 points)."
    ) in said
    assert "corrected for 4 tests (Holm)" in said


def test_every_share_speaks_for_itself(words):
    few = replace(FIRST, share=0.01, accuracy=0.7)
    said = words(
        few, summary("up", 0.8, against(0.1, 0.01, 0.0001), share=0.01), FIRST,
        summary("up", 0.9, against(0.0, 0.01, 0.9)), shares=[0.1, 1],
    )  # fmt: skip
    assert "With all labels, first has 90.00%. Cannot be told from it, the interval" in said
    said = words(replace(few, share=0.1), shares=[0.1])
    assert "With 10% of the labels, first has 70.00%." in said


def test_cheap_is_said_of_what_is_not_worse_for_sure(words):
    said = words(
        FIRST,
        summary("cheap", 0.8, against(-0.1, 0.01, 0.001), seconds=1.0, speed=9000.0),
        summary("quick", 0.9, against(0.0, 0.01, 0.9), seconds=60.0, speed=700.0),
        summary(LINEAR, 0.9, against(0.0, 0.01, 0.9), seconds=1.0, speed=9000.0),
    )
    assert (
        "not worse than first for sure, quick is trained fastest (1 min 0 s) and quick answers "
        "fastest (700 reviews a second on a core)."
    ) in said
    alone = words(FIRST, summary("cheap", 0.8, against(-0.1, 0.01, 0.001)))
    assert "fastest" not in alone


def test_one_seed_says_nothing_of_luck(words):
    said = words(
        FIRST, summary("x", 0.9, replace(against(0.0, 0.1, 0.9), over_seeds=None)), seeds=1
    )
    assert "with one seed of each recipe" in said
    assert "nothing says how much of a difference is the luck of a seed" in said
    assert "the interval over" not in said
    assert "luck" not in words(FIRST)


def test_validation_flatters_and_a_test_does_not(words):
    assert "all figures flatter" in words(FIRST, trial=True)
    assert "test reviews" in words(FIRST)
    assert "flatter" not in words(FIRST)


def test_pairs_that_were_not_tested_are_no_finding(words):
    others = [summary(name, 0.9, against(0.0, 0.1, 0.9)) for name in "xy"]
    assert "neither is first were not tested against each other" in words(FIRST, *others)
    assert "neither" not in words(FIRST, others[0])


def test_failures_are_said(words):
    said = words(FIRST, failed={Cell("first", 1.0, 2): "why", Cell(LINEAR, 1.0, 2): "why"})
    assert "1 run of 3 failed; what is said of first rests on the others, if there are any." in said
    said = words(failed={Cell("first", 1.0, seed): "why" for seed in range(3)})
    assert said.startswith("With all labels, no run of first has finished, so nothing was compared")

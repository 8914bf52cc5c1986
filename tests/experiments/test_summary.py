import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from reelsense.errors import Failure
from reelsense.evaluation.seeds import accuracy, difference, holm, over_seeds
from reelsense.experiments.plan import Cell
from reelsense.experiments.results import LINEAR, read_results, runs_csv
from reelsense.experiments.summary import recipes_csv, summarise


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def compared(plan_of, fill):
    """Three recipes, two seeds, two shares; `worse` is far worse, `same` as good as `first`."""
    plan = plan_of("first", "same", "worse", shares=[0.5, 1], seeds=2)
    return read_results(fill(plan, first=1.5, same=1.5, worse=-1.0))


# --- a row a run ----------------------------------------------------------------------------------


def test_a_row_a_run_and_the_baselines_last(compared):
    rows = rows_of(runs_csv(compared))
    assert [(row["recipe"], row["label_share"], row["seed"]) for row in rows] == [
        (recipe, share, seed)
        for recipe in ("first", "same", "worse", LINEAR)
        for share in ("0.5", "1")
        for seed in ("0", "1")
    ]
    plan = compared.plan
    for row in rows:
        assert float(row["low"]) < float(row["accuracy"]) < float(row["high"])
        assert (row["part"], int(row["reviews"])) == ("test", len(plan.split.test))
        assert row["commit"] == "abc1234"
        assert row["versions"] == "reelsense 0.1.0 torch 2.13.0 python 3.11.7"
        assert row["data"] == "reviews.csv"
        assert "/" not in row["command"]
        assert row["failed"] == ""
    one = rows[1]
    assert (one["parameters"], one["training_seconds"], one["training_peak_mb"]) == (
        "1234", "600.0", "900",
    )  # fmt: skip
    assert one["weights_sha256"] == f"{1:064x}"
    of_linear = rows[-1]
    assert (of_linear["training_seconds"], of_linear["weights_sha256"]) == ("8.0", "")


def test_the_costs_stand_in_the_rows(plan_of, fill):
    plan = fill(plan_of("first", seeds=1), first=1.0)
    (cell,) = plan.cells()
    linear = Cell(LINEAR, 1.0, 0)
    costs = {
        cell.name: {"variant": "int8", "bundle_mb": 3.2, "reviews_per_second": 512.5,
                    "peak_mb": 99},
        linear.name: {"parameters": 777, "reviews_per_second": 2000.0},
    }  # fmt: skip
    (plan.folder / "costs.json").write_text(json.dumps(costs))
    results = read_results(plan)
    of_network, of_linear = rows_of(runs_csv(results))
    assert (of_network["variant"], of_network["bundle_mb"], of_network["parameters"]) == (
        "int8", "3.2", "1234",
    )  # fmt: skip
    assert (of_linear["parameters"], of_linear["reviews_per_second"]) == ("777", "2000.0")
    first, baseline = summarise(results)
    assert first.costs == {
        "parameters": 1234, "training_seconds": 500.0, "training_peak_mb": 900.4,
        "reviews_per_second": 512.5, "peak_mb": 99, "bundle_mb": 3.2,
    }  # fmt: skip
    assert baseline.costs == {
        "parameters": 777, "training_seconds": 8.0, "reviews_per_second": 2000.0
    }  # fmt: skip


def test_the_time_to_train_is_that_of_the_quickest_seed(plan_of, fill):
    plan = fill(plan_of("first"), first=1.0)
    assert plan.seeds > 1
    assert summarise(read_results(plan))[0].costs["training_seconds"] == 500.0


def test_a_failed_run_is_in_the_table_with_its_reason(plan_of, fill):
    plan = fill(plan_of("first", "broken"), first=1.0, broken=None)
    results = read_results(plan)
    rows = rows_of(runs_csv(results))
    assert len(rows) == 6
    for row in rows:
        assert row["failed"] == ("the loss is not a number" if row["recipe"] == "broken" else "")
        assert (row["accuracy"] == "") == (row["recipe"] == "broken")
    assert {row.recipe for row in summarise(results)} == {"first", LINEAR}


def test_where_everything_failed_there_are_rows_and_no_means(plan_of, fill):
    results = read_results(fill(plan_of("first"), first=None))
    rows = rows_of(runs_csv(results))
    assert [row["failed"] for row in rows[:2]] == ["the loss is not a number"] * 2
    assert all("no run that it would have been trained beside" in row["failed"] for row in rows[2:])
    assert summarise(results) == []
    assert recipes_csv([]).strip() == ""


def test_runs_measured_on_other_reviews_do_not_mix(plan_of, fill):
    plan = fill(plan_of("first"), first=1.0)
    table = plan.run(plan.cells()[1]) / "predictions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    with pytest.raises(Failure, match="first-1-1: was measured on other reviews; delete it"):
        read_results(plan)


# --- a mean a recipe ------------------------------------------------------------------------------


def test_a_mean_is_over_the_seeds_and_its_intervals_are_those_of_the_metrics(compared):
    plan = compared.plan
    films = plan.reviews.films[plan.split.test]
    found = {(row.recipe, row.share): row for row in summarise(compared)}
    assert list(found) == [
        (recipe, share) for share in (0.5, 1) for recipe in ("first", "same", "worse", LINEAR)
    ]
    for (recipe, share), row in found.items():
        runs = [compared.found[Cell(recipe, share, seed)] for seed in (0, 1)]
        right = np.stack([run.right for run in runs])
        assert (row.accuracy, *row.interval) == accuracy(right, films)
        assert row.accuracy == pytest.approx(np.mean([run.measured["accuracy"] for run in runs]))
        assert row.log_loss == pytest.approx(np.mean([run.measured["log_loss"] for run in runs]))
        assert (row.seeds, row.failed) == (2, 0)
    low, high = over_seeds([compared.found[Cell("first", 1, seed)].measured["accuracy"]
                            for seed in (0, 1)])  # fmt: skip
    assert found["first", 1].over_seeds == (max(0, low), min(1, high))


def test_every_recipe_and_the_baseline_are_tested_against_the_first(compared):
    films = compared.plan.reviews.films[compared.plan.split.test]
    rows = summarise(compared)
    tested = [row for row in rows if row.against]
    assert [row.recipe for row in rows if not row.against] == ["first", "first"]
    by_hand = []
    for row in tested:
        own, first = (
            np.stack([compared.found[Cell(name, row.share, seed)].right for seed in (0, 1)])
            for name in (row.recipe, "first")
        )
        by_hand.append(difference(own, first, films))
        assert row.against.estimate == by_hand[-1]
        assert row.against.seeds == 2
    # A share is a question of its own.
    corrected = [holm([one.p_value for one in half]) for half in (by_hand[:3], by_hand[3:])]
    assert [row.against.p_holm for row in tested] == [*corrected[0], *corrected[1]]


def test_what_is_far_worse_is_sure_and_what_is_as_good_is_not(plan_of, fill):
    plan = plan_of("first", "same", "worse", seeds=3)
    rows = summarise(read_results(fill(plan, first=1.5, same=1.5, worse=-1.0)))
    sure = {row.recipe: row.against.is_sure for row in rows if row.against}
    assert sure["worse"]
    assert not sure["same"]


def test_only_seeds_that_both_have_are_paired(plan_of, fill):
    plan = plan_of("first", "other", "lost", seeds=3)
    plan = fill(plan, first=[1.0, 1.0, None], other=[None, 0.5, 0.5], lost=[None, None, 0.5])
    results = read_results(plan)
    rows = {row.recipe: row for row in summarise(results)}
    assert (rows["first"].seeds, rows["first"].failed) == (2, 1)
    assert rows["other"].against.seeds == 1
    assert rows["other"].against.over_seeds is None
    own, first = (results.found[Cell(name, 1, 1)].right for name in ("other", "first"))
    assert rows["other"].against.estimate == difference(own, first)
    assert rows["lost"].against is None
    assert rows[LINEAR].seeds == 3  # beside whichever run there was
    assert rows[LINEAR].against.seeds == 2


def test_the_baseline_is_what_stands_in_the_predictions(plan_of, fill):
    plan = fill(plan_of("first", seeds=1), first=1.0)
    results = read_results(plan)
    with (plan.run(plan.cells()[0]) / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    expected = [(float(row["linear"]) >= 0.5) == (row["label"] == "1") for row in rows]
    found = results.found[Cell(LINEAR, 1, 0)]
    assert found.right.tolist() == expected
    assert found.measured["accuracy"] == pytest.approx(np.mean(expected))


def test_means_as_a_table(compared):
    rows = rows_of(recipes_csv(summarise(compared)))
    assert len(rows) == 8
    first, same = rows[0], rows[1]
    assert (first["recipe"], first["label_share"], first["difference"]) == ("first", "0.5", "")
    assert float(same["difference_low"]) < float(same["difference"])
    assert float(same["p"]) <= float(same["p_holm"])
    gap = float(same["accuracy"]) - float(first["accuracy"])
    assert float(same["difference"]) == pytest.approx(gap, abs=2e-5)


def test_one_seed_has_no_interval_over_seeds(plan_of, fill):
    results = read_results(fill(plan_of("first", "x", seeds=1), first=1.0, x=0.5))
    first, x, _ = summarise(results)
    assert first.over_seeds is None
    assert x.against.over_seeds is None
    assert rows_of(recipes_csv([first]))[0]["seeds_low"] == ""
    assert replace(x, against=None).against is None

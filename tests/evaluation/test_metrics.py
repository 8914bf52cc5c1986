import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from reelsense.errors import BadInput
from reelsense.evaluation import metrics


@st.composite
def scored(draw, both_classes=False):
    """Labels and probabilities, with many ties (a coarse grid) or hardly any."""
    n = draw(st.integers(2, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = random.integers(0, 2, n)
    if both_classes:
        labels[:2] = 0, 1
    p = random.random(n) * 0.998 + 0.001
    if draw(st.booleans()):
        p = np.round(p, 1)
    return labels, p


def full(labels, p):
    ids = [f"review {i}" for i in range(len(labels))]
    return metrics.evaluate(labels, p, np.arange(len(labels)) * 3, ids)


@given(scored(both_classes=True))
def test_the_figures_are_those_of_scikit_learn(data):
    labels, p = data
    found = full(labels, p)
    called = p >= 0.5
    clipped = np.clip(p, metrics.CLIP, 1 - metrics.CLIP)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, called))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(labels, p))
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, clipped))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(labels, p))
    assert found["confusion"] == sk.confusion_matrix(labels, called).tolist()
    precision, recall, f1, n = sk.precision_recall_fscore_support(
        labels, called, labels=[0, 1], zero_division=np.nan
    )
    for i, name in enumerate(("negative", "positive")):
        ours = found["by_class"][name]
        assert ours["n"] == n[i]
        for key, theirs in (("precision", precision[i]), ("recall", recall[i]), ("f1", f1[i])):
            assert ours[key] == (None if math.isnan(theirs) else pytest.approx(theirs))


@given(scored(both_classes=True))
def test_the_roc_curve_climbs_from_corner_to_corner_and_has_the_area(data):
    labels, p = data
    fpr, tpr = metrics.roc_curve(labels, p)
    assert (fpr[0], tpr[0]) == (0, 0)
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert len(fpr) == len(tpr) <= metrics.CURVE_POINTS
    # Thinned points lie on the true curve; what lies between two of them is lost.
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.roc_auc(labels, p), abs=0.01)


def test_a_long_roc_curve_is_thinned_without_losing_its_shape():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 20_000)
    p = 1 / (1 + np.exp(-random.normal(3 * labels - 1.5)))
    fpr, tpr = metrics.roc_curve(labels, p)
    assert 150 < len(fpr) <= 200
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.roc_auc(labels, p), abs=1e-4)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_is_scipys_interval(k, extra):
    n = k + extra
    if n:
        theirs = binomtest(k, n).proportion_ci(method="wilson")
        assert metrics.wilson_interval(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    else:
        assert metrics.wilson_interval(0, 0) == (0, 1)


def test_wilson_at_the_ends_and_against_a_published_value():
    assert metrics.wilson_interval(0, 10)[0] == 0
    assert metrics.wilson_interval(10, 10)[1] == 1
    # Newcombe 1998, table I: 81 of 263.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    with pytest.raises(BadInput, match="11 successes out of 10"):
        metrics.wilson_interval(11, 10)


def paired(only_a, only_b, both=5, neither=3):
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    return a, b


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    found = metrics.mcnemar(*paired(only_a, only_b))
    theirs = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found["p_value"] == pytest.approx(theirs, rel=1e-9)
    assert (found["only_a"], found["only_b"]) == (only_a, only_b)
    assert (found["both"], found["neither"]) == (5, 3)
    assert found["difference"] == pytest.approx((only_a - only_b) / (only_a + only_b + 8))
    low, high = found["difference_interval"]
    assert -1 <= low < high <= 1


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=30)
def test_mcnemar_does_not_care_who_is_called_a(only_a, only_b):
    a, b = paired(only_a, only_b)
    one, other = metrics.mcnemar(a, b), metrics.mcnemar(b, a)
    assert one["p_value"] == other["p_value"]
    assert one["difference"] == -other["difference"]


@pytest.mark.parametrize(("heads", "tails"), [(500_000, 502_000), (20_000, 300), (10**7, 10**7)])
def test_mcnemar_survives_large_counts(heads, tails):
    p = metrics._fair_coin_p(heads, tails)
    assert 0 <= p <= 1
    if heads == 500_000:
        assert p == pytest.approx(binomtest(heads, heads + tails).pvalue, rel=1e-6)


def test_mcnemar_needs_the_same_reviews():
    with pytest.raises(BadInput, match="got 2 and 1"):
        metrics.mcnemar([True, False], [True])
    with pytest.raises(BadInput, match="got 0 and 0"):
        metrics.mcnemar([], [])


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_gives_null_and_never_nan(only):
    found = full([only] * 6, [0.1, 0.2, 0.6, 0.9, 1.0, 0.0])
    assert found["roc_auc"] is None
    assert found["roc"] == {"fpr": [], "tpr": []}
    absent = found["by_class"]["negative" if only else "positive"]
    assert absent["recall"] is None
    json.dumps(found, allow_nan=False)


@given(scored())
@settings(max_examples=30)
def test_the_result_is_strict_json_and_survives_it(data):
    found = full(*data)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@given(scored(), st.randoms())
@settings(max_examples=30)
def test_the_order_of_the_reviews_does_not_matter(data, random):
    labels, p = data
    order = list(range(len(labels)))
    random.shuffle(order)
    one, other = full(labels, p), full(labels[order], p[order])
    for key in ("accuracy", "roc_auc", "log_loss", "brier", "calibration_error"):
        assert one[key] == pytest.approx(other[key])
    assert one["confusion"] == other["confusion"]


@given(scored())
def test_reliability_counts_every_review_once_and_gives_the_error(data):
    labels, p = data
    bins = metrics.reliability(labels, p)
    assert sum(b["n"] for b in bins) == len(p)
    assert all(b["from"] - 1e-9 <= b["mean_probability"] <= b["to"] + 1e-9 for b in bins)
    assert sum(b["n"] * b["share_positive"] for b in bins) == pytest.approx(labels.sum())
    error = sum(b["n"] * abs(b["share_positive"] - b["mean_probability"]) for b in bins) / len(p)
    assert metrics.calibration_error(labels, p) == pytest.approx(error)


def test_calibration_error_of_known_cases():
    assert metrics.calibration_error([0, 1], [0.0, 1.0]) == 0
    assert metrics.calibration_error([1, 0], [0.0, 1.0]) == 1
    assert metrics.calibration_error([1, 0, 0, 0], [0.25] * 4) == pytest.approx(0)
    random = np.random.default_rng(1)
    p = random.random(50_000)
    assert metrics.calibration_error(random.random(50_000) < p, p) < 0.02


def test_log_loss_is_clipped_as_stated():
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))
    assert metrics.log_loss([0], [1.0]) == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert metrics.log_loss([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))


def test_accuracy_by_length_uses_inclusive_bins_and_leaves_out_empty_ones():
    rows = metrics.accuracy_by_length(
        [1, 1, 1, 0, 1], [0.9, 0.1, 0.9, 0.9, 0.9], [0, 50, 51, 2000, 801]
    )
    assert [(r["from"], r["to"], r["n"], r["accuracy"]) for r in rows] == [
        (0, 50, 2, 0.5),
        (51, 100, 1, 1.0),
        (801, None, 2, 0.5),
    ]
    assert all(
        r["accuracy_interval"][0] <= r["accuracy"] <= r["accuracy_interval"][1] for r in rows
    )


@given(scored())
@settings(max_examples=30)
def test_bins_of_length_cover_every_review(data):
    labels, p = data
    lengths = np.random.default_rng(0).integers(0, 3000, len(p))
    rows = metrics.accuracy_by_length(labels, p, lengths)
    assert sum(r["n"] for r in rows) == len(p)
    assert sum(r["n"] * r["accuracy"] for r in rows) == pytest.approx(np.sum((p >= 0.5) == labels))


def test_mistakes_are_the_most_confident_first():
    ids = ["a", "b", "c", "d", "e"]
    found = metrics.confident_mistakes([1, 0, 1, 0, 1], [0.4, 0.99, 0.9, 0.2, 0.01], ids)
    assert [m["id"] for m in found] == ["b", "e", "a"]
    assert found[0] == {"id": "b", "label": 0, "probability": 0.99}
    assert len(metrics.confident_mistakes([1] * 50, [0.1] * 50, [str(i) for i in range(50)])) == 20


def test_a_probability_of_one_half_is_called_positive():
    assert metrics.accuracy([1, 0], [0.5, 0.5]) == 0.5
    assert metrics.evaluate([1], [0.5], [3], ["x"])["accuracy"] == 1


@pytest.mark.parametrize(
    ("labels", "p", "lengths", "ids", "message"),
    [
        ([], [], [], [], "the part is empty"),
        ([1, 0], [0.5], [1, 1], ["a", "b"], "2 labels and 1 probabilities"),
        ([1, 0], [0.5, 0.5], [1], ["a", "b"], "2 labels but 1 lengths"),
        ([1, 0], [0.5, 0.5], [1, 1], ["a"], "1 ids"),
        ([1, -1], [0.5, 0.5], [1, 1], ["a", "row 9"], "review row 9: label must be 0 or 1, got -1"),
        ([1, 0], [0.5, math.nan], [1, 1], ["a", "row 9"], "review row 9: probability .* got nan"),
        ([1, 0], [1.5, 0.5], [1, 1], ["row 1", "b"], "review row 1: probability .* got 1.5"),
    ],
)
def test_bad_input_is_named(labels, p, lengths, ids, message):
    with pytest.raises(BadInput, match=message):
        metrics.evaluate(labels, p, lengths, ids)


def test_the_module_needs_numpy_only():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch','scipy','sklearn','matplotlib']));"
        "import reelsense.evaluation.metrics"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

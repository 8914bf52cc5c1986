import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from reelsense.errors import BadInput
from reelsense.evaluation import calibrate, metrics


def told(n=4000, temperature=1.0, seed=0):
    """Logits that are `temperature` times too large for their labels, by construction."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, n)
    labels = (random.random(n) < expit(true)).astype(int)
    return true * temperature, labels


@st.composite
def scored(draw):
    """Probabilities and labels, with many ties (a coarse grid) or hardly any."""
    n = draw(st.integers(1, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = random.random(n)
    if draw(st.booleans()):
        p = np.round(p, 1)
    return p, (random.random(n) < p).astype(int)


# --- The temperature ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7, 4.0])
def test_the_temperature_that_made_the_logits_is_found(temperature):
    logits, labels = told(20_000, temperature)
    assert calibrate.fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.04)


@given(st.integers(0, 2**32), st.integers(4, 400), st.floats(0.5, 4))
def test_no_other_temperature_has_less_loss_against_the_targets(seed, n, scale):
    logits, labels = told(n, scale, seed)
    ones = int(labels.sum())
    assume(0 < ones < n)
    target = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (n - ones + 2))

    def loss(log_t):
        z = logits / np.exp(log_t)
        return np.mean(np.logaddexp(0, z) - target * z)

    ends = np.log(calibrate.COLDEST), np.log(calibrate.HOTTEST)
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).fun
    assert loss(np.log(calibrate.fit_temperature(labels, logits))) <= best + 1e-9


def test_with_thousands_of_reviews_it_is_the_temperature_of_least_log_loss():
    logits, labels = told(5000, 1.6)
    pure = minimize_scalar(
        lambda t: metrics.log_loss(labels, expit(logits / t)), bounds=(0.2, 9), method="bounded"
    ).x
    assert calibrate.fit_temperature(labels, logits) == pytest.approx(pure, rel=0.01)


def test_other_reviews_are_better_calibrated_and_called_the_same():
    logits, labels = told(20_000, 2.0)
    fitted, rest = slice(0, 10_000), slice(10_000, None)
    p = expit(logits[rest])
    q = expit(logits[rest] / calibrate.fit_temperature(labels[fitted], logits[fitted]))
    assert metrics.calibration_error(labels[rest], p) > 0.06
    assert metrics.calibration_error(labels[rest], q) < 0.015
    assert metrics.accuracy(labels[rest], q) == metrics.accuracy(labels[rest], p)


def test_a_few_reviews_that_are_all_right_do_not_make_it_sure_of_everything():
    logits, labels = np.tile([3.0, -3.0], 10), np.tile([1, 0], 10)
    sure = expit(3 / calibrate.fit_temperature(labels, logits))
    assert sure == pytest.approx(11 / 12, abs=1e-6)


def test_logits_that_say_nothing_or_the_contrary_are_cooled_to_the_limit():
    logits, labels = told(1000)
    for useless in (-logits, np.zeros(1000)):
        assert calibrate.fit_temperature(labels, useless) == pytest.approx(calibrate.HOTTEST)


def test_the_temperature_does_not_depend_on_order_and_is_a_plain_float():
    logits, labels = told(500, 1.5)
    one = calibrate.fit_temperature(labels, logits)
    other = calibrate.fit_temperature(labels[::-1], logits[::-1].astype(np.float32))
    assert other == pytest.approx(one, rel=1e-6)
    assert type(one) is float
    assert one == calibrate.fit_temperature(labels.tolist(), logits.tolist())


@pytest.mark.parametrize("size", [1e-30, 1e6])
def test_logits_of_any_size_overflow_nowhere(size):
    with np.errstate(all="raise", under="ignore"):
        found = calibrate.fit_temperature([1, 0, 1], [size, -size, -size])
    assert calibrate.COLDEST <= found <= calibrate.HOTTEST * 1.000001


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([], [], "no review to evaluate"),
        ([1.0, 2.0, 0.5], [1, 1, 1], "all 3 reviews are positive: a temperature needs both"),
        ([1.0, 2.0], [0, 0], "all 2 reviews are negative"),
        ([1.0, np.nan], [1, 0], "review number 2: its logit must be a finite number, got nan"),
        ([-np.inf, 1.0], [1, 0], "review number 1: its logit must be a finite number, got -inf"),
        ([1.0, 2.0], [1], "1 labels and 2 probabilities: one a review"),
        ([1.0, 2.0], [1, 2], "review number 2: label must be 0 or 1, got 2"),
    ],
)
def test_nonsense_has_no_temperature(logits, labels, message):
    with pytest.raises(BadInput, match=message):
        calibrate.fit_temperature(labels, logits)


# --- From which confidence it decides -------------------------------------------------------------


@given(scored(), st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.25, 1.0]))
def test_the_promise_holds_and_no_place_that_keeps_it_decides_more(data, error):
    p, labels = data
    chosen = calibrate.confidence_for(labels, p, error)
    assert 0.5 <= chosen <= 1
    found = calibrate.decided(labels, p, chosen)
    confidence, wrong = np.maximum(p, 1 - p), (p >= 0.5) != labels
    best = 0
    for place in np.unique(confidence):  # by brute force
        sure = confidence >= place
        if wrong[sure].sum() <= error * sure.sum() + 1e-9:
            best = max(best, int(sure.sum()))
    assert found["decided"] == (best or int((confidence >= 1).sum()))
    if best:
        assert found["error"] <= error + 1e-12


def test_one_mistake_among_the_surest_does_not_stop_it():
    p = np.concatenate([[0.999], np.full(99, 0.95), np.full(100, 0.6)])
    labels = np.concatenate([[0], np.ones(99), np.tile([1, 0], 50)]).astype(int)
    chosen = calibrate.confidence_for(labels, p, 0.05)
    assert chosen == pytest.approx((0.95 + 0.6) / 2)
    assert calibrate.decided(labels, p, chosen)["decided"] == 100


def test_all_or_nothing_may_be_decided():
    assert calibrate.confidence_for([1, 0], [0.51, 0.49], 0) == 0.5
    assert calibrate.confidence_for([0, 0], [0.9, 0.8], 0.05) == 1.0
    assert calibrate.confidence_for([0, 0], [0.9, 0.5], 1) == 0.5


def test_what_was_chosen_on_some_reviews_nearly_holds_on_others():
    logits, labels = told(40_000)
    p = expit(logits)
    chosen = calibrate.confidence_for(labels[:20_000], p[:20_000], 0.05)
    found = calibrate.decided(labels[20_000:], p[20_000:], chosen)
    assert found["error"] == pytest.approx(0.05, abs=0.007)
    assert 0.2 < found["coverage"] < 0.4  # these logits leave much in doubt


@pytest.mark.parametrize("error", [0.07, 0.29, 0.57])  # 0.29 * 100 is 28.999999999999996
def test_a_share_that_floats_cannot_hold_is_kept_exactly(error):
    labels = np.ones(100, dtype=int)
    labels[: round(100 * error)] = 0
    assert calibrate.confidence_for(labels, np.full(100, 0.9), error) == 0.5
    labels[round(100 * error)] = 0
    assert calibrate.confidence_for(labels, np.full(100, 0.9), error) == 1.0


@pytest.mark.parametrize("error", [-0.01, 1.5, np.nan])
def test_an_error_that_is_no_share(error):
    with pytest.raises(BadInput, match=r"error .*: a share from 0 to 1 is needed, such as 0\.05"):
        calibrate.confidence_for([1], [0.9], error)


def test_what_is_decided_is_counted_with_both_sides_and_the_limit_itself():
    p, labels = [0.9, 0.1, 0.8, 0.3, 0.75], [1, 1, 1, 0, 0]
    found = calibrate.decided(labels, p, 0.75)
    low, high = metrics.wilson_interval(2, 4)
    assert found == {
        "confidence": 0.75, "n": 5, "decided": 4, "coverage": 0.8, "error": 0.5,
        "error_interval": [low, high],
    }  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_where_nothing_is_decided_the_error_is_not_known():
    found = calibrate.decided([1, 0], [0.9, 0.2], 1.0)
    assert (found["coverage"], found["decided"], found["error"]) == (0, 0, None)
    assert found["error_interval"] == [0, 1]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("confidence", [0.49, 1.01, np.nan])
def test_a_confidence_that_is_none(confidence):
    with pytest.raises(BadInput, match=r"confidence .*: must lie between 0\.5 \(decide all\) and"):
        calibrate.decided([1], [0.9], confidence)


# --- Risk and coverage ----------------------------------------------------------------------------


@given(scored())
def test_each_point_of_the_curve_is_what_is_decided_from_its_confidence_on(data):
    p, labels = data
    curve = calibrate.risk_coverage(labels, p)
    json.dumps(curve, allow_nan=False)
    rows = list(zip(curve["coverage"], curve["risk"], curve["confidence"], strict=True))
    assert 1 <= len(rows) <= 200
    assert rows[-1][0] == 1
    assert rows[-1][1] == pytest.approx(1 - metrics.accuracy(labels, p))
    for coverage, risk, confidence in rows:
        found = calibrate.decided(labels, p, confidence)
        assert (found["coverage"], found["error"]) == (coverage, risk)
    assert curve["coverage"] == sorted(set(curve["coverage"]))
    assert curve["confidence"] == sorted(set(curve["confidence"]), reverse=True)


def test_many_points_are_thinned_evenly():
    logits, labels = told(5000)
    coverage = calibrate.risk_coverage(labels, expit(logits))["coverage"]
    assert len(coverage) == 200
    assert np.diff(coverage) == pytest.approx(1 / 200, abs=2 / 5000)


def test_the_area_is_the_mean_risk_over_the_coverages():
    # Surest first: right, wrong, right -> risks 0, 1/2, 1/3.
    curve = calibrate.risk_coverage([1, 1, 1], [0.95, 0.1, 0.8])
    assert curve["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert calibrate.risk_coverage([1, 0], [0.9, 0.1])["aurc"] == 0
    assert calibrate.risk_coverage([0, 1], [0.9, 0.1])["aurc"] == 1


@given(scored(), st.integers(0, 2**32))
def test_neither_order_nor_a_rescaling_of_the_confidence_changes_the_area(data, seed):
    p, labels = data
    order = np.random.default_rng(seed).permutation(len(p))
    area = calibrate.risk_coverage(labels, p)["aurc"]
    assert calibrate.risk_coverage(labels[order], p[order])["aurc"] == pytest.approx(area)
    closer = 0.5 + (p - 0.5) / 2  # ranks stay, and so do ties
    assume(len(np.unique(np.maximum(p, 1 - p))) == len(np.unique(np.maximum(closer, 1 - closer))))
    assert calibrate.risk_coverage(labels, closer)["aurc"] == pytest.approx(area)


def test_a_model_that_is_equally_sure_of_all_has_one_point():
    labels = [1, 1, 1, 0]
    curve = calibrate.risk_coverage(labels, [0.9] * 4)
    assert curve == {"coverage": [1], "risk": [0.25], "confidence": [0.9], "aurc": 0.25}


@pytest.mark.parametrize("p", [[], [0.5], [0.5, 1.5], [np.nan, 0.5]])
def test_probabilities_that_are_none(p):
    for call in (
        lambda: calibrate.risk_coverage([1, 0], p),
        lambda: calibrate.confidence_for([1, 0], p),
        lambda: calibrate.decided([1, 0], p, 0.8),
    ):
        with pytest.raises(BadInput, match="review"):
            call()


def test_the_noise_is_the_error_that_exact_probabilities_show():
    chance = np.random.default_rng(3)
    p = expit(chance.normal(0, 3, 2500))
    measured = [metrics.calibration_error(chance.random(2500) < p, p) for _ in range(40)]
    assert calibrate.calibration_noise(p) == pytest.approx(np.mean(measured), rel=0.1)
    assert calibrate.calibration_noise(np.repeat(p, 16)) < 0.35 * np.mean(measured)
    assert calibrate.calibration_noise([0.0, 1.0]) == 0


# --- Fitted without the review's own film ---------------------------------------------------------


def test_what_a_film_is_told_does_not_depend_on_its_labels():
    logits, labels = told(600, temperature=2.0)
    films = np.arange(600) // 6
    before, limits = calibrate.cross_fitted(labels, logits, films, 0.05)
    turned = np.where(films == 17, 1 - labels, labels)
    after, others = calibrate.cross_fitted(turned, logits, films, 0.05)
    own = films == 17
    assert before[own].tolist() == after[own].tolist()
    assert limits[own].tolist() == others[own].tolist()
    assert (before[~own] != after[~own]).mean() > 0.7  # in all folds but its own


def test_reviews_of_one_film_share_their_constants_and_there_are_five():
    logits, labels = told(600, temperature=2.0)
    films = np.random.default_rng(3).integers(0, 80, 600)
    said, limits = calibrate.cross_fitted(labels, logits, films, 0.05)
    answers = np.log(said / (1 - said))
    assert len(set(limits)) == 5
    for limit in np.unique(limits):
        slope, start = np.polyfit(logits[limits == limit], answers[limits == limit], 1)
        assert slope == pytest.approx(0.5, rel=0.3)
        assert start == pytest.approx(0, abs=0.2)
        fitted = slope * logits[limits == limit] + start
        assert answers[limits == limit] == pytest.approx(fitted, abs=1e-6)
    for film in np.unique(films):
        assert len(set(limits[films == film])) == 1


def test_a_limit_of_their_own_for_each_review():
    labels, chances = np.array([1, 1, 0, 0]), np.array([0.9, 0.6, 0.4, 0.9])
    counted = calibrate.decided(labels, chances, np.array([0.95, 0.55, 0.7, 0.8]))
    assert (counted["decided"], counted["error"], counted["confidence"]) == (2, 0.5, 0.75)
    with pytest.raises(BadInput, match="must lie between"):
        calibrate.decided(labels, chances, np.array([0.6, 0.6, 0.4, 0.6]))


# --- The shift ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.3])
def test_the_shift_that_was_made_is_found_and_as_many_are_called_positive_as_there_are(shift):
    logits, labels = told(20000)
    found = calibrate.fit_shift(labels, logits - shift)
    assert found == pytest.approx(shift, abs=0.06)
    assert expit(logits - shift + found).mean() == pytest.approx(labels.mean(), abs=2e-3)


def test_a_few_reviews_move_nothing_far():
    logits, labels = told(40)
    assert abs(calibrate.fit_shift(np.ones(40), logits)) < 1  # all of one class
    assert abs(calibrate.fit_shift(labels, np.full(40, 30.0))) < 2  # far off, and few


def test_the_slope_with_the_prior_is_0_at_the_shift():
    logits, labels = told(300, temperature=3.0, seed=4)
    found = calibrate.fit_shift(labels, logits)

    def loss(s):
        z = logits + s
        prior = s**2 / (2 * calibrate.USUAL_SHIFT**2)
        return np.sum(np.logaddexp(0, z) - labels * z) + prior

    best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8})
    assert found == pytest.approx(best.x, abs=1e-5)

"""A second bundle reads again what the first is uncertain of, and nothing else."""

import pickle

import numpy as np
import pytest

import reelsense
from reelsense.errors import BadInput
from reelsense.inference import predictor

WORDS = "a the film is was not but great superb awful dull story plot . , ! zorblax".split()  # noqa: SIM905


@pytest.fixture
def bundles(tiny_bundle, make_bundle):
    return tiny_bundle, make_bundle("larger", hidden=9)


@pytest.fixture
def texts():
    lengths = np.random.default_rng(3).integers(0, 60, 120)
    return [
        " ".join(np.random.default_rng(seed).choice(WORDS, length))
        for seed, length in enumerate(lengths)
    ]


@pytest.fixture
def both(bundles):
    return reelsense.load(bundles[0], threads=2, second=bundles[1])


@pytest.fixture
def expected(bundles, texts):
    """By hand: each text to the first, and what has words and is uncertain to the second."""
    first, second = map(reelsense.load, bundles)
    answers = []
    for text in texts:
        one = first(text)
        answers.append(second(text) if one.label == "uncertain" and one.tokens else one)
    assert 10 < sum(a != first(t) for a, t in zip(answers, texts, strict=True)) < 110
    return answers


def test_what_the_first_is_uncertain_of_the_second_answers(both, texts, expected, monkeypatch):
    assert both(texts) == expected
    assert [both(text) for text in texts] == expected
    monkeypatch.setattr(predictor, "CHUNK", 7)
    assert list(both.stream(iter(texts))) == expected
    assert both.predict_proba(texts)[:, 1].tolist() == [one.probability for one in expected]


def test_the_evidence_is_that_of_whoever_answers(both, texts, expected):
    for text, answer in zip(texts, expected, strict=True):
        why = both.explain(text)
        assert why.prediction.label == answer.label
        assert why.prediction.probability == pytest.approx(answer.probability, abs=1e-6)
        total = sum(word.evidence for word in why.words) + why.bias
        assert total == pytest.approx(why.logit, abs=1e-4)


def test_a_confidence_changes_the_labels_and_not_who_answers(bundles, texts, expected):
    """Whoever has every text decided still wants the second's answer where the first is unsure."""
    sure = reelsense.load(bundles[0], confidence=0.5, second=bundles[1])
    answers = sure(texts)
    assert [one.probability for one in answers] == [one.probability for one in expected]
    assert {one.label for one in answers if one.tokens} == {"positive", "negative"}


def test_the_second_has_its_own_confidence(bundles, texts, expected):
    unsure = reelsense.load(bundles[1])
    for text, answer in zip(texts, expected, strict=True):
        if answer == unsure(text) and answer.label != "uncertain":
            assert max(answer.probability, 1 - answer.probability) >= unsure.confidence


def test_it_pickles_with_both(both, texts, expected):
    again = pickle.loads(pickle.dumps(both))
    assert again(texts) == expected
    assert again.second.bundle.path == both.second.bundle.path
    assert pickle.loads(pickle.dumps(both.second)).second is None


def test_texts_without_words_and_no_texts_ask_nobody(both):
    both.second._read = None
    assert both([]) == []
    assert [one.label for one in both(["", None, " \n"])] == ["uncertain"] * 3


def test_a_second_that_is_none_is_refused(tiny_bundle, tmp_path):
    with pytest.raises(BadInput, match="there is no such bundle"):
        reelsense.load(tiny_bundle, second=tmp_path / "nowhere")

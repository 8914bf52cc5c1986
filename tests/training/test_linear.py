from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from reelsense.errors import BadInput
from reelsense.training import linear
from reelsense.training.linear import fit_linear

GOOD = ["great", "fine", "loved", "superb"]
BAD = ["awful", "dull", "hated", "waste"]
PLAIN = ["the", "film", "was", "a", "plot", "and", "not"]


def reviews(n=200, seed=0, noise=0.1):
    """Reviews of plain words, with good or bad ones among them, some from the wrong list."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    texts = []
    for label in labels:
        words = list(random.choice(PLAIN, random.integers(3, 30)))
        for _ in range(3):
            wrong = random.random() < noise
            words.insert(
                random.integers(0, len(words) + 1),
                str(random.choice(GOOD if (label == 1) != wrong else BAD)),
            )
        texts.append([str(word) for word in words])
    return texts, labels


def by_the_book(texts, labels, new):
    """The same model with scikit-learn's own counting and the paper's formula written out."""

    def grams(words):
        return [(w,) for w in words] + list(pairwise(words))

    counter = CountVectorizer(analyzer=grams, binary=True, min_df=linear.MIN_REVIEWS)
    f = counter.fit_transform(texts).toarray().astype(float)
    p, q = 1 + f[labels == 1].sum(0), 1 + f[labels == 0].sum(0)
    r = np.log((p / p.sum()) / (q / q.sum()))
    model = LogisticRegression(C=linear.REGULARISATION_C, solver="liblinear", tol=1e-8)
    model.fit(csr_matrix(f * r), labels)
    return model.predict_proba(counter.transform(new).toarray() * r)[:, 1]


def test_it_is_the_paper_written_out():
    texts, labels = reviews()
    new, _ = reviews(50, seed=1)
    found = fit_linear(texts, labels).probabilities(new)
    assert found == pytest.approx(by_the_book(texts, labels, new), abs=0.005)


def test_it_learns_and_is_better_than_a_coin_on_new_reviews():
    texts, labels = reviews()
    new, truth = reviews(300, seed=2)
    p = fit_linear(texts, labels).probabilities(new)
    assert p.shape == (300,)
    assert ((p > 0) & (p < 1)).all()
    assert np.mean((p >= 0.5) == truth) > 0.9


def test_a_pair_says_what_its_words_do_not():
    texts = [["not", "good"], ["good", "not"]] * 30
    p = fit_linear(texts, [0, 1] * 30).probabilities([["not", "good"], ["good", "not"]])
    assert p[0] < 0.3 < 0.7 < p[1]


def test_the_same_input_gives_the_same_weights():
    texts, labels = reviews()
    one, other = fit_linear(texts, labels), fit_linear(texts, labels)
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.intercept == other.intercept


ANY = st.sampled_from([*GOOD, *BAD, *PLAIN, "unseen"])


@given(st.lists(st.lists(ANY, max_size=12), max_size=8))
@settings(max_examples=40)
def test_a_score_does_not_depend_on_its_neighbours(texts):
    model = fit_linear(*reviews(60))
    together = model.probabilities(texts)
    assert together.shape == (len(texts),)
    alone = [model.probabilities([words])[0] for words in texts]
    assert together == pytest.approx(alone, rel=1e-12)


def test_presence_counts_and_unknown_words_do_not():
    model = fit_linear(*reviews())
    once, twice, unknown = model.probabilities(
        [["great", "film"], ["great", "film", "zzz", "film"], ["zzz", "great", "film"]]
    )
    assert once == twice == unknown
    empty, nothing_known = model.probabilities([[], ["zzz", "yyy"]])
    assert empty == nothing_known == pytest.approx(1 / (1 + np.exp(-model.intercept)))


def test_grams_of_a_single_review_are_dropped():
    texts, labels = reviews()
    model = fit_linear([*texts, ["unique", "great"]], [*labels, 1])
    assert model.numbers["unique"] not in model.grams
    assert (np.diff(model.grams) > 0).all()
    assert len(model.grams) == len(model.weights)


def test_pairs_do_not_reach_across_reviews():
    texts = [["alpha"], ["beta"]] * 10
    assert len(fit_linear(texts, [1, 0] * 10).grams) == 2


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "no training review"),
        ([["a"], ["a"]], [1], "2 reviews but 1 labels"),
        ([["a"], ["a"]], [1, 1], "all of one class"),
        ([["a"], ["a"], ["b"]], [1, 0, -1], "training review 3: label must be 0 or 1, got -1"),
        ([["a"], ["b"]], [1, 0], "no word stands in two training reviews"),
        ([[], []], [1, 0], "no word stands in two training reviews"),
    ],
)
def test_bad_input_is_named(texts, labels, message):
    with pytest.raises(BadInput, match=message):
        fit_linear(texts, labels)

import json
import math
from typing import Any

import numpy as np
import pytest

from reelsense.text.describe import describe
from reelsense.text.reviews import Reviews, read_reviews
from reelsense.text.splits import Split, split
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import STOP_WORDS


def make(texts: list[str], labels: list[int], films: list[int] | None = None) -> Reviews:
    n = len(texts)
    return Reviews(
        ids=tuple(map(str, range(n))),
        texts=tuple(texts),
        labels=np.array(labels, dtype=np.int8),
        films=np.array(films or [-1] * n, dtype=np.int64),
        parts=("",) * n,
        source="made",
        empty=3,
    )


def cut(n_train: int, n: int) -> Split:
    half = n_train + (n - n_train) // 2
    order = np.arange(n)
    return Split(order[:n_train], order[n_train:half], order[half:], "by hand", 0, 0)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    good = ["a truly great film. see it", "great film, great film", "great stuff", "fine"] * 5
    bad = ["an awful film. see it", "awful, awful mess", "awful stuff", "poor"] * 5
    held_out = ["unseen words of validation", "unseen words of test"] * 4
    reviews = make(good + bad + held_out, [1] * 20 + [0] * 20 + [1, 0] * 4, [1] * 40 + [2, 3] * 4)
    return describe(reviews, cut(40, 48))


def test_counts_of_the_parts(small: dict[str, Any]) -> None:
    assert small["source"] == "made"
    assert (small["n"], small["unlabelled"], small["empty"]) == (48, 0, 3)
    assert small["parts"]["train"] == {"n": 40, "positive": 20, "negative": 20, "films": 1}
    assert small["parts"]["test"] == {"n": 4, "positive": 2, "negative": 2, "films": 2}
    assert small["method"] == "by hand"
    assert small["leaks"]["shared_films"]["validation_test"] == 2


def test_counts_are_reviews_and_log_odds_are_exact(small: dict[str, Any]) -> None:
    expected = math.log(15.5 / 5.5) - math.log(0.5 / 20.5)
    assert small["words"]["positive"][0] == ["great", 15, pytest.approx(expected, abs=1e-4)]
    assert small["words"]["negative"][0] == ["awful", 15, pytest.approx(expected, abs=1e-4)]
    listed = {word for side in small["words"].values() for word, _, _ in side}
    assert {"film", "fine", "poor", "mess"} <= listed
    assert "see" not in listed  # as often in both classes


def test_ngrams_stop_at_punctuation_and_at_the_end_of_a_review(small: dict[str, Any]) -> None:
    listed = {gram: n for side in small["ngrams"].values() for gram, n, _ in side}
    assert listed["great film"] == 10
    assert listed["a truly great"] == listed["truly great film"] == 5
    assert listed["an awful film"] == 5
    assert "film great" not in listed
    assert "awful awful" not in listed
    assert "stuff fine" not in listed


def test_frequent_words_are_no_stop_words(small: dict[str, Any]) -> None:
    frequent = {word for side in small["frequent"].values() for word, _ in side}
    assert small["frequent"]["positive"][:2] == [["great", 15], ["film", 10]]
    assert small["frequent"]["negative"][0] == ["awful", 15]
    assert not frequent & STOP_WORDS
    assert all(word.isalpha() for word in frequent)


def test_words_of_validation_and_test_are_not_shown(small: dict[str, Any]) -> None:
    assert "unseen" not in json.dumps([small["words"], small["ngrams"], small["frequent"]])


def test_lengths_count_every_labelled_review() -> None:
    texts = ["one " * n for n in range(1, 101)] + ["one " * 5000, "no label"]
    reviews = make(texts, [0, 1] * 50 + [1, -1])
    lengths = describe(reviews, cut(60, 101))["lengths"]
    assert lengths["max"] == 5000
    assert lengths["median"] == 51
    assert lengths["mean"] == pytest.approx((5050 + 5000) / 101)
    histogram = lengths["histogram"]
    assert len(histogram["edges"]) == len(histogram["positive"]) + 1
    assert sum(histogram["positive"]) == 51
    assert sum(histogram["negative"]) == 50
    assert histogram["positive"][-1] >= 1


def test_rows_without_label_are_counted_apart() -> None:
    reviews = make(["good film"] * 6 + ["bad film"] * 6 + ["who knows"], [1] * 6 + [0] * 6 + [-1])
    described = describe(reviews, cut(6, 12))
    assert (described["n"], described["unlabelled"]) == (12, 1)


def test_words_that_the_caller_has_encoded_give_the_same() -> None:
    reviews = make(["good film"] * 10 + ["a bad film"] * 10, [1] * 10 + [0] * 10)
    by_hand = Split(np.arange(4, 16), np.arange(2, 4), np.arange(16, 18), "", 0, 0)
    tokenizer = Tokenizer.fit(reviews.texts)
    encoded = [tokenizer.encode(text) for text in reviews.texts]
    assert describe(reviews, by_hand) == describe(reviews, by_hand, (tokenizer, encoded))


def test_nothing_but_punctuation() -> None:
    reviews = make(["!!!", "...", "?", "!"] * 3, [0, 1] * 6)
    described = describe(reviews, cut(8, 12))
    assert described["words"] == described["ngrams"] == {"negative": [], "positive": []}
    assert described["frequent"] == {"negative": [], "positive": []}


def test_bundled_reviews() -> None:
    reviews = read_reviews().take(np.arange(0, 25_000, 10))
    described = describe(reviews, split(reviews))
    json.dumps(described, allow_nan=False)
    assert described["n"] == 2_500
    assert 170 < described["lengths"]["median"] < 230
    assert 950 < described["lengths"]["p99"] < 1_250
    for side in (*described["words"].values(), *described["ngrams"].values()):
        assert len(side) == 20
        assert [row[2] for row in side] == sorted((row[2] for row in side), reverse=True)
    assert "worst" in [word for word, _, _ in described["words"]["negative"]]
    assert "wonderfully" in [word for word, _, _ in described["words"]["positive"]]
    assert "waste of" in [gram for gram, _, _ in described["ngrams"]["negative"]]

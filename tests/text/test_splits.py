from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.text.reviews import Reviews, read_reviews
from reelsense.text.splits import Split, leaks, normalised, split, with_fewer_labels


@pytest.fixture(scope="module")
def bundled() -> Reviews:
    return read_reviews()


def make(
    n: int = 400,
    *,
    films: int | None = 40,
    texts: list[str] | None = None,
    parts: list[str] | None = None,
    seed: int = 0,
) -> Reviews:
    rng = np.random.default_rng(seed)
    film = np.full(n, -1) if films is None else rng.integers(films, size=n)
    return Reviews(
        ids=tuple(map(str, range(n))),
        texts=tuple(texts or [f"review {i}" for i in range(n)]),
        labels=rng.integers(2, size=n).astype(np.int8),
        films=film.astype(np.int64),
        parts=tuple(parts or [""] * n),
        source="made",
    )


def rows(cut: Split) -> list[Any]:
    return [cut.train, cut.validation, cut.test]


def equal(a: Split, b: Split) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(rows(a), rows(b), strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bundled_reviews_are_cut_by_film(bundled: Reviews, seed: int) -> None:
    cut = split(bundled, seed=seed)
    for part, share in zip(rows(cut), (0.8, 0.1, 0.1), strict=True):
        assert abs(len(part) / len(bundled) - share) < 0.01
        assert abs(bundled.labels[part].mean() - 0.5) < 0.01
    found = leaks(bundled, cut)
    assert set(found["shared_films"].values()) == {0}
    assert set(found["rows_sharing_a_film"].values()) == {0}
    texts = found["duplicate_texts"]
    assert [texts["train_validation"], texts["train_test"], texts["validation_test"]] == [0, 0, 0]
    assert texts["within_train"] == 0
    assert len(cut.train) + len(cut.validation) + len(cut.test) + cut.duplicates == 25_000
    assert 80 <= cut.duplicates <= 98
    assert cut.method == "cut by film (3,456 films, none in two parts)"
    assert cut.seed == seed


def test_a_random_cut_of_the_bundled_reviews_leaks(bundled: Reviews) -> None:
    order = np.random.default_rng(0).permutation(len(bundled))
    cut = Split(order[5000:], order[:2500], order[2500:5000], "at random", 0, 0)
    found = leaks(bundled, cut)
    assert found["rows_sharing_a_film"]["test"] > 0.9 * 2500
    assert found["duplicate_texts"]["train_test"] > 0


def test_bundled_reviews_without_films_are_cut_in_blocks(bundled: Reviews) -> None:
    unknown = Reviews(
        bundled.ids, bundled.texts, bundled.labels, np.full(25_000, -1), bundled.parts, "x"
    )
    cut = split(unknown, seed=3)
    assert len(cut.test) == 2500
    assert 2490 <= len(cut.validation) <= 2500  # less what stands in the test set as well
    assert cut.method == "cut in contiguous blocks within each class (films not known)"
    assert leaks(unknown, cut)["rows_without_film"] == 25_000 - cut.duplicates
    for part in (cut.validation, cut.test):
        for label in (0, 1):
            of_class = np.flatnonzero(bundled.labels == label)
            places = np.searchsorted(of_class, part[bundled.labels[part] == label]).tolist()
            breaks = sum(b != a + 1 for a, b in pairwise(places))
            assert breaks <= 5  # the jump from the end of the ring, and copies taken out


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    films=st.one_of(st.none(), st.integers(30, 200)),
    validation=st.floats(0.1, 0.3),
    test=st.floats(0.1, 0.3),
)
def test_parts_are_disjoint_complete_balanced_and_repeatable(
    seed: int, films: int | None, validation: float, test: float
) -> None:
    reviews = make(600, films=films, seed=seed % 1000)
    cut = split(reviews, validation=validation, test=test, seed=seed)
    together = np.concatenate(rows(cut))
    assert sorted(together.tolist()) == list(range(600))
    assert all((np.diff(part) > 0).all() for part in rows(cut))
    found = leaks(reviews, cut)
    assert set(found["shared_films"].values()) == {0}
    for part, share in zip(rows(cut)[1:], (validation, test), strict=True):
        assert abs(len(part) / 600 - share) < 0.04
        assert abs(reviews.labels[part].mean() - reviews.labels.mean()) < 0.12
    assert equal(cut, split(reviews, validation=validation, test=test, seed=seed))


def test_another_seed_cuts_otherwise() -> None:
    for films in (40, None):
        reviews = make(films=films)
        assert not equal(split(reviews, seed=0), split(reviews, seed=1))


def test_the_sources_test_set_is_the_test_set() -> None:
    parts = ["test"] * 100 + ["train"] * 300
    reviews = make(400, parts=parts)
    cut = split(reviews, test=0.5)
    assert cut.test.tolist() == list(range(100))
    assert abs(len(cut.validation) - 30) <= 5  # half a film of each class
    assert len(cut.train) + len(cut.validation) == 300
    assert "the source's own test set; validation cut by film" in cut.method
    assert leaks(reviews, cut)["shared_films"]["train_validation"] == 0


def test_rows_without_label_are_in_no_part() -> None:
    reviews = make(400)
    labels = reviews.labels.copy()
    labels[:100] = -1
    cut = split(Reviews(reviews.ids, reviews.texts, labels, reviews.films, reviews.parts, "x"))
    assert min(np.concatenate(rows(cut))) == 100
    assert cut.duplicates == 0


def test_films_known_for_some_rows() -> None:
    reviews = make(400)
    films = reviews.films.copy()
    films[::2] = -1
    mixed = Reviews(reviews.ids, reviews.texts, reviews.labels, films, reviews.parts, "x")
    cut = split(mixed)
    assert "by film" in cut.method
    assert "200 reviews whose film is not known" in cut.method
    assert set(leaks(mixed, cut)["shared_films"].values()) == {0}


def test_copies_stay_in_the_test_set_then_in_validation() -> None:
    texts = [f"review {i}" for i in range(400)]
    parts = ["test"] * 100 + [""] * 300
    clean = split(make(400, texts=texts, parts=parts))
    train, validation = clean.train.tolist(), clean.validation.tolist()
    texts[train[0]] = "REVIEW<br /><br />5 "  # also in test
    texts[validation[0]] = "Review\n7"  # also in test
    texts[train[1]] = texts[validation[1]] = "Twice, in train and validation"
    texts[train[2]] = texts[train[3]] = texts[train[4]] = "Three times in train"
    texts[3] = texts[4] = "twice in test"
    reviews = make(400, texts=texts, parts=parts)
    cut = split(reviews)
    assert cut.test.tolist() == list(range(100))
    assert sorted(set(validation) - set(cut.validation)) == [validation[0]]
    assert sorted(set(train) - set(cut.train)) == sorted([train[0], train[1], *train[3:5]])
    assert cut.duplicates == 5
    found = leaks(reviews, cut)
    assert found["dropped"] == 5
    assert found["duplicate_texts"] == {
        "train_validation": 0, "train_test": 0, "validation_test": 0,
        "within_train": 0, "within_validation": 0, "within_test": 1,
    }  # fmt: skip
    whole = Split(clean.train, clean.validation, clean.test, "", 0, 0)
    assert leaks(reviews, whole)["duplicate_texts"] == {
        "train_validation": 1, "train_test": 1, "validation_test": 1,
        "within_train": 2, "within_validation": 0, "within_test": 1,
    }  # fmt: skip


@given(st.text())
def test_normalised_ignores_case_breaks_and_white_space(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert normalised(f" {text}<br /><BR/>\n") == once


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("films", [None, 3])
def test_too_few_reviews(n: int, films: int | None) -> None:
    with pytest.raises(BadInput, match=r"made: .* too few to split.*bring more reviews"):
        split(make(n, films=films))


def test_one_film_cannot_be_cut() -> None:
    with pytest.raises(BadInput, match="400 reviews of 1 films are too few"):
        split(make(400, films=1))


def test_a_source_of_copies_cannot_be_cut() -> None:
    with pytest.raises(BadInput, match="too few to split"):
        split(make(400, texts=["same"] * 400))


@pytest.mark.parametrize("films", [40, None])
@pytest.mark.parametrize(("validation", "test"), [(0.2, 0), (0, 0.2), (0, 0)])
def test_a_share_of_0_leaves_a_part_empty(
    films: int | None, validation: float, test: float
) -> None:
    reviews = make(films=films)
    cut = split(reviews, validation=validation, test=test)
    assert len(cut.validation) == pytest.approx(400 * validation, abs=12)
    assert len(cut.test) == pytest.approx(400 * test, abs=12)
    assert sorted(np.concatenate(rows(cut)).tolist()) == list(range(400))
    assert (len(cut.train) == 400) == (cut.method == "no review was held out")
    assert leaks(reviews, cut)["shared_films"]["train_validation"] == 0


def test_everything_may_be_reviews_of_one_film_and_copies_are_dropped() -> None:
    texts = [f"review {i // 2}" for i in range(400)]
    cut = split(make(400, films=1, texts=texts), validation=0, test=0)
    assert (cut.train.tolist(), cut.duplicates) == (list(range(0, 400, 2)), 200)
    with pytest.raises(BadInput, match=r"1 reviews .* the train part would have no"):
        split(make(1, films=1), validation=0, test=0)


@pytest.mark.parametrize("films", [400, None])
def test_what_is_chosen_without_a_test_part_was_not_chosen_on_a_later_one(
    films: int | None,
) -> None:
    """Dealt in the same order, the validation part would be the test part of the other split."""
    reviews = make(4000, films=films)
    chosen_on, measured_on = split(reviews, test=0).validation, split(reviews).test
    assert len(chosen_on) == pytest.approx(400, abs=40)
    assert len(np.intersect1d(chosen_on, measured_on)) < 0.02 * len(measured_on)


def test_without_a_test_the_sources_own_is_left_out_and_nothing_else_changes() -> None:
    texts = [f"review {i}" for i in range(400)]
    texts[200] = texts[5]  # also in the source's test set
    reviews = make(400, texts=texts, parts=["test"] * 100 + ["train"] * 300)
    usual, without = split(reviews), split(reviews, test=0)
    assert without.test.tolist() == []
    assert np.array_equal(usual.train, without.train)
    assert np.array_equal(usual.validation, without.validation)
    assert without.method.startswith("the source's own test set left out; validation cut by film")
    everything = split(reviews, validation=0, test=0)
    assert everything.train.tolist() == [row for row in range(100, 400) if row != 200]
    assert everything.method == "the source's own test set left out; all others to train on"


def test_the_part_of_each_row_has_a_name() -> None:
    cut = split(make(400, texts=[f"review {i // 2}" for i in range(400)]))
    names = cut.names(400)
    for name, part in zip(("train", "validation", "test"), rows(cut), strict=True):
        assert [row for row in range(400) if names[row] == name] == part.tolist()
    assert names.count("") == cut.duplicates > 0


def test_impossible_shares() -> None:
    with pytest.raises(BadInput, match=r"--validation -0\.1 is not a share"):
        split(make(), validation=-0.1)
    with pytest.raises(BadInput, match=r"--test 1\.5 is not a share: from 0 to less than 1"):
        split(make(), test=1.5)
    with pytest.raises(BadInput, match="--test nan is not a share"):
        split(make(), test=float("nan"))
    with pytest.raises(BadInput, match=r"nothing to train on"):
        split(make(), validation=0.5, test=0.5)


# --- Few labels ---------------------------------------------------------------------------


@given(share=st.floats(0.05, 1), seed=st.integers(0, 50))
@settings(max_examples=40)
def test_a_share_of_the_labels_is_that_of_each_class(share: float, seed: int) -> None:
    reviews = make()
    whole = split(reviews, validation=0.2, test=0.2)
    few = with_fewer_labels(whole, reviews, share, seed)
    for label in (0, 1):
        of_class = int((reviews.labels[whole.train] == label).sum())
        assert (reviews.labels[few.train] == label).sum() == round(share * of_class)
    assert set(few.train) <= set(whole.train)
    assert (np.diff(few.train) > 0).all()
    assert few.unused == len(whole.train) - len(few.train)
    assert np.array_equal(few.validation, whole.validation)
    assert np.array_equal(few.test, whole.test)
    assert (few.method, few.seed, few.duplicates) == (whole.method, whole.seed, whole.duplicates)


@given(st.integers(0, 50), st.lists(st.floats(0.05, 1), min_size=2, max_size=2))
@settings(max_examples=40)
def test_a_smaller_share_is_part_of_a_larger_one(seed: int, shares: list[float]) -> None:
    reviews = make()
    whole = split(reviews)
    few, more = (with_fewer_labels(whole, reviews, share, seed) for share in sorted(shares))
    assert set(few.train) <= set(more.train)


def test_all_labels_are_the_split_itself() -> None:
    reviews = make()
    whole = split(reviews)
    assert equal(with_fewer_labels(whole, reviews, 1, 3), whole)
    assert with_fewer_labels(whole, reviews, 1, 3).unused == 0


def test_another_seed_draws_other_reviews_and_the_same_seed_the_same() -> None:
    reviews = make()
    few = [with_fewer_labels(split(reviews), reviews, 0.2, seed) for seed in (0, 1, 0)]
    assert equal(few[0], few[2])
    assert not equal(few[0], few[1])


def test_a_share_that_leaves_a_class_empty_is_refused() -> None:
    labels = np.array([0] * 380 + [1] * 20, np.int8)
    reviews = replace(make(), labels=labels)
    whole = split(reviews, validation=0, test=0)
    assert len(with_fewer_labels(whole, reviews, 0.05, 0).train) == 19 + 1
    with pytest.raises(BadInput, match=r"label share of 0\.02 leaves none of the 20 positive"):
        with_fewer_labels(whole, reviews, 0.02, 0)

"""The proof of the guards counts what it says, and would see an augmentation that turns reviews."""

import numpy as np
import pytest

import augmentation
from augmentation import ALL, KINDS, NONE, SCARCE, Material, counted, measure, share_changed
from reelsense.training.batches import Examples
from reelsense.vectors.glove import WordVectors

WORDS = ["film", "story", "plot", "scene", "man", "woman", "house", "city", "garden", "river"]
VOCABULARY = ("<pad>", "<unk>", "grand", "grim", ".", *WORDS)
GRAND, GRIM = 2, 3


def material(n=300):
    """Reviews of neutral words, and of a third each "grand" or "grim", which are neighbours."""
    chance = np.random.default_rng(0)
    labels = (np.arange(n) % 2).astype(np.int8)
    ids = []
    for label in labels:
        row = chance.integers(4, len(VOCABULARY), 30).astype(np.int32)
        row[chance.permutation(30)[:10]] = GRAND if label else GRIM
        ids.append(row)
    matrix = chance.normal(0, 1, (len(VOCABULARY), 5)).astype(np.float32)
    matrix[GRIM] = matrix[GRAND] + 0.01
    found = np.arange(len(VOCABULARY)) > 1
    return Material(VOCABULARY, WordVectors(matrix, found, "toy"), Examples(ids, labels), ids[:80])


def judge(ids):
    """P(positive) of a judge that counts the two words."""
    return np.array(
        [1 / (1 + np.exp((row == GRIM).sum() - (row == GRAND).sum() + 0.0)) for row in ids]
    )


def test_what_turned_is_counted_where_the_judge_was_sure():
    before = np.array([0.9, 0.9, 0.8, 0.1, 0.2, 0.55, 0.45, 0.9])
    after = np.array([0.9, 0.3, 0.45, 0.1, 0.6, 0.45, 0.45, 0.6])
    found = counted(before, after, confidence=0.7)
    assert (found["reviews"], found["sure"]) == (8, 6)
    assert found["turned"] == 3 / 6  # the second, the third and the fifth
    assert found["turned_surely"] == 1 / 6
    assert found["uncertain"] == 3 / 6
    assert found["turned_of_all"] == 4 / 8
    assert 0 < found["low"] < 0.5 < found["high"] < 1


def test_share_changed():
    old = np.array([5, 6, 7, 8])
    assert share_changed(old, old) == 0
    assert share_changed(old, np.array([5, 9, 7, 8])) == 0.25
    assert share_changed(old, old[1:]) == share_changed(old, np.append(old, 9)) == 0.25


@pytest.fixture(scope="module")
def compared():
    """The guards of the toy, in whose WordNet "grand" and "grim" are synonyms."""
    pairs = np.array([GRAND, GRIM]), np.array([GRIM, GRAND])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reelsense.training.augment.synonyms", lambda _: pairs)
        return augmentation.guards_to_compare(material())


@pytest.fixture(scope="module")
def rows(compared):
    return measure(judge, 0.6, material().held_out, compared)


def test_every_way_is_measured_and_with_guards_no_review_turns(rows):
    assert {(row.kind, row.strength, row.guards) for row in rows} == {
        (kind, strength, guards)
        for kind in KINDS
        for strength in (0.1, 0.2)
        for guards in (ALL, SCARCE, NONE)
    }
    for row in rows:
        assert row.low <= row.turned <= row.high
        if row.guards != NONE:
            assert row.turned == 0
        elif row.kind in ("synonym", "neighbour", "eda"):
            assert row.changed > 0.02
    without = {row.kind: row for row in rows if row.guards == NONE and row.strength == 0.2}
    assert without["swap"].turned == without["shuffle"].turned == 0  # a judge that counts


def test_synonyms_are_measured_with_guards_of_their_own(compared, rows):
    assert [guards.choices.sum() for _, guards in compared.values()] == [0, 0, 2]
    own = {row.strength: row for row in rows if row.kind == "synonym" and row.guards == NONE}
    assert (own[0.1].turned, own[0.2].turned) == (0, 1)  # 3 and 6 of 10 words that tell


def test_a_judge_that_sees_every_change_is_believed(compared):
    toy = material()
    told = {row.tobytes() for row in toy.held_out}
    strict = measure(
        lambda ids: np.array([0.9 if row.tobytes() in told else 0.1 for row in ids]),
        0.6, toy.held_out, {NONE: compared[NONE]},
    )  # fmt: skip
    assert all(row.turned == 1 for row in strict if row.kind in ("neighbour", "insert", "delete"))


def test_csv_and_page_have_every_row(rows):
    lines = augmentation.as_csv(rows, {"commit": "c"}).splitlines()
    assert lines[0].startswith("kind,strength,guards,changed,reviews,sure,turned,low,high,")
    assert lines[0].endswith(",commit")
    assert len(lines) == 1 + len(rows)
    page = augmentation.as_page(rows, "a judge")
    assert "| neighbour | 0.1 | 0.00% (0.00% to" in page
    assert page.count("\n| ") == 1 + len(KINDS) * 2

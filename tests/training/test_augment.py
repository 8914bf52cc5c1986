from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.model import networks
from reelsense.model.recipe import Recipe
from reelsense.training import augment, loop
from reelsense.training.augment import (
    ALTERED,
    EDA,
    KNOWN,
    Guards,
    altered,
    augmented,
    class_log_odds,
    guards_of,
    make_guards,
    nearest,
)
from reelsense.training.batches import Examples, Pool
from reelsense.training.checkpoint import epoch_path, load_tensors, weights_hash
from reelsense.training.loop import Step, train
from reelsense.training.machine import Machine
from reelsense.vectors.glove import WordVectors

KINDS = [*ALTERED, "eda"]

# word: how many of 100 positive and of 100 negative reviews hold it, and the angle of its vector
WORDS = {
    ".": (99, 99, None), "!": (50, 50, None), "the": (60, 59, 0.5), "of": (55, 54, 0.6),
    "story": (50, 45, 10.0), "tale": (40, 37, 10.1), "saga": (30, 33, 10.2),  # the last leans away
    "car": (40, 44, 20.0), "truck": (30, 34, 20.1), "van": (2, 2, 20.2),  # too rare
    "house": (50, 45, 30.0), "palace": (60, 20, 30.1), "hut": (20, 60, 30.2),  # tell
    "superb": (20, 18, 40.0), "lovely": (20, 18, 40.1),  # tell by the lists
    "not": (50, 46, 50.0), "however": (50, 46, 50.1), "but": (50, 46, 50.2),
    "seven": (20, 18, 60.0), "nine": (20, 18, 60.1), "1999": (20, 18, 60.2),
    "garden": (50, 45, None), "lawn": (40, 37, None),  # without vectors
}  # fmt: skip
VOCABULARY = ("<pad>", "<unk>", *WORDS)
NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
MOVABLE = ["story", "car", "house", "garden", "the", "."]


def encode(text):
    return np.array([NUMBER[word] for word in text.split()], np.int32)


def read(ids):
    return " ".join(VOCABULARY[number] for number in ids)


def training_reviews():
    rows = [[] for _ in range(200)]
    for word, (p, q, _) in WORDS.items():
        for row in [*range(p), *range(100, 100 + q)]:
            rows[row] += [NUMBER[word]] * 2  # twice counts once
    for row in rows:
        row.append(1)
    return Examples([np.array(row, np.int32) for row in rows], np.repeat(np.int8([1, 0]), 100))


def vectors():
    angles = [None, None, *(angle for _, _, angle in WORDS.values())]
    found = np.array([angle is not None for angle in angles])
    turns = np.radians([angle or 0.0 for angle in angles])
    matrix = np.stack([np.cos(turns), np.sin(turns)], axis=1) * found[:, None]
    return WordVectors(matrix.astype(np.float32), found, "toy vectors")


# Beside two that may stand for each other, each with something that the guards hold.
SYNONYMS = [("garden", "lawn"), ("story", "saga"), ("car", "van"), ("house", "palace"),
            ("story", "superb"), ("house", "seven"), ("the", "story"), ("car", "not")]  # fmt: skip


def both_ways(pairs):
    """Pairs of words as `synonyms` returns them."""
    rows = sorted((NUMBER[a], NUMBER[b]) for one in pairs for a, b in (one, one[::-1]))
    return tuple(np.array(rows, np.int64).reshape(-1, 2).T)


with pytest.MonkeyPatch.context() as patch:
    patch.setattr(augment, "NEIGHBOURS", 2)  # of a handful of words five would be all
    GUARDS = make_guards(VOCABULARY, vectors(), training_reviews())
    patch.setattr(augment, "synonyms", lambda _: both_ways(SYNONYMS))
    BY_SYNONYMS = make_guards(VOCABULARY, vectors(), training_reviews(), by_synonyms=True)
REVIEWS = st.lists(st.lists(st.sampled_from(range(1, len(VOCABULARY))), max_size=25), max_size=6)


def arrays(rows):
    return [np.array(row, np.int32) for row in rows]


def dice(seed=0):
    return np.random.default_rng(seed)


def replacements(word, guards=GUARDS):
    number = NUMBER[word]
    return [VOCABULARY[other] for other in guards.substitutes[number][: guards.choices[number]]]


# --- What may be touched --------------------------------------------------------------------------


def test_log_odds_count_reviews_of_each_class_smoothed():
    odds, reviews = class_log_odds(training_reviews(), len(VOCABULARY))
    assert reviews[NUMBER["palace"]] == 80
    assert odds[NUMBER["palace"]] == pytest.approx(np.log(61 / 102) - np.log(21 / 102))
    assert odds[0] == 0
    soft = training_reviews()
    teachers = Examples(soft.ids, np.repeat(np.float32([0.9, 0.2]), 100))
    assert (class_log_odds(teachers, len(VOCABULARY))[0] == odds).all()


def test_neighbours_stand_for_each_other_where_they_lean_alike():
    assert replacements("story") == ["tale"]
    assert replacements("tale") == ["story"]
    assert replacements("car") == ["truck"]


@pytest.mark.parametrize(
    "word", ["saga", "van", "house", "palace", "hut", "superb", "not", "seven", "1999", "garden",
             "the", ".", "<unk>"],
)  # fmt: skip
def test_other_words_are_replaced_by_none_and_replace_none(word):
    assert replacements(word) == []
    assert NUMBER[word] not in GUARDS.substitutes


def test_words_that_tell_turn_count_or_are_rare_are_left_alone():
    fixed = {word for word in VOCABULARY if GUARDS.fixed[NUMBER[word]]}
    assert fixed == {"<pad>", "<unk>", "van", "palace", "hut", "superb", "lovely", "not", "however",
                     "but", "seven", "nine", "1999"}  # fmt: skip


def test_a_neighbour_of_one_side_alone_does_not_count(monkeypatch):
    # The nearest of "saga" is "tale", whose nearest is "story"; and all three lean alike here.
    monkeypatch.setattr(augment, "NEIGHBOURS", 1)
    monkeypatch.setitem(WORDS, "saga", (33, 30, 10.3))
    guards = make_guards(VOCABULARY, vectors(), training_reviews())
    assert replacements("saga", guards) == []
    assert replacements("tale", guards) == ["story"]


def test_synonyms_stand_for_each_other_under_the_same_guards():
    having = [word for word in WORDS if replacements(word, BY_SYNONYMS)]
    assert having == ["garden", "lawn"]  # which have no vectors
    assert replacements("garden", BY_SYNONYMS) == ["lawn"]
    assert (BY_SYNONYMS.fixed == GUARDS.fixed).all()
    text = "the garden . the story of a car"
    (new,) = altered([encode(text.replace(" a", ""))], "synonym", 1.0, BY_SYNONYMS, dice())
    assert read(new) == "the lawn . the story of car"


def test_nearest_is_by_angle_and_never_the_word_itself():
    matrix = np.array([[1, 0], [9, 1], [1, 3], [-1, 0.1], [0, 0]], np.float32)
    assert nearest(matrix, 2)[:3].tolist() == [[1, 2], [0, 2], [1, 0]]
    assert nearest(matrix[:1], 5).shape == (1, 0)
    assert nearest(matrix[:0], 5).shape == (0, 0)


def test_few_labels_leave_alone_what_they_say_nothing_of():
    few = training_reviews().take(np.array([0, 1, 2, 100]))
    guards = make_guards(VOCABULARY, vectors(), few)
    assert KNOWN == 5
    assert guards.fixed.all()
    for kind in ("neighbour", "insert", "swap", "delete"):
        assert read(altered([encode("the story of the car")], kind, 0.5, guards, dice())[0]) == (
            "the story of the car"
        )


# --- What is done to a review ---------------------------------------------------------------------


def guarded_words(ids):
    return [number for number in ids if GUARDS.fixed[number]]


@given(REVIEWS, st.sampled_from(KINDS), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 99))
def test_guarded_words_stay_and_keep_their_order(rows, kind, strength, seed):
    ids = arrays(rows)
    new = altered(ids, kind, strength, GUARDS, dice(seed))
    assert len(new) == len(ids)
    for old, after in zip(ids, new, strict=True):
        assert after.dtype == np.int32
        assert bool(len(after)) == bool(len(old))
        if kind == "shuffle":
            assert Counter(after.tolist()) == Counter(old.tolist())
        else:
            assert guarded_words(after) == guarded_words(old)


@pytest.mark.parametrize("kind", ["synonym", "neighbour"])
def test_the_recipe_says_where_substitutes_come_from(kind, monkeypatch):
    monkeypatch.setattr(Prepared, "vectors", vectors())
    monkeypatch.setattr(Prepared, "examples", lambda *_: training_reviews())
    monkeypatch.setattr(augment, "synonyms", lambda _: both_ways(SYNONYMS))
    monkeypatch.setattr(augment, "NEIGHBOURS", 2)
    expected = BY_SYNONYMS if kind == "synonym" else GUARDS
    found = guards_of(RECIPE.changed(augment=kind), Prepared())
    assert (found.substitutes == expected.substitutes).all()
    assert (found.choices == expected.choices).all()


@given(REVIEWS, st.sampled_from([0.05, 0.2, 0.6]), st.integers(0, 99))
def test_no_more_words_change_than_the_strength_says(rows, strength, seed):
    ids = arrays(rows)
    made = {kind: altered(ids, kind, strength, GUARDS, dice(seed)) for kind in ALTERED}
    for place, old in enumerate(ids):
        most = max(1, round(strength * len(old)))
        may = GUARDS.choices[old] > 0
        new = made["neighbour"][place]
        assert (new != old).sum() == min(most, may.sum())
        for word, other in zip(old[new != old], new[new != old], strict=True):
            assert VOCABULARY[other] in replacements(VOCABULARY[word])
        assert len(made["insert"][place]) == len(old) + min(most, may.sum())
        assert 0 <= len(old) - len(made["delete"][place]) <= most
        assert (made["swap"][place] != old).sum() <= 2 * max(1, round(strength * len(old) / 2))
        assert Counter(made["swap"][place].tolist()) == Counter(old.tolist())


@pytest.mark.parametrize("kind", ["neighbour", "insert", "delete", "swap"])
def test_the_strength_is_reached_where_the_guards_allow_it(kind):
    words = dice(7).permuted(np.repeat([NUMBER["story"], NUMBER["car"]], 50)).astype(np.int32)
    (new,) = altered([words], kind, 0.2, GUARDS, dice())
    changed = abs(len(new) - len(words)) or (new != words).sum()
    assert changed == (20 if kind != "swap" else pytest.approx(10, abs=6))  # half swap with alike


@pytest.mark.parametrize("kind", ["swap", "delete"])
def test_words_beside_a_guarded_one_are_left_alone(kind):
    text = "story not car"
    for seed in range(20):
        assert read(altered([encode(text)], kind, 1.0, GUARDS, dice(seed))[0]) == text
    far = "story car not car story"
    seen = {read(altered([encode(far)], kind, 1.0, GUARDS, dice(seed))[0]) for seed in range(20)}
    expected = {"swap": {"story car not car story"}, "delete": {"car not car"}}
    assert seen == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_one_word_reviews(kind):
    assert altered([], kind, 0.5, GUARDS, dice()) == []
    new = altered([encode(""), encode("not"), encode("garden"), encode("")], kind, 1.0, GUARDS,
                  dice())  # fmt: skip
    assert [read(row) for row in new] == ["", "not", "garden", ""]
    (alone,) = altered([encode("story")], kind, 0.1, GUARDS, dice())
    assert len(alone)
    if kind in ("swap", "delete", "shuffle"):
        assert read(alone) == "story"


def test_deletion_never_takes_the_last_word():
    (new,) = altered([encode("story car story car")], "delete", 1.0, GUARDS, dice())
    assert len(new) == 1


def test_words_of_one_review_never_reach_another():
    ids = [encode("story " * 9), encode("car " * 9), encode("house . " * 5)]
    for kind in KINDS:
        for row, own in zip(altered(ids, kind, 0.5, GUARDS, dice(3)),
                            ("story tale", "car truck", "house ."), strict=True):  # fmt: skip
            assert set(read(row).split()) <= set(own.split()), kind


def test_sentences_change_places_whole():
    text = "the story . the car ! the house of the garden . the lawn !"
    parts = {"the story .", "the car !", "the house of the garden .", "the lawn !"}
    seen = set()
    for seed in range(40):
        (new,) = altered([encode(text)], "shuffle", 0.1, GUARDS, dice(seed))
        pieces = read(new).replace(" . ", " .| ").replace(" ! ", " !| ").split("| ")
        assert set(pieces) == parts
        assert read(new) != text
        seen.add(read(new))
    assert len(seen) > 3
    everything = altered([encode(text)], "shuffle", 1.0, GUARDS, dice())[0]
    old, new = (read(row).replace(" !", " .").split(" .") for row in (encode(text), everything))
    assert all(a != b for a, b in zip(old[:4], new[:4], strict=True))  # none stays


def test_a_sentence_that_turns_the_one_before_goes_with_it():
    text = "the story . however the car . the house ."
    seen = {read(altered([encode(text)], "shuffle", 1.0, GUARDS, dice(s))[0]) for s in range(20)}
    assert seen == {"the house . the story . however the car ."}


def test_eda_does_one_of_four_things_to_a_review():
    text = "story car story . story car story ."
    ids = [encode(text)] * 400
    done = Counter()
    for row in altered(ids, "eda", 0.3, GUARDS, dice()):
        if len(row) != 8:
            done["insert" if len(row) > 8 else "delete"] += 1
        else:
            same = Counter(row.tolist()) == Counter(encode(text).tolist())
            done["swap" if same else "neighbour"] += 1
    assert set(done) == set(EDA)
    assert min(done.values()) > 60


# --- An epoch -------------------------------------------------------------------------------------

RECIPE = Recipe(name="toy", augment="eda", augment_share=0.3, augment_strength=0.2, seed=4)


def movable(n=40, seed=0):
    random = np.random.default_rng(seed)
    numbers = [NUMBER[word] for word in MOVABLE]
    ids = [random.choice(numbers, random.integers(8, 30)).astype(np.int32) for _ in range(n)]
    return Examples(ids, (np.arange(n) % 2).astype(np.int8))


def texts(examples):
    return [read(row) for row in examples.ids]


def test_seed_and_epoch_are_all_the_chance():
    training = movable()
    first = texts(augmented(training, RECIPE, GUARDS, 1))
    np.random.seed(1)  # noqa: NPY002
    assert texts(augmented(training, RECIPE, GUARDS, 1)) == first
    assert texts(augmented(training, RECIPE, GUARDS, 2)) != first
    assert texts(augmented(training, RECIPE.changed(seed=5), GUARDS, 1)) != first


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_share_of_the_reviews_is_altered_and_the_others_and_all_labels_stay(share):
    training = movable()
    before = texts(training)
    recipe = RECIPE.changed(augment="swap", augment_share=share, augment_strength=1.0)
    new = augmented(training, recipe, GUARDS, 3)
    chosen = sum(a is not b for a, b in zip(new.ids, training.ids, strict=True))
    assert chosen == round(share * len(training))
    assert (new.labels == training.labels).all()
    assert texts(training) == before  # the next epoch begins from them


def test_without_guards_nothing_is_altered():
    training = movable()
    assert augmented(training, RECIPE, None, 1) is training


def test_the_loop_alters_training_reviews_and_no_pool():
    training, pool = movable(), Pool(movable(6, seed=1), 6)
    recipe = RECIPE.changed(augment_share=1.0, augment="delete")
    examples, _ = loop._plan_epoch(recipe, training, [pool], 1, GUARDS)
    assert sum(map(len, examples.ids[:40])) < sum(map(len, training.ids))
    assert texts(examples)[40:] == texts(pool.draw(recipe.seed, 1))
    plain, _ = loop._plan_epoch(recipe, training, [pool], 1)
    assert texts(plain)[:40] == texts(training)


def start(run, recipe):
    matrix = np.random.default_rng(2).normal(0, 0.4, (len(VOCABULARY), 5)).astype(np.float32)
    network = networks.build(recipe, matrix, np.arange(len(matrix)) > 1)
    machine = Machine(torch.device("cpu"), 1, False)
    return train(recipe, network, movable(), movable(10, 1), run, machine, guards=GUARDS)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    recipe = RECIPE.changed(hidden=4, epochs=2, batch_reviews=8, precision="fp32",
                            augment_share=1.0)  # fmt: skip

    def ended(run):
        return [weights_hash(load_tensors(epoch_path(tmp_path / run, n))[0]) for n in (1, 2)]

    list(start(tmp_path / "whole", recipe))
    running = start(tmp_path / "cut", recipe)
    steps = 0
    while steps < 7:  # in the second epoch
        steps += isinstance(next(running), Step)
    running.close()
    list(start(tmp_path / "cut", recipe))
    assert ended("cut") == ended("whole")
    list(start(tmp_path / "plain", recipe.changed(augment_strength=0.5)))
    assert ended("plain") != ended("whole")


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["synonym", "neighbour", "insert", "eda"])
def test_words_without_substitutes_are_refused(kind, monkeypatch):
    none = Guards(GUARDS.fixed, GUARDS.substitutes, 0 * GUARDS.choices, GUARDS.ends, GUARDS.binds)
    monkeypatch.setattr(augment, "make_guards", lambda *_: none)
    with pytest.raises(BadInput, match=f"--augment {kind}: no word .* choose swap, delete or shuf"
                       ) as refused:  # fmt: skip
        guards_of(RECIPE.changed(augment=kind), Prepared())
    assert ("--embedding" in str(refused.value)) == (kind != "synonym")
    assert guards_of(RECIPE.changed(augment="delete"), Prepared()) is none


class Prepared:
    """What `guards_of` asks of it."""

    class tokenizer:
        vocabulary = VOCABULARY

    vectors = None

    def examples(self, recipe, part):
        assert part == "train"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"augment": "synonyms"}, "--augment must be one of none, synonym, neighbour, insert"),
        ({"augment_share": 0.0}, r"--augment-share must be from 0.01 to 1, not 0.0"),
        ({"augment_strength": 1.5}, r"--augment-strength must be from 0.01 to 1, not 1.5"),
    ],
)
def test_values_that_mean_nothing_are_refused(values, said):
    with pytest.raises(BadInput, match=said):
        Recipe(**values)

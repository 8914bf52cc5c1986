from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.text.sentences import sentences
from reelsense.text.splits import Split
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import count_words
from reelsense.training.pools import SIZES, make_pools, new_texts, stretches
from reelsense.training.prepare import Prepared
from reelsense.vectors.glove import WordVectors

GOOD = ["It has a start {}. The acting was superb! I saw it. The end.", "I loved it {}. A film."]
BAD = ["It has a start {}. The acting was awful! I saw it. The end.", "I hated it {}. A film."]
TEXTS = st.lists(
    st.one_of(st.sampled_from(["It is.", "so", "Mr. X", "!", "...", " ", "\n\n", "<br />", '"']),
              st.text(max_size=5)), max_size=30,
).map(" ".join)  # fmt: skip


def reviews_of(texts, labels=None, source="toy reviews"):
    count = len(texts)
    labels = np.full(count, -1, np.int8) if labels is None else np.array(labels, np.int8)
    ids = tuple(f"row {row}" for row in range(count))
    return Reviews(ids, tuple(texts), labels, np.full(count, -1), ("",) * count, source)


def prepared_of(texts, labels, held_out=4):
    """As `prepare` has it, the last rows held out: half of them to validate, half to test."""
    reviews = reviews_of(texts, labels)
    rows = np.arange(len(texts))
    first, half = len(texts) - held_out, len(texts) - held_out // 2
    split = Split(rows[:first], rows[first:half], rows[half:], "by hand", 0, 0)
    counts = count_words(texts)
    tokenizer = Tokenizer.from_counts(counts, min_count=1)
    size = len(tokenizer.vocabulary)
    vectors = WordVectors(np.zeros((size, 3), np.float32), np.zeros(size, bool), "toy vectors")
    ids = tuple(tokenizer.encode(text) for text in texts)
    return Prepared(reviews, split, tokenizer, vectors, counts, ids)


def toy(count=24):
    """Reviews of which every second is good; each has a word of its own."""
    texts = [(GOOD if row % 2 else BAD)[row // 2 % 2].format(f"w{row}x") for row in range(count)]
    return prepared_of(texts, [row % 2 for row in range(count)])


def read(prepared, ids):
    return " ".join(prepared.tokenizer.vocabulary[number] for number in ids)


UNLABELLED = reviews_of(["A new film.", "Another one.", "A third."])


# --- Stretches ------------------------------------------------------------------------------------


@given(st.lists(TEXTS, max_size=4), st.integers(0, 9))
def test_stretches_lose_nothing_but_white_space_and_tags(texts, seed):
    pieces, owners = stretches(texts, seed)
    assert owners.tolist() == sorted(owners.tolist())
    for owner, text in enumerate(texts):
        mine = [piece for piece, at in zip(pieces, owners, strict=True) if at == owner]
        bounds = sentences(text).tolist()
        first = 0
        for piece in mine:  # side by side, each of the next one, two or three sentences
            ends = [end for _, end in bounds[first : first + 3]]
            possible = [text[bounds[first][0] : end] for end in ends]
            assert piece in possible
            first += possible.index(piece) + 1
        assert first == len(bounds)


def test_stretches_of_plain_text_are_joined_with_white_space_the_text():
    texts = ["It is.  Was it?\n\nIt was!", "No mark", "One. Two. Three. Four. Five. Six. Seven."]
    for seed in range(20):
        pieces, owners = stretches(texts, seed)
        for owner, text in enumerate(texts):
            mine = [piece for piece, at in zip(pieces, owners, strict=True) if at == owner]
            assert " ".join(mine).split() == text.split()
            assert all(piece == piece.strip() for piece in mine)


def test_stretches_are_of_one_to_three_sentences_in_the_promised_shares():
    text = " ".join(f"It is number {row} of them." for row in range(1500))
    pieces, _ = stretches([text], 0)
    sizes = Counter(piece.count(".") for piece in pieces[:-1])
    assert set(sizes) == {1, 2, 3}
    for size, share in zip((1, 2, 3), SIZES, strict=True):
        assert sizes[size] / len(pieces) == pytest.approx(share, abs=0.05)


def test_a_seed_says_where_the_cuts_are():
    texts = ["One. Two. Three. Four. Five. Six. Seven. Eight."] * 5
    assert stretches(texts, 1)[0] == stretches(texts, 1)[0]
    assert stretches(texts, 1)[0] != stretches(texts, 2)[0]


@pytest.mark.parametrize("texts", [[], [""], ["", " \n", "<br />"]])
def test_texts_without_words_have_no_stretches(texts):
    pieces, owners = stretches(texts, 0)
    assert pieces == []
    assert owners.shape == (0,)


def test_the_pool_holds_the_training_reviews_alone_each_stretch_with_its_label():
    prepared = toy()
    (pool,) = make_pools(Recipe(sentence_share=0.5), prepared)
    whole = {
        label: " | ".join(
            read(prepared, prepared.ids[row])
            for row in prepared.split.train
            if prepared.reviews.labels[row] == label
        )
        for label in (0, 1)
    }
    told = 0
    for ids, label in zip(pool.examples.ids, pool.examples.labels.tolist(), strict=True):
        text = read(prepared, ids)
        assert text in whole[label]
        told += any(word in text for word in ("superb", "loved", "awful", "hated"))
    assert told == len(prepared.split.train)
    words = " ".join(read(prepared, ids) for ids in pool.examples.ids).split()
    assert {word for word in words if word.endswith("x")} == {
        f"w{row}x" for row in prepared.split.train
    }


# --- How many an epoch draws ----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 3.0])
def test_shares_are_of_the_training_reviews(share):
    prepared = toy()
    recipe = Recipe(sentence_share=share, counterfactual_share=share, unlabelled_share=share)
    pools = make_pools(recipe, prepared, [UNLABELLED])
    assert len(pools) == 3
    for pool in pools:
        assert pool.a_pass == round(share * len(prepared.split.train))
        for epoch in (1, 2):
            assert len(pool.draw(recipe.seed, epoch)) == pool.a_pass


def test_a_recipe_without_shares_has_no_pools():
    assert make_pools(Recipe(), toy(), [UNLABELLED]) == []


def test_the_recipe_says_how_much_is_read():
    recipe = Recipe(sentence_share=1, counterfactual_share=1, unlabelled_share=1, max_tokens=2)
    for pool in make_pools(recipe, toy(), [UNLABELLED]):
        assert {len(ids) for ids in pool.examples.ids} <= {1, 2}


# --- Edits ----------------------------------------------------------------------------------------


def test_edits_are_of_the_training_reviews_and_bear_a_chance():
    prepared = toy()
    (pool,) = make_pools(Recipe(counterfactual_share=1), prepared)
    found = {
        read(prepared, ids): round(chance, 2)
        for ids, chance in zip(pool.examples.ids, pool.examples.labels.tolist(), strict=True)
    }
    assert found["the acting was superb ."] == 0.95
    assert found["the acting was awful ."] == 0.05
    held_out = [f"w{row}x" for row in (*prepared.split.validation, *prepared.split.test)]
    assert not any(word in text for text in found for word in held_out)


# --- Reviews without a label ----------------------------------------------------------------------


def test_reviews_without_a_label_have_none_in_the_pool():
    prepared = toy()
    (pool,) = make_pools(Recipe(unlabelled_share=1), prepared, [UNLABELLED])
    assert pool.examples.labels.tolist() == [-1, -1, -1]
    for ids, text in zip(pool.examples.ids, UNLABELLED.texts, strict=True):
        assert ids.tolist() == prepared.tokenizer.encode(text).tolist()


def test_a_text_among_the_labelled_is_no_new_one_whatever_its_part():
    prepared, recipe = toy(), Recipe(unlabelled_share=1)
    for part in ("train", "validation", "test"):
        row = getattr(prepared.split, part)[0]
        text = prepared.reviews.texts[row].upper().replace(" ", "<br />\n ")
        assert new_texts(recipe, prepared, [reviews_of([text, "A new one."])]) == ["A new one."]


def test_a_text_comes_once_from_however_many_sources():
    sources = [
        reviews_of(["A new one.", "a  new ONE.", "Another."]),
        reviews_of(["Another.", "A third.", "A<br />new one."]),
    ]
    texts = new_texts(Recipe(unlabelled_share=1), toy(), sources)
    assert texts == ["A new one.", "Another.", "A third."]


# --- What cannot be ------------------------------------------------------------------------------


def refused(recipe, prepared, unlabelled=()):
    with pytest.raises(BadInput) as caught:
        make_pools(recipe, prepared, unlabelled)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_reviews_without_a_label_is_an_error_with_the_flags():
    prepared = toy()
    known = reviews_of(prepared.reviews.texts)
    for unlabelled in ([], [known]):
        message = refused(Recipe(unlabelled_share=1.5), prepared, unlabelled)
        assert message.startswith("--unlabelled-share 1.5 needs reviews without labels")
        assert "--unlabelled" in message.split(";")[1]


def test_no_plain_sentence_is_an_error_with_the_flag():
    prepared = prepared_of(["A film.", "The end.", "It is.", "So."] * 3, [0, 1] * 6)
    message = refused(Recipe(counterfactual_share=0.3), prepared)
    assert message.startswith("--counterfactual-share 0.3: no sentence")


def test_edits_are_refused_where_their_negations_would_be_cleaned_away():
    message = refused(Recipe(counterfactual_share=0.3, cleanup="classic"), toy())
    assert "--counterfactual-share 0.3" in message
    assert "--cleanup classic" in message


def test_no_stretch_is_an_error_with_the_flag_and_no_division_by_zero():
    prepared = toy()
    blank = replace(prepared.reviews, texts=("<br />",) * len(prepared.reviews))
    message = refused(Recipe(sentence_share=2), replace(prepared, reviews=blank))
    assert message.startswith("--sentence-share 2: the training reviews have no sentences")

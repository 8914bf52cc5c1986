import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import seen
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised, split
from reelsense.training.corpus import END, read_corpus, streams
from reelsense.training.prepare import prepare

PLAIN = ["the", "film", "was", "a", "plot", "and", "not", "with", "actors", "music"]


def toy(n=120, seed=0, name="w", labelled=True):
    """Reviews of films of four; each has a word that no other has."""
    random = np.random.default_rng(seed)
    texts = [
        " ".join([*random.choice(PLAIN, random.integers(4, 30)), f"{name}{row}x"])
        for row in range(n)
    ]
    return Reviews(
        ids=tuple(f"row {row + 1}" for row in range(n)),
        texts=tuple(texts),
        labels=(np.arange(n) % 2 if labelled else np.full(n, -1)).astype(np.int8),
        films=(np.arange(n) // 4 + (0 if labelled else 1000)).astype(np.int64),
        parts=("",) * n,
        source="toy reviews",
    )


def unlabelled(texts):
    """Reviews whose films are not known."""
    n = len(texts)
    return Reviews(("",) * n, tuple(texts), np.full(n, -1, np.int8), np.full(n, -1), ("",) * n, "u")


@pytest.fixture
def recipe(tmp_path):
    """A recipe whose vectors, of 6 dimensions, stand in a file of a few words."""
    path = tmp_path / "glove.toy.txt"
    random = np.random.default_rng(3)
    rows = [" ".join([word, *(f"{x:.4f}" for x in random.normal(size=6))]) for word in PLAIN[:-2]]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Pretraining(
        embedding=str(path), dimensions=8, min_count=1, min_films=1, max_words=0, rows=4, window=6,
        validation=0.2, test=0.2,
    )  # fmt: skip


def parts(recipe, reviews):
    return split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)


def held_out(recipe, reviews):
    cut = parts(recipe, reviews)
    return [*cut.validation.tolist(), *cut.test.tolist()]


def read(corpus):
    """The training texts as words."""
    return [" ".join(corpus.tokenizer.vocabulary[n] for n in ids) for ids in corpus.training]


def same(a, b):
    assert a.tokenizer == b.tokenizer
    assert [ids.tolist() for ids in a.training] == [ids.tolist() for ids in b.training]
    assert [ids.tolist() for ids in a.validation] == [ids.tolist() for ids in b.validation]
    assert a.counts.tolist() == b.counts.tolist()


# --- Which texts ----------------------------------------------------------------------------------


def test_the_text_is_the_labelled_training_part_and_then_all_that_is_unlabelled(recipe):
    labelled, more, others = toy(), toy(40, 1, "u", False), toy(30, 2, "v", False)
    corpus = read_corpus(recipe, labelled, [more, others])
    texts = [labelled.texts[row] for row in parts(recipe, labelled).train]
    assert read(corpus) == [*texts, *more.texts, *others.texts]


def test_what_a_training_holds_out_is_in_no_text_and_no_word(recipe):
    """A training with the same shares and split seed, which knows nothing of this recipe."""
    labelled = toy()
    training = Recipe(
        embedding=recipe.embedding, min_count=1, validation=0.2, test=0.2, split_seed=3
    )
    corpus = read_corpus(recipe.changed(split_seed=3), labelled, [toy(40, 1, "u", False)])
    prepared = prepare(training, labelled)
    words = set(corpus.tokenizer.vocabulary)
    for part, inside in (("train", True), ("validation", False), ("test", False)):
        rows = getattr(prepared.split, part)
        assert len(rows)
        assert {f"w{row}x" in words for row in rows} == {inside}
    assert [ids.tolist() for ids in corpus.validation] == [
        corpus.tokenizer.encode(labelled.texts[row]).tolist() for row in prepared.split.validation
    ]
    assert prepare(training, labelled).split.test.tolist() != parts(recipe, labelled).test.tolist()


def test_what_was_read_is_known_again_and_what_is_held_out_is_not(recipe):
    labelled, more = toy(), toy(40, 1, "u", False)
    rows = held_out(recipe, labelled)
    copies = [labelled.texts[row].upper() for row in rows]
    corpus = read_corpus(recipe, labelled, [unlabelled([*more.texts, *copies])])
    known = seen(map(normalised, labelled.texts), corpus.read)
    assert set(np.flatnonzero(~known).tolist()) == set(rows)
    assert seen(map(normalised, more.texts), corpus.read).all()
    assert len(corpus.read) == len(corpus.training)


def test_copies_of_held_out_reviews_among_the_unlabelled_are_left_out(recipe):
    labelled = toy()
    rows = held_out(recipe, labelled)
    copies = [labelled.texts[row].upper().replace(" ", " <br /><br />", 1) for row in rows]
    more = toy(40, 1, "u", False)
    mixed = unlabelled([*more.texts[:20], *copies, *more.texts[20:]])
    corpus = read_corpus(recipe, labelled, [mixed])
    same(corpus, read_corpus(recipe, labelled, [replace(more, films=np.full(40, -1))]))
    assert not {f"w{row}x" for row in rows} & set(corpus.tokenizer.vocabulary)


@pytest.mark.parametrize("least", ["min_count", "min_films"])
def test_what_is_held_out_does_not_count_for_the_vocabulary(recipe, least):
    labelled = toy()
    texts, cut = list(labelled.texts), parts(recipe, labelled)
    for rows, word in ((cut.validation, "hidden"), (cut.test, "secret"), (cut.train[::4], "seen")):
        for row in rows:
            texts[row] += f" {word}"
    texts[cut.train[0]] += " hidden secret"
    labelled = replace(labelled, texts=tuple(texts))
    # Copies of the held-out reviews do not bring the words in either.
    more = unlabelled([texts[row] for row in (*cut.validation, *cut.test)])
    corpus = read_corpus(recipe.changed(**{least: 2}), labelled, [more])
    assert {"hidden", "secret", "seen"} & set(corpus.tokenizer.vocabulary) == {"seen"}


def test_a_text_is_read_once(recipe):
    labelled, more = toy(), toy(40, 1, "u", False)
    train = parts(recipe, labelled).train
    again = unlabelled([*more.texts, more.texts[3].title(), labelled.texts[train[5]]])
    expected = read_corpus(recipe, labelled, [replace(more, films=np.full(40, -1))])
    same(read_corpus(recipe, labelled, [again, again, more]), expected)


def test_the_sources_own_test_part_is_left_out_even_where_no_test_is_asked_for(recipe):
    labelled = toy()
    given = replace(labelled, parts=tuple("test" if row >= 100 else "" for row in range(120)))
    copies = unlabelled(labelled.texts[100:])
    for share in (0.2, 0.0):
        words = set(read_corpus(recipe.changed(test=share), given, [copies]).tokenizer.vocabulary)
        assert not {f"w{row}x" for row in range(100, 120)} & words
        assert "the" in words


def test_labels_do_not_matter(recipe):
    """Those of unlabelled reviews not at all; of the labelled, which is which."""
    labelled, more = toy(), toy(40, 1, "u", False)
    corpus = read_corpus(recipe, labelled, [more])
    with_labels = replace(more, labels=(np.arange(40) % 3 == 0).astype(np.int8))
    turned = replace(labelled, labels=(1 - labelled.labels).astype(np.int8))
    same(read_corpus(recipe, turned, [with_labels]), corpus)


def test_no_unlabelled_reviews_are_needed_and_no_validation(recipe):
    corpus = read_corpus(recipe.changed(validation=0.0, test=0.0), toy(), [])
    assert read(corpus) == list(toy().texts)
    assert corpus.validation == ()


# --- Words, counts, vectors -----------------------------------------------------------------------


def test_texts_are_numbered_as_the_tokenizer_numbers_them(recipe):
    """Also after words of few films and all but the most frequent are out."""
    labelled, more = toy(), toy(40, 1, "u", False)
    texts = [*(labelled.texts[row] for row in parts(recipe, labelled).train), *more.texts]
    for changes in ({}, {"min_count": 2}, {"min_films": 2}, {"max_words": 5}):
        corpus = read_corpus(recipe.changed(**changes), labelled, [more])
        for text, ids in zip(texts, corpus.training, strict=True):
            assert ids.tolist() == corpus.tokenizer.encode(text).tolist()
    assert corpus.tokenizer.encode("w0x").tolist() == [1]


def test_the_vocabulary_is_limited_by_films_and_to_the_most_frequent(recipe):
    labelled, more = toy(), toy(40, 1, "u", False)
    films = [f"{text} film{row // 4} everywhere" for row, text in enumerate(more.texts)]
    more = replace(more, texts=tuple(films))
    few = set(read_corpus(recipe.changed(min_films=2), labelled, [more]).tokenizer.vocabulary)
    every = set(read_corpus(recipe, labelled, [more]).tokenizer.vocabulary)
    assert few == {word for word in every if not word[-1].isdigit() and word[-1] != "x"}
    assert {"film9", "everywhere"} <= every
    assert "everywhere" in few

    corpus = read_corpus(recipe.changed(max_words=4), labelled, [more])
    train = [labelled.texts[row] for row in parts(recipe, labelled).train]
    frequent = Counter(" ".join([*train, *more.texts]).split()).most_common(4)
    assert set(corpus.tokenizer.vocabulary[2:]) == {word for word, _ in frequent}


def test_counts_are_of_the_training_text_and_of_the_ends(recipe):
    corpus = read_corpus(recipe.changed(min_count=2), toy(), [toy(40, 1, "u", False)])
    text = np.concatenate(corpus.training)
    assert corpus.counts.shape == (len(corpus.tokenizer.vocabulary),)
    assert corpus.counts[END] == len(corpus.training)
    for number in range(1, len(corpus.counts)):
        assert corpus.counts[number] == (text == number).sum()
    assert corpus.counts[1] == len(corpus.training)  # each text has a word of its own
    assert corpus.tokens() == len(text) + len(corpus.training)


def test_vectors_have_a_row_a_word_and_may_be_narrower_than_the_model(recipe):
    corpus = read_corpus(recipe, toy(), [])
    assert corpus.vectors.matrix.shape == (len(corpus.tokenizer.vocabulary), 6)
    found = dict(zip(corpus.tokenizer.vocabulary, corpus.vectors.found.tolist(), strict=True))
    assert {word for word, known in found.items() if known} == set(PLAIN[:-2])
    read_corpus(recipe.changed(dimensions=6), toy(), [])


def test_sources_are_the_hashes_of_all_that_was_read(recipe, tmp_path):
    labelled, more, others = toy(), toy(40, 1, "u", False), toy(30, 2, "v", False)
    sources = read_corpus(recipe, labelled, [more, others]).sources
    assert read_corpus(recipe, labelled, [more, others]).sources == sources
    assert sources["reviews"] == labelled.sha256
    for different in ([], [more], [others, more], [more, others, more], [more, toy(30, 3)]):
        changed = read_corpus(recipe, labelled, different).sources
        assert changed.keys() == sources.keys()
        assert changed["reviews"] == sources["reviews"]
        assert changed["unlabelled reviews"] != sources["unlabelled reviews"]
    path = tmp_path / "glove.toy.txt"
    path.write_text(path.read_text().replace("the ", "the 9"))
    changed = read_corpus(recipe, labelled, [more, others]).sources
    assert {key for key in sources if changed[key] != sources[key]} == {"vectors"}


# --- What cannot be used --------------------------------------------------------------------------


def test_vectors_that_are_wider_than_the_model_are_refused(recipe):
    with pytest.raises(BadInput, match=r"^--dimensions 5: .*glove\.toy\.txt has 6; give at least"):
        read_corpus(recipe.changed(dimensions=5), toy(), [])


def test_a_vocabulary_without_a_word_is_refused_and_names_both_flags(recipe):
    for changes in ({"min_count": 10_000}, {"min_films": 10_000}):
        with pytest.raises(BadInput, match=r"no word is left .*--min-count .*--min-films .*more"):
            read_corpus(recipe.changed(**changes), toy(), [])


def test_a_text_shorter_than_a_window_of_every_row_is_refused(recipe):
    whole = read_corpus(recipe, toy(), [])
    longest = (whole.tokens() + 1) // recipe.rows - 1
    read_corpus(recipe.changed(window=longest), toy(), [])
    with pytest.raises(BadInput) as caught:
        read_corpus(recipe.changed(window=longest + 1), toy(), [])
    assert str(caught.value) == (
        f"toy reviews: {whole.tokens():,} tokens are too few for 4 rows of {longest + 1}; "
        "lower --rows or --window, or bring more reviews"
    )
    with pytest.raises(BadInput, match="too few for 100000 rows of 6"):
        read_corpus(recipe.changed(rows=100_000), toy(), [])


def test_too_few_reviews_to_split_are_refused(recipe):
    with pytest.raises(BadInput, match=r"toy reviews: .*too few to split"):
        read_corpus(recipe, toy(3), [])


# --- Running text ---------------------------------------------------------------------------------

REVIEWS = st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=1, max_size=8)


def stream(reviews, rows, backwards, seed=0):
    ids = [np.array(review, np.int32) for review in reviews]
    return streams(ids, rows, np.random.default_rng(seed), backwards)


def reviews_in(text):
    """The reviews of a text that begins and ends with END."""
    assert text[0] == text[-1] == END
    found, between = [], np.flatnonzero(text == END)
    for a, b in itertools.pairwise(between):
        found.append(text[a + 1 : b].tolist())
    return found


@given(REVIEWS, st.integers(0, 5))
def test_in_one_row_every_review_is_there_whole_with_an_end_before_and_after(reviews, seed):
    text = stream(reviews, 1, False, seed)
    assert text.shape == (1, sum(map(len, reviews)) + len(reviews) + 1)
    assert text.dtype == np.int32
    assert sorted(reviews_in(text[0])) == sorted(reviews)


@given(REVIEWS, st.integers(0, 5))
def test_backwards_is_the_same_text_from_its_end(reviews, seed):
    forward, backward = (stream(reviews, 1, turned, seed) for turned in (False, True))
    assert forward[0].tolist() == backward[0, ::-1].tolist()


@given(REVIEWS, st.integers(1, 6), st.booleans())
def test_rows_follow_each_other_and_less_than_a_token_a_row_is_left_out(reviews, rows, backwards):
    whole = stream(reviews, 1, backwards)[0]
    text = stream(reviews, rows, backwards)
    assert len(text) == rows
    assert text.flatten().tolist() == whole[: text.size].tolist()
    assert len(whole) - text.size < rows


def test_the_order_is_that_of_the_seed_and_no_review_keeps_its_place():
    reviews = [[number] for number in range(1, 40)]
    first = reviews_in(stream(reviews, 1, False, seed=1)[0])
    assert first == reviews_in(stream(reviews, 1, False, seed=1)[0])
    assert first != reviews_in(stream(reviews, 1, False, seed=2)[0])
    assert first != reviews

from dataclasses import replace

import numpy as np
import pytest

from reelsense.errors import BadInput
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.training.checkpoint import weights_hash
from reelsense.training.prepare import SHAPES_DATA, as_read, prepare
from reelsense.training.start import Start

GOOD, BAD = ["great", "fine", "loved", "superb"], ["awful", "dull", "hated", "waste"]
PLAIN = ["the", "film", "was", "a", "plot", "and", "not", "with", "actors", "music"]


def toy_reviews(n=120, seed=0):
    """Reviews of films of four; each review has a word that no other has."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 2).astype(np.int8)
    texts = []
    for row, label in enumerate(labels):
        words = [str(word) for word in random.choice(PLAIN, random.integers(4, 30))]
        words.insert(int(random.integers(len(words))), str(random.choice(GOOD if label else BAD)))
        texts.append(" ".join([*words, f"w{row}x"]))
    return Reviews(
        ids=tuple(f"row {row + 1}" for row in range(n)),
        texts=tuple(texts),
        labels=labels,
        films=(np.arange(n) // 4).astype(np.int64),
        parts=("",) * n,
        source="toy reviews",
    )


@pytest.fixture
def recipe(tmp_path):
    """A recipe whose vectors stand in a file of a few words."""
    path = tmp_path / "glove.toy.txt"
    random = np.random.default_rng(3)
    rows = [
        " ".join([word, *(f"{x:.4f}" for x in random.normal(0, 0.4, 6))])
        for word in [*PLAIN, *GOOD, *BAD[:2]]
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Recipe(
        name="toy", embedding=str(path), hidden=4, min_count=1, max_words=0, cleanup="none",
        max_tokens=0, validation=0.2, test=0.2, split_seed=0,
    )  # fmt: skip


def test_the_fields_that_shape_data_are_all_that_are_read_for_them(recipe):
    """Who keeps prepared data for other recipes relies on it."""
    read = set()

    class Spied:
        def __getattr__(self, name):
            read.add(name)
            return getattr(recipe.changed(min_films=2), name)

    prepare(Spied(), toy_reviews())
    assert read == set(SHAPES_DATA)


def test_the_vocabulary_is_that_of_the_training_part_alone(recipe):
    prepared = prepare(recipe, toy_reviews())
    words = set(prepared.tokenizer.vocabulary)
    for part, inside in (("train", True), ("validation", False), ("test", False)):
        for row in getattr(prepared.split, part):
            assert (f"w{row}x" in words) == inside


def test_a_word_of_another_part_changes_nothing_of_what_the_training_gets(recipe):
    reviews = toy_reviews()
    before = prepare(recipe, reviews)
    texts = list(reviews.texts)
    for row in before.split.test:
        texts[row] += " superb superb superb nonsense"
    changed = Reviews(
        reviews.ids, tuple(texts), reviews.labels, reviews.films, reviews.parts, reviews.source
    )
    after = prepare(recipe, changed)
    assert after.tokenizer.vocabulary == before.tokenizer.vocabulary
    assert (after.vectors.matrix == before.vectors.matrix).all()
    for part in ("train", "validation"):
        for a, b in zip(
            before.examples(recipe, part).ids, after.examples(recipe, part).ids, strict=True
        ):
            assert a.tolist() == b.tolist()


def test_examples_are_the_encoded_reviews_of_the_part_with_their_labels(recipe):
    reviews = toy_reviews()
    prepared = prepare(recipe, reviews)
    seen = []
    for part in ("train", "validation", "test"):
        rows = getattr(prepared.split, part)
        examples = prepared.examples(recipe, part)
        assert examples.labels.tolist() == reviews.labels[rows].tolist()
        for ids, row in zip(examples.ids, rows, strict=True):
            assert ids.tolist() == prepared.tokenizer.encode(reviews.texts[row]).tolist()
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(reviews)))


@pytest.mark.parametrize("keep", ["head", "tail", "head+tail"])
def test_reviews_are_shortened_as_the_recipe_says(recipe, keep):
    recipe = recipe.changed(max_tokens=8, keep=keep)
    prepared = prepare(recipe, toy_reviews())
    for ids, row in zip(prepared.examples(recipe, "train").ids, prepared.split.train, strict=True):
        whole = prepared.ids[row].tolist()
        first = {"head": 8, "tail": 0, "head+tail": 2}[keep]
        expected = whole[:first] + whole[len(whole) - (8 - first) :] if len(whole) > 8 else whole
        assert ids.tolist() == expected
    assert max(map(len, prepared.ids)) > 8


def test_vectors_have_a_row_a_word(recipe):
    prepared = prepare(recipe, toy_reviews())
    vocabulary = prepared.tokenizer.vocabulary
    assert prepared.vectors.matrix.shape == (len(vocabulary), 6)
    found = dict(zip(vocabulary, prepared.vectors.found.tolist(), strict=True))
    assert found["great"]
    assert not found[BAD[3]]
    known = prepared.coverage()
    assert 0 < known["types"] < known["tokens"] < 1


def test_the_recipe_limits_the_vocabulary(recipe):
    fewer = prepare(recipe.changed(min_count=2), toy_reviews()).tokenizer.vocabulary
    assert not [word for word in fewer if word.startswith("w") and word.endswith("x")]
    assert len(prepare(recipe.changed(max_words=5), toy_reviews()).tokenizer.vocabulary) == 5 + 2
    classic = prepare(recipe.changed(cleanup="classic"), toy_reviews())
    assert "the" not in classic.tokenizer.vocabulary
    assert "the" in prepare(recipe, toy_reviews()).tokenizer.vocabulary


def test_words_of_few_films_are_left_out_and_nothing_else_changes(recipe):
    reviews = toy_reviews()
    texts = [f"{text} film{film}" for text, film in zip(reviews.texts, reviews.films, strict=True)]
    reviews = replace(reviews, texts=tuple(texts))
    every, common = prepare(recipe, reviews), prepare(recipe.changed(min_films=2), reviews)
    named = {word for word in every.tokenizer.vocabulary if word[-1].isdigit() or word[-1] == "x"}
    gone = set(every.tokenizer.vocabulary) - set(common.tokenizer.vocabulary)
    assert {f"film{film}" for film in reviews.films[every.split.train]} <= gone <= named
    for text, ids in zip(reviews.texts, common.ids, strict=True):
        assert ids.tolist() == common.tokenizer.encode(text).tolist()


def test_a_review_of_no_known_film_counts_as_a_film(recipe):
    reviews = replace(toy_reviews(), films=np.full(120, -1))
    vocabulary = prepare(recipe.changed(min_films=2), reviews).tokenizer.vocabulary
    assert {"the", "great"} <= set(vocabulary)
    assert not any(word.endswith("x") for word in vocabulary)


def test_the_split_is_the_recipes(recipe):
    first, again = prepare(recipe, toy_reviews()), prepare(recipe, toy_reviews())
    other = prepare(recipe.changed(split_seed=1), toy_reviews())
    assert first.split.test.tolist() == again.split.test.tolist() != other.split.test.tolist()
    assert len(first.split.test) == pytest.approx(0.2 * 120, abs=4)


def test_with_few_labels_the_other_training_reviews_are_not_looked_at(recipe):
    reviews = toy_reviews()
    whole = prepare(recipe, reviews)
    few = prepare(recipe.changed(label_share=0.25), reviews)
    assert len(few.split.train) == pytest.approx(len(whole.split.train) / 4, abs=1)
    assert few.split.test.tolist() == whole.split.test.tolist()
    words = set(few.tokenizer.vocabulary)
    for row in whole.split.train:
        assert (f"w{row}x" in words) == (row in few.split.train)
    other = prepare(recipe.changed(label_share=0.25, seed=1), reviews)
    assert other.split.train.tolist() != few.split.train.tolist()


def test_the_hashes_are_of_the_reviews_and_of_the_vectors(recipe, tmp_path):
    hashes = prepare(recipe, toy_reviews()).hashes()
    assert prepare(recipe, toy_reviews()).hashes() == hashes
    assert prepare(recipe, toy_reviews(seed=1)).hashes()["reviews"] != hashes["reviews"]
    path = tmp_path / "glove.toy.txt"
    path.write_text(path.read_text().replace("great 0", "great 1").replace("great -0", "great 1"))
    changed = prepare(recipe, toy_reviews()).hashes()
    assert changed["reviews"] == hashes["reviews"]
    assert changed["vectors"] != hashes["vectors"]


@pytest.mark.parametrize("cleanup", ["none", "classic"])
def test_the_description_counts_whole_reviews_whatever_the_recipe_reads(recipe, cleanup):
    reviews = toy_reviews()
    described = prepare(recipe.changed(cleanup=cleanup, max_tokens=5), reviews).description()
    assert described["n"] == len(reviews)
    assert described["lengths"]["max"] == max(len(text.split()) for text in reviews.texts)


def test_an_empty_review_is_read_as_no_tokens(recipe):
    prepared = prepare(recipe, toy_reviews())
    nothing = prepared.tokenizer.encode("")
    examples = as_read([nothing], np.array([1], np.int8), recipe)
    assert [len(ids) for ids in examples.ids] == [0]


# --- From given words and weights -----------------------------------------------------------------


def start_of(recipe, reviews):
    """What a fine-tuning may start from: the words of some reviews and a network for them."""
    first = prepare(recipe, reviews)
    network = build(recipe, first.vectors.matrix, first.vectors.found)
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    return Start("before", recipe, first.tokenizer, weights, np.zeros(0, np.uint64))


def test_a_start_gives_the_words_and_their_vectors_and_no_file_is_read(recipe):
    start = start_of(recipe, toy_reviews())
    other = toy_reviews(seed=1)
    other = replace(other, texts=tuple(f"{text} new{row}" for row, text in enumerate(other.texts)))
    tuned = recipe.changed(embedding="nowhere.txt", min_count=99)
    prepared = prepare(tuned, other, start)
    assert prepared.tokenizer is start.tokenizer
    assert prepared.split.train.tolist() == prepare(recipe, other).split.train.tolist()
    for ids, text in zip(prepared.ids, other.texts, strict=True):
        assert ids.tolist() == start.tokenizer.encode(text).tolist()
    assert (prepared.vectors.matrix == start.weights["embedding.weight"].numpy()).all()
    known = prepared.coverage()
    assert known["types"] == 1
    assert 0.5 < known["tokens"] < 1


def test_the_hashes_of_a_start_are_those_of_all_its_weights(recipe):
    start = start_of(recipe, toy_reviews())
    hashes = prepare(recipe, toy_reviews(), start).hashes()
    assert hashes == {
        "reviews": toy_reviews().sha256, "starting weights": weights_hash(start.weights)
    }  # fmt: skip
    moved = start.weights | {"output.bias": start.weights["output.bias"] + 1}
    again = prepare(recipe, toy_reviews(), replace(start, weights=moved)).hashes()
    assert again["starting weights"] != hashes["starting weights"]


def test_reviews_of_which_a_start_knows_no_word_are_refused(recipe):
    start = start_of(recipe, toy_reviews())
    foreign = replace(toy_reviews(), texts=tuple(f"映画 {row}" for row in range(120)))
    with pytest.raises(BadInput, match="toy reviews: before knows none of its words"):
        prepare(recipe, foreign, start)


def test_too_few_reviews_and_vectors_that_are_not_there_are_refused(recipe):
    with pytest.raises(BadInput, match="too few to split"):
        prepare(recipe, toy_reviews().take([0, 1, 2]))
    with pytest.raises(BadInput, match=r"nowhere\.txt"):
        prepare(recipe.changed(embedding="nowhere.txt"), toy_reviews())

from dataclasses import asdict

import numpy as np
import pytest
import torch

from reelsense.errors import BadInput
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import STARTING_WEIGHTS, open_run, save_tensors
from reelsense.training.start import (
    FIXED,
    GENTLE,
    STARTED_FROM,
    fine_tuning,
    learned_before,
    read_start,
)

RECIPE = Recipe(
    name="shipped", about="all reviews", hidden=3, validation=0.0, test=0.0, seed=7, split_seed=9,
    learning_rate=0.006, epochs=9, crop_tokens=50, dropout=0.4,
)  # fmt: skip
WORDS = Tokenizer.fit(["a fine film and a dull one"], min_count=1)
LEARNED = hash_texts(["a fine film"])
ABOUT = {"name": "toy", "recipe": asdict(RECIPE), "variant": "int8"}


def network(recipe=RECIPE):
    words = len(WORDS.vocabulary)
    vectors = np.random.default_rng(0).normal(size=(words, 5)).astype(np.float32)
    return build(recipe, vectors, np.arange(words) > 1)


def write_weights(folder, weights):
    save_tensors(folder / "weights.safetensors", weights, {})


@pytest.fixture
def folder(tmp_path):
    """What a fine-tuning reads of a bundle's folder."""
    halves = {name: weight.half() for name, weight in network().state_dict().items()}
    write_weights(tmp_path, halves)
    return tmp_path


def test_a_start_is_the_bundles_network_in_float32(folder):
    start = read_start(folder, ABOUT, WORDS, LEARNED)
    assert {weight.dtype for weight in start.weights.values()} == {torch.float32}
    ids, lengths = torch.tensor([[2, 3, 4, 0]]), torch.tensor([3])
    halved = network()
    halved.load_state_dict({name: w.half().float() for name, w in halved.state_dict().items()})
    assert torch.equal(start.network(start.recipe)(ids, lengths), halved(ids, lengths))
    assert start.vectors().found.tolist() == [False, False] + [True] * (len(WORDS.vocabulary) - 2)


def test_training_the_network_leaves_the_start_as_it_was(folder):
    start = read_start(folder, ABOUT, WORDS, LEARNED)
    before = start.weights["output.bias"].clone()
    with torch.no_grad():
        start.network(start.recipe).output.bias.add_(1)
    assert torch.equal(start.weights["output.bias"], before)


def test_the_recipe_is_the_bundles_trained_gently_on_parts_of_its_own(folder):
    start = read_start(folder, ABOUT, WORDS, LEARNED)
    recipe = fine_tuning(start, {})
    assert (recipe.name, recipe.about) == (
        "fine-tuned", "a few gentle epochs from the weights of toy"
    )  # fmt: skip
    assert {name: getattr(recipe, name) for name in GENTLE} == GENTLE
    assert recipe.learning_rate < RECIPE.learning_rate
    usual = Recipe()
    for name in ("validation", "test", "split_seed", "seed"):
        assert getattr(recipe, name) == getattr(usual, name)
    for name in ("hidden", "crop_tokens", "dropout"):
        assert getattr(recipe, name) == getattr(RECIPE, name)
    changed = fine_tuning(start, {"epochs": 7, "test": 0.0, "dropout": 0.0})
    assert (changed.epochs, changed.test, changed.dropout) == (7, 0.0, 0.0)


@pytest.mark.parametrize("name", FIXED)
def test_what_the_weights_were_made_with_cannot_be_changed(folder, name):
    option = "--" + name.replace("_", "-")
    with pytest.raises(BadInput) as caught:
        fine_tuning(read_start(folder, ABOUT, WORDS, LEARNED), {name: getattr(RECIPE, name)})
    made_with = getattr(RECIPE, name)
    assert str(caught.value) == (
        f"{option} cannot be changed with --from: toy was made with {made_with}; leave {option} out"
    )


def test_whatever_shapes_the_network_or_the_vocabulary_is_among_them():
    shaping = {
        name: dict(network(RECIPE.changed(**{name: value})).named_parameters())
        for name, value in {
            "hidden": 4, "layers": 2, "pooling": "last", "dense": 2, "dropout": 0.1,
            "train_embedding": False, "max_tokens": 60, "epochs": 2,
        }.items()
    }  # fmt: skip
    usual = {name: weight.shape for name, weight in network().named_parameters()}
    for name, weights in shaping.items():
        other = {key: weight.shape for key, weight in weights.items()} != usual
        assert other == (name in FIXED), name


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (ABOUT | {"recipe": asdict(RECIPE) | {"hidden": 4}}, "its weights do not fit its recipe"),
        (ABOUT | {"recipe": asdict(RECIPE) | {"units": 4}}, r"bundle\.json: unknown key 'units'"),
        (ABOUT | {"recipe": asdict(RECIPE) | {"hidden": -1}}, r"bundle\.json: --hidden must be"),
    ],
)
def test_a_recipe_that_does_not_fit_names_the_bundle(folder, about, message):
    with pytest.raises(BadInput, match=f"{folder.name}.*{message}"):
        read_start(folder, about, WORDS, LEARNED)


def test_words_and_weights_of_different_bundles_are_refused(folder):
    other = Tokenizer.fit(["more words than the other one has got in its vocabulary"], min_count=1)
    counts = f"{len(other.vocabulary)} words in its tokenizer.json, {len(WORDS.vocabulary)} in its"
    with pytest.raises(BadInput, match=f"{folder.name}: {counts} weights"):
        read_start(folder, ABOUT, other, LEARNED)


def test_only_a_fine_tuning_has_learned_before(tmp_path):
    hashes = {"reviews": "x", STARTING_WEIGHTS: "y"}
    open_run(tmp_path / "plain", RECIPE, {}, {"reviews": "x"}, resume=False)
    open_run(tmp_path / "tuned", RECIPE, {}, hashes, resume=False)
    assert learned_before(tmp_path / "plain").tolist() == []
    with pytest.raises(BadInput, match=r"tuned.started_from\.npy: cannot be read .*; fine-tune"):
        learned_before(tmp_path / "tuned")
    (tmp_path / "tuned" / STARTED_FROM).write_bytes(to_npy(LEARNED))
    assert learned_before(tmp_path / "tuned").tolist() == LEARNED.tolist()
    (tmp_path / "tuned" / STARTED_FROM).write_bytes(to_npy(LEARNED)[:-1])
    with pytest.raises(BadInput, match=r"started_from\.npy: not the hashes of texts"):
        learned_before(tmp_path / "tuned")


def test_weights_of_something_else_are_refused(folder):
    write_weights(folder, {"embedding.weight": torch.zeros(3)})
    with pytest.raises(BadInput, match="its weights do not fit its recipe"):
        read_start(folder, ABOUT, WORDS, LEARNED)
    (folder / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"weights\.safetensors: damaged"):
        read_start(folder, ABOUT, WORDS, LEARNED)

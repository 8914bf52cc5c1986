from dataclasses import asdict

import numpy as np
import pytest
import torch

from reelsense.errors import BadInput
from reelsense.model.networks import build
from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import (
    STARTING_WEIGHTS,
    load_weights,
    open_run,
    save_tensors,
    weights_hash,
)
from reelsense.training.corpus import Corpus
from reelsense.training.pretrain import build_language_model, finish
from reelsense.training.start import (
    FIXED,
    GENTLE,
    OF_THE_LANGUAGE_MODEL,
    STARTED_FROM,
    fine_tuning,
    learned_before,
    read_language_model,
    read_start,
    started,
)
from reelsense.training.start import READ as READ_HASHES
from reelsense.vectors.glove import WordVectors

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


def weights_of(network):
    """What a graph gives back of a network's weights."""
    return {name: weight.numpy().copy() for name, weight in network.state_dict().items()}


@pytest.fixture
def folder(tmp_path):
    """Where the bundle is; nothing of it is read."""
    return tmp_path / "toy"


def bundle_start(folder, about=ABOUT, tokenizer=WORDS, weights=None):
    weights = weights_of(network()) if weights is None else weights
    return read_start(folder, about, tokenizer, weights, LEARNED)


def test_a_start_is_the_bundles_network(folder):
    start = bundle_start(folder)
    assert {weight.dtype for weight in start.weights.values()} == {torch.float32}
    ids, lengths = torch.tensor([[2, 3, 4, 0]]), torch.tensor([3])
    assert torch.equal(start.network(start.recipe)(ids, lengths), network()(ids, lengths))
    assert start.vectors().found.tolist() == [False, False] + [True] * (len(WORDS.vocabulary) - 2)
    assert start.learned.tolist() == LEARNED.tolist()
    assert start.read.tolist() == []


def test_training_the_network_leaves_the_start_as_it_was(folder):
    start = bundle_start(folder)
    before = start.weights["output.bias"].clone()
    with torch.no_grad():
        start.network(start.recipe).output.bias.add_(1)
    assert torch.equal(start.weights["output.bias"], before)


def test_the_recipe_is_the_bundles_trained_gently_on_parts_of_its_own(folder):
    start = bundle_start(folder)
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
        fine_tuning(bundle_start(folder), {name: getattr(RECIPE, name)})
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
        bundle_start(folder, about)


def test_words_and_weights_of_different_bundles_are_refused(folder):
    other = Tokenizer.fit(["more words than the other one has got in its vocabulary"], min_count=1)
    counts = f"{len(other.vocabulary)} words in its tokenizer.json, {len(WORDS.vocabulary)} in its"
    with pytest.raises(BadInput, match=f"{folder.name}: {counts} weights"):
        bundle_start(folder, tokenizer=other)


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
    for weights in (
        {"embedding.weight": np.zeros(3, np.float32)},
        {name: weight for name, weight in weights_of(network()).items() if "output" not in name},
    ):
        with pytest.raises(BadInput, match="toy: its weights do not fit its recipe"):
            bundle_start(folder, weights=weights)


# --- From a language model ------------------------------------------------------------------------

READ = Pretraining(
    name="read", hidden=3, dimensions=5, embedding="toy.vec", min_count=3, min_films=2,
    max_words=40, seed=1,
)  # fmt: skip


def write_language_model(folder, recipe=READ):
    """Write the run of a pre-training that has learned nothing yet; return its network."""
    words = len(WORDS.vocabulary)
    vectors = np.random.default_rng(1).normal(size=(words, 4)).astype(np.float32)
    known = WordVectors(vectors, np.arange(words) > 1, "toy")
    corpus = Corpus(WORDS, known, np.ones(words, np.int64), (), (), {})
    model = build_language_model(recipe, corpus)
    open_run(folder, recipe, {}, {"reviews": "x"}, resume=False)
    WORDS.save(folder / "tokenizer.json")
    finish(folder, model)
    return model


@pytest.fixture
def language_model(tmp_path):
    write_language_model(tmp_path / "lm")
    return tmp_path / "lm"


def test_lstms_table_and_words_of_a_language_model_are_the_networks_to_the_last_bit(tmp_path):
    given = write_language_model(tmp_path / "lm").state_dict()
    start = read_language_model(tmp_path / "lm", "lm")
    network = start.network(started(Recipe(dense=2, seed=4), start, {}))
    taken = network.state_dict()
    of_the_start = [name for name in taken if not name.startswith(("dense.", "output."))]
    assert len(of_the_start) == 9  # the table, and four weights of each direction
    assert all(torch.equal(taken[name], given[name]) for name in of_the_start)
    assert start.tokenizer.vocabulary == WORDS.vocabulary
    assert (start.vectors().matrix == given["embedding.weight"].numpy()).all()
    assert start.vectors().source == "those of lm"
    assert start.is_language_model
    assert start.learned.tolist() == []


def test_the_output_after_a_language_model_is_that_of_the_seed(language_model):
    start = read_language_model(language_model, "lm")

    def output(seed):
        return start.network(started(Recipe(seed=seed), start, {})).output.weight

    assert torch.equal(output(4), output(4))
    assert not torch.equal(output(4), output(5))
    assert output(4).std() > 0


def test_training_the_network_leaves_the_language_model_as_it_was(language_model):
    start = read_language_model(language_model, "lm")
    before = weights_hash(start.weights)
    with torch.no_grad():
        for weight in start.network(started(Recipe(), start, {})).parameters():
            weight.add_(1)
    assert weights_hash(start.weights) == before


def test_a_bundle_is_no_language_model(folder):
    start = bundle_start(folder)
    assert not start.is_language_model
    assert start.fixed == FIXED


def test_what_the_language_model_decides_overrides_the_recipe_in_silence(language_model):
    start = read_language_model(language_model, "lm")
    recipe = Recipe(
        name="mine", hidden=99, layers=2, embedding="other", cleanup="classic", min_count=9,
        min_films=9, max_words=9, pooling="last", dense=7, dropout=0.1, seed=3,
    )  # fmt: skip
    made = started(recipe, start, {"dense": 5, "epochs": 8})
    own = {"hidden": 3, "embedding": "toy.vec", "min_count": 3, "min_films": 2, "max_words": 40}
    plain = {"arch": "bilstm", "layers": 1, "cleanup": "none"}
    assert {name: getattr(made, name) for name in OF_THE_LANGUAGE_MODEL} == own | plain
    assert made == recipe.changed(**own, **plain, dense=5, epochs=8)


@pytest.mark.parametrize("name", OF_THE_LANGUAGE_MODEL)
def test_what_the_language_model_was_made_with_cannot_be_changed(language_model, name):
    start = read_language_model(language_model, "lm")
    option = "--" + name.replace("_", "-")
    with pytest.raises(BadInput) as caught:
        started(Recipe(), start, {name: getattr(Recipe(), name)})
    assert str(caught.value) == (
        f"{option} cannot be changed with --from: lm was made with "
        f"{getattr(start.recipe, name)}; leave {option} out"
    )


def test_a_language_model_may_be_kept_in_half_the_bytes(language_model):
    weights = load_weights(language_model)
    halves = {name: weight.half() for name, weight in weights.items()}
    file = language_model / "weights.safetensors"
    size = file.stat().st_size
    save_tensors(file, halves, {"sha256": weights_hash(halves)})
    assert file.stat().st_size < 0.6 * size + 1000
    start = read_language_model(language_model, "lm")
    assert {weight.dtype for weight in start.weights.values()} == {torch.float32}
    assert not [name for name in start.weights if "head" in name]
    for name, weight in start.weights.items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-6)


def test_what_a_language_model_has_read_is_not_what_it_has_learned(language_model):
    assert read_language_model(language_model, "lm").read.tolist() == []  # of an earlier version
    (language_model / READ_HASHES).write_bytes(to_npy(LEARNED))
    start = read_language_model(language_model, "lm")
    assert start.read.tolist() == LEARNED.tolist()
    assert start.learned.tolist() == []
    (language_model / READ_HASHES).write_bytes(to_npy(LEARNED)[:-1])
    with pytest.raises(BadInput, match=r"lm.read\.npy: not the hashes of texts"):
        read_language_model(language_model, "lm")
    (language_model / READ_HASHES).unlink()
    (language_model / READ_HASHES).mkdir()
    with pytest.raises(BadInput, match=r"lm.read\.npy: cannot be read .*; pretrain again"):
        read_language_model(language_model, "lm")


def test_a_pretraining_that_has_not_finished_is_refused(language_model):
    (language_model / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match=r"lm: has no weights yet; .* `reelsense pretrain --resume`"):
        read_language_model(language_model, "lm")


def test_a_damaged_language_model_is_refused(language_model):
    file = language_model / "weights.safetensors"
    other = {name: weight + 1 for name, weight in load_weights(language_model).items()}
    save_tensors(file, other, {"sha256": "that of the first"})
    with pytest.raises(BadInput, match="the weights are not those that were saved"):
        read_language_model(language_model, "lm")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"weights\.safetensors: damaged"):
        read_language_model(language_model, "lm")


def test_a_language_model_with_the_words_of_another_is_refused(language_model):
    other = Tokenizer.fit(["more words than the other one has got in its vocabulary"], min_count=1)
    other.save(language_model / "tokenizer.json")
    with pytest.raises(BadInput, match=rf"lm: {len(other.vocabulary)} words in its tokenizer"):
        read_language_model(language_model, "lm")


def test_a_language_model_whose_weights_do_not_fit_its_recipe_is_refused(language_model):
    (language_model / "recipe.toml").write_text(READ.changed(hidden=4).to_toml())
    start = read_language_model(language_model, "lm")
    with pytest.raises(BadInput, match="the weights of lm do not fit the recipe"):
        start.network(started(Recipe(), start, {}))


def test_the_run_of_a_training_is_no_language_model(tmp_path):
    open_run(tmp_path / "run", RECIPE, {}, {"reviews": "x"}, resume=False)
    with pytest.raises(BadInput, match="--from takes a run of `reelsense pretrain`, or a bundle"):
        read_language_model(tmp_path / "run", "run")


def test_a_run_from_a_language_model_has_learned_from_nothing_before(tmp_path, language_model):
    start = read_language_model(language_model, "lm")
    open_run(tmp_path / "run", RECIPE, {}, {STARTING_WEIGHTS: "y"}, resume=False)
    (tmp_path / "run" / STARTED_FROM).write_bytes(to_npy(start.learned))
    assert learned_before(tmp_path / "run").tolist() == []

"""A graph gives its weights back: those that were given, or what int8 rounded them to."""

from dataclasses import asdict

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from reelsense.bundle import session
from reelsense.bundle.folder import Bundle
from reelsense.bundle.graph import build_graph, has_evidence
from reelsense.bundle.int8 import to_levels
from reelsense.bundle.onnx_file import check_model
from reelsense.bundle.weights import weights_of_bundle, weights_of_graph
from reelsense.errors import BadInput
from reelsense.model.networks import untrained
from reelsense.model.recipe import Recipe
from reelsense.text.tokenizer import Tokenizer

WORDS, DIMENSIONS = 90, 7
TEMPERATURE = 1.7
HEADS = [
    {"pooling": pooling, "dense": dense}
    for pooling in ("last", "mean", "max", "max+mean")
    for dense in (0, 5)
]


def weights_for(recipe):
    """Random weights, of vectors whose dimensions are not alike."""
    chance = np.random.default_rng(2)
    hidden, features = recipe.hidden, 2 * recipe.hidden * (1 + ("+" in recipe.pooling))
    shapes = {"embedding.weight": (WORDS, DIMENSIONS)}
    for layer in range(recipe.layers):
        width = 2 * hidden if layer else DIMENSIONS
        for side in ("forward", "backward"):
            lstm = f"{side}_lstm.{layer}"
            shapes[f"{lstm}.weight_ih_l0"] = (4 * hidden, width)
            shapes[f"{lstm}.weight_hh_l0"] = (4 * hidden, hidden)
            shapes[f"{lstm}.bias_ih_l0"] = shapes[f"{lstm}.bias_hh_l0"] = (4 * hidden,)
    if recipe.dense:
        shapes |= {"dense.weight": (recipe.dense, features), "dense.bias": (recipe.dense,)}
    shapes |= {"output.weight": (1, recipe.dense or features), "output.bias": (1,)}
    weights = {name: chance.normal(0, 0.6, shape).astype("f4") for name, shape in shapes.items()}
    weights["embedding.weight"] *= np.geomspace(0.1, 5, DIMENSIONS, dtype="f4")
    weights["embedding.weight"][0] = 0
    return weights


def spread_of(weights):
    return to_levels(weights["embedding.weight"])[1].tolist()


def constants_of(model):
    tensors = onnx.load_from_string(model).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def logits(model):
    chance = np.random.default_rng(0)
    rows = [chance.integers(1, WORDS, length).astype(np.int32) for length in (0, 1, 2, 17, 64, 90)]
    return session.run(session.open_session(model), rows, ["logit"])[0]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_fp32_gives_back_what_it_was_given(head, layers):
    recipe = Recipe(hidden=5, layers=layers, **head)
    given = weights_for(recipe)
    found = weights_of_graph(build_graph(recipe, given, TEMPERATURE, "fp32"), recipe, TEMPERATURE)
    assert found.keys() == given.keys()
    assert {(weight.dtype.str, weight.flags.writeable) for weight in found.values()} == {
        ("<f4", True)
    }
    for name, weight in given.items():
        if "bias_hh" in name:
            assert not found[name].any()
            weight = given[name.replace("hh", "ih")] + weight
            name = name.replace("hh", "ih")
        elif "bias_ih" in name:
            continue
        # Divided by the temperature and multiplied again, the last bit may be another.
        exact = 0 if not name.startswith("output") else 2e-7
        np.testing.assert_allclose(found[name], weight, rtol=exact, atol=0, err_msg=name)


@pytest.mark.parametrize(
    "shape",
    [
        {"arch": "bigru", "layers": 2},
        {"arch": "cnn", "pooling": "max"},
        {"arch": "dpcnn", "layers": 2, "dense": 3},
        {"arch": "cnn-lstm"},
        {"arch": "mean", "pooling": "mean"},
        {"arch": "bilstm", "pooling": "attention"},
    ],
    ids=str,
)
def test_each_kind_of_network_comes_back(shape):
    recipe = Recipe(hidden=5, **shape)
    network = untrained(recipe, WORDS, DIMENSIONS)
    given = {name: weight.detach().numpy() for name, weight in network.state_dict().items()}
    model = build_graph(recipe, given, TEMPERATURE, "fp32")
    found = weights_of_graph(model, recipe, TEMPERATURE)
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in given.items()
    }
    for name in given.keys() - {name for name in given if "lstm" in name and "bias" in name}:
        np.testing.assert_allclose(found[name], given[name], rtol=2e-7, err_msg=name)
    again = build_graph(recipe, found, TEMPERATURE, "fp32")
    np.testing.assert_allclose(logits(again), logits(model), rtol=1e-6, atol=1e-6)
    assert check_model(model, "it") == (WORDS, has_evidence(recipe))


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_int8_gives_back_what_it_computes_with(head):
    recipe = Recipe(hidden=5, **head)
    given = weights_for(recipe)
    model = build_graph(recipe, given, TEMPERATURE, "int8")
    found = weights_of_graph(model, recipe, TEMPERATURE, spread_of(given))
    assert {name: weight.shape for name, weight in found.items()} == {
        name: weight.shape for name, weight in given.items()
    }
    again = build_graph(recipe, found, TEMPERATURE, "int8")
    np.testing.assert_allclose(logits(again), logits(model), rtol=1e-6, atol=1e-6)
    before, after = constants_of(model), constants_of(again)
    for name, values in before.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(after[name], values, rtol=3e-7, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(after[name], values, name)


def test_int8_gives_back_the_trained_scale_to_within_rounding():
    recipe = Recipe(hidden=5)
    given = weights_for(recipe)
    spread = np.array(spread_of(given))
    model = build_graph(recipe, given, 1.0, "int8")
    found = weights_of_graph(model, recipe, 1.0, spread.tolist())
    off = np.abs(found["embedding.weight"] - given["embedding.weight"]) / spread
    assert off.max() <= 1 / 127.5 + 1e-6
    assert np.mean(off <= 0.5 / 127.5 + 1e-6) > 0.99  # all but neighbours of a largest value
    assert not found["embedding.weight"][0].any()
    for side in ("forward", "backward"):
        for name, scale in (("weight_ih_l0", spread), ("weight_hh_l0", 1)):
            weight = given[f"{side}_lstm.0.{name}"] * scale
            step = np.abs(weight).max(axis=1, keepdims=True) / 63
            off = np.abs(found[f"{side}_lstm.0.{name}"] * scale - weight)
            assert (off <= step / 2 + 1e-6).all(), name


def test_without_a_spread_it_is_the_same_network_on_another_scale():
    recipe = Recipe(hidden=5)
    given = weights_for(recipe)
    model = build_graph(recipe, given, 1.0, "int8")
    plain = weights_of_graph(model, recipe, 1.0)
    assert np.abs(plain["embedding.weight"]).max() == 1
    scaled = weights_of_graph(model, recipe, 1.0, spread_of(given))
    assert np.abs(scaled["embedding.weight"]).max() > 2
    of_both = [logits(build_graph(recipe, found, 1.0, "fp32")) for found in (plain, scaled)]
    np.testing.assert_allclose(*of_both, atol=1e-5)


def bundle_of(tmp_path, model, recipe, **about):
    about = {"recipe": asdict(recipe), "temperature": TEMPERATURE, **about}
    return Bundle(tmp_path, about, Tokenizer(("<pad>", "<unk>")), model)


def test_a_bundle_brings_recipe_temperature_and_spread(tmp_path):
    recipe = Recipe(hidden=5)
    given = weights_for(recipe)
    model, spread = build_graph(recipe, given, TEMPERATURE, "int8"), spread_of(given)
    expected = weights_of_graph(model, recipe, TEMPERATURE, spread)
    found = weights_of_bundle(bundle_of(tmp_path, model, recipe, spread=spread))
    assert all((found[name] == weight).all() for name, weight in expected.items())
    older = weights_of_bundle(bundle_of(tmp_path, model, recipe))
    assert np.abs(older["embedding.weight"]).max() == 1


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_a_graph_that_is_not_the_recipes_is_one_line(tmp_path, variant):
    recipe = Recipe(hidden=5)
    model = build_graph(recipe, weights_for(recipe), TEMPERATURE, variant)
    others = [recipe.changed(hidden=6), recipe.changed(dense=3), recipe.changed(pooling="max")]
    if variant == "fp32":
        others.append(recipe.changed(layers=2))
    for other in others:
        with pytest.raises(BadInput, match=r"model\.onnx: its weights do not fit the recipe in b"):
            weights_of_bundle(bundle_of(tmp_path, model, other))
    bad = bundle_of(tmp_path, model, recipe)
    bad.about["recipe"]["units"] = 4
    with pytest.raises(BadInput, match=r"bundle\.json: unknown key 'units'"):
        weights_of_bundle(bad)
    if variant == "int8":
        for spread in ([1.0], [1.0] * (DIMENSIONS + 1)):
            with pytest.raises(BadInput, match=r"model\.onnx: its weights do not fit"):
                weights_of_bundle(bundle_of(tmp_path, model, recipe, spread=spread))

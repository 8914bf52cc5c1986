"""One ONNX graph back to weights: the inverse of `graph.build_graph`, for a fine-tuning.

A bundle holds its weights once, in the graph. H units a direction, or of a state that has none, U
with the pins of int8 among them, D vector dimensions. Knows no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from reelsense.bundle.folder import ABOUT, MODEL, Bundle
from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe

Array = NDArray[np.float32]
Constants = Mapping[str, NDArray[Any]]

# Where torch's gates stand among ONNX's: i, f, g, o in i, o, f, c; and r, z, n in z, r, h.
FROM_ONNX = {"lstm": [0, 2, 3, 1], "gru": [1, 0, 2]}


def weights_of_bundle(bundle: Bundle) -> dict[str, Array]:
    """Return the weights of a bundle's network; see `weights_of_graph`.

    Raises:
        BadInput: its recipe is none, or not that of its graph; names the file.
    """
    about = bundle.about
    recipe = Recipe.from_values(about["recipe"], str(bundle.path / ABOUT))
    try:
        return weights_of_graph(bundle.model, recipe, about["temperature"], about.get("spread"))
    except (KeyError, ValueError, IndexError):
        raise BadInput(
            f"{bundle.path / MODEL}: its weights do not fit the recipe in {ABOUT}; get the bundle "
            "again or export it again"
        ) from None


def weights_of_graph(
    model: bytes, recipe: Recipe, temperature: float, spread: Sequence[float] | None = None
) -> dict[str, Array]:
    """Return the weights that `build_graph` made a model of, by the names of `model.networks`.

    Those of an fp32 graph are the ones that were given, but for the biases: torch's two come back
    as their sum and zeros. Those of an int8 graph are rounded to what the graph computes with, and
    a graph built of them has the same whole numbers in it again.

    Args:
        model: as `onnx_file.check_model` has let it through.
        recipe: the network's.
        temperature: that the logit was divided by.
        spread: (D,), what the unit of each vector dimension of an int8 graph stands for. By default
            1, which is the same network, but not the same to train: Adam's steps know no scale.

    Raises:
        KeyError, ValueError, IndexError: `build_graph` made it of another recipe, or not at all.
    """
    tensors = onnx.load_from_string(model).graph.initializer
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    if "W_scale" in constants:
        weights = _of_int8(constants, recipe, spread)
        units = recipe.hidden + 2
    else:
        weights = _of_fp32(constants, recipe)
        units = recipe.hidden
    weights |= _of_the_head(constants, recipe, temperature, units)
    return {name: np.array(weight, np.float32, order="C") for name, weight in weights.items()}


def _of_fp32(constants: Constants, recipe: Recipe) -> dict[str, Array]:
    """Return the table of words and the weights of each layer of an fp32 graph."""
    weights = {"embedding.weight": constants["words"]}
    weights |= {  # of convolutions, whose names are kept
        name: weight.transpose(2, 1, 0) if weight.ndim == 3 else weight
        for name, weight in constants.items()
        if name.endswith((".weight", ".bias"))
    }
    if recipe.arch in ("bilstm", "bigru", "cnn-lstm"):
        for layer in range(recipe.layers):
            of_input, of_state, bias = (constants[f"{name}_{layer}"] for name in "WRB")
            weights |= _of_layer(layer, of_input, of_state, bias, recipe)
    return weights


def _of_int8(
    constants: Constants, recipe: Recipe, spread: Sequence[float] | None
) -> dict[str, Array]:
    """Return the table of words and the weights of the layer of an int8 graph, without pins."""
    levels = constants["words"][:, :-2].astype(np.float32)
    of_dimension = np.array([1.0] * levels.shape[1] if spread is None else spread, np.float32)
    if of_dimension.shape != levels.shape[1:]:
        raise ValueError(f"spread has {of_dimension.size} values, the table {levels.shape[1]}")
    # The ends stand for the largest values, of which the spread was made: see `int8.to_levels`.
    vectors = np.where(levels == 255, 1, np.maximum((levels - 128) / np.float32(127.5), -1))
    of_input, of_state = (
        (constants[name] * constants[f"{name}_scale"][:, None]).transpose(0, 2, 1) for name in "WR"
    )  # (2, 4U, D + 2) and (2, 4U, H)
    of_vectors = (of_input[:, :, :-2] / of_dimension).astype(np.float32)
    return {"embedding.weight": (vectors * of_dimension).astype(np.float32)} | _of_layer(
        0, of_vectors, of_state, constants["B"], recipe
    )


def _of_layer(
    layer: int, of_input: Array, of_state: Array, bias: Array, recipe: Recipe
) -> dict[str, Array]:
    """Return a layer's weights from those of both directions, (2, gates * U, ...), of the graph."""
    weights = {}
    cell, hidden = ("gru" if recipe.arch == "bigru" else "lstm"), recipe.hidden
    for place, side in enumerate(("forward", "backward")):
        name = f"{side}_{cell}.{layer}"
        of_both = np.split(bias[place], 2)
        weights[f"{name}.weight_ih_l0"] = _gates(of_input[place], cell, hidden)
        weights[f"{name}.weight_hh_l0"] = _gates(of_state[place], cell, hidden)[:, :hidden]
        weights[f"{name}.bias_ih_l0"] = _gates(of_both[0], cell, hidden)
        weights[f"{name}.bias_hh_l0"] = _gates(of_both[1], cell, hidden)
    return weights


def _gates(rows: Array, cell: str, hidden: int) -> Array:
    """Return rows (gates * U, ...) in torch's order, (gates * H, ...), without the pins."""
    order = FROM_ONNX[cell]
    gates = rows.reshape(len(order), -1, *rows.shape[1:])[order, :hidden]
    return gates.reshape(len(order) * hidden, *rows.shape[1:])


def _of_the_head(
    constants: Constants, recipe: Recipe, temperature: float, units: int
) -> dict[str, Array]:
    """Return the weights of attention and the linear layers."""
    # A state's features: so many blocks of such a size.
    blocks, size = {
        "cnn": (3, units),
        "dpcnn": (1, units),
        "mean": (1, constants["words"].shape[1]),
    }.get(recipe.arch, (2, units))
    kinds = 1 + ("+" in recipe.pooling)

    def of_features(weight: Array) -> Array:
        parts = weight.T.reshape(weight.shape[1], kinds * blocks, size)
        without_pins = parts[:, :, : size - (units - recipe.hidden)]
        return without_pins.reshape(weight.shape[1], -1)

    output = constants["output_weight"] * np.float32(temperature)
    weights = {"output.bias": constants["bias"] * np.float32(temperature)}
    if recipe.pooling == "attention":
        weights["attention.weight"] = of_features(constants["attention_weight"])
        weights["attention.bias"] = constants["attention_bias"]
        weights["context.weight"] = constants["context_weight"].T
    if not recipe.dense:
        return {"output.weight": of_features(output), **weights}
    return {
        "dense.weight": of_features(constants["dense_weight"]),
        "dense.bias": constants["dense_bias"],
        "output.weight": output.T,
        **weights,
    }

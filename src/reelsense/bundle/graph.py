"""Weights to one ONNX graph, built node by node. Knows no torch, text, data or file.

The exporters of torch lose the lengths; here the LSTM node takes them as `sequence_lens`, so that
padding never enters a state. B reviews a batch, T tokens (padded), D vector dimensions, H units a
direction, V words. Weights have the names of `model.networks` and are float32 arrays.

Inputs are ids (B, T) and lengths (B,), int32. Outputs are probability (B,) and logit (B,), and,
where the head is one linear layer over pooled states, evidence (B, T): what each token adds to the
logit. evidence.sum(1) + bias = logit. The temperature is folded into the last layer, so that all
of them are calibrated.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reelsense.bundle.evidence import add_evidence
from reelsense.bundle.int8 import to_7_bits, to_levels, with_pins
from reelsense.bundle.nodes import MICROSOFT, Graph, Layer
from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe

Array = NDArray[np.float32]
Weights = Mapping[str, Array]


def has_evidence(recipe: Recipe) -> bool:
    """Say whether the logit is a sum over tokens: pooled states and nothing but a linear layer."""
    return recipe.pooling != "last" and not recipe.dense


def can_quantise(recipe: Recipe) -> bool:
    """Say whether there is an int8 variant; see `_int8_lstm`."""
    return recipe.layers == 1


def build_graph(recipe: Recipe, weights: Weights, temperature: float, variant: str) -> bytes:
    """Return the network as a serialised ONNX model.

    Args:
        recipe: the network's shape.
        weights: by the names of the network's state.
        temperature: divides the logit.
        variant: "fp32" or "int8".
    """
    if variant == "int8" and not can_quantise(recipe):
        raise BadInput(f"--variant int8: needs --layers 1, the run has {recipe.layers}; use fp32")
    graph = Graph()
    graph.add("Transpose", ["ids"], "ids_by_step", perm=[1, 0])  # (T, B), as LSTM nodes read
    quantised = variant == "int8"
    layer = _int8_lstm(graph, weights) if quantised else _fp32_lstm(graph, weights, recipe)
    _masks(graph)
    _pool(graph, recipe, layer)
    output = _score(graph, recipe, weights, temperature, layer.units)
    if has_evidence(recipe):
        add_evidence(graph, recipe, output, layer)
    return graph.serialise(evidence=has_evidence(recipe))


# --- the LSTM -----------------------------------------------------------------------------------


def _both(weights: Weights, layer: int, name: str) -> list[Array]:
    """Return one weight of both directions of a layer, its gates as ONNX orders them.

    torch stacks the gates i, f, g, o; ONNX i, o, f, c (its c is torch's g).
    """
    found = [weights[f"{side}_lstm.{layer}.{name}_l0"] for side in ("forward", "backward")]
    return [
        np.concatenate([gates[0], gates[3], gates[1], gates[2]])
        for gates in (np.split(weight, 4) for weight in found)
    ]


def _bias(weights: Weights, layer: int) -> list[Array]:
    """Return the bias of both directions; torch adds two, which are one."""
    pairs = zip(_both(weights, layer, "bias_ih"), _both(weights, layer, "bias_hh"), strict=True)
    return [of_input + of_state for of_input, of_state in pairs]


def _fp32_lstm(graph: Graph, weights: Weights, recipe: Recipe) -> Layer:
    """Add the layers in float32."""
    graph.constant("words", weights["embedding.weight"])
    values = graph.add("Gather", ["words", "ids_by_step"], "vectors")  # (T, B, D)
    units = recipe.hidden
    for layer in range(recipe.layers):
        if layer:
            graph.add("Transpose", [f"states_{layer - 1}"], f"turned_{layer}", perm=[0, 2, 1, 3])
            shape = graph.constant("joined_shape", np.array([0, 0, 2 * units], np.int64))
            values = graph.add("Reshape", [f"turned_{layer}", shape], f"joined_{layer}")
        bias = [np.concatenate([row, np.zeros_like(row)]) for row in _bias(weights, layer)]
        inputs = [
            values,
            graph.constant(f"W_{layer}", np.stack(_both(weights, layer, "weight_ih"))),
            graph.constant(f"R_{layer}", np.stack(_both(weights, layer, "weight_hh"))),
            graph.constant(f"B_{layer}", np.stack(bias)),
            "lengths",
        ]
        outputs = [f"states_{layer}", f"last_{layer}"]
        graph.add("LSTM", inputs, *outputs, direction="bidirectional", hidden_size=units)
    return Layer(f"states_{recipe.layers - 1}", f"last_{recipe.layers - 1}", units)


def _int8_lstm(graph: Graph, weights: Weights) -> Layer:
    """Add one layer in int8, whose scores do not depend on the batch.

    DynamicQuantizeLSTM rounds the word vectors, and at each step the states, to 256 levels between
    the lowest and the highest value in the whole batch; so a review's score would depend on the
    others. Two dimensions and two units that carry no meaning pin that range:

    - The table of words has two more columns, always the lowest and the highest level. It is
      stored on the very levels that the node then finds, so nothing is rounded twice.
    - Two more units a direction have gates that stand open and an input of +1 and -1, so that their
      cells count the steps: t and -t. A cell moves by less than 1 a step and |h| < tanh(t), so at
      every step they hold the highest and the lowest state that there can be.

    Weights have 7 bits: with 8, processors without VNNI overflow the 16 bits that they add in.
    """
    levels, spread = to_levels(weights["embedding.weight"])
    graph.constant("words", levels)  # (V, D + 2), uint8
    graph.constant("step", np.array(2 / 255, np.float32))
    graph.constant("middle", np.array(128, np.uint8))
    graph.add("Gather", ["words", "ids_by_step"], "levels")
    graph.add("DequantizeLinear", ["levels", "step", "middle"], "vectors")  # (T, B, D + 2)
    rows = _both(weights, 0, "weight_ih")
    of_input = [with_pins(np.pad(row * spread, ((0, 0), (0, 2)))) for row in rows]
    of_state = [with_pins(row) for row in _both(weights, 0, "weight_hh")]
    of_state = [np.pad(row, ((0, 0), (0, 2))) for row in of_state]
    bias = [with_pins(row, pins=True) for row in _bias(weights, 0)]
    units = of_state[0].shape[1]
    inputs = ["vectors"]
    scales = []
    for name, both in (("W", of_input), ("R", of_state)):
        quantised, scale = zip(*(to_7_bits(row.T) for row in both), strict=True)
        inputs.append(graph.constant(name, np.stack(quantised)))  # (2, D + 2 or H, 4H)
        scales.append(graph.constant(f"{name}_scale", np.stack(scale)))
        scales.append(graph.constant(f"{name}_zero", np.zeros((2, 4 * units), np.int8)))
    inputs.append(
        graph.constant("B", np.stack([np.concatenate([row, np.zeros_like(row)]) for row in bias]))
    )
    graph.add(
        "DynamicQuantizeLSTM",
        [*inputs, "lengths", "", "", "", *scales],
        "states",
        "last",
        domain=MICROSOFT,
        direction="bidirectional",
        hidden_size=units,
    )
    return Layer("states", "last", units)


# --- from states to the logit -------------------------------------------------------------------


def _masks(graph: Graph) -> None:
    """Add which steps of a review are words, and its length as a divisor."""
    graph.constant("no", np.array(0, np.int64))
    graph.constant("one", np.array(1, np.int64))
    graph.constant("axis_0", np.array([0], np.int64))
    graph.constant("axis_1", np.array([1], np.int64))
    graph.add("Shape", ["ids_by_step"], "steps_shape", start=0, end=1)
    graph.add("Squeeze", ["steps_shape"], "steps_count")
    graph.add("Range", ["no", "steps_count", "one"], "steps")
    graph.add("Unsqueeze", ["steps", "axis_1"], "steps_column")
    graph.add("Cast", ["lengths"], "lengths_64", to=TensorProto.INT64)
    graph.add("Less", ["steps_column", "lengths_64"], "is_word")  # (T, B)
    graph.constant("both_axes", np.array([1, 3], np.int64))
    graph.add("Max", ["lengths_64", "one"], "divisors_64")
    graph.add("Cast", ["divisors_64"], "divisors", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["divisors", "axis_1"], "divisor_of_state")  # (B, 1)
    graph.add("Greater", ["lengths_64", "no"], "has_words")
    graph.add("Unsqueeze", ["has_words", "axis_1"], "has_words_of_state")  # (B, 1)
    graph.constant("zero", np.array(0, np.float32))


def _pool(graph: Graph, recipe: Recipe, layer: Layer) -> str:
    """Add the pooling; return the name of the features (B, 2H or 4H), zeros for empty reviews."""
    if "max" in recipe.pooling:
        # Padding falls below every state. One addition takes half the time of a Where.
        graph.constant("below", np.array(-3, np.float32))
        graph.add("Where", ["is_word", "zero", "below"], "offset_of_step")  # (T, B)
        graph.add("Unsqueeze", ["offset_of_step", "both_axes"], "offset")  # (T, 1, B, 1)
        graph.add("Add", [layer.states, "offset"], "states_to_compare")
        graph.add("ReduceMax", ["states_to_compare", "axis_0"], "highest", keepdims=0)
        graph.add("Where", ["has_words_of_state", "highest", "zero"], "max")  # (2, B, H)
    if "mean" in recipe.pooling:
        graph.add("ReduceSum", [layer.states, "axis_0"], "total", keepdims=0)
        graph.add("Div", ["total", "divisor_of_state"], "mean")  # (2, B, H)
    if recipe.pooling == "last":
        graph.add("Where", ["has_words_of_state", layer.last, "zero"], "last_states")
    shape = graph.constant("flat", np.array([0, 2 * layer.units], np.int64))
    pooled = []
    for kind in recipe.pooling.split("+"):
        states = "last_states" if kind == "last" else kind
        graph.add("Transpose", [states], f"{kind}_by_review", perm=[1, 0, 2])  # (B, 2, H)
        pooled.append(graph.add("Reshape", [f"{kind}_by_review", shape], f"{kind}_features"))
    return graph.add("Concat", pooled, "features", axis=1)


def _score(graph: Graph, recipe: Recipe, weights: Weights, temperature: float, units: int) -> Array:
    """Add the linear layers, up to the logit; return the weight of the features (1, features).

    Raises:
        BadInput: the temperature is not a positive number.
    """
    if not 0 < temperature < np.inf:
        raise BadInput(f"temperature {temperature}: must be a positive number")
    kinds = 1 + ("+" in recipe.pooling)
    features = "features"
    output = weights["output.weight"] / np.float32(temperature)
    if recipe.dense:
        dense = _for_units(weights["dense.weight"], kinds, units)
        graph.constant("dense_weight", dense.T)
        graph.constant("dense_bias", weights["dense.bias"])
        graph.add("MatMul", ["features", "dense_weight"], "dense_product")
        graph.add("Add", ["dense_product", "dense_bias"], "dense_sum")
        features = graph.add("Relu", ["dense_sum"], "dense")
    else:
        output = _for_units(output, kinds, units)
    graph.constant("output_weight", output.T)
    graph.constant("bias", weights["output.bias"] / np.float32(temperature))
    graph.add("MatMul", [features, "output_weight"], "output_product")
    graph.add("Add", ["output_product", "bias"], "output_sum")
    graph.add("Squeeze", ["output_sum", "axis_1"], "logit")
    graph.add("Sigmoid", ["logit"], "probability")
    return output


def _for_units(weight: Array, kinds: int, units: int) -> Array:
    """Return a weight (n, kinds * 2H) with zeros for the units beyond H of each direction."""
    parts = weight.reshape(len(weight), 2 * kinds, -1)
    return np.pad(parts, ((0, 0), (0, 0), (0, units - parts.shape[2]))).reshape(len(weight), -1)

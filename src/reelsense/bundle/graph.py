"""Weights to one ONNX graph, built node by node. Knows no torch, text, data or file.

The exporters of torch lose the lengths; here the LSTM node takes them as `sequence_lens`, so that
padding never enters a state. B reviews a batch, T tokens (padded), S sides of a state (two
directions, or one that is none), H features a side, V words. Weights have the names of
`model.networks` and are float32 arrays.

Inputs are ids (B, T) and lengths (B,), int32. Outputs are probability (B,) and logit (B,), and,
where the head is one linear layer over pooled states, evidence (B, T): what each token adds to the
logit. evidence.sum(1) + bias = logit. The temperature is folded into the last layer, so that all
of them are calibrated.
"""

import numpy as np
from onnx import TensorProto

from reelsense.bundle.encoders import BELOW, Array, Weights, add_encoder
from reelsense.bundle.evidence import add_evidence
from reelsense.bundle.nodes import Graph, Layer
from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe


def has_evidence(recipe: Recipe) -> bool:
    """Say whether the logit is a sum over tokens: pooled states and nothing but a linear layer.

    A deep pyramid's states are of many tokens each, and nothing says whose.
    """
    return recipe.pooling != "last" and not recipe.dense and recipe.arch != "dpcnn"


def can_quantise(recipe: Recipe) -> bool:
    """Say whether there is an int8 variant; see `encoders._int8_lstm`."""
    return recipe.arch == "bilstm" and recipe.layers == 1


def build_graph(recipe: Recipe, weights: Weights, temperature: float, variant: str) -> bytes:
    """Return the network as a serialised ONNX model.

    Args:
        recipe: the network's shape.
        weights: by the names of the network's state.
        temperature: divides the logit.
        variant: "fp32" or "int8".
    """
    if variant == "int8" and not can_quantise(recipe):
        raise BadInput(
            f"--variant int8: needs --arch bilstm with --layers 1, the run has {recipe.arch} with "
            f"{recipe.layers}; use fp32"
        )
    graph = Graph()
    graph.add("Transpose", ["ids"], "ids_by_step", perm=[1, 0])  # (T, B), as LSTM nodes read
    _masks(graph)
    layer = add_encoder(graph, recipe, weights, variant)
    _divisors(graph, layer)
    if recipe.pooling == "attention":
        _attend(graph, weights, layer)
    else:
        _pool(graph, recipe, layer)
    output = _score(graph, recipe, weights, temperature, layer)
    if has_evidence(recipe):
        add_evidence(graph, recipe, output, layer)
    return graph.serialise(evidence=has_evidence(recipe))


def _masks(graph: Graph) -> None:
    """Add which steps of a review are words."""
    graph.constant("no", np.array(0, np.int64))
    graph.constant("one", np.array(1, np.int64))
    graph.constant("axis_0", np.array([0], np.int64))
    graph.constant("axis_1", np.array([1], np.int64))
    graph.constant("axis_2", np.array([2], np.int64))
    graph.constant("zero", np.array(0, np.float32))
    graph.add("Shape", ["ids_by_step"], "steps_shape", start=0, end=1)
    graph.add("Squeeze", ["steps_shape"], "steps_count")
    graph.add("Range", ["no", "steps_count", "one"], "steps")
    graph.add("Unsqueeze", ["steps", "axis_1"], "steps_column")
    graph.add("Cast", ["lengths"], "lengths_64", to=TensorProto.INT64)
    graph.add("Less", ["steps_column", "lengths_64"], "is_word")  # (T, B)
    graph.add("Unsqueeze", ["is_word", "axis_2"], "is_word_of_values")  # (T, B, 1)


def _divisors(graph: Graph, layer: Layer) -> None:
    """Add how many states each review has, at least one, and whether it has any."""
    graph.add("Max", [layer.lengths, "one"], "divisors_64")
    graph.add("Cast", ["divisors_64"], "divisors", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["divisors", "axis_1"], "divisor_of_state")  # (B, 1)
    graph.add("Greater", ["lengths_64", "no"], "has_words")
    graph.add("Unsqueeze", ["has_words", "axis_1"], "has_words_of_state")  # (B, 1)


def _pool(graph: Graph, recipe: Recipe, layer: Layer) -> None:
    """Add the pooling to "features" (B, S * H), or twice as many; zeros for empty reviews."""
    if "max" in recipe.pooling:
        # Padding falls below every state. One addition takes half the time of a Where.
        graph.constant("below", np.array(BELOW, np.float32))
        both_axes = graph.constant("both_axes", np.array([1, 3], np.int64))
        graph.add("Where", [layer.is_state, "zero", "below"], "offset_of_step")  # (T, B)
        graph.add("Unsqueeze", ["offset_of_step", both_axes], "offset")  # (T, 1, B, 1)
        graph.add("Add", [layer.states, "offset"], "states_to_compare")
        graph.add("ReduceMax", ["states_to_compare", "axis_0"], "highest", keepdims=0)
        graph.add("Where", ["has_words_of_state", "highest", "zero"], "max")  # (S, B, H)
    if "mean" in recipe.pooling:
        graph.add("ReduceSum", [layer.states, "axis_0"], "total", keepdims=0)
        graph.add("Div", ["total", "divisor_of_state"], "mean")  # (S, B, H)
    if recipe.pooling == "last":
        graph.add("Where", ["has_words_of_state", layer.last, "zero"], "last_states")
    shape = graph.constant("flat", np.array([0, layer.sides * layer.units], np.int64))
    pooled = []
    for kind in recipe.pooling.split("+"):
        states = "last_states" if kind == "last" else kind
        graph.add("Transpose", [states], f"{kind}_by_review", perm=[1, 0, 2])  # (B, S, H)
        pooled.append(graph.add("Reshape", [f"{kind}_by_review", shape], f"{kind}_features"))
    graph.add("Concat", pooled, "features", axis=1)


def _attend(graph: Graph, weights: Weights, layer: Layer) -> None:
    """Add the mean of the states by their "attention" (T, B), zeros on padding: "features"."""
    graph.add("Transpose", [layer.states], "states_by_review", perm=[0, 2, 1, 3])  # (T, B, S, H)
    flat = graph.constant("flat", np.array([0, 0, layer.sides * layer.units], np.int64))
    graph.add("Reshape", ["states_by_review", flat], "joined_states")
    weight = _for_units(weights["attention.weight"], 1, layer)
    graph.constant("attention_weight", weight.T)
    graph.constant("attention_bias", weights["attention.bias"])
    graph.constant("context_weight", weights["context.weight"].T)
    graph.add("MatMul", ["joined_states", "attention_weight"], "attention_product")
    graph.add("Add", ["attention_product", "attention_bias"], "attention_sum")
    graph.add("Tanh", ["attention_sum"], "attention_of_state")
    graph.add("MatMul", ["attention_of_state", "context_weight"], "asked")  # (T, B, 1)
    real = f"{layer.is_state}_of_values"
    graph.constant("below", np.array(BELOW, np.float32))
    graph.add("Where", [real, "asked", "below"], "asked_of_words")
    graph.add("Softmax", ["asked_of_words"], "shares", axis=0)
    graph.add("Where", [real, "shares", "zero"], "attention")  # (T, B, 1)
    graph.add("Mul", ["joined_states", "attention"], "attended")
    graph.add("ReduceSum", ["attended", "axis_0"], "features", keepdims=0)


def _score(
    graph: Graph, recipe: Recipe, weights: Weights, temperature: float, layer: Layer
) -> Array:
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
        dense = _for_units(weights["dense.weight"], kinds, layer)
        graph.constant("dense_weight", dense.T)
        graph.constant("dense_bias", weights["dense.bias"])
        graph.add("MatMul", ["features", "dense_weight"], "dense_product")
        graph.add("Add", ["dense_product", "dense_bias"], "dense_sum")
        features = graph.add("Relu", ["dense_sum"], "dense")
    else:
        output = _for_units(output, kinds, layer)
    graph.constant("output_weight", output.T)
    graph.constant("bias", weights["output.bias"] / np.float32(temperature))
    graph.add("MatMul", [features, "output_weight"], "output_product")
    graph.add("Add", ["output_product", "bias"], "output_sum")
    graph.add("Squeeze", ["output_sum", "axis_1"], "logit")
    graph.add("Sigmoid", ["logit"], "probability")
    return output


def _for_units(weight: Array, kinds: int, layer: Layer) -> Array:
    """Return a weight (n, kinds * S * H) with zeros for the units beyond H of each side."""
    parts = weight.reshape(len(weight), layer.sides * kinds, -1)
    return np.pad(parts, ((0, 0), (0, 0), (0, layer.units - parts.shape[2]))).reshape(
        len(weight), -1
    )

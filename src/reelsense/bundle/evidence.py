"""The nodes that split the logit into what each word adds to it: relevance through the gates.

T steps, B reviews, F features of a state, D vector dimensions. With pooling and one linear layer
the logit is a sum over states, each times a multiplier. Layer by layer the multipliers of what a
layer makes become multipliers of what it reads (`relevance`), down to the word vectors. A word's
evidence is its vector times its multipliers, and what the biases added at its step. This is
layer-wise relevance propagation (Bach et al. 2015) with gates as constants (Arras et al. 2017,
"Explaining Recurrent Neural Network Predictions in Sentiment Analysis").

It adds up to the logit but for rounding: an int8 LSTM rounds its states at each step, and the
gates are computed again without that. The words share what is left over, each in proportion to
the size of its evidence.

All names begin with "evidence": who does not ask for it can leave these nodes out
(`session.without_evidence`), as onnxruntime would compute them for nobody.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reelsense.bundle.nodes import Graph, Layer, Recurrent
from reelsense.bundle.relevance import through_convolutions, through_recurrent
from reelsense.model.recipe import Recipe


def add_evidence(graph: Graph, recipe: Recipe, output: NDArray[np.float32], layer: Layer) -> None:
    """Add the output "evidence" (B, T), zeros on padding.

    Args:
        graph: with "vectors" (T, B, D), the states of `layer`, "steps" (T,), "divisor_of_state"
            (B, 1), "is_word" (T, B), "logit" (B,) and "bias" (1,).
        recipe: of the network; its pooling is by max, mean or both, or by attention.
        output: weight of the features in the logit (1, kinds of pooling * F).
        layer: whose states are pooled.
    """
    # Below it tanh(u) is u, and what there is of evidence is nothing.
    graph.constant("evidence_tiny", np.array(1e-6, np.float32))
    multipliers = _of_pooling(graph, recipe, output, layer)
    parts = []
    for number, stage in reversed(list(enumerate(layer.made_of))):
        name = f"evidence_{number}"
        if isinstance(stage, Recurrent):
            multipliers, of_biases = through_recurrent(graph, name, stage, multipliers)
        else:
            multipliers, of_biases = through_convolutions(graph, name, stage, multipliers)
        parts += of_biases
    graph.add("Mul", ["vectors", multipliers], "evidence_products")
    total = graph.add("ReduceSum", ["evidence_products", "axis_2"], "evidence_words", keepdims=0)
    for number, part in enumerate(parts):
        total = graph.add("Add", [total, part], f"evidence_sum_{number}")
    graph.add("Where", ["is_word", total, "zero"], "evidence_unrounded")  # (T, B)
    _share_the_rest(graph)
    graph.add("Transpose", ["evidence_by_step"], "evidence", perm=[1, 0])


def _of_pooling(graph: Graph, recipe: Recipe, output: NDArray[np.float32], layer: Layer) -> str:
    """Add by what the pooling and the linear layer multiply each state (T, B, F)."""
    kinds = recipe.pooling.split("+")
    parts = []
    for kind, weight in zip(kinds, np.split(output[0], len(kinds)), strict=True):
        name = f"evidence_{kind}"
        graph.constant(f"{name}_weight", weight)
        if kind == "max":  # the step that won a feature has all of it
            graph.add("ArgMax", ["states_to_compare"], f"{name}_steps", axis=0, keepdims=0)
            graph.add("Transpose", [f"{name}_steps"], f"{name}_by_review", perm=[1, 0, 2])
            shape = np.array([0, layer.sides * layer.units], np.int64)
            graph.constant(f"{name}_shape", shape)
            graph.add("Reshape", [f"{name}_by_review", f"{name}_shape"], f"{name}_winners")
            graph.constant("evidence_axes", np.array([1, 2], np.int64))
            graph.add("Unsqueeze", ["steps", "evidence_axes"], "evidence_steps")  # (T, 1, 1)
            graph.add("Equal", ["evidence_steps", f"{name}_winners"], f"{name}_won")
            parts.append(graph.add("Where", [f"{name}_won", f"{name}_weight", "zero"], name))
        elif kind == "mean":
            parts.append(graph.add("Div", [f"{name}_weight", "divisor_of_state"], name))
        else:
            parts.append(graph.add("Mul", [f"{name}_weight", "attention"], name))
    total = parts[0] if len(parts) == 1 else graph.add("Add", parts, "evidence_pooling")
    return graph.add("Where", ["is_word_of_values", total, "zero"], "evidence_of_states")


def _share_the_rest(graph: Graph) -> None:
    """Add what rounding left over to the words, in proportion: "evidence_by_step" (T, B).

    The sums are of float64: those of large evidence that cancels would be off by more than 1e-4.
    """
    wide = {"to": TensorProto.DOUBLE}
    graph.add("Cast", ["evidence_unrounded"], "evidence_wide", **wide)
    graph.add("ReduceSum", ["evidence_wide", "axis_0"], "evidence_found", keepdims=0)
    graph.add("Sub", ["logit", "bias"], "evidence_narrow")  # (B,)
    graph.add("Cast", ["evidence_narrow"], "evidence_expected", **wide)
    graph.add("Sub", ["evidence_expected", "evidence_found"], "evidence_rest")
    graph.add("Abs", ["evidence_wide"], "evidence_sizes")
    graph.add("ReduceSum", ["evidence_sizes", "axis_0"], "evidence_size", keepdims=0)
    graph.add("Cast", ["evidence_tiny"], "evidence_least", **wide)
    graph.add("Max", ["evidence_size", "evidence_least"], "evidence_divisor")
    graph.add("Div", ["evidence_rest", "evidence_divisor"], "evidence_share")
    graph.add("Mul", ["evidence_sizes", "evidence_share"], "evidence_given")
    graph.add("Add", ["evidence_wide", "evidence_given"], "evidence_whole_sum")
    graph.add("Cast", ["evidence_whole_sum"], "evidence_by_step", to=TensorProto.FLOAT)

"""The nodes that split the logit into what each word adds to it: exact, in the pass that predicts.

T steps, B reviews, H units a direction. With pooling and one linear layer the logit is a sum over
states, and a state is the sum of its changes: ahead, h_t = (h_0 - 0) + (h_1 - h_0) + ... up to
h_t. So each word gets the changes that it made to the states that count, and not the whole of a
state that words before it had built up (the telescoping of Murdoch & Szlam 2017). Backward the
words behind it come first. A state without direction belongs to its word, or to the middle one of
the words that a filter saw. Given to the step that a state is read at instead, the evidence is as
exact but tells less: taking out its first words lowered the probability by 0.31 in the mean, and
by 0.40 so (benchmarks/evidence.py before and after; Integrated Gradients 0.37).

All names begin with "evidence": who does not ask for it can leave these nodes out
(`session.without_evidence`), as onnxruntime would compute them for nobody.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reelsense.bundle.nodes import FAR, Graph, Layer
from reelsense.model.recipe import Recipe


def add_evidence(graph: Graph, recipe: Recipe, output: NDArray[np.float32], layer: Layer) -> None:
    """Add the output "evidence" (B, T), zeros on padding.

    Args:
        graph: with the states of `layer`, "steps" (T,), "lengths_64" (B,) and "divisors" (B,).
        recipe: of the network; its pooling is by max, mean or both, or by attention.
        output: weight of the features in the logit (1, features).
        layer: whose states are pooled.
    """
    kinds = recipe.pooling.split("+")
    weights = {
        kind: weight.reshape(len(layer.sides), layer.units)
        for kind, weight in zip(kinds, np.split(output[0], len(kinds)), strict=True)
    }
    graph.constant("evidence_unit_axis", np.array([2], np.int64))
    if "max" in weights:
        compared = ["states_to_compare"]
        graph.add("ArgMax", compared, "evidence_winners", axis=0, keepdims=0)  # (S, B, H)
        axes = graph.constant("evidence_step_axes", np.array([1, 2], np.int64))
        graph.add("Unsqueeze", ["steps", axes], "evidence_steps")  # (T, 1, 1)
    parts = []
    for direction, side in enumerate(layer.sides):
        place = graph.constant(f"evidence_{side}", np.array(direction, np.int64))
        _changes(graph, layer, place, side)
        if "max" in weights:
            parts.append(_of_max(graph, weights["max"][direction], place, side))
        if "mean" in weights:
            parts.append(_of_mean(graph, weights["mean"][direction], side))
        if "attention" in weights:
            parts.append(_of_attention(graph, weights["attention"][direction], side))
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = graph.add("Add", [total, part], f"evidence_sum_{number}")
    graph.add("Transpose", [total], "evidence", perm=[1, 0])


def _changes(graph: Graph, layer: Layer, place: str, side: str) -> None:
    """Add by how much each word changed the states of a direction (T, B, H).

    Without a direction, the states.
    """
    name = f"evidence_{side}"
    if side == "alone":
        graph.add("Gather", [layer.states, place], f"{name}_changes", axis=1)
        return
    graph.add("Gather", [layer.states, place], f"{name}_states", axis=1)
    # The state that the direction came from: one step before it, and nothing before its first.
    graph.add("Slice", [f"{name}_states", *_slice(graph, f"{name}_one", 0, 1)], f"{name}_first")
    graph.add("Mul", [f"{name}_first", "zero"], f"{name}_nothing")
    from_, to = (0, -1) if side == "ahead" else (1, FAR)
    bounds = _slice(graph, f"{name}_others", from_, to)
    graph.add("Slice", [f"{name}_states", *bounds], f"{name}_others")
    before = [f"{name}_nothing", f"{name}_others"]
    graph.add("Concat", before if side == "ahead" else before[::-1], f"{name}_before", axis=0)
    graph.add("Sub", [f"{name}_states", f"{name}_before"], f"{name}_changes")


def _slice(graph: Graph, name: str, start: int, stop: int) -> list[str]:
    """Return the constants of a Slice over the steps."""
    return [
        graph.constant(f"{name}_start", np.array([start], np.int64)),
        graph.constant(f"{name}_stop", np.array([stop], np.int64)),
        "axis_0",
    ]


def _of_max(graph: Graph, weight: NDArray[np.float32], place: str, side: str) -> str:
    """Add the part of the maximum (T, B): the changes up to the step that reached it."""
    name = f"evidence_{side}_max"
    graph.add("Gather", ["evidence_winners", place], f"{name}_winners", axis=0)  # (B, H)
    compared = ["evidence_steps", f"{name}_winners"]  # (T, B, H)
    if side == "alone":
        graph.add("Not", [graph.add("Equal", compared, f"{name}_won")], f"{name}_beyond")
    else:
        graph.add("Greater" if side == "ahead" else "Less", compared, f"{name}_beyond")
    graph.add("Where", [f"{name}_beyond", "zero", f"evidence_{side}_changes"], f"{name}_changes")
    return _weighted(graph, name, f"{name}_changes", weight)


def _of_mean(graph: Graph, weight: NDArray[np.float32], side: str) -> str:
    """Add the part of the mean (T, B): a change counts in all states from its step on."""
    name = f"evidence_{side}_mean"
    if side == "ahead":
        graph.add("Sub", ["lengths_64", "steps_column"], f"{name}_count")  # (T, B)
    elif side == "back":
        graph.add("Add", ["steps_column", "one"], f"{name}_count")  # (T, 1)
    else:
        graph.add("Identity", ["one"], f"{name}_count")
    graph.add("Cast", [f"{name}_count"], f"{name}_count_float", to=TensorProto.FLOAT)
    graph.add("Div", [f"{name}_count_float", "divisors"], f"{name}_share")
    changes = _weighted(graph, name, f"evidence_{side}_changes", weight)
    return graph.add("Mul", [changes, f"{name}_share"], f"{name}_part")


def _of_attention(graph: Graph, weight: NDArray[np.float32], side: str) -> str:
    """Add the part of the attention (T, B): a change counts in all states from its step on."""
    name = f"evidence_{side}_attention"
    shares = graph.add("Squeeze", ["attention", "evidence_unit_axis"], f"{name}_here")
    if side != "alone":
        reverse = int(side == "ahead")
        shares = graph.add("CumSum", [shares, "no"], f"{name}_from_here", reverse=reverse)
    changes = _weighted(graph, name, f"evidence_{side}_changes", weight)
    return graph.add("Mul", [changes, shares], f"{name}_part")


def _weighted(graph: Graph, name: str, values: str, weight: NDArray[np.float32]) -> str:
    """Add the sum over the units of values (T, B, H) times their weight."""
    graph.constant(f"{name}_weight", weight)
    graph.add("Mul", [values, f"{name}_weight"], f"{name}_products")
    products = [f"{name}_products", "evidence_unit_axis"]
    return graph.add("ReduceSum", products, f"{name}_sums", keepdims=0)

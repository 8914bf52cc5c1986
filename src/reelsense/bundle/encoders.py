"""The part of the graph from token ids to states: as `model.recurrent` and `model.convolutional`.

Knows no torch, text, data or file. B reviews a batch, T tokens (padded), D vector dimensions, H
units a direction or filters of a width, V words. Weights have the names of their network and are
float32 arrays.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from reelsense.bundle.int8 import to_7_bits, to_levels, with_pins
from reelsense.bundle.nodes import FAR, MICROSOFT, Convolution, Graph, Layer, Recurrent
from reelsense.model.recipe import Recipe

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

BELOW = -1e30  # lower than any state or score, and no infinity, which no constant of ours is

# Where ONNX's gates stand among torch's: i, o, f, c of i, f, g, o; and z, r, h of r, z, n.
TO_ONNX = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


def add_encoder(graph: Graph, recipe: Recipe, weights: Weights, variant: str) -> Layer:
    """Add the recipe's encoder of "ids_by_step" (T, B) and "lengths" (B,)."""
    if variant == "int8":
        return _int8_lstm(graph, weights)
    graph.constant("words", weights["embedding.weight"])
    # The vectors of padding are zeros: what a convolution sees before and behind a review.
    values = graph.add("Gather", ["words", "ids_by_step"], "vectors")  # (T, B, D)
    if recipe.arch == "mean":
        return _alone(graph, values, weights["embedding.weight"].shape[1])
    if recipe.arch == "cnn":
        return _cnn(graph, weights, values)
    if recipe.arch == "dpcnn":
        return _dpcnn(graph, weights, recipe, values)
    below: tuple[tuple[Convolution, ...], ...] = ()
    if recipe.arch == "cnn-lstm":
        values = _convolution(graph, weights, "convolution", values)
        values = graph.add("Relu", [values], "phrases")
        below = ((Convolution("convolution", values),),)
    return _recurrent(graph, weights, recipe, values, below)


# --- from both ends -----------------------------------------------------------------------------


def _both(weights: Weights, layer: int, cell: str, name: str) -> list[Array]:
    """Return one weight of both directions of a layer, its gates as ONNX orders them."""
    order = TO_ONNX[cell]
    found = [weights[f"{side}_{cell}.{layer}.{name}_l0"] for side in ("forward", "backward")]
    return [
        np.concatenate([gates[place] for place in order])
        for gates in (np.split(weight, len(order)) for weight in found)
    ]


def _bias(weights: Weights, layer: int, cell: str) -> list[Array]:
    """Return the bias of both directions, that of the input and that of the state.

    torch adds the two of an LSTM, which are one then. A GRU multiplies that of the state by a gate.
    """
    pairs = zip(
        _both(weights, layer, cell, "bias_ih"), _both(weights, layer, cell, "bias_hh"), strict=True
    )
    if cell == "gru":
        return [np.concatenate(pair) for pair in pairs]
    sums = [of_input + of_state for of_input, of_state in pairs]
    return [np.concatenate([row, np.zeros_like(row)]) for row in sums]


def _recurrent(
    graph: Graph,
    weights: Weights,
    recipe: Recipe,
    values: str,
    below: tuple[tuple[Convolution, ...], ...],
) -> Layer:
    """Add the layers of an LSTM or GRU in float32 over values (T, B, width), which are made so."""
    made: list[Recurrent] = []
    cell, units = ("gru" if recipe.arch == "bigru" else "lstm"), recipe.hidden
    # torch's GRU takes its reset gate after the product of state and weights, not before.
    more = {"linear_before_reset": 1} if cell == "gru" else {}
    for layer in range(recipe.layers):
        if layer:
            graph.add("Transpose", [f"states_{layer - 1}"], f"turned_{layer}", perm=[0, 2, 1, 3])
            shape = graph.constant("joined_shape", np.array([0, 0, 2 * units], np.int64))
            values = graph.add("Reshape", [f"turned_{layer}", shape], f"joined_{layer}")
        parts = {
            "W": _both(weights, layer, cell, "weight_ih"),
            "R": _both(weights, layer, cell, "weight_hh"),
            "B": _bias(weights, layer, cell),
        }
        names = {
            name: graph.constant(f"{name}_{layer}", np.stack(both)) for name, both in parts.items()
        }
        inputs = [values, *names.values(), "lengths"]
        states, last = f"states_{layer}", f"last_{layer}"
        graph.add(
            cell.upper(),
            inputs,
            states,
            last,
            direction="bidirectional",
            hidden_size=units,
            **more,
        )
        made.append(Recurrent(cell, values, states, units, names))
    return Layer(states, last, units, made_of=(*below, *made))


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
    rows = _both(weights, 0, "lstm", "weight_ih")
    of_input = [with_pins(np.pad(row * spread, ((0, 0), (0, 2)))) for row in rows]
    of_state = [with_pins(row) for row in _both(weights, 0, "lstm", "weight_hh")]
    of_state = [np.pad(row, ((0, 0), (0, 2))) for row in of_state]
    bias = [with_pins(row[: len(row) // 2], pins=True) for row in _bias(weights, 0, "lstm")]
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
    made = Recurrent("lstm", "vectors", "states", units, {n: n for n in "WRB"}, int8=True)
    return Layer("states", "last", units, made_of=(made,))


# --- convolutions -------------------------------------------------------------------------------
#
# As products of matrices over the words that a filter sees, side by side: the scores of ONNX's own
# Conv change in their last bits with the length that a batch is padded to.


def _convolution(graph: Graph, weights: Weights, name: str, values: str) -> str:
    """Add a convolution over values (T, B, C) that leaves as many steps: (T, B, filters)."""
    weight = np.transpose(weights[f"{name}.weight"], (2, 1, 0))  # (width, C, filters)
    width, channels, filters = weight.shape
    graph.constant(f"{name}.weight", weight)
    shape = graph.constant(f"{name}.shape", np.array([width * channels, filters], np.int64))
    flat = graph.add("Reshape", [f"{name}.weight", shape], f"{name}.matrix")
    seen = windows(graph, name, values, width, before=(width - 1) // 2)
    graph.add("MatMul", [seen, flat], f"{name}.product")
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.add("Add", [f"{name}.product", bias], f"{name}.values")


def windows(graph: Graph, name: str, values: str, width: int, before: int) -> str:
    """Add values (T, B, C) side by side with their neighbours: (T, B, width * C).

    `before` are the steps of a window that stand before its own; beyond the ends are zeros.
    """
    rows = [f"{name}.nothing"] * before + [values] + [f"{name}.nothing"] * (width - 1 - before)
    first = graph.add("Slice", [values, *steps(graph, 0, 1)], f"{name}.first")
    graph.add("Mul", [first, "zero"], f"{name}.nothing")
    graph.add("Concat", rows, f"{name}.bordered", axis=0)
    seen = [
        graph.add(
            "Slice",
            [f"{name}.bordered", *steps(graph, place, place + 1 - width)],
            f"{name}.{place}",
        )
        for place in range(width)
    ]
    return graph.add("Concat", seen, f"{name}.windows", axis=2)


def steps(graph: Graph, start: int, stop: int, every: int = 1) -> list[str]:
    """Return the constants of a Slice over the steps; `stop` is from the end if not above 0."""
    stop = stop if stop else FAR
    numbers = {
        f"from_{start}": start,
        f"to_{stop}": stop,
        "axis_of_steps": 0,
        f"every_{every}": every,
    }
    return [graph.constant(name, np.array([n], np.int64)) for name, n in numbers.items()]


def _cnn(graph: Graph, weights: Weights, values: str) -> Layer:
    """Add filters of several widths side by side."""
    seen: list[str] = []
    made: list[Convolution] = []
    filters = 0
    while (name := f"convolutions.{len(seen)}") + ".weight" in weights:
        filters += len(weights[f"{name}.weight"])
        seen.append(graph.add("Relu", [_convolution(graph, weights, name, values)], f"{name}.relu"))
        made.append(Convolution(name, seen[-1]))
    states = graph.add("Concat", seen, "phrases", axis=2)
    return _alone(graph, states, filters, made_of=(tuple(made),))


def _dpcnn(graph: Graph, weights: Weights, recipe: Recipe, values: str) -> Layer:
    """Add the levels, between two of which every second state is left."""
    lengths, is_state = "lengths_64", "is_word"
    states = _kept(graph, _convolution(graph, weights, "region", values), is_state, "zero")
    graph.constant("below", np.array(BELOW, np.float32))
    graph.constant("two", np.array(2, np.int64))
    for level in range(recipe.layers + 1):
        if level:
            highest = _highest(graph, _kept(graph, states, is_state, "below"), f"level_{level}")
            graph.add("Add", [lengths, "one"], f"level_{level}.more")
            lengths = graph.add("Div", [f"level_{level}.more", "two"], f"level_{level}.lengths")
            is_state = _is_state(graph, highest, lengths, f"level_{level}")
            states = _kept(graph, highest, is_state, "zero")
        inner = states
        for place in (2 * level, 2 * level + 1):
            active = graph.add("Relu", [inner], f"convolutions.{place}.relu")
            inner = _convolution(graph, weights, f"convolutions.{place}", active)
            inner = _kept(graph, inner, is_state, "zero")
        states = graph.add("Add", [states, inner], f"level_{level}.states")
    return _alone(graph, states, recipe.hidden, is_state, lengths)


def _highest(graph: Graph, values: str, name: str) -> str:
    """Add the maximum of three states (T, B, H), every second one: T / 2 rounded up."""
    first = graph.add("Slice", [values, *steps(graph, 0, 1)], f"{name}.first")
    nothing = graph.add("Min", [first, "below"], f"{name}.nothing")
    graph.add("Concat", [values, nothing, nothing], f"{name}.bordered", axis=0)
    three = [
        graph.add(
            "Slice", [f"{name}.bordered", *steps(graph, place, place - 2, 2)], f"{name}.{place}"
        )
        for place in range(3)
    ]
    return graph.add("Max", three, f"{name}.highest")


def _is_state(graph: Graph, values: str, lengths: str, name: str) -> str:
    """Add which of values (steps, B, H) are of the review: (steps, B)."""
    graph.add("Shape", [values], f"{name}.shape", start=0, end=1)
    graph.add("Squeeze", [f"{name}.shape"], f"{name}.count")
    graph.add("Range", ["no", f"{name}.count", "one"], f"{name}.steps")
    graph.add("Unsqueeze", [f"{name}.steps", "axis_1"], f"{name}.column")
    graph.add("Less", [f"{name}.column", lengths], f"{name}.is_state")
    graph.add("Unsqueeze", [f"{name}.is_state", "axis_2"], f"{name}.is_state_of_values")
    return f"{name}.is_state"


def _kept(graph: Graph, values: str, is_state: str, other: str) -> str:
    """Add values (steps, B, H) where they are of the review, and another number elsewhere."""
    return graph.add("Where", [f"{is_state}_of_values", values, other], f"{values}.{other}")


def _alone(
    graph: Graph,
    values: str,
    features: int,
    is_state: str = "is_word",
    lengths: str = "lengths_64",
    made_of: tuple[tuple[Convolution, ...], ...] = (),
) -> Layer:
    """Return values (steps, B, features) as the states of a layer without direction."""
    graph.add("Where", [f"{is_state}_of_values", values, "zero"], "real_states")
    graph.add("Unsqueeze", ["real_states", "axis_1"], "states")
    return Layer("states", "", features, 1, is_state, lengths, made_of)

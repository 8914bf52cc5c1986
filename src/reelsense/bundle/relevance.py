"""How a layer's multipliers become those of what it reads: the steps of `evidence`.

T steps, B reviews, H units a direction or filters of a width. A layer makes numbers, and each has
a multiplier, such that the sum of their products is the logit without its bias. What the layer
makes is written as a sum over what it reads, with everything else in it as constants: a gate is
one (LRP-all of Arras et al. 2017), and f(u) = u * (f(u) / u) for tanh and ReLU. So the same sum
stands over what it reads, plus what its biases add, which goes to the word of the step.

Of an LSTM, in the order in which it reads, with candidate z_t, cell c_t and q_T = 0:

    h_t = o_t tanh(c_t),  c_t = f_t c_{t-1} + i_t tanh(z_t),  z_t = W x_t + R h_{t-1} + b
    m(h_t) = a_t + q_t,   m(c_t) = m(h_t) o_t tanh(c_t) / c_t + f_{t+1} m(c_{t+1})
    m(z_t) = m(c_t) i_t tanh(z_t) / z_t,  m(x_t) = W' m(z_t),  q_{t-1} = R' m(z_t)

Of a GRU, likewise, with h_t = (1 - z_t) tanh(n_t) + z_t h_{t-1} and
n_t = W x_t + b + r_t (R h_{t-1} + b').
"""

import numpy as np
from onnx import TensorProto

from reelsense.bundle.encoders import steps, windows
from reelsense.bundle.nodes import Convolution, Graph, Recurrent

GATES = {"lstm": 4, "gru": 3}  # the last of them is the candidate

# A layer's multipliers of what it reads, and what its biases add at each step, (T, B) each.
Passed = tuple[str, list[str]]


def through_convolutions(
    graph: Graph, name: str, side_by_side: tuple[Convolution, ...], multipliers: str
) -> Passed:
    """Add the way through convolutions that read the same values, and a ReLU each."""
    above = [multipliers]
    if len(side_by_side) > 1:
        above = [f"{name}_{place}_above" for place in range(len(side_by_side))]
        graph.add("Split", [multipliers], *above, axis=2, num_outputs=len(above))
    passed = [
        _through_convolution(graph, f"{name}_{place}", one, values)
        for place, (one, values) in enumerate(zip(side_by_side, above, strict=True))
    ]
    return _sum(graph, name, [below for below, _ in passed]), [bias for _, bias in passed]


def _through_convolution(
    graph: Graph, name: str, one: Convolution, multipliers: str
) -> tuple[str, str]:
    """Add the convolution of the multipliers with the weight turned round."""
    width, channels, filters = graph.constants[f"{one.name}.weight"].dims
    graph.add("Greater", [one.active, "zero"], f"{name}_is_active")
    passed = graph.add("Where", [f"{name}_is_active", multipliers, "zero"], f"{name}_passed")
    graph.constant(f"{name}_order", np.arange(width, dtype=np.int64)[::-1])
    graph.add("Gather", [f"{one.name}.weight", f"{name}_order"], f"{name}_reversed", axis=0)
    graph.add("Transpose", [f"{name}_reversed"], f"{name}_turned", perm=[0, 2, 1])
    shape = graph.constant(f"{name}_shape", np.array([width * filters, channels], np.int64))
    graph.add("Reshape", [f"{name}_turned", shape], f"{name}_matrix")
    seen = windows(graph, name, passed, width, before=width // 2)
    below = graph.add("MatMul", [seen, f"{name}_matrix"], f"{name}_below")
    return below, _weighted(graph, f"{name}_bias", passed, f"{one.name}.bias")


def through_recurrent(graph: Graph, name: str, layer: Recurrent, multipliers: str) -> Passed:
    """Add the way through both directions of an LSTM or GRU."""
    sides = [f"{name}_ahead", f"{name}_back"]
    above = [f"{side}_above" for side in sides]
    graph.add("Split", [multipliers], *above, axis=2, num_outputs=2)
    below, biases = [], []
    for place, side in enumerate(sides):
        _sums(graph, side, layer, place)
        through = _through_lstm if layer.cell == "lstm" else _through_gru
        biases.append(through(graph, side, bool(place)))
        below.append(graph.add("MatMul", [f"{side}_below", f"{side}_W_own"], f"{side}_vectors"))
    return _sum(graph, name, below), biases


def _sums(graph: Graph, name: str, layer: Recurrent, place: int) -> None:
    """Add what gates and candidates of a direction are made of, for all steps at once.

    "_W_sum" and "_R_sum" (T, B, gates * U): the products with their biases. "_W_own" (U, width),
    "_R_own" (U, U), "_W_bias_own" and "_R_bias_own" (U,): weights and biases of the candidate. U
    are the units, with the pins of int8 among them; their multipliers are zeros.
    """
    index = graph.constant(f"{name}_place", np.array(place, np.int64))
    # The state that the direction came from: one step before it, and nothing before its first.
    states = graph.add("Gather", [layer.states, index], f"{name}_states", axis=1)
    others = graph.add("Slice", [states, *steps(graph, place, place - 1)], f"{name}_others")
    first = graph.add("Slice", [states, *steps(graph, 0, 1)], f"{name}_first")
    graph.add("Mul", [first, "zero"], f"{name}_no_state")
    order = [others, f"{name}_no_state"] if place else [f"{name}_no_state", others]
    graph.add("Concat", order, f"{name}_before", axis=0)
    graph.add("Squeeze", [f"{name}_no_state", "axis_0"], f"{name}_nothing")  # (B, U)
    graph.add("Gather", [layer.weights["B"], index], f"{name}_biases", axis=0)
    biases = [f"{name}_W_bias", f"{name}_R_bias"]
    graph.add("Split", [f"{name}_biases"], *biases, axis=0, num_outputs=2)
    sizes = [(GATES[layer.cell] - 1) * layer.units, layer.units]
    graph.constant(f"{name}_sizes", np.array(sizes, np.int64))
    for kind, values in (("W", layer.values), ("R", f"{name}_before")):
        of_kind = f"{name}_{kind}"
        weight = _weight(graph, of_kind, layer, kind, index)
        graph.add("Transpose", [weight], f"{of_kind}_turned", perm=[1, 0])
        graph.add("MatMul", [values, f"{of_kind}_turned"], f"{of_kind}_product")
        graph.add("Add", [f"{of_kind}_product", f"{of_kind}_bias"], f"{of_kind}_sum")
        _split(graph, name, weight, f"{of_kind}_gates", f"{of_kind}_own", axis=0)
        _split(
            graph, name, f"{of_kind}_bias", f"{of_kind}_bias_gates", f"{of_kind}_bias_own", axis=0
        )


def _weight(graph: Graph, name: str, layer: Recurrent, kind: str, index: str) -> str:
    """Add a weight of one direction, (gates * U, width) in float32."""
    weight = layer.weights[kind]
    graph.add("Gather", [weight, index], f"{name}_stored", axis=0)
    if not layer.int8:
        return f"{name}_stored"
    graph.add("Cast", [f"{name}_stored"], f"{name}_levels", to=TensorProto.FLOAT)
    graph.add("Gather", [f"{weight}_scale", index], f"{name}_scale", axis=0)
    graph.add("Mul", [f"{name}_levels", f"{name}_scale"], f"{name}_weight")  # (width, gates * U)
    return graph.add("Transpose", [f"{name}_weight"], f"{name}_by_gate", perm=[1, 0])


def _through_lstm(graph: Graph, name: str, backwards: bool) -> str:
    """Add the multipliers of the candidates, "_below" (T, B, U); return what the bias adds."""
    graph.add("Add", [f"{name}_W_sum", f"{name}_R_sum"], f"{name}_sum")
    _split(graph, name, f"{name}_sum", f"{name}_open", f"{name}_candidate", axis=2)
    graph.add("Sigmoid", [f"{name}_open"], f"{name}_all_gates")
    # With gates that are shut on padding nothing enters or leaves there.
    graph.add("Where", ["is_word_of_values", f"{name}_all_gates", "zero"], f"{name}_gates")
    gates = [f"{name}_{gate}" for gate in ("input", "output", "forget")]
    graph.add("Split", [f"{name}_gates"], *gates, axis=2, num_outputs=3)
    let_in, let_out, kept = gates
    graph.add("Mul", [let_in, _slope(graph, f"{name}_candidate")], f"{name}_to_cell")
    graph.add("Mul", [f"{name}_to_cell", f"{name}_candidate"], f"{name}_new")
    cells = _cells(graph, name, kept, f"{name}_new", backwards)
    graph.add("Mul", [let_out, _slope(graph, cells)], f"{name}_to_state")

    body, at = Graph(), f"{name}_at"
    body.add("Add", [f"{at}_above", f"{at}_later_states"], f"{at}_state")
    body.add("Mul", [f"{at}_state", f"{at}_to_state"], f"{at}_through_state")
    body.add("Add", [f"{at}_through_state", f"{at}_later_cells"], f"{at}_cell")
    body.add("Mul", [f"{at}_cell", f"{at}_to_cell"], f"{at}_below")
    body.add("MatMul", [f"{at}_below", f"{name}_R_own"], f"{at}_earlier_states")
    body.add("Mul", [f"{at}_cell", f"{at}_forget"], f"{at}_earlier_cells")
    graph.scan(
        f"{name}_below",
        body,
        carried=[
            (f"{name}_nothing", f"{at}_later_states", f"{at}_earlier_states"),
            (f"{name}_nothing", f"{at}_later_cells", f"{at}_earlier_cells"),
        ],
        read=[
            (f"{name}_{one}", f"{at}_{one}") for one in ("above", "to_state", "to_cell", "forget")
        ],
        seen=f"{at}_below",
        from_the_end=not backwards,
    )
    return _weighted(graph, f"{name}_bias", f"{name}_below", f"{name}_W_bias_own")


def _cells(graph: Graph, name: str, kept: str, new: str, backwards: bool) -> str:
    """Add the cells (T, B, U), of which the LSTM node tells only the last."""
    body, at = Graph(), f"{name}_cells_at"
    body.add("Mul", [f"{at}_before", f"{at}_kept"], f"{at}_left")
    body.add("Add", [f"{at}_left", f"{at}_new"], f"{at}_cell")
    body.add("Identity", [f"{at}_cell"], f"{at}_seen")
    return graph.scan(
        f"{name}_cells",
        body,
        carried=[(f"{name}_nothing", f"{at}_before", f"{at}_cell")],
        read=[(kept, f"{at}_kept"), (new, f"{at}_new")],
        seen=f"{at}_seen",
        from_the_end=backwards,
    )


def _through_gru(graph: Graph, name: str, backwards: bool) -> str:
    """Add the multipliers of the candidates, "_below" (T, B, U); return what the biases add."""
    for kind in "WR":
        whole = f"{name}_{kind}_sum"
        _split(graph, name, whole, f"{whole}_gates", f"{whole}_own", axis=2)
    graph.add("Add", [f"{name}_W_sum_gates", f"{name}_R_sum_gates"], f"{name}_open")
    graph.add("Sigmoid", [f"{name}_open"], f"{name}_all_gates")
    graph.add(
        "Split", [f"{name}_all_gates"], f"{name}_update", f"{name}_reset", axis=2, num_outputs=2
    )
    graph.add("Mul", [f"{name}_reset", f"{name}_R_sum_own"], f"{name}_remembered")
    graph.add("Add", [f"{name}_W_sum_own", f"{name}_remembered"], f"{name}_candidate")
    # Padding keeps nothing and lets nothing in.
    graph.add("Where", ["is_word_of_values", f"{name}_update", "zero"], f"{name}_kept")
    graph.constant("evidence_whole", np.array(1, np.float32))
    graph.add("Sub", ["evidence_whole", f"{name}_update"], f"{name}_let_in")
    graph.add("Mul", [f"{name}_let_in", _slope(graph, f"{name}_candidate")], f"{name}_to_any")
    graph.add("Where", ["is_word_of_values", f"{name}_to_any", "zero"], f"{name}_to_state")

    body, at = Graph(), f"{name}_at"
    body.add("Add", [f"{at}_above", f"{at}_later"], f"{at}_state")
    body.add("Mul", [f"{at}_state", f"{at}_to_state"], f"{at}_below")
    body.add("Mul", [f"{at}_below", f"{at}_reset"], f"{at}_through_reset")
    body.add("MatMul", [f"{at}_through_reset", f"{name}_R_own"], f"{at}_through_weight")
    body.add("Mul", [f"{at}_state", f"{at}_kept"], f"{at}_through_update")
    body.add("Add", [f"{at}_through_weight", f"{at}_through_update"], f"{at}_earlier")
    graph.scan(
        f"{name}_below",
        body,
        carried=[(f"{name}_nothing", f"{at}_later", f"{at}_earlier")],
        read=[(f"{name}_{one}", f"{at}_{one}") for one in ("above", "to_state", "reset", "kept")],
        seen=f"{at}_below",
        from_the_end=not backwards,
    )
    graph.add("Mul", [f"{name}_reset", f"{name}_R_bias_own"], f"{name}_bias_of_state")
    graph.add("Add", [f"{name}_bias_of_state", f"{name}_W_bias_own"], f"{name}_both_biases")
    return _weighted(graph, f"{name}_bias", f"{name}_below", f"{name}_both_biases")


def _slope(graph: Graph, values: str) -> str:
    """Add tanh(u) / u, which is even; 1 at 0."""
    graph.add("Abs", [values], f"{values}_size")
    graph.add("Max", [f"{values}_size", "evidence_tiny"], f"{values}_divisor")
    graph.add("Tanh", [f"{values}_divisor"], f"{values}_tanh")
    return graph.add("Div", [f"{values}_tanh", f"{values}_divisor"], f"{values}_slope")


def _split(graph: Graph, name: str, whole: str, gates: str, own: str, axis: int) -> None:
    """Add the parts of the gates and of the candidate."""
    graph.add("Split", [whole, f"{name}_sizes"], gates, own, axis=axis)


def _weighted(graph: Graph, name: str, values: str, weight: str) -> str:
    """Add the sum over the units of values (T, B, U) times a weight."""
    graph.add("Mul", [values, weight], f"{name}_products")
    return graph.add("ReduceSum", [f"{name}_products", "axis_2"], f"{name}_adds", keepdims=0)


def _sum(graph: Graph, name: str, parts: list[str]) -> str:
    """Add the sum of some values."""
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = graph.add("Add", [total, part], f"{name}_total_{number}")
    return total

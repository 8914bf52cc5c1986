"""Is this file a graph of ours? Asked before ONNX Runtime sees a byte of it.

ONNX Runtime checks types and most shapes, and answers with an error. What a bundle must not ask
of it is what it does not check or does as told (onnxruntime 1.32, tried on mutated graphs):

- external data: it reads the file that the graph names, also for a graph that came as bytes;
- an input of Max that is left out: the process ends with a segmentation fault;
- sizes that the graph makes up itself (Range, Expand): memory until the system ends the process;
- texts that are not UTF-8: it prints to standard output before it refuses.

So this is a list of what is allowed, and everything else is refused. The package `onnx`
is no dependency of the base install; field numbers below are those of onnx.proto. Weights are
looked at where they lie.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from reelsense.bundle.onnx_messages import (
    ATTRIBUTE,
    DIMENSION,
    ENTRY,
    GRAPH,
    MODEL,
    NODE,
    OPSET,
    OUTSIDE,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
)
from reelsense.bundle.protobuf import Span, read_message
from reelsense.errors import BadInput

INPUTS: Final = {"ids": ("B", "T"), "lengths": ("B",)}  # and their dimensions
OUTPUTS: Final = {"probability": ("B",), "logit": ("B",), "evidence": ("B", "T")}
OPSETS: Final = {"": 18, "com.microsoft": 1}
IR_VERSIONS: Final = (8, 9, 10)  # 8 came with opset 18, 10 is the last that onnxruntime 1.20 reads
MOST_NODES: Final = 300
LARGEST: Final = 2**20  # whole number among the constants: sizes are made of them

# Attributes of each operator and their kinds.
_LSTM: Final = {"hidden_size": "int", "direction": "text"}
_REDUCE: Final = {"keepdims": "int", "noop_with_empty_axes": "int"}
_PLAIN: Final = """
    Mul Add Sub Div MatMul Where Less Greater Equal Range Unsqueeze Squeeze Sigmoid Relu
    Slice Identity Max Min And Not Tanh
"""
_ATTRIBUTES: Final[dict[tuple[str, str], Mapping[str, str]]] = {
    **{("", op): {} for op in _PLAIN.split()},
    **{("", op): _REDUCE for op in ("ReduceMax", "ReduceSum", "ReduceMean")},
    **{("", op): {"axis": "int"} for op in ("Gather", "GatherElements", "Concat")},
    ("", "ArgMax"): {"axis": "int", "keepdims": "int", "select_last_index": "int"},
    ("", "Cast"): {"to": "int"},
    ("", "Constant"): {"value": "tensor"},
    ("", "CumSum"): {"reverse": "int"},
    ("", "DequantizeLinear"): {"axis": "int"},
    ("", "GatherND"): {"batch_dims": "int"},
    ("", "GRU"): _LSTM | {"linear_before_reset": "int"},
    ("", "LSTM"): _LSTM,
    ("", "Reshape"): {"allowzero": "int"},
    ("", "ScatterElements"): {"axis": "int", "reduction": "text"},
    ("", "Shape"): {"start": "int", "end": "int"},
    ("", "Softmax"): {"axis": "int"},
    ("", "Split"): {"axis": "int", "num_outputs": "int"},
    ("", "Transpose"): {"perm": "ints"},
    ("com.microsoft", "DynamicQuantizeLSTM"): _LSTM,
}
ALLOWED_OPS: Final = frozenset(_ATTRIBUTES)

# Numbers of TensorProto.DataType, and what numpy calls them.
_TYPES: Final = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2"}
_FLOAT, _INT8, _INT32 = 1, 3, 6


class Summary(NamedTuple):
    """What a checked graph says about itself.

    words: rows of the table that word numbers point into.
    evidence: whether it has the output of that name.
    """

    words: int
    evidence: bool


def check_model(data: bytes, name: str) -> Summary:
    """Refuse an ONNX file that is not a graph of ours, or that ONNX Runtime may not survive.

    What remains is for ONNX Runtime to check: that types and shapes fit each other.

    Raises:
        BadInput: what is wrong with it, beginning with `name`.
    """
    try:
        return _check_model(data)
    except (BadInput, KeyError) as error:
        reason = f"does not say {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{name}: {reason}; get the bundle again or export it again") from None


# --- what the graph is made of ------------------------------------------------------------------


class _Tensor(NamedTuple):
    """A constant: its number in `_TYPES` and its shape."""

    type: int
    dims: tuple[int, ...]


class _Node(NamedTuple):
    domain: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


def _tensor(data: bytes, span: Span) -> tuple[str, _Tensor]:
    """Read a constant and check its bytes; return its name too."""
    message = read_message(data, span, TENSOR)
    name, kind = message["name"], message["type"]
    if message.get("location"):
        raise BadInput(OUTSIDE[1:])
    if kind not in _TYPES:
        raise BadInput(f"weights {name!r} are of a type that no graph of ours has ({kind})")
    dims, (start, end) = tuple(message["dims"]), message["raw"]
    dtype = np.dtype(_TYPES[kind])
    count = math.prod(dims)
    if min(dims, default=1) < 1 or count * dtype.itemsize != end - start:
        raise BadInput(f"weights {name!r} have {end - start} bytes, which is not shape {dims}")
    values = np.frombuffer(data, dtype, count, start)
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"weights {name!r} are not all finite numbers")
    if (
        dtype.itemsize > 1
        and dtype.kind == "i"
        and np.any((values < -LARGEST) | (values > LARGEST))
    ):
        raise BadInput(f"weights {name!r} hold a whole number beyond {LARGEST}")
    return name, _Tensor(kind, dims)


_KINDS: Final = {"int": 2, "text": 3, "tensor": 4, "ints": 7}  # AttributeProto.AttributeType


def _node(data: bytes, span: Span) -> _Node:
    """Read a node; check that operator and attributes are among those that are allowed."""
    message = read_message(data, span, NODE)
    domain, op = message.get("domain", ""), message["op"]
    allowed = _ATTRIBUTES.get((domain, op))
    if allowed is None:
        raise BadInput(f"uses the operator {op!r} of {domain!r}, which none of ours does")
    attributes: dict[str, Any] = {}
    for place in message["attributes"]:
        attribute = read_message(data, place, ATTRIBUTE)
        name = attribute["name"]
        kind = allowed.get(name)
        filled = [kind for kind in _KINDS if attribute.get(kind, []) != []]
        if kind is None or name in attributes or attribute["type"] != _KINDS[kind]:
            raise BadInput(f"{op} has an attribute {name!r} that none of ours has")
        if filled != [kind]:
            raise BadInput(f"{op} has no value, or several, for its attribute {name!r}")
        attributes[name] = attribute[kind]
        if kind == "tensor":
            attributes[name] = _tensor(data, attribute[kind])[1]
    return _Node(domain, op, message["inputs"], message["outputs"], attributes)


def _check_ports(
    data: bytes, spans: list[Span], known: Mapping[str, tuple[str, ...]], kind: int, what: str
) -> set[str]:
    """Check the inputs or the outputs of the graph; return their names."""
    names: set[str] = set()
    for span in spans:
        value = read_message(data, span, VALUE)
        name = value["name"]
        if name not in known or name in names:
            raise BadInput(f"has the {what} {name!r}; ours are {', '.join(known)}")
        names.add(name)
        tensor = read_message(data, read_message(data, value["type"], TYPE)["tensor"], TENSOR_TYPE)
        dims = read_message(data, tensor["shape"], SHAPE)["dims"]
        found = [read_message(data, place, DIMENSION) for place in dims]
        if tensor["type"] != kind or found != [{"name": letter} for letter in known[name]]:
            shape = ", ".join(known[name])
            word = "int32" if kind == _INT32 else "float32"
            raise BadInput(f"its {what} {name} is not {word} of shape ({shape})")
    if missing := set(known) - names - {"evidence"}:
        raise BadInput(f"has no {what} {min(missing)}")
    return names


# --- how its parts fit --------------------------------------------------------------------------


def _check_model(data: bytes) -> Summary:
    model = read_message(data, (0, len(data)), MODEL)
    if model["ir_version"] not in IR_VERSIONS:
        raise BadInput(f"is of ONNX version {model['ir_version']}, not one of {IR_VERSIONS}")
    for span in model["metadata"]:
        read_message(data, span, ENTRY)
    opsets = [read_message(data, span, OPSET) for span in model["opsets"]]
    versions = {opset.get("domain", ""): opset["version"] for opset in opsets}
    for domain, version in versions.items():
        if OPSETS.get(domain) != version:
            raise BadInput(f"needs version {version} of the operators {domain!r}")
    if len(versions) < len(opsets) or "" not in versions:
        raise BadInput("does not say once which operators it needs")
    graph = read_message(data, model["graph"], GRAPH)
    if len(graph["nodes"]) > MOST_NODES:
        raise BadInput(f"has {len(graph['nodes'])} nodes, more than {MOST_NODES}")
    _check_ports(data, graph["inputs"], INPUTS, _INT32, "input")
    outputs = _check_ports(data, graph["outputs"], OUTPUTS, _FLOAT, "output")
    tensors = dict(_tensor(data, span) for span in graph["tensors"])
    nodes = [_node(data, span) for span in graph["nodes"]]
    if len(tensors) < len(graph["tensors"]):
        raise BadInput("has two weights of one name")
    _check_names(nodes, tensors, outputs)
    for node in nodes:
        if node.op in ("LSTM", "GRU", "DynamicQuantizeLSTM"):
            _check_recurrent(node, tensors)
    _check_ranges(nodes, tensors)
    return Summary(_words(nodes, tensors), "evidence" in outputs)


def _check_names(nodes: list[_Node], tensors: Collection[str], outputs: Collection[str]) -> None:
    """Check that each value is made once, before it is used, and that nodes make the outputs."""
    made: set[str] = set()
    known = {*INPUTS, *tensors}
    if "" in known or len(known) < len(INPUTS) + len(tensors):
        raise BadInput("has weights without a name or with the name of an input")
    for node in nodes:
        for place, name in enumerate(node.inputs):
            left_out = not name and node.op == "DynamicQuantizeLSTM" and 5 <= place <= 7
            if name not in known and not left_out:
                raise BadInput(f"{node.op} uses {name!r}, which is not made before")
        for name in node.outputs:
            if not name or name in known:
                raise BadInput(f"{node.op} makes {name!r}, which is there already")
            known.add(name)
            made.add(name)
    if missing := set(outputs) - made:
        raise BadInput(f"no node makes the output {min(missing)}")


def _check_recurrent(node: _Node, tensors: Mapping[str, _Tensor]) -> None:
    """Check that the weights of an LSTM or GRU are constants whose shapes fit each other."""
    units = node.attributes.get("hidden_size", 0)
    sides = 2 if node.attributes.get("direction") == "bidirectional" else 1
    quantised = node.op == "DynamicQuantizeLSTM"
    names = node.inputs[1:4] + node.inputs[8:]
    weights = [tensors[name] for name in names if name in tensors]
    if node.inputs[4:5] != ["lengths"] or len(weights) != len(names):
        raise BadInput(f"{node.op} has other inputs than ours")
    gates = (3 if node.op == "GRU" else 4) * units
    shapes = [tensor.dims for tensor in weights]
    width = shapes[0][1 if quantised else -1] if weights and len(shapes[0]) == 3 else 0
    expected: list[tuple[int, ...]]
    if quantised:
        expected = [(sides, width, gates), (sides, units, gates), (sides, 2 * gates)]
        expected += [(sides, gates)] * 4
        kinds = [_INT8, _INT8, _FLOAT, _FLOAT, _INT8, _FLOAT, _INT8]
    else:
        expected = [(sides, gates, width), (sides, gates, units), (sides, 2 * gates)]
        kinds = [_FLOAT] * 3
    inputs = 12 if quantised else 5
    if len(node.inputs) != inputs or len(node.outputs) > 3 or shapes != expected:
        raise BadInput(f"{node.op} has weights of shapes {shapes}, which do not fit each other")
    if [tensor.type for tensor in weights] != kinds:
        raise BadInput(f"{node.op} has weights of other types than ours")


# What only moves numbers about.
_MOVES: Final = frozenset(
    "Cast Concat Gather Identity Reshape Slice Squeeze Transpose Unsqueeze".split()  # noqa: SIM905
)


def _check_ranges(nodes: list[_Node], tensors: Collection[str]) -> None:
    """Check that ranges are as long as a constant or a dimension says, not as computed."""
    sizes = set(tensors)
    for node in nodes:
        plain = sizes.issuperset(node.inputs)
        if node.op == "Range" and not plain:
            raise BadInput("Range counts to a number that is computed, which none of ours does")
        if node.op in ("Shape", "Constant") or (plain and node.op in _MOVES):
            sizes.update(node.outputs)


def _words(nodes: list[_Node], tensors: Mapping[str, _Tensor]) -> int:
    """Return how many rows the tables have that word numbers point into."""
    ids, rows = {"ids"}, set()
    for node in nodes:
        if node.op in _MOVES and ids.issuperset(node.inputs[:1]):
            ids.update(node.outputs)
        if node.op == "Gather" and not ids.isdisjoint(node.inputs[1:]):
            table = tensors.get(node.inputs[0], _Tensor(0, ()))
            rows.add(table.dims[0] if table.dims and not node.attributes.get("axis") else 0)
    if len(rows) != 1 or 0 in rows:
        raise BadInput("does not begin with one table of words")
    return int(rows.pop())

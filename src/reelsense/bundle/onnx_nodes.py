"""What a graph of ours may be made of: weights, nodes and ports, each read and checked by itself.

Field numbers are those of onnx.proto. How the parts fit each other is checked by `onnx_file`.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from reelsense.bundle.onnx_messages import (
    ATTRIBUTE,
    DIMENSION,
    GRAPH,
    NODE,
    OUTSIDE,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
)
from reelsense.bundle.protobuf import Span, read_message
from reelsense.errors import BadInput

LARGEST: Final = 2**20  # whole number among the constants: sizes are made of them

# Attributes of each operator and their kinds.
_LSTM: Final = {"hidden_size": "int", "direction": "text"}
_REDUCE: Final = {"keepdims": "int", "noop_with_empty_axes": "int"}
_PLAIN: Final = """
    Abs Mul Add Sub Div MatMul Where Less Greater Equal Range Unsqueeze Squeeze Sigmoid Relu
    Slice Identity Max Min Tanh
"""
_ATTRIBUTES: Final[dict[tuple[str, str], Mapping[str, str]]] = {
    **{("", op): {} for op in _PLAIN.split()},
    **{("", op): _REDUCE for op in ("ReduceMax", "ReduceSum")},
    **{("", op): {"axis": "int"} for op in ("Gather", "Concat")},
    ("", "ArgMax"): {"axis": "int", "keepdims": "int", "select_last_index": "int"},
    ("", "Cast"): {"to": "int"},
    ("", "DequantizeLinear"): {"axis": "int"},
    ("", "GRU"): _LSTM | {"linear_before_reset": "int"},
    ("", "LSTM"): _LSTM,
    ("", "Reshape"): {"allowzero": "int"},
    ("", "Scan"): {
        "body": "graph",
        "num_scan_inputs": "int",
        "scan_input_directions": "ints",
        "scan_output_directions": "ints",
    },
    ("", "Shape"): {"start": "int", "end": "int"},
    ("", "Softmax"): {"axis": "int"},
    ("", "Split"): {"axis": "int", "num_outputs": "int"},
    ("", "Transpose"): {"perm": "ints"},
    ("com.microsoft", "DynamicQuantizeLSTM"): _LSTM,
}
ALLOWED_OPS: Final = frozenset(_ATTRIBUTES)
_OPS_OF_A_STEP: Final = frozenset(("Add", "Mul", "MatMul", "Identity"))  # in the body of a Scan
_OF_A_STEP: Final = ("B", "H")  # dimensions of what goes in and out there

# Numbers of TensorProto.DataType, and what numpy calls them.
_TYPES: Final = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2"}
FLOAT, INT8, INT32 = 1, 3, 6


class Tensor(NamedTuple):
    """A constant: its number in `_TYPES` and its shape."""

    type: int
    dims: tuple[int, ...]


class Node(NamedTuple):
    """A node; `attributes` are those that are numbers or texts."""

    domain: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    body: "Body | None"


class Body(NamedTuple):
    """The graph inside of a Scan: what it does at each step."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]


def read_tensor(data: bytes, span: Span) -> tuple[str, Tensor]:
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
    return name, Tensor(kind, dims)


# AttributeProto.AttributeType
_KINDS: Final = {"int": 2, "text": 3, "graph": 5, "ints": 7}


def read_node(data: bytes, span: Span, inside: bool = False) -> Node:
    """Read a node; check that operator and attributes are among those that are allowed.

    `inside` of a Scan fewer are; no Scan, so that reading ends.
    """
    message = read_message(data, span, NODE)
    domain, op = message.get("domain", ""), message["op"]
    allowed = _ATTRIBUTES.get((domain, op))
    if inside and (domain or op not in _OPS_OF_A_STEP):
        raise BadInput(f"uses the operator {op!r} of {domain!r} inside of a Scan")
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
    body = _body(data, attributes.pop("body")) if op == "Scan" else None
    return Node(domain, op, message["inputs"], message["outputs"], attributes, body)


def _body(data: bytes, span: Span) -> Body:
    """Read the graph inside of a Scan: a few sums and products, and no weights of its own."""
    graph = read_message(data, span, GRAPH)
    if graph["tensors"]:
        raise BadInput("has weights inside of a Scan")
    nodes = [read_node(data, place, inside=True) for place in graph["nodes"]]
    ports = []
    for place in (*graph["inputs"], *graph["outputs"]):
        name, kind, dims = read_port(data, place)
        if kind != FLOAT or dims != [{"name": letter} for letter in _OF_A_STEP]:
            raise BadInput(f"{name!r}, inside of a Scan, is not float32 of shape (B, H)")
        ports.append(name)
    count = len(graph["inputs"])
    return Body(ports[:count], ports[count:], nodes)


def read_port(data: bytes, span: Span) -> tuple[str, int, list[Any]]:
    """Return name, number in `_TYPES` and dimensions of an input or output of a graph."""
    value = read_message(data, span, VALUE)
    tensor = read_message(data, read_message(data, value["type"], TYPE)["tensor"], TENSOR_TYPE)
    places = read_message(data, tensor["shape"], SHAPE)["dims"]
    return value["name"], tensor["type"], [read_message(data, one, DIMENSION) for one in places]

"""Is this file a graph of ours? Asked before ONNX Runtime sees a byte of it.

ONNX Runtime checks types and most shapes, and answers with an error. What a bundle must not ask
of it is what it does not check or does as told (onnxruntime 1.32, tried on mutated graphs):

- external data: it reads the file that the graph names, also for a graph that came as bytes;
- an input of Max that is left out: the process ends with a segmentation fault;
- sizes that the graph makes up itself (Range, Expand): memory until the system ends the process;
- texts that are not UTF-8: it prints to standard output before it refuses.

So there is a list of what is allowed (`onnx_nodes`), and everything else is refused. The package
`onnx` is no dependency of the base install. Weights are looked at where they lie.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from reelsense.bundle.onnx_messages import ENTRY, GRAPH, MODEL, OPSET
from reelsense.bundle.onnx_nodes import (
    FLOAT,
    INT8,
    INT32,
    Body,
    Node,
    Tensor,
    read_node,
    read_port,
    read_tensor,
)
from reelsense.bundle.protobuf import Span, read_message
from reelsense.errors import BadInput

INPUTS: Final = {"ids": ("B", "T"), "lengths": ("B",)}  # and their dimensions
OUTPUTS: Final = {"probability": ("B",), "logit": ("B",), "evidence": ("B", "T")}
OPSETS: Final = {"": 18, "com.microsoft": 1}
IR_VERSIONS: Final = (8, 9, 10)  # 8 came with opset 18, 10 is the last that onnxruntime 1.20 reads
MOST_NODES: Final = 1000  # those of bodies too; eight layers with their evidence have 910


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


def _check_ports(
    data: bytes, spans: list[Span], known: Mapping[str, tuple[str, ...]], kind: int, what: str
) -> set[str]:
    """Check the inputs or the outputs of the graph; return their names."""
    names: set[str] = set()
    for span in spans:
        name, found, dims = read_port(data, span)
        if name not in known or name in names:
            raise BadInput(f"has the {what} {name!r}; ours are {', '.join(known)}")
        names.add(name)
        if found != kind or dims != [{"name": letter} for letter in known[name]]:
            shape = ", ".join(known[name])
            word = "int32" if kind == INT32 else "float32"
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
    _check_ports(data, graph["inputs"], INPUTS, INT32, "input")
    outputs = _check_ports(data, graph["outputs"], OUTPUTS, FLOAT, "output")
    tensors = dict(read_tensor(data, span) for span in graph["tensors"])
    nodes = [read_node(data, span) for span in graph["nodes"]]
    count = sum(1 + len(node.body.nodes if node.body else ()) for node in nodes)
    if count > MOST_NODES:
        raise BadInput(f"has {count} nodes, more than {MOST_NODES}")
    if len(tensors) < len(graph["tensors"]):
        raise BadInput("has two weights of one name")
    _check_names(nodes, tensors, outputs)
    for node in nodes:
        if node.op in ("LSTM", "GRU", "DynamicQuantizeLSTM"):
            _check_recurrent(node, tensors)
    _check_ranges(nodes, tensors)
    return Summary(_words(nodes, tensors), "evidence" in outputs)


def _check_names(nodes: list[Node], tensors: Collection[str], outputs: Collection[str]) -> None:
    """Check that each value is made once, before it is used, and that nodes make the outputs."""
    known = {*INPUTS, *tensors}
    if "" in known or len(known) < len(INPUTS) + len(tensors):
        raise BadInput("has weights without a name or with the name of an input")
    taken = set(known)
    for node in nodes:
        _check_inputs(node, known)
        if node.body:
            _check_scan(node, node.body, known, taken)
        _take(node.op, node.outputs, taken)
        known.update(node.outputs)
    if missing := set(outputs) - known.difference(INPUTS, tensors):
        raise BadInput(f"no node makes the output {min(missing)}")


def _check_inputs(node: Node, known: Collection[str]) -> None:
    """Check that what a node uses is there."""
    for place, name in enumerate(node.inputs):
        left_out = not name and node.op == "DynamicQuantizeLSTM" and 5 <= place <= 7
        if name not in known and not left_out:
            raise BadInput(f"{node.op} uses {name!r}, which is not made before")


def _take(op: str, names: Collection[str], taken: set[str]) -> None:
    """Enter the names of what an operator makes, which stand nowhere before."""
    for name in names:
        if not name or name in taken:
            raise BadInput(f"{op} makes {name!r}, which is there already")
        taken.add(name)


def _check_scan(node: Node, body: Body, known: Collection[str], taken: set[str]) -> None:
    """Check that a Scan and its body fit each other, and that the body's values have names.

    A body may use what was made before the Scan. Of what it puts out all but the last goes to the
    next step.
    """
    read = node.attributes.get("num_scan_inputs", 0)
    carried = len(node.inputs) - read
    ports = (len(body.inputs), len(body.outputs), len(node.outputs))
    if read < 1 or carried < 1 or ports != (len(node.inputs), carried + 1, carried + 1):
        raise BadInput("Scan has other inputs and outputs than its body")
    ways = [node.attributes.get(f"scan_{port}_directions", []) for port in ("input", "output")]
    if [len(way) for way in ways] != [read, 1] or not {0, 1}.issuperset(ways[0] + ways[1]):
        raise BadInput("Scan does not say which way it goes over each of its inputs")
    _take("Scan", body.inputs, taken)
    inside = {*known, *body.inputs}
    made: set[str] = set()
    for step in body.nodes:
        _check_inputs(step, inside)
        _take(step.op, step.outputs, taken)
        inside.update(step.outputs)
        made.update(step.outputs)
    if len(made.intersection(body.outputs)) < len(body.outputs):
        raise BadInput("Scan puts out what no node of its body makes, or one value twice")


def _check_recurrent(node: Node, tensors: Mapping[str, Tensor]) -> None:
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
        kinds = [INT8, INT8, FLOAT, FLOAT, INT8, FLOAT, INT8]
    else:
        expected = [(sides, gates, width), (sides, gates, units), (sides, 2 * gates)]
        kinds = [FLOAT] * 3
    inputs = 12 if quantised else 5
    if len(node.inputs) != inputs or len(node.outputs) > 3 or shapes != expected:
        raise BadInput(f"{node.op} has weights of shapes {shapes}, which do not fit each other")
    if [tensor.type for tensor in weights] != kinds:
        raise BadInput(f"{node.op} has weights of other types than ours")


# What only moves numbers about.
_MOVES: Final = frozenset(
    "Cast Concat Gather Identity Reshape Slice Squeeze Transpose Unsqueeze".split()  # noqa: SIM905
)


def _check_ranges(nodes: list[Node], tensors: Collection[str]) -> None:
    """Check that ranges are as long as a constant or a dimension says, not as computed."""
    sizes = set(tensors)
    for node in nodes:
        plain = sizes.issuperset(node.inputs)
        if node.op == "Range" and not plain:
            raise BadInput("Range counts to a number that is computed, which none of ours does")
        if node.op == "Shape" or (plain and node.op in _MOVES):
            sizes.update(node.outputs)


def _words(nodes: list[Node], tensors: Mapping[str, Tensor]) -> int:
    """Return how many rows the tables have that word numbers point into."""
    ids, rows = {"ids"}, set()
    for node in nodes:
        if node.op in _MOVES and ids.issuperset(node.inputs[:1]):
            ids.update(node.outputs)
        if node.op == "Gather" and not ids.isdisjoint(node.inputs[1:]):
            table = tensors.get(node.inputs[0], Tensor(0, ()))
            rows.add(table.dims[0] if table.dims and not node.attributes.get("axis") else 0)
    if len(rows) != 1 or 0 in rows:
        raise BadInput("does not begin with one table of words")
    return int(rows.pop())

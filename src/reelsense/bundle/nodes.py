"""An ONNX graph in the making: nodes and constants as they come, each under a name of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 10  # what onnxruntime 1.20 reads
MICROSOFT = "com.microsoft"
FAR = 2**20  # beyond the last step of any text
STEP = ("B", "H")  # dimensions of the ports of a Scan's body


@dataclass(frozen=True)
class Recurrent:
    """Names of what a bidirectional LSTM or GRU reads, makes and computes with."""

    cell: str  # "lstm" or "gru"
    values: str  # (T, B, width)
    states: str  # (T, 2, B, units), zeros on padding
    units: int
    weights: Mapping[str, str]  # "W", "R" (2, gates * units, width) and "B" (2, 2 * gates * units)
    int8: bool = False  # W and R are turned, and beside each there are its "..._scale"


@dataclass(frozen=True)
class Convolution:
    """Names of what a convolution and its ReLU make of values that are zeros on padding."""

    name: str  # and its constants' "....weight" (width, channels, filters) and "....bias"
    active: str  # (T, B, filters)


@dataclass(frozen=True)
class Layer:
    """Names of an encoder's outputs, and how many units each side has in them.

    The two sides are the directions, ahead and back; what has no direction has one.
    """

    states: str  # (T, S, B, H), zeros on padding
    last: str  # (S, B, H); "" where there is none
    units: int
    sides: int = 2
    is_state: str = "is_word"  # (T, B); beside it "..._of_values", (T, B, 1)
    lengths: str = "lengths_64"  # (B,), states of each review
    # What it is made of, from the word vectors up; some convolutions stand side by side.
    made_of: tuple[Recurrent | tuple[Convolution, ...], ...] = ()


@dataclass(frozen=True)
class Graph:
    """Nodes and constants as they come; a name is given to each value."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        self.nodes.append(helper.make_node(op, inputs, list(outputs), outputs[0], **attributes))
        return outputs[0]

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant; return its name."""
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def scan(
        self,
        name: str,
        body: "Graph",
        carried: Sequence[tuple[str, str, str]],
        read: Sequence[tuple[str, str]],
        seen: str,
        from_the_end: bool,
    ) -> str:
        """Add a Scan over the steps; return its name, which is that of its output (T, B, H).

        Args:
            name: of the node.
            body: nodes of one step, whose values (B, H) have names that stand nowhere else.
            carried: of each value that goes from step to step its name outside, before the first
                step, and in the body before and after a step.
            read: of each value that is read step by step its name outside, (T, B, H), and inside.
            seen: name in the body of what is put out at each step; none of those in `carried`.
            from_the_end: read and put out from the last step to the first.
        """
        firsts, before, after = zip(*carried, strict=True)
        outside, inside = zip(*read, strict=True)
        made = helper.make_graph(
            body.nodes,
            f"{name}_body",
            [_of_a_step(port) for port in (*before, *inside)],
            [_of_a_step(port) for port in (*after, seen)],
        )
        ends = [f"{name}_end_{number}" for number in range(len(after))]
        self.add(
            "Scan",
            [*firsts, *outside],
            *ends,
            name,
            body=made,
            num_scan_inputs=len(inside),
            scan_input_directions=[int(from_the_end)] * len(inside),
            scan_output_directions=[int(from_the_end)],
        )
        return name

    def serialise(self, evidence: bool) -> bytes:
        """Return the model, checked by onnx."""
        shapes = {"probability": ["B"], "logit": ["B"]} | (
            {"evidence": ["B", "T"]} if evidence else {}
        )
        graph = helper.make_graph(
            self.nodes,
            "reelsense",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT32, ["B", "T"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ],
            list(self.constants.values()),
        )
        imports = [helper.make_opsetid("", OPSET)]
        if any(node.domain == MICROSOFT for node in self.nodes):
            imports.append(helper.make_opsetid(MICROSOFT, 1))
        model = helper.make_model(graph, opset_imports=imports, producer_name="reelsense")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _of_a_step(name: str) -> onnx.ValueInfoProto:
    """Return a port of the body of a Scan."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, STEP)

"""An ONNX graph in the making: nodes and constants as they come, each under a name of its own."""

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


@dataclass(frozen=True)
class Layer:
    """Names of an encoder's outputs, and how many units each side has in them.

    The sides are the directions "ahead" and "back", or only one, "alone", without direction.
    """

    states: str  # (T, S, B, H), zeros on padding
    last: str  # (S, B, H); "" where there is none
    units: int
    sides: tuple[str, ...] = ("ahead", "back")
    is_state: str = "is_word"  # (T, B); beside it "..._of_values", (T, B, 1)
    lengths: str = "lengths_64"  # (B,), states of each review


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

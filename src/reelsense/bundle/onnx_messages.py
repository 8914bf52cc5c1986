"""The messages of onnx.proto that a graph of ours is made of, and those that it must not have."""

from typing import Final

from reelsense.bundle.protobuf import layout

OUTSIDE: Final = "!has weights outside the bundle (external data)"
MODEL: Final = layout(
    {
        1: "ir_version int",
        2: "producer text",
        3: "producer_version text",
        4: "domain text",
        5: "model_version int",
        6: "doc text",
        7: "graph span",
        8: "opsets spans",
        14: "metadata spans",
        20: "!has training information",
        25: "!has functions of its own",
    }
)
OPSET: Final = layout({1: "domain text", 2: "version int"})
ENTRY: Final = layout({1: "key text", 2: "value text"})
GRAPH: Final = layout(
    {
        1: "nodes spans",
        2: "name text",
        5: "tensors spans",
        10: "doc text",
        11: "inputs spans",
        12: "outputs spans",
        15: "!has sparse weights",
    }
)
NODE: Final = layout(
    {1: "inputs texts", 2: "outputs texts", 3: "name text", 4: "op text", 5: "attributes spans"}
    | {6: "doc text", 7: "domain text"}
)
ATTRIBUTE: Final = layout(
    {1: "name text", 3: "int int", 4: "text text", 8: "ints ints", 20: "type int"}
    | {6: "graph span", 11: "!has several graphs inside of a node"}
)
TENSOR: Final = layout(
    {1: "dims ints", 2: "type int", 8: "name text", 9: "raw span", 12: "doc text"}
    | {13: OUTSIDE, 14: "location int"}
)
VALUE: Final = layout({1: "name text", 2: "type span", 3: "doc text"})
TYPE: Final = layout({1: "tensor span"})
TENSOR_TYPE: Final = layout({1: "type int", 2: "shape span"})
SHAPE: Final = layout({1: "dims spans"})
DIMENSION: Final = layout({1: "size int", 2: "name text"})

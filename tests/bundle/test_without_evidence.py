"""A graph without its evidence answers the same, and computes none."""

import numpy as np
import onnx
import pytest

from reelsense.bundle import session
from reelsense.bundle.graph import build_graph
from reelsense.bundle.onnx_file import check_model
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("pooling", ["max", "mean", "max+mean"])
def test_a_graph_without_evidence_says_the_same(variant, pooling):
    recipe = Recipe(hidden=6, pooling=pooling)
    vectors = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    network = build(recipe, vectors, np.ones(30, bool))
    weights = {name: weight.detach().numpy() for name, weight in network.state_dict().items()}
    whole = build_graph(recipe, weights, 1.3, variant)
    smaller = session.without_evidence(whole)

    assert check_model(whole, "whole").evidence
    assert not check_model(smaller, "smaller").evidence
    graph = onnx.load_from_string(smaller).graph
    assert "Scan" in {node.op_type for node in onnx.load_from_string(whole).graph.node}
    assert "Scan" not in {node.op_type for node in graph.node}
    names = [name for node in graph.node for name in (*node.output, node.name)]
    assert not [name for name in names if name.startswith("evidence")]
    rows = [np.arange(1, 9, dtype=np.int32), np.array([3], np.int32), np.zeros(0, np.int32)]
    for name in ("logit", "probability"):
        (one,) = session.run(session.open_session(whole), rows, [name])
        (other,) = session.run(session.open_session(smaller), rows, [name])
        assert (one == other).all()


def test_a_graph_that_has_no_evidence_stays_as_it_is():
    recipe = Recipe(hidden=6, pooling="last")
    vectors = np.ones((30, 5), np.float32)
    network = build(recipe, vectors, np.ones(30, bool))
    weights = {name: weight.detach().numpy() for name, weight in network.state_dict().items()}
    model = build_graph(recipe, weights, 1.0, "fp32")
    assert session.without_evidence(model) == model

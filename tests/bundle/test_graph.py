"""The exported graph is the network: logits, evidence, padding, quantisation."""

import numpy as np
import pytest
from toy_graphs import LENGTHS, graph_of, network_of, reviews, torch_logits, weights_of

from reelsense.bundle import session
from reelsense.bundle.export import prove
from reelsense.bundle.graph import build_graph, can_quantise, has_evidence
from reelsense.errors import BadInput, Failure
from reelsense.model.recipe import Recipe

SHAPES = [
    {"pooling": pooling, "dense": dense, "layers": layers}
    for pooling in ("last", "mean", "max", "max+mean")
    for dense in (0, 5)
    for layers in (1, 3)
] + [
    {"arch": "bigru", "pooling": "max+mean", "layers": 2},
    {"arch": "bigru", "pooling": "last"},
    {"arch": "cnn", "pooling": "max"},
    {"arch": "cnn", "pooling": "max+mean", "dense": 5},
    {"arch": "dpcnn", "pooling": "max"},
    {"arch": "dpcnn", "pooling": "max+mean", "layers": 4},
    {"arch": "cnn-lstm", "pooling": "max+mean", "layers": 2},
    {"arch": "mean", "pooling": "mean"},
    {"arch": "mean", "pooling": "max+mean"},
    {"arch": "bilstm", "pooling": "attention", "layers": 2},
    {"arch": "cnn", "pooling": "attention"},
    {"arch": "dpcnn", "pooling": "attention", "dense": 5},
]
WITH_EVIDENCE = [
    ({"pooling": pooling}, variant)
    for pooling in ("mean", "max", "max+mean", "attention")
    for variant in ("fp32", "int8")
] + [
    ({"arch": arch, "pooling": pooling}, "fp32")
    for arch in ("bigru", "cnn", "cnn-lstm", "mean")
    for pooling in ("max+mean", "attention")
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_fp32_graph_is_the_network(shape):
    network = network_of(**shape)
    rows = reviews()
    probability, logit = session.run(graph_of(network), rows, ["probability", "logit"])
    np.testing.assert_allclose(logit, torch_logits(network, rows), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), atol=1e-6)
    assert prove(network, build_graph(network.recipe, weights_of(network), 1.0, "fp32")) <= 1e-5


def test_a_graph_of_other_weights_is_found_out():
    network = network_of()
    other = weights_of(network)
    other["forward_lstm.0.weight_hh_l0"] = other["forward_lstm.0.weight_hh_l0"] * 1.001
    with pytest.raises(Failure, match="the graph is off by"):
        prove(network, build_graph(network.recipe, other, 1.0, "fp32"))


@pytest.mark.parametrize(("shape", "variant"), WITH_EVIDENCE, ids=str)
def test_evidence_and_bias_add_up_to_the_logit(shape, variant):
    network = network_of(**shape)
    temperature = 1.7
    rows = reviews()
    logit, evidence = session.run(
        graph_of(network, variant, temperature), rows, ["logit", "evidence"]
    )
    bias = network.output.bias.item() / temperature
    np.testing.assert_allclose(evidence.sum(1) + bias, logit, atol=1e-5)
    for row, length in zip(evidence, LENGTHS, strict=True):
        assert not row[length:].any()


@pytest.mark.parametrize(("shape", "variant"), WITH_EVIDENCE, ids=str)
@pytest.mark.parametrize("hidden", [3, 14, 30])
def test_a_score_does_not_depend_on_the_batch(shape, variant, hidden):
    opened = graph_of(network_of(hidden=hidden, **shape), variant)
    rows = reviews([5, 5, 60, 1, 33, 0, 200])
    together = session.run(opened, rows, ["logit", "evidence"])
    for place, row in enumerate(rows):
        alone = session.run(opened, [row], ["logit", "evidence"])
        assert alone[0][0] == together[0][place]  # to the last bit
        np.testing.assert_allclose(
            alone[1][0, : len(row)], together[1][place, : len(row)], atol=1e-6
        )
    backwards = session.run(opened, rows[::-1], ["logit"])[0]
    assert (backwards[::-1] == together[0]).all()


def test_int8_stays_near_fp32():
    network = network_of(hidden=30)
    rows = reviews([40] * 50, seed=3)
    exact = session.run(graph_of(network), rows, ["logit"])[0]
    rounded = session.run(graph_of(network, "int8"), rows, ["logit"])[0]
    error = np.sqrt(np.mean((exact - rounded) ** 2))
    assert 0 < error < 0.05 * exact.std()


def test_the_temperature_divides_the_logit():
    network = network_of()
    rows = reviews()
    plain = session.run(graph_of(network), rows, ["logit"])[0]
    (soft,) = session.run(graph_of(network, temperature=2.5), rows, ["logit"])
    np.testing.assert_allclose(soft, plain / 2.5, atol=1e-6)
    with pytest.raises(BadInput, match="temperature 0"):
        graph_of(network, temperature=0)


def test_an_empty_review_gets_the_bias():
    network = network_of()
    (logit,) = session.run(graph_of(network), [np.zeros(0, np.int32)], ["logit"])
    assert logit[0] == pytest.approx(network.output.bias.item())


def test_what_can_be_quantised_and_explained():
    assert can_quantise(Recipe())
    assert not can_quantise(Recipe(layers=2))
    with pytest.raises(BadInput, match="--variant int8"):
        build_graph(Recipe(layers=2), {}, 1.0, "int8")
    assert [has_evidence(Recipe(pooling=p)) for p in ("max", "mean", "max+mean", "last")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert not has_evidence(Recipe(dense=8))

"""Evidence is relevance through the gates: as its papers say, and as autograd says it."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn import functional
from toy_graphs import WORDS, graph_of, network_of, reviews, weights_of

from reelsense.bundle import session
from reelsense.bundle.graph import build_graph
from reelsense.bundle.onnx_file import check_model

SHAPES = [
    {"arch": arch, "pooling": pooling}
    for arch in ("bilstm", "bigru", "cnn", "cnn-lstm", "mean")
    for pooling in ("mean", "max", "max+mean", "attention")
] + [
    {"layers": 3, "pooling": "max+mean"},
    {"arch": "bigru", "layers": 2, "pooling": "attention"},
    {"arch": "cnn-lstm", "layers": 2, "pooling": "max"},
]
BOTH = [(shape, "fp32") for shape in SHAPES] + [(shape, "int8") for shape in SHAPES[:4]]


def of_network(network, row, variant="fp32"):
    (evidence,) = session.run(graph_of(network, variant), [row], ["evidence"])
    return evidence[0, : len(row)]


# --- the recursion, written down once more ------------------------------------------------------


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def of_direction(weights, side, vectors, multiplier_of):
    """Relevance of each word in one direction, words and states in the order of reading.

    Arras et al. 2017: a product's relevance goes to the factor that is no gate, and a sum's to its
    terms as they add to it.
    """
    named = {
        name: weights[f"{side}_lstm.0.{name}_l0"].astype(float)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    of_input, of_state = np.split(named["weight_ih"], 4)[2], np.split(named["weight_hh"], 4)[2]
    bias = np.split(named["bias_ih"] + named["bias_hh"], 4)[2]
    state = cell = np.zeros(of_state.shape[0])
    steps = []
    for vector in vectors:
        total = named["weight_ih"] @ vector + named["weight_hh"] @ state
        i, f, z, o = np.split(total + named["bias_ih"] + named["bias_hh"], 4)
        before, (i, f, o) = (state, cell), map(sigmoid, (i, f, o))
        cell = f * cell + i * np.tanh(z)
        state = o * np.tanh(cell)
        steps.append((vector, *before, i, f, z, cell, state))
    multipliers = multiplier_of(np.stack([step[-1] for step in steps]))
    found = []
    to_state, to_cell = np.zeros_like(state), np.zeros_like(cell)  # relevance from later steps
    for step, multiplier in zip(reversed(steps), multipliers[::-1], strict=True):
        vector, state_before, cell_before, i, f, z, cell, state = step
        of_cell = to_state + multiplier * state + to_cell
        to_cell = of_cell * f * cell_before / cell
        of_candidate = of_cell * i * np.tanh(z) / cell
        found.append((of_candidate / z) @ (of_input @ vector + bias))
        to_state = state_before * (of_state.T @ (of_candidate / z))
    return np.array(found[::-1])


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_evidence_is_the_relevance_of_the_paper(pooling):
    network = network_of(pooling=pooling)
    (row,) = reviews([30])
    weights = weights_of(network)
    vectors = weights["embedding.weight"][row].astype(float)
    expected = np.zeros(30)
    halves = np.split(weights["output.weight"][0].astype(float), 2)
    for side, order, weight in (("forward", 1, halves[0]), ("backward", -1, halves[1])):

        def multiplier_of(states, weight=weight):
            won = states == states.max(axis=0)
            return weight * (won if pooling == "max" else np.full(states.shape, 1 / 30))

        found = of_direction(weights, side, vectors[::order], multiplier_of)
        expected += found[::order]
    np.testing.assert_allclose(of_network(network, row), expected, atol=1e-5)


# --- what autograd says -------------------------------------------------------------------------


class Held:
    """A network whose gates, slopes and attention are constants, for one review of T words.

    It is linear then, in its word vectors and its biases, of which each step has its own copy. So
    the sum of gradient times value over them is the logit, and a word's part of it its evidence.
    """

    def __init__(self, network, row):
        self.network = network
        ids = torch.from_numpy(row.astype(np.int64))
        self.words = len(row)
        self.vectors = network.embedding(ids).detach().requires_grad_()
        self.leaves = [self.vectors]

    def bias(self, values):
        self.leaves.append(values.detach().repeat(self.words, 1).requires_grad_())
        return self.leaves[-1]

    def evidence(self):
        values = self.vectors
        arch = self.network.recipe.arch
        if arch == "cnn":
            convolutions = self.network.convolutions
            values = torch.cat([self.convolved(values, one) for one in convolutions], dim=1)
        if arch == "cnn-lstm":
            values = self.convolved(values, self.network.convolution)
        if arch not in ("cnn", "mean"):
            values = self.recurrent(values)
        gradients = torch.autograd.grad(self.logit(values), self.leaves)
        pairs = zip(self.leaves, gradients, strict=True)
        return sum((leaf * gradient).sum(1) for leaf, gradient in pairs).detach().numpy()

    def convolved(self, values, one):
        width = one.weight.shape[2]
        padded = functional.pad(values.T, ((width - 1) // 2, width // 2))
        return torch.relu(functional.conv1d(padded, one.weight.detach()).T + self.bias(one.bias))

    def recurrent(self, values):
        cell = "gru" if self.network.recipe.arch == "bigru" else "lstm"
        sides = [getattr(self.network, f"{side}_{cell}") for side in ("forward", "backward")]
        step = self.gru if cell == "gru" else self.lstm
        for ahead, back in zip(*sides, strict=True):
            values = torch.cat([step(values, ahead, 1), step(values, back, -1)], dim=1)
        return values

    def lstm(self, values, weights, order):
        bias = self.bias(weights.bias_ih_l0 + weights.bias_hh_l0)
        state = cell = torch.zeros(weights.hidden_size)
        states = [state] * self.words
        for place in range(self.words)[::order]:
            total = weights.weight_ih_l0 @ values[place] + weights.weight_hh_l0 @ state
            i, f, z, o = (total + bias[place]).chunk(4)
            cell = f.sigmoid().detach() * cell + i.sigmoid().detach() * slope_times(z)
            state = states[place] = o.sigmoid().detach() * slope_times(cell)
        return torch.stack(states)

    def gru(self, values, weights, order):
        biases = self.bias(weights.bias_ih_l0), self.bias(weights.bias_hh_l0)
        state = torch.zeros(weights.hidden_size)
        states = [state] * self.words
        for place in range(self.words)[::order]:
            of_input = weights.weight_ih_l0 @ values[place] + biases[0][place]
            of_state = weights.weight_hh_l0 @ state + biases[1][place]
            (r, z, n), (r_too, z_too, n_too) = of_input.chunk(3), of_state.chunk(3)
            kept = (z + z_too).sigmoid().detach()
            new = slope_times(n + (r + r_too).sigmoid().detach() * n_too)
            state = states[place] = (1 - kept) * new + kept * state
        return torch.stack(states)

    def logit(self, states):
        network, parts = self.network, []
        kind = network.recipe.pooling
        if kind == "attention":
            asked = network.context(torch.tanh(network.attention(states)))
            parts.append((asked.softmax(dim=0).detach() * states).sum(dim=0))
        if "max" in kind:
            parts.append(states.amax(dim=0))
        if "mean" in kind:
            parts.append(states.mean(dim=0))
        return network.output.weight[0] @ torch.cat(parts)


def slope_times(values):
    return values * (torch.tanh(values) / values).detach()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evidence_is_gradient_times_input_with_gates_held(shape):
    network = network_of(**shape)
    chance = np.random.default_rng(0)
    for length in (1, 2, 30):
        # No word twice: of equal states the first wins here, and autograd shares out a maximum.
        row = chance.permutation(np.arange(1, WORDS, dtype=np.int32))[:length]
        expected = Held(network, row).evidence()
        np.testing.assert_allclose(of_network(network, row), expected, rtol=1e-4, atol=1e-5)


def test_int8_evidence_stays_near_that_of_fp32():
    # By mean: rounding may have another step win a maximum, which is then another word's.
    network = network_of(hidden=30, pooling="mean")
    (row,) = reviews([60])
    exact, rounded = of_network(network, row), of_network(network, row, "int8")
    assert 0 < np.abs(exact - rounded).mean() < 0.05 * np.abs(exact).mean()


# --- what is left over --------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "variant"), BOTH, ids=str)
def test_little_is_left_over_for_the_words_to_share(shape, variant):
    network = network_of(**shape)
    model = onnx.load_from_string(build_graph(network.recipe, weights_of(network), 1.0, variant))
    before = "evidence_unrounded"
    model.graph.output.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, ["T", "B"]))
    options = session.onnxruntime.SessionOptions()
    opened = session.onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    logit, evidence = session.run(opened, reviews(), ["logit", before])
    rest = np.abs(logit - network.output.bias.item() - evidence.sum(0))
    assert rest.sum() <= np.abs(evidence).sum() * (0.01 if variant == "int8" else 1e-5)


@pytest.mark.parametrize(("shape", "variant"), BOTH, ids=str)
def test_a_review_of_one_word_and_of_none(shape, variant):
    network = network_of(**shape)
    opened = graph_of(network, variant)
    nothing, word = np.zeros(0, np.int32), np.array([7], np.int32)
    for rows in ([nothing], [word], [nothing, word]):
        logit, evidence = session.run(opened, rows, ["logit", "evidence"])
        assert evidence.shape == (len(rows), 1)
        expected = logit - network.output.bias.item()
        np.testing.assert_allclose(evidence[:, 0], expected, atol=1e-5)
    assert expected[0] == pytest.approx(0, abs=1e-6)
    assert abs(expected[1]) > 1e-3


def test_a_long_review_adds_up_too():
    network = network_of()
    rows = reviews([3000, 5])
    for variant in ("fp32", "int8"):
        logit, evidence = session.run(graph_of(network, variant), rows, ["logit", "evidence"])
        np.testing.assert_allclose(evidence.sum(1) + network.output.bias.item(), logit, atol=1e-4)
    assert not evidence[1, 5:].any()


@pytest.mark.parametrize("arch", ["bilstm", "bigru", "cnn-lstm"])
def test_the_most_layers_that_there_can_be_are_let_through(arch):
    network = network_of(arch=arch, hidden=2, layers=8)
    model = build_graph(network.recipe, weights_of(network), 1.0, "fp32")
    assert check_model(model, "m").evidence

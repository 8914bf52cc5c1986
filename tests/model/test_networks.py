import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.model.recurrent import _Reorder, _reversal

WORDS, DIMENSIONS = 30, 5
POOLINGS = ["last", "mean", "max", "max+mean"]
SHAPES = list(itertools.product(POOLINGS, [1, 2], [0, 3]))  # pooling, layers, dense
NOISY = {"embedding_dropout": 0.3, "word_dropout": 0.2, "dropout": 0.3}


pytestmark = pytest.mark.usefixtures("one_core")


# The other kinds of network, with each pooling and number of layers that they can have.
KINDS = [
    {"arch": "bigru", "pooling": "max+mean", "layers": 2},
    {"arch": "bigru", "pooling": "last"},
    {"arch": "cnn", "pooling": "max"},
    {"arch": "cnn", "pooling": "mean", "dense": 3},
    {"arch": "dpcnn", "pooling": "max"},
    {"arch": "dpcnn", "pooling": "max+mean", "layers": 3},
    {"arch": "cnn-lstm", "pooling": "max+mean", "layers": 2},
    {"arch": "cnn-lstm", "pooling": "last"},
    {"arch": "mean", "pooling": "mean"},
    {"arch": "mean", "pooling": "max+mean"},
    {"arch": "bilstm", "pooling": "attention", "layers": 2},
    {"arch": "cnn", "pooling": "attention"},
    {"arch": "dpcnn", "pooling": "attention", "dense": 3},
]
ALL = [
    {"pooling": pooling, "layers": layers, "dense": dense} for pooling, layers, dense in SHAPES
] + KINDS


def network(seed=0, missing=5, **values):
    """A network of 4 units whose last `missing` words have no vector to start from."""
    values = {"hidden": 4, "layers": 1, "dense": 0, "train_embedding": True} | NOISY | values
    vectors = np.random.default_rng(7).normal(0, 0.5, (WORDS, DIMENSIONS)).astype(np.float32)
    found = np.ones(WORDS, dtype=bool)
    found[0] = False
    if missing:
        found[-missing:] = False
    vectors[~found] = 0
    return build(Recipe(seed=seed, **values), vectors, found)


def batch(lengths, width=None, filler=0, seed=0):
    """Random ids of the given lengths, padded with `filler`."""
    random = np.random.default_rng(seed)
    ids = np.full((len(lengths), width or max(*lengths, 1)), filler)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(1, WORDS, length)
    return torch.tensor(ids), torch.tensor(lengths)


def same(a, b, within=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=within)


# --- A score depends on the review alone ---------------------------------------------------------


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_a_logit_depends_neither_on_padding_nor_on_the_batch(shape):
    net = network(**shape)
    lengths = [1, 2, 3, 0, 7, 40, 1, 19]
    ids, sizes = batch(lengths)
    with torch.no_grad():
        together = net(ids, sizes)
        assert together.shape == (len(lengths),)
        assert together.isfinite().all()
        for row, length in enumerate(lengths):
            alone = net(ids[row : row + 1, : max(length, 1)], sizes[row : row + 1])
            same(alone[0], together[row])
        wider, _ = batch(lengths, width=61)
        same(net(wider, sizes), together)
        # What stands in the padding is not read either, so no state has seen it.
        rubbish, _ = batch(lengths, width=61, filler=WORDS - 1)
        same(net(rubbish, sizes), together)
        order = torch.tensor([5, 3, 0, 7, 1, 6, 2, 4])
        same(net(ids[order], sizes[order]), together[order])


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 25), min_size=1, max_size=6),
    st.integers(0, 9),
    st.sampled_from(POOLINGS),
)
def test_any_lengths_and_any_padding_give_the_logit_of_the_review_alone(lengths, extra, pooling):
    net = network(pooling=pooling)
    ids, sizes = batch(lengths, width=max(*lengths, 1) + extra)
    with torch.no_grad():
        together = net(ids, sizes)
        for row, length in enumerate(lengths):
            same(net(ids[row : row + 1, : max(length, 1)], sizes[row : row + 1])[0], together[row])


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_an_empty_review_scores_what_the_output_layer_says_of_nothing(shape):
    net = network(**shape)
    with torch.no_grad():
        net.output.bias.fill_(0.25)
        logit = net(torch.zeros(1, 3, dtype=torch.long), torch.tensor([0]))
    same(logit, torch.tensor([0.25]))  # the first biases of the dense layer are zero


def test_word_order_matters():
    net = network(pooling="max+mean")
    ids = torch.tensor([[3, 4, 5, 6], [6, 5, 4, 3]])
    with torch.no_grad():
        one, other = net(ids, torch.tensor([4, 4]))
    assert abs(one - other) > 1e-5


# --- The same mathematics as torch's own ----------------------------------------------------------


def torchs_own(net, layers):
    """torch's bidirectional nn.LSTM with the network's weights."""
    own = nn.LSTM(DIMENSIONS, 4, num_layers=layers, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for layer in range(layers):
            for suffix, ours in (("", net.forward_lstm), ("_reverse", net.backward_lstm)):
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    value = getattr(ours[layer], f"{kind}_l0")
                    getattr(own, f"{kind}_l{layer}{suffix}").copy_(value)
    return own


@pytest.mark.parametrize("layers", [1, 2])
def test_the_states_are_those_of_torchs_packed_bidirectional_lstm(layers):
    net = network(layers=layers, pooling="last")
    ids, lengths = batch([1, 12, 5, 30, 2])
    own = torchs_own(net, layers)
    packed = nn.utils.rnn.pack_padded_sequence(
        net.embedding(ids), lengths, batch_first=True, enforce_sorted=False
    )
    out, (last, _) = own(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    states = net.encode(net.embed(ids), lengths, None)
    for row, length in enumerate(lengths.tolist()):
        same(states[row, :length], expected[row, :length], within=1e-5)
    # The last state of each direction, forward then backward, is what `last` pools.
    same(net.pool(states, lengths), torch.cat([last[-2], last[-1]], dim=1), within=1e-5)

    def gradient(values):
        mask = torch.arange(30) < lengths[:, None]
        loss = (values * mask[..., None]).square().sum()
        return torch.autograd.grad(loss, net.embedding.weight, retain_graph=True)[0]

    same(gradient(states), gradient(expected), within=1e-4)


def test_pooling_is_the_mean_and_the_maximum_over_the_real_tokens():
    net = network(pooling="max+mean")
    states = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    pooled = net.pool(states, torch.tensor([3, 5]))
    same(pooled[0], torch.cat([states[0, :3].amax(0), states[0, :3].mean(0)]))
    same(pooled[1], torch.cat([states[1].amax(0), states[1].mean(0)]))


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no LSTM in bfloat16 on this processor"
)
def test_bfloat16_changes_a_logit_by_its_rounding_only():
    net = network(pooling="max+mean", layers=2)
    ids, lengths = batch([9, 30, 1])
    with torch.no_grad():
        exact = net(ids, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(ids, lengths)
    assert rounded.dtype == torch.float32
    same(rounded, exact, within=0.05)


# --- Evidence -------------------------------------------------------------------------------------


def evidence(net, ids):
    """The share of each token in the logit of one review, as the design defines it.

    The mean-pool part gives each step `w_mean . h_t / n`; the max-pool part gives
    `w_max[j] * h_t[j]` to the step that won feature j.
    """
    n = len(ids)
    states = net.encode(net.embed(ids[None]), torch.tensor([n]), None)[0]
    of_max, of_mean = net.output.weight[0].split(states.shape[1])
    shares = states @ of_mean / n
    winners = states.argmax(dim=0)
    return shares.index_add(0, winners, of_max * states[winners, torch.arange(len(of_max))])


@pytest.mark.parametrize("length", [1, 2, 17, 80])
def test_with_max_and_mean_pooling_the_logit_is_the_sum_of_the_tokens_evidence(length):
    net = network(pooling="max+mean", dense=0)
    with torch.no_grad():
        net.output.bias.fill_(-0.3)
        ids, lengths = batch([length])
        shares = evidence(net, ids[0])
        assert shares.shape == (length,)
        same(shares.sum() + net.output.bias[0], net(ids, lengths)[0], within=1e-6)


# --- Gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ALL, ids=str)
@pytest.mark.parametrize("noisy", [False, True])
def test_every_trainable_weight_gets_a_gradient(shape, noisy):
    net = network(**shape)
    ids, lengths = batch([8, 3, 20, 1] * 4)
    noise = torch.Generator().manual_seed(1) if noisy else None
    net(ids, lengths, noise).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.requires_grad, name
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


def test_frozen_vectors_get_no_gradient_and_the_rest_does():
    net = network(train_embedding=False)
    ids, lengths = batch([8, 3])
    net(ids, lengths).sum().backward()
    assert net.embedding.weight.grad is None
    assert all(w.grad is not None for n, w in net.named_parameters() if "embedding" not in n)


def test_padding_gets_no_gradient():
    net = network()
    ids, lengths = batch([8, 3], width=12)
    net(ids, lengths).sum().backward()
    assert not net.embedding.weight.grad[0].any()


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_the_vectors_of_padding_get_no_gradient_and_change_no_score(shape):
    net = network(**shape)
    ids, lengths = batch([8, 3, 0, 1], width=12)
    padding = (torch.arange(12) >= lengths[:, None])[..., None]
    vectors = net.embed(ids).detach().requires_grad_()
    scores = net.classify(vectors, lengths)
    same(scores, net(ids, lengths), within=0)
    (gradient,) = torch.autograd.grad(scores.square().sum(), vectors)
    assert (gradient * ~padding).any()
    assert not (gradient * padding).any()
    same(net.classify(vectors + 5 * padding, lengths), scores)


def test_the_padding_row_stays_zero_when_trained():
    net = network()
    assert not net.embedding.weight[0].any()
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    before = net.embedding.weight.detach().clone()
    for seed in range(3):
        ids, lengths = batch([8, 3], width=12, seed=seed)
        adam.zero_grad()
        net(ids, lengths, torch.Generator().manual_seed(seed)).square().sum().backward()
        adam.step()
    assert not net.embedding.weight[0].any()
    assert not torch.equal(net.embedding.weight, before)


def test_the_gradient_of_reordering_is_right():
    lengths = torch.tensor([3, 0, 4, 1])
    values = torch.randn(4, 4, 2, dtype=torch.float64, requires_grad=True)
    order = _reversal(lengths, 4)
    assert torch.autograd.gradcheck(lambda x: _Reorder.apply(x, order), (values,))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 4))
def test_reordering_turns_round_the_words_leaves_the_padding_and_undoes_itself(lengths, extra):
    width = max(*lengths, 1) + extra
    order = _reversal(torch.tensor(lengths), width)
    values = torch.arange(len(lengths) * width * 2).view(len(lengths), width, 2)
    turned = _Reorder.apply(values, order)
    for row, length in enumerate(lengths):
        assert torch.equal(turned[row, :length], values[row, :length].flip(0))
        assert torch.equal(turned[row, length:], values[row, length:])
    assert torch.equal(_Reorder.apply(turned, order), values)


# --- Seeds and noise ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (network(seed=seed, layers=2, dense=3) for seed in (3, 3, 4))
    torch.manual_seed(99)
    later = network(seed=3, layers=2, dense=3)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
        assert torch.equal(weight, later.state_dict()[name]), name
        if "bias" not in name:
            assert not torch.equal(weight, other.state_dict()[name]), name


def test_building_leaves_torchs_own_chance_alone_and_does_not_change_the_vectors():
    vectors = np.zeros((4, 3), dtype=np.float32)
    vectors[2] = [0.1, -0.2, 0.3]
    found = np.array([False, False, True, False])
    build(Recipe(hidden=4), vectors, found)
    assert not vectors[[0, 1, 3]].any()


def test_known_words_start_from_their_vectors_and_unknown_ones_as_spread_as_these():
    random = np.random.default_rng(0)
    vectors = random.normal(0, 0.37, (2000, 10)).astype(np.float32)
    found = np.arange(2000) % 2 == 1
    net = build(Recipe(hidden=4), np.where(found[:, None], vectors, 0), found)
    table = net.embedding.weight.detach().numpy()
    assert (table[found] == vectors[found]).all()
    missing = table[~found][1:]  # but for the padding
    assert missing.std() == pytest.approx(0.37, rel=0.05)
    assert len(np.unique(missing)) > 0.9 * missing.size


def test_a_network_without_any_known_vector_can_be_built():
    net = build(Recipe(hidden=4), np.zeros((5, 3), np.float32), np.zeros(5, dtype=bool))
    assert net.embedding.weight[1:].abs().min() > 0
    assert not net.embedding.weight[0].any()


@pytest.mark.parametrize("layers", [1, 2])
def test_noise_is_its_generators_and_without_it_nothing_is_random(layers):
    net = network(layers=layers, dense=3, pooling="max+mean")
    ids, lengths = batch([8, 3, 20])

    def noisy(seed):
        return net(ids, lengths, torch.Generator().manual_seed(seed))

    with torch.no_grad():
        assert torch.equal(noisy(1), noisy(1))
        assert not torch.equal(noisy(1), noisy(2))
        net.train()
        plain = net(ids, lengths)
        net.eval()
        assert torch.equal(net(ids, lengths), plain)  # no hidden mode
        assert not torch.equal(noisy(1), plain)


@pytest.mark.parametrize("kind", ["embedding_dropout", "word_dropout", "dropout"])
def test_each_kind_of_noise_works_by_itself(kind):
    net = network(**(dict.fromkeys(NOISY, 0.0) | {kind: 0.5}), pooling="max+mean")
    ids, lengths = batch([8, 3, 20])
    with torch.no_grad():
        plain = net(ids, lengths)
        assert not torch.equal(net(ids, lengths, torch.Generator().manual_seed(0)), plain)
    still = network(**dict.fromkeys(NOISY, 0.0))
    with torch.no_grad():
        noiseless = still(ids, lengths, torch.Generator().manual_seed(0))
        assert torch.equal(noiseless, still(ids, lengths))


def test_embedding_dropout_drops_whole_dimensions_of_a_review_and_word_dropout_whole_words():
    net = network(embedding_dropout=0.5, word_dropout=0.0, missing=0)
    ids, _ = batch([20] * 50)
    with torch.no_grad():
        plain = net.embed(ids)
        dropped = net.embed(ids, torch.Generator().manual_seed(0))
        gone = (dropped == 0).all(dim=1)  # (review, dimension)
        same(dropped, plain * 2 * ~gone[:, None])
        assert 0.4 < gone.float().mean() < 0.6
        net = network(embedding_dropout=0.0, word_dropout=0.3, missing=0)
        dropped = net.embed(ids, torch.Generator().manual_seed(0))
        gone = (dropped == 0).all(dim=2)  # (review, token)
        same(dropped, plain * ~gone[..., None])
        assert 0.2 < gone.float().mean() < 0.4


def test_the_first_weights_do_not_depend_on_the_number_of_threads():
    vectors, found = np.ones((4, 50), np.float32), np.ones(4, bool)
    threads, built = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        built.append(build(Recipe(name="x", hidden=128), vectors, found).state_dict())
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])

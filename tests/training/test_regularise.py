"""The losses and their gradients, against what can be worked out by hand or by plain autograd."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from reelsense.model import networks
from reelsense.model.recipe import Recipe
from reelsense.training.batches import Examples, pad
from reelsense.training.regularise import (
    EMBEDDING,
    TRACE,
    Gradients,
    cross_entropy,
    divergence,
    entropy,
    gradients,
    sum_of,
    worst_move,
)

WORDS, DIMENSIONS = 40, 6
QUIET = Recipe(
    hidden=5,
    layers=1,
    pooling="max+mean",
    dense=0,
    train_embedding=True,
    embedding_dropout=0.0,
    word_dropout=0.0,
    dropout=0.0,
)
NOISY = {"embedding_dropout": 0.3, "word_dropout": 0.2, "dropout": 0.3}
REGULARISED = {"adversarial": 2.0, "virtual": 3.0, "entropy": 0.7}
LABELS = [1, 0, -1, -1, 0.9, 1, -1, 0.2]
LOGITS = np.array([0.0, 2.0, -2.0, 30.0, -30.0, 300.0, -300.0])


pytestmark = pytest.mark.usefixtures("one_core")


def build(recipe=QUIET):
    """A network that is not too sure and not too unsure of any review of `reviews`."""
    vectors = np.random.default_rng(2).normal(0, 0.4, (WORDS, DIMENSIONS)).astype(np.float32)
    vectors[0] = 0
    network = networks.build(recipe, vectors, np.arange(WORDS) > 0)
    with torch.no_grad():
        network.output.weight.mul_(3)
        network.output.bias.fill_(0.1)
    return network


def reviews(labels=LABELS, seed=0):
    """A batch of reviews of 2 to 19 words with these labels."""
    random = np.random.default_rng(seed)
    ids = [random.integers(1, WORDS, 2 + (5 * n) % 18).astype(np.int32) for n in range(len(labels))]
    return pad(Examples(ids, np.array(labels, np.float32)), np.arange(len(labels)))


def some(batch, rows):
    """Those rows of a batch, as wide as it."""
    rows = torch.tensor(rows)
    return type(batch)(batch.ids[rows], batch.lengths[rows], batch.labels[rows], rows.numpy())


def learning(network):
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def found(network, batch, recipe=QUIET, seed=0, share_of=None, bf16=False):
    noise = torch.Generator().manual_seed(seed)
    share_of = share_of or len(batch)
    return gradients(network, learning(network), batch, share_of, recipe, noise, bf16)


def same(network, gradients_, expected, rtol=1e-4, atol=1e-7):
    for name, mine, other in zip(learning(network), gradients_, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=rtol, atol=atol, msg=lambda m, n=name: n + m)


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z, np.float64)))


def slope(loss, z):
    """The derivative of a loss of one logit, by autograd in float32."""
    place = torch.tensor(z, dtype=torch.float32, requires_grad=True)
    return torch.autograd.grad(loss(place).sum(), place)[0].numpy()


# --- Losses of a logit ----------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0.0, 1.0, 0.25])
def test_cross_entropy_and_its_slope_are_those_worked_out(label):
    expected = label * np.logaddexp(0, -LOGITS) + (1 - label) * np.logaddexp(0, LOGITS)
    labels = torch.full((len(LOGITS),), label)
    scores = torch.tensor(LOGITS, dtype=torch.float32)
    np.testing.assert_allclose(cross_entropy(scores, labels), expected, rtol=1e-6, atol=1e-37)
    found_ = slope(lambda z: cross_entropy(z, labels), LOGITS)
    np.testing.assert_allclose(found_, sigmoid(LOGITS) - label, atol=1e-6)


def test_entropy_and_its_slope_are_those_worked_out():
    p = sigmoid(LOGITS)
    odds = np.exp(-np.abs(LOGITS))  # -log p - log (1 - p) would not resolve a sure answer
    expected = np.log1p(odds) + np.abs(LOGITS) * odds / (1 + odds)
    assert expected[0] == np.log(2)
    np.testing.assert_allclose(expected[1], -p[1] * np.log(p[1]) - (1 - p[1]) * np.log(1 - p[1]))
    scores = torch.tensor(LOGITS, dtype=torch.float32)
    np.testing.assert_allclose(entropy(scores), expected, rtol=1e-5, atol=1e-37)
    expected = -LOGITS * odds / (1 + odds) ** 2
    np.testing.assert_allclose(slope(entropy, LOGITS), expected, rtol=1e-5, atol=1e-37)


def test_divergence_and_its_slope_are_those_worked_out():
    a, b = (values.ravel() for values in np.meshgrid(LOGITS, LOGITS))
    p = sigmoid(a)
    expected = p * (a - b) + np.logaddexp(0, b) - np.logaddexp(0, a)
    answers, scores = (torch.tensor(values, dtype=torch.float32) for values in (a, b))
    np.testing.assert_allclose(divergence(answers, scores), expected, rtol=1e-5, atol=2e-5)
    # By the definition, where nothing is so sure that its logarithm is lost.
    for one, other in ((0.0, 2.0), (2.0, -2.0), (-2.0, 0.0), (-2.0, 2.0)):
        p, q = sigmoid(one), sigmoid(other)
        plain = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        assert float(divergence(torch.tensor(one), torch.tensor(other))) == pytest.approx(plain)
    found_ = slope(lambda z: divergence(answers, z), b)
    np.testing.assert_allclose(found_, sigmoid(b) - sigmoid(a), atol=1e-6)


def test_divergence_is_zero_at_equality_and_positive_elsewhere():
    grid = torch.linspace(-8, 8, 65, dtype=torch.float64)
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    apart = a != b
    assert (divergence(a, b)[apart] > 0).all()
    assert (divergence(a, b)[~apart] == 0).all()
    sure = torch.tensor(LOGITS, dtype=torch.float32)
    assert (divergence(sure, sure) == 0).all()


@pytest.mark.parametrize("loss", ["cross-entropy", "entropy", "divergence"])
def test_a_slope_is_what_two_values_near_by_say(loss):
    other = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
    function = {
        "cross-entropy": lambda z: cross_entropy(z, torch.sigmoid(other)),
        "entropy": entropy,
        "divergence": lambda z: divergence(other, z),
    }[loss]
    scores = torch.tensor([0.2, -3.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (scores,))


def test_a_sure_answer_has_a_slope_on_either_side():
    """Else a sure negative would be moved, and a sure positive, where 1 - p rounds to 0, not."""
    for z in (15.0, 18.0, 25.0, 60.0):
        sides = slope(entropy, [z, -z])
        assert sides[0] == -sides[1] < 0
        labels = torch.tensor([1.0, 0.0])
        sides = slope(lambda z, labels=labels: cross_entropy(z, labels), [z, -z])
        assert sides[0] == -sides[1] < 0


# --- The worst move -------------------------------------------------------------------------------


def a_case(rows=5, tokens=7, seed=0):
    """Gradients and vectors of reviews of 3 to 7 words, zero behind these, and sizes."""
    random = torch.Generator().manual_seed(seed)
    lengths = 3 + torch.arange(rows) % (tokens - 2)
    real = (torch.arange(tokens) < lengths[:, None])[..., None]
    gradient = torch.randn(rows, tokens, 4, generator=random) * real
    vectors = 0.4 * torch.randn(rows, tokens, 4, generator=random) * real
    return gradient, vectors, lengths, 0.5 + torch.arange(rows)


def test_a_move_is_the_gradient_brought_to_its_size_in_the_reviews_spread():
    gradient, vectors, lengths, size = a_case()
    moves = worst_move(gradient, vectors, lengths, size)
    assert moves.shape == vectors.shape
    for g, v, n, s, move in zip(gradient, vectors, lengths, size, moves, strict=True):
        g, v, n = g.double().numpy(), v[:n].double().numpy(), int(n)
        expected = float(s) * np.sqrt(np.mean(v**2)) * g / np.sqrt(np.sum(g**2))
        np.testing.assert_allclose(move, expected, rtol=1e-5, atol=1e-7)
        assert not move[n:].any()


def test_a_move_depends_neither_on_padding_nor_on_the_batch():
    gradient, vectors, lengths, size = a_case()
    moves = worst_move(gradient, vectors, lengths, size)
    wider = [nn.functional.pad(values, (0, 0, 0, 9)) for values in (gradient, vectors)]
    torch.testing.assert_close(worst_move(*wider, lengths, size)[:, :7], moves)
    for n in range(len(size)):
        row = slice(n, n + 1)
        alone = worst_move(gradient[row], vectors[row], lengths[row], size[row])
        torch.testing.assert_close(alone, moves[row])


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_a_gradient_of_any_scale_gives_the_same_move(scale):
    gradient, vectors, lengths, size = a_case()
    expected = worst_move(gradient, vectors, lengths, size)
    assert expected.flatten(1).norm(dim=1).min() > 0.1
    torch.testing.assert_close(worst_move(gradient * scale, vectors, lengths, size), expected)


def test_no_gradient_no_move_and_no_size_no_move():
    gradient, vectors, lengths, size = a_case()
    gradient[1] = 0
    size[2] = 0
    moves = worst_move(gradient, vectors, lengths, size)
    assert [bool(move.any()) for move in moves] == [True, False, False, True, True]
    assert moves.isfinite().all()
    empty = worst_move(gradient, 0 * vectors, 0 * lengths, size)  # reviews without a word
    assert not empty.any()  # nor is any of it not a number


def test_a_move_has_the_kind_of_the_vectors():
    gradient, vectors, lengths, size = a_case()
    moves = worst_move(gradient, vectors.bfloat16(), lengths, size)
    assert moves.dtype == torch.bfloat16
    torch.testing.assert_close(
        moves.float(), worst_move(gradient, vectors, lengths, size), rtol=0.02, atol=1e-3
    )


# --- A network that is a straight line: everything in closed form ---------------------------------


class Line(nn.Module):
    """A logit that is w . v summed over the words of a review, and a bias."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, DIMENSIONS, padding_idx=0)
        self.w = nn.Parameter(torch.empty(DIMENSIONS))
        self.bias = nn.Parameter(torch.tensor(0.2))
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            self.embedding.weight.normal_(0, 0.4, generator=random)[0] = 0
            self.w.normal_(0, 0.5 * scale, generator=random)

    def embed(self, ids, noise=None):
        return self.embedding(ids)

    def classify(self, vectors, lengths, noise=None):
        real = (torch.arange(vectors.shape[1]) < lengths[:, None])[..., None]
        return (vectors * real).sum(dim=1) @ self.w + self.bias


def worked_out(line, batch, recipe):
    """The gradients of the table, of w and of the bias, by hand in float64."""
    table, w = (value.detach().double().numpy() for value in (line.embedding.weight, line.w))
    of_table, of_w, of_bias = np.zeros_like(table), np.zeros_like(w), 0.0
    lengths, labels = batch.lengths.tolist(), batch.labels.tolist()
    for ids, n, label in zip(batch.ids.numpy(), lengths, labels, strict=True):
        words = table[ids[:n]]
        z = words.sum(axis=0) @ w + line.bias.item()
        p = sigmoid(z)
        # At every word the slope of z is w: |dz| is |w| sqrt(n), and the logit moves by s |dz|.
        size = (recipe.virtual if label < 0 else recipe.adversarial) * np.sqrt(np.mean(words**2))
        if label < 0:
            plain, towards = max(recipe.entropy, TRACE) * -z * p * (1 - p), -np.sign(z)
        else:
            plain, towards = p - label, np.sign(p - label)
        move = towards * size * w / (np.linalg.norm(w) * np.sqrt(n))
        moved = z + towards * size * np.linalg.norm(w) * np.sqrt(n)
        again = (sigmoid(moved) - (p if label < 0 else label)) * (size > 0)
        of_w += plain * words.sum(axis=0) + again * (words + move).sum(axis=0)
        of_bias += plain + again
        np.add.at(of_table, ids[:n], (plain + again) * w)
    return [torch.tensor(g / len(batch)).float() for g in (of_w, of_bias, of_table)]


@pytest.mark.parametrize(
    "values",
    [{}, {"adversarial": 2.0}, {"virtual": 3.0}, {"entropy": 0.7}, REGULARISED],
    ids=lambda values: "+".join(values) or "plain",
)
def test_on_a_straight_line_the_gradients_are_those_worked_out(values):
    line, batch, recipe = Line(), reviews(), QUIET.changed(**values)
    step = found(line, batch, recipe)
    names = ["w", "bias", EMBEDDING]
    assert sorted(learning(line)) == sorted(names)
    expected = dict(zip(names, worked_out(line, batch, recipe), strict=True))
    same(line, step.of_weights, [expected[name] for name in learning(line)], atol=1e-6)


@pytest.mark.parametrize("labels", [[1] * 4, [0] * 4, [-1] * 4])
def test_on_a_straight_line_no_other_move_of_that_length_is_worse(labels):
    line, batch = Line(), reviews(labels)
    vectors = line.embed(batch.ids).detach().requires_grad_()
    scores = line.classify(vectors, batch.lengths)
    plain = entropy(scores) if labels[0] < 0 else cross_entropy(scores, batch.labels)
    (at_place,) = torch.autograd.grad(plain.sum(), vectors)
    moves = worst_move(at_place, vectors.detach(), batch.lengths, torch.full((4,), 2.0))

    def cost(move):
        moved = line.classify(vectors + move, batch.lengths)
        if labels[0] < 0:
            return divergence(scores, moved).detach()
        return cross_entropy(moved, batch.labels).detach()

    worst = cost(moves)
    assert (worst > cost(0 * moves) + 0.01).all()
    random = torch.Generator().manual_seed(0)
    length = moves.flatten(1).norm(dim=1)
    for near in (0.0, 3.0):  # anywhere, and near the worst
        for _ in range(150):
            other = torch.randn(moves.shape, generator=random) + near * moves
            other *= (length / other.flatten(1).norm(dim=1))[:, None, None]
            assert (cost(other) < worst).all()
    assert (cost(-moves) < worst).all()  # of the two sides it is the right one


@pytest.mark.parametrize("sure", [25.0, -25.0])
def test_a_sure_answer_is_moved_as_far_as_any_other(sure):
    """Its gradient is far too small to be squared in float32, whichever side it is sure of."""
    line = Line(scale=100)
    with torch.no_grad():
        line.bias.fill_(0)
        line.bias.fill_(sure - float(line.classify(line.embed(torch.tensor([[3]])), torch.ones(1))))
    labels = np.array([-1, float(sure > 0)], np.float32)
    batch = pad(Examples([np.array([3], np.int32)] * 2, labels), np.arange(2))
    recipe = QUIET.changed(adversarial=2.0, virtual=2.0)
    step = found(line, batch, recipe)
    of_bias = dict(zip(learning(line), step.of_weights, strict=True))["bias"]
    expected = worked_out(line, batch, recipe)[1]
    assert abs(expected) > 0.4  # both were moved past the middle
    torch.testing.assert_close(of_bias, expected, rtol=1e-3, atol=1e-4)


# --- The direction of virtual adversarial training ------------------------------------------------


@pytest.mark.parametrize("pooling", ["max+mean", "last"])
def test_the_power_iteration_of_the_paper_finds_the_direction_that_the_entropy_has(pooling):
    """Equation 9: the gradient of the divergence at x + xi d, d at random, without the shortcut."""
    network, batch = build(QUIET.changed(pooling=pooling)), reviews([-1] * 8)
    place = network.embed(batch.ids).detach().requires_grad_()
    scores = network.classify(place, batch.lengths)
    (of_entropy,) = torch.autograd.grad(entropy(scores).sum(), place)
    used = worst_move(of_entropy, place.detach(), batch.lengths, torch.ones(8))
    real = (torch.arange(place.shape[1]) < batch.lengths[:, None])[..., None]
    d = torch.randn(place.shape, generator=torch.Generator().manual_seed(1)) * real
    d = 0.01 * d / d.flatten(1).norm(dim=1)[:, None, None]
    there = (place + d).detach().requires_grad_()
    away = divergence(scores.detach(), network.classify(there, batch.lengths))
    (of_divergence,) = torch.autograd.grad(away.sum(), there)
    cosines = torch.cosine_similarity(used.flatten(1), of_divergence.flatten(1))
    assert (cosines.abs() > 0.99).all(), cosines
    # And of the two sides it is the one where the answer gets less sure.
    with torch.no_grad():
        moved = network.classify(place + 0.01 * used, batch.lengths)
    assert (moved.abs() < scores.abs()).all()


# --- The gradients of a network -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, {"pooling": "last", "dense": 3}, {"layers": 2}])
@pytest.mark.parametrize("dropped", [False, True])
def test_without_regularisation_they_are_those_of_the_mean_loss(shape, dropped):
    recipe = QUIET.changed(**shape, **(NOISY if dropped else {}))
    network, batch = build(recipe), reviews([1, 0, 0.3, 1, 0])
    step = found(network, batch, recipe, seed=3)
    scores = network(batch.ids, batch.lengths, torch.Generator().manual_seed(3))
    loss = binary_cross_entropy_with_logits(scores, batch.labels)
    same(network, step.of_weights, torch.autograd.grad(loss, list(network.parameters())))
    assert step.loss == pytest.approx(5 * float(loss.detach()), rel=1e-5)
    assert step.correct == int(((scores > 0) == (batch.labels > 0.5)).sum())
    assert step.labelled == 5


def by_autograd(network, batch, recipe):
    """The gradients of the whole cost in one graph, the move held fixed, in the paper's words."""
    vectors = network.embed(batch.ids)
    scores = network.classify(vectors, batch.lengths)
    p = torch.sigmoid(scores)
    unsure = recipe.entropy * -(p * p.log() + (1 - p) * (1 - p).log())
    has = batch.labels >= 0
    labelled = -batch.labels * p.log() - (1 - batch.labels) * (1 - p).log()
    plain = torch.where(has, labelled, unsure)
    (g,) = torch.autograd.grad(plain.sum(), vectors, retain_graph=True)
    real = torch.arange(g.shape[1]) < batch.lengths[:, None]
    spread = torch.stack([v[r].square().mean().sqrt() for v, r in zip(vectors, real, strict=True)])
    size = torch.where(has, recipe.adversarial, recipe.virtual) * spread
    length = g.square().sum(dim=(1, 2)).sqrt().clamp(min=1e-20)  # zero where a ReLU is shut
    r = (size / length)[:, None, None] * g
    moved = network.classify(vectors + r.detach(), batch.lengths)
    q, held = torch.sigmoid(moved), p.detach()
    kl = held * (held / q).log() + (1 - held) * ((1 - held) / (1 - q)).log()
    adversarial = -batch.labels * q.log() - (1 - batch.labels) * (1 - q).log()
    total = (plain + torch.where(has, adversarial, kl)).sum() / len(batch)
    return torch.autograd.grad(total, list(learning(network).values()))


@pytest.mark.parametrize("shape", [{}, {"pooling": "last", "dense": 3}, {"layers": 2}])
def test_with_noise_they_are_those_of_both_costs_the_move_held_fixed(shape):
    recipe = QUIET.changed(**REGULARISED, **shape)
    network, batch = build(recipe), reviews()
    step = found(network, batch, recipe)
    same(network, step.of_weights, by_autograd(network, batch, recipe), rtol=1e-3, atol=1e-6)
    plain = found(network, batch)
    assert (step.loss, step.correct, step.labelled) == (plain.loss, plain.correct, plain.labelled)


def test_rows_with_and_without_a_label_do_not_disturb_each_other():
    recipe = QUIET.changed(**REGULARISED)
    network, batch = build(), reviews()
    whole = found(network, batch, recipe)
    has = (batch.labels >= 0).tolist()
    rows = [[n for n in range(8) if has[n] == kind] for kind in (True, False)]
    parts = [found(network, some(batch, kind), recipe, share_of=8) for kind in rows]
    assert [part.labelled for part in parts] == [5, 0]
    assert (parts[1].loss, parts[1].correct) == (0, 0)
    assert all(part.of_weights[0].abs().max() > 1e-3 for part in parts)
    same(network, sum_of(parts).of_weights, whole.of_weights, atol=1e-6)


def test_each_kind_of_noise_is_for_its_rows_only():
    network, batch = build(), reviews()
    plain = found(network, some(batch, [0, 1]))
    for other in ({"virtual": 3.0}, {"virtual": 3.0, "entropy": 0.7}):
        step = found(network, some(batch, [0, 1]), QUIET.changed(**other))
        same(network, step.of_weights, plain.of_weights, rtol=0, atol=0)
    step = found(network, some(batch, [2, 3]), QUIET.changed(adversarial=3.0))
    assert max(float(g.abs().max()) for g in step.of_weights) < 2 * TRACE  # teaches nothing


def test_a_share_of_more_reviews_is_smaller_in_proportion():
    network, batch, recipe = build(), reviews(), QUIET.changed(**REGULARISED)
    whole = found(network, batch, recipe).of_weights
    half = found(network, batch, recipe, share_of=16).of_weights
    same(network, [2 * gradient for gradient in half], whole)


def test_the_entropy_counts_by_its_weight():
    network, batch = build(), reviews([-1] * 6)
    scores = network(batch.ids, batch.lengths)
    expected = torch.autograd.grad(entropy(scores).mean(), list(network.parameters()))
    for weight in (0.5, 2.0):
        step = found(network, batch, QUIET.changed(entropy=weight))
        same(network, step.of_weights, [weight * gradient for gradient in expected])


def test_a_step_against_the_gradient_makes_answers_without_a_label_surer():
    network, batch = build(), reviews([-1] * 6)
    step = found(network, batch, QUIET.changed(entropy=1.0))
    with torch.no_grad():
        before = network(batch.ids, batch.lengths)
        for weight, gradient in zip(network.parameters(), step.of_weights, strict=True):
            weight.sub_(0.1 * gradient)
        after = network(batch.ids, batch.lengths)
    assert entropy(after).mean() < entropy(before).mean()


@pytest.mark.parametrize("recipe", [QUIET, QUIET.changed(**REGULARISED)], ids=["plain", "noisy"])
def test_frozen_vectors_get_no_gradient_and_leave_those_of_the_others_alone(recipe):
    network, batch = build(), reviews()
    all_of_them = dict(
        zip(learning(network), found(network, batch, recipe).of_weights, strict=True)
    )
    frozen = build(recipe.changed(train_embedding=False))
    assert EMBEDDING not in learning(frozen)
    step = found(frozen, batch, recipe)
    same(frozen, step.of_weights, [all_of_them[name] for name in learning(frozen)], rtol=0, atol=0)


def test_they_stand_in_the_order_of_the_weights():
    network, batch, recipe = build(), reviews(), QUIET.changed(**REGULARISED)
    turned = dict(reversed(learning(network).items()))
    noise = torch.Generator().manual_seed(0)
    step = gradients(network, turned, batch, len(batch), recipe, noise, False)
    expected = reversed(found(network, batch, recipe).of_weights)
    for gradient, other, weight in zip(step.of_weights, expected, turned.values(), strict=True):
        assert gradient.shape == weight.shape
        assert torch.equal(gradient, other)


def test_the_same_seed_gives_the_same_bits_and_another_others():
    recipe = QUIET.changed(**REGULARISED, **NOISY)
    network, batch = build(recipe), reviews()
    first, again = found(network, batch, recipe, seed=1), None
    torch.manual_seed(77)  # torch's own chance plays no part
    again = found(network, batch, recipe, seed=1)
    other = found(network, batch, recipe, seed=2)
    for one, two, three in zip(first.of_weights, again.of_weights, other.of_weights, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert (first.loss, first.correct) == (again.loss, again.correct)
    assert first.loss != other.loss


def test_the_words_and_dimensions_that_are_dropped_are_so_both_times(monkeypatch):
    recipe = QUIET.changed(**REGULARISED, embedding_dropout=0.5, word_dropout=0.3)
    network, batch, seen = build(recipe), reviews(), []
    classify = network.classify
    monkeypatch.setattr(
        network, "classify", lambda v, *rest: (seen.append(v.detach()), classify(v, *rest))[1]
    )
    found(network, batch, recipe)
    vectors, moved = seen
    assert (vectors[0, :2] == 0).any()
    lengths = (moved - vectors).flatten(1).norm(dim=1)
    spread = (vectors.square().sum(dim=(1, 2)) / (batch.lengths * DIMENSIONS)).sqrt()
    size = torch.where(batch.labels >= 0, recipe.adversarial, recipe.virtual)
    torch.testing.assert_close(lengths, size * spread)
    padding = torch.arange(moved.shape[1]) >= batch.lengths[:, None]
    assert not moved[padding].any()


def test_a_review_without_a_word_hurts_nothing():
    ids = [np.zeros(0, np.int32), np.array([3, 4], np.int32)]
    for label in (1, -1):
        batch = pad(Examples(ids, np.array([label, label], np.float32)), np.arange(2))
        step = found(build(), batch, QUIET.changed(**REGULARISED))
        assert all(gradient.isfinite().all() for gradient in step.of_weights)
        assert not step.of_weights[0][0].any()  # padding


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no LSTM in bfloat16 on this processor"
)
def test_bfloat16_gives_float32_gradients_that_differ_by_rounding():
    network, batch, recipe = build(), reviews(), QUIET.changed(**REGULARISED)
    exact = torch.cat([g.flatten() for g in found(network, batch, recipe).of_weights])
    rounded = found(network, batch, recipe, bf16=True).of_weights
    assert {gradient.dtype for gradient in rounded} == {torch.float32}
    rounded = torch.cat([gradient.flatten() for gradient in rounded])
    assert not torch.equal(rounded, exact)
    assert torch.cosine_similarity(rounded, exact, dim=0) > 0.99


def test_the_sum_of_parts_adds_up_everything():
    parts = [
        Gradients([torch.tensor([1.0, n]), torch.tensor(10.0 * n)], 0.5 * n, n, 2 * n)
        for n in (1, 2, 3)
    ]
    whole = sum_of(parts)
    assert [gradient.tolist() for gradient in whole.of_weights] == [[3.0, 6.0], 60.0]
    assert (whole.loss, whole.correct, whole.labelled) == (3.0, 6, 12)
    alone = Gradients([torch.tensor(2.0)], 0.5, 1, 2)
    assert sum_of([alone]).of_weights == [2.0]

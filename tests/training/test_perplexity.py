import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from reelsense.model.language_model import LanguageModel
from reelsense.training import perplexity as measured
from reelsense.training.machine import Machine
from reelsense.training.perplexity import perplexity, sampled_loss

WORDS, DIMENSIONS, UNITS = 23, 5, 4
MACHINE = Machine(torch.device("cpu"), 2, bf16=False)


pytestmark = pytest.mark.usefixtures("one_core")


# --- The sampled softmax --------------------------------------------------------------------------


def written_out(predicted, table, bias, targets, negatives):
    """The sum over tokens of log(sum of exp s_w over S and t) - s_t, token by token."""
    total = 0.0
    for point, target in zip(predicted, targets, strict=True):
        scores = table @ point + bias
        compared = {*range(negatives), target}
        total += math.log(sum(math.exp(scores[word]) for word in compared)) - scores[target]
    return total


def case(seed=0, tokens=7, words=9):
    random = np.random.default_rng(seed)
    predicted, table = random.normal(size=(tokens, 3)), random.normal(size=(words, 3))
    return predicted, table, random.normal(size=words), random.integers(0, words, tokens)


def tensors(predicted, table, bias, targets):
    floats = [torch.tensor(values, dtype=torch.float32) for values in (predicted, table, bias)]
    return [values.requires_grad_() for values in floats] + [torch.tensor(targets)]


TABLE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # words 0 and 1 are sampled
BIAS = torch.tensor([0.5, -1.0, 0.0])
POINT = torch.tensor([[2.0, 3.0]])  # so the scores are 2.5, 2.0 and 5.0


def test_a_right_word_among_the_sampled_is_not_counted_twice():
    loss = sampled_loss(POINT, TABLE, BIAS, torch.tensor([1]), 2)
    assert float(loss) == pytest.approx(math.log(math.exp(2.5) + math.exp(2.0)) - 2.0, abs=1e-6)


def test_a_right_word_outside_is_added_to_the_sampled():
    loss = sampled_loss(POINT, TABLE, BIAS, torch.tensor([2]), 2)
    among = math.exp(2.5) + math.exp(2.0) + math.exp(5.0)
    assert float(loss) == pytest.approx(math.log(among) - 5.0, abs=1e-6)


def test_the_loss_of_tokens_is_the_sum_of_theirs():
    loss = sampled_loss(POINT.repeat(3, 1), TABLE, BIAS, torch.tensor([1, 2, 1]), 2)
    alone = [float(sampled_loss(POINT, TABLE, BIAS, torch.tensor([t]), 2)) for t in (1, 2, 1)]
    assert float(loss) == pytest.approx(sum(alone), abs=1e-5)


@pytest.mark.parametrize("negatives", [1, 4, 9])
def test_the_loss_is_the_formula_and_its_gradients_are_finite_differences(negatives):
    values = case()
    assert negatives == 9 or {True, False} == set((values[3] < negatives).tolist())
    given = tensors(*values)
    loss = sampled_loss(*given, negatives)
    assert float(loss.detach()) == pytest.approx(written_out(*values, negatives), rel=1e-5)
    for place, gradient in enumerate(torch.autograd.grad(loss, given[:3])):
        for index in np.ndindex(*gradient.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in values]
                moved[place][index] += step
                ends.append(written_out(*moved, negatives))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradient[index]) == pytest.approx(slope, abs=2e-5)


def test_with_every_word_sampled_it_is_the_whole_softmax():
    predicted, table, bias, targets = tensors(*case(seed=1))
    loss = sampled_loss(predicted, table, bias, targets, len(table))
    whole = cross_entropy(predicted @ table.T + bias, targets, reduction="sum")
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=1e-6)


def test_scores_too_large_for_an_exponential_are_no_trouble():
    loss = sampled_loss(100 * POINT, 100 * TABLE, BIAS, torch.tensor([0]), 2)
    assert float(loss) == pytest.approx(10_000 - 1.5, rel=1e-5)


def test_in_bfloat16_it_is_nearly_the_same_and_summed_in_float32():
    given = tensors(*case(seed=2, tokens=200))
    exact = float(sampled_loss(*given, 4).detach())
    with torch.autocast("cpu", torch.bfloat16):
        rough = sampled_loss(given[0].bfloat16(), *given[1:], 4)
    assert rough.dtype == torch.float32
    assert float(rough.detach()) == pytest.approx(exact, rel=0.01)


# --- Perplexity -----------------------------------------------------------------------------------


def language_model(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    network = LanguageModel(WORDS, DIMENSIONS, UNITS, dropout).requires_grad_(False)
    for weight in network.parameters():
        weight.normal_()
    network.embedding.weight[0] = 0
    return network


def reviews(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(1, WORDS, length).astype(np.int32) for length in lengths]


LENGTHS = [1, 40, 3, 0, 17, 17, 2, 9]


def of(network, texts, seed=0):
    with MACHINE.workers() as workers:
        return perplexity(network, texts, seed, MACHINE, workers)


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_words():
    network = LanguageModel(WORDS, DIMENSIONS, UNITS, 0.0).requires_grad_(False)
    for weight in network.parameters():
        weight.zero_()
    assert of(network, reviews(LENGTHS)) == pytest.approx((WORDS, WORDS), rel=1e-5)


def test_a_model_of_biases_alone_counts_every_token_and_the_end_of_each_review():
    network, texts = language_model(), reviews(LENGTHS)
    for weight in network.parameters():
        weight.zero_()
    random = np.random.default_rng(4)
    expected = []
    for backwards in (False, True):
        bias = random.normal(size=WORDS)
        network.direction(backwards)[1].bias.copy_(torch.from_numpy(bias))
        log_p = bias - np.log(np.exp(bias).sum())
        nats = -log_p[np.concatenate([[*ids, 0] for ids in texts]).astype(int)]
        assert len(nats) == sum(LENGTHS) + len(LENGTHS)
        expected.append(math.exp(nats.mean()))
    assert of(network, texts) == pytest.approx(expected, rel=1e-5)


def test_it_is_the_softmax_over_all_words_after_what_was_read():
    network, [ids] = language_model(), reviews([6])
    text = [0, *ids.tolist(), 0]
    lstm, head = network.direction(False)
    states, _ = lstm(network.embedding(torch.tensor([text[:-1]])))
    scores = states[0] @ head.project.weight.T @ network.embedding.weight.T + head.bias
    nats = cross_entropy(scores, torch.tensor(text[1:]))
    assert of(network, [ids])[0] == pytest.approx(math.exp(float(nats)), rel=1e-5)


def test_forwards_is_backwards_of_the_reversed_text():
    network = language_model()
    network.backward_lstm.load_state_dict(network.forward_lstm.state_dict())
    network.backward_head.load_state_dict(network.forward_head.state_dict())
    texts = reviews(LENGTHS)
    forward, backward = of(network, texts)
    assert abs(forward - backward) > 0.01  # it is not a text that is the same both ways
    assert of(network, [ids[::-1] for ids in texts]) == pytest.approx((backward, forward), rel=1e-5)


def test_neither_padding_nor_the_order_nor_the_batches_matter(monkeypatch):
    network, texts = language_model(), reviews(LENGTHS * 9)  # of 32 a batch
    together = of(network, texts)
    tokens = np.array([len(ids) + 1 for ids in texts])
    alone = np.log([of(network, [ids]) for ids in texts])
    assert together == pytest.approx(np.exp(tokens @ alone / tokens.sum()), rel=1e-5)
    shuffled = [texts[row] for row in np.random.default_rng(1).permutation(len(texts))]
    assert of(network, shuffled) == pytest.approx(together, rel=1e-5)
    monkeypatch.setattr(measured, "ROWS", 7)
    assert of(network, texts) == pytest.approx(together, rel=1e-5)


def test_it_is_measured_without_dropout():
    texts = reviews(LENGTHS)
    assert of(language_model(dropout=0.5), texts) == of(language_model(), texts)


def test_of_many_reviews_the_same_sample_is_measured_each_time(monkeypatch):
    monkeypatch.setattr(measured, "SAMPLE", 5)
    network, texts = language_model(), reviews([8] * 40)
    first = of(network, texts, seed=3)
    assert of(network, texts, seed=3) == first
    assert of(network, texts, seed=4) != first
    with MACHINE.workers() as workers:
        sample = np.random.default_rng(3).permutation(40)[:5]
        chosen = [texts[row] for row in sample]
        assert perplexity(network, chosen, 0, MACHINE, workers) == pytest.approx(first, rel=1e-5)


def test_weights_that_make_no_sense_are_infinitely_perplexed():
    """A caller that writes it down can tell; exp alone would end with an OverflowError."""
    network, texts = language_model(), reviews(LENGTHS)
    for head in (network.forward_head, network.backward_head):
        head.bias[1:] = 1e6
    assert of(network, texts) == (math.inf, math.inf)
    network.forward_head.bias[:] = math.nan
    assert of(network, texts) == (math.inf, math.inf)

import pytest
import torch

from reelsense.model.language_model import LanguageModel
from reelsense.model.recipe import Recipe
from reelsense.model.recurrent import BiLSTM

WORDS, DIMENSIONS, UNITS = 20, 5, 4
BOTH = pytest.mark.parametrize("backwards", [False, True])


pytestmark = pytest.mark.usefixtures("one_core")


def language_model(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return LanguageModel(WORDS, DIMENSIONS, UNITS, dropout).requires_grad_(False)


def vectors(rows=3, tokens=9, seed=1):
    return torch.randn(rows, tokens, DIMENSIONS, generator=torch.Generator().manual_seed(seed))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@BOTH
def test_a_prediction_is_a_point_among_the_words_and_knows_nothing_of_what_comes_after(backwards):
    net, text = language_model(), vectors()
    predicted, (hidden, cell) = net.read(backwards, text, net.zero_state(3))
    assert predicted.shape == (3, 9, DIMENSIONS)
    assert hidden.shape == cell.shape == (1, 3, UNITS)
    other = text.clone()
    other[:, 5:] += 1
    changed, _ = net.read(backwards, other, net.zero_state(3))
    assert torch.equal(changed[:, :5], predicted[:, :5])
    assert ((changed - predicted)[:, 5:].abs().amax(2) > 1e-4).all()


@BOTH
def test_text_read_in_two_windows_is_read_as_in_one(backwards):
    net, text = language_model(), vectors()
    whole, after = net.read(backwards, text, net.zero_state(3))
    first, state = net.read(backwards, text[:, :4], net.zero_state(3))
    second, again = net.read(backwards, text[:, 4:], state)
    same(torch.cat([first, second], dim=1), whole)
    for a, b in zip(again, after, strict=True):
        same(a, b)


@BOTH
def test_a_row_is_read_without_the_other_rows(backwards):
    net, text = language_model(), vectors()
    together, _ = net.read(backwards, text, net.zero_state(3))
    for row in range(3):
        alone, _ = net.read(backwards, text[row : row + 1], net.zero_state(1))
        same(alone[0], together[row])


def test_the_directions_share_the_table_and_nothing_else():
    net = language_model()
    before, _ = net.read(False, vectors(), net.zero_state(3))
    lstm, head = net.direction(True)
    for weight in (*lstm.parameters(), *head.parameters()):
        weight += 1
    after, _ = net.read(False, vectors(), net.zero_state(3))
    assert torch.equal(before, after)
    own = {
        backwards: {id(weight) for part in net.direction(backwards) for weight in part.parameters()}
        for backwards in (False, True)
    }
    assert not own[False] & own[True]
    rest = {id(weight) for weight in net.parameters()} - own[False] - own[True]
    assert rest == {id(net.embedding.weight)}


@BOTH
def test_noise_drops_dimensions_of_the_vectors_for_a_whole_row_and_single_units(backwards):
    net, seen = language_model(dropout=0.5), {}
    lstm, head = net.direction(backwards)
    lstm.register_forward_pre_hook(lambda _, given: seen.update(vectors=given[0]))
    head.project.register_forward_pre_hook(lambda _, given: seen.update(states=given[0]))
    ones = torch.ones(50, 9, DIMENSIONS)
    net.read(backwards, ones, net.zero_state(50), noise())
    assert set(seen["vectors"].unique().tolist()) == {0.0, 2.0}
    assert torch.equal(seen["vectors"], seen["vectors"][:, :1].expand(-1, 9, -1))
    assert 0.4 < (seen["vectors"][:, 0] == 0).float().mean() < 0.6
    dropped = seen["states"] == 0
    assert 0.4 < dropped.float().mean() < 0.6
    assert (dropped.any(1) & ~dropped.all(1)).float().mean() > 0.9  # not for the whole row


def test_noise_is_that_of_the_generator_and_without_one_there_is_none():
    net = language_model(dropout=0.5)
    a, b, other = (net.read(False, vectors(), net.zero_state(3), noise(n))[0] for n in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)
    quiet, _ = net.read(False, vectors(), net.zero_state(3))
    same(quiet, language_model(dropout=0.0).read(False, vectors(), net.zero_state(3))[0])


def test_its_weights_drop_straight_into_the_classifier():
    net = language_model()
    classifier = BiLSTM(Recipe(hidden=UNITS), WORDS, DIMENSIONS).requires_grad_(False)
    weights = {k: v for k, v in net.state_dict().items() if "head" not in k}
    left = classifier.load_state_dict(weights, strict=False)
    assert left.missing_keys == ["output.weight", "output.bias"]
    assert left.unexpected_keys == []
    # And mean the same there: the states of each direction are those of the language model.
    ids, lengths = torch.randint(2, WORDS, (3, 8), generator=noise()), torch.tensor([8, 3, 5])
    states = classifier.encode(classifier.embed(ids), lengths, None)
    for row, length in enumerate(lengths.tolist()):
        read = net.embedding(ids[row : row + 1, :length])
        for backwards, units in ((False, slice(UNITS)), (True, slice(UNITS, None))):
            ordered = read.flip(1) if backwards else read
            expected, _ = net.direction(backwards)[0](ordered, net.zero_state(1))
            expected = expected.flip(1) if backwards else expected
            same(states[row, :length, units], expected[0])


def test_the_end_of_a_review_is_the_zero_vector():
    net = language_model()
    assert not net.embedding(torch.tensor([0])).any()
    assert net.embedding.padding_idx == 0
    assert all(not state.any() for state in net.zero_state(2))

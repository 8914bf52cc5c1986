"""Networks that read a review from both ends, a token after the other.

B reviews a batch, T tokens (padded), D vector dimensions, H units a direction. A state has the
forward direction's H features, then the backward's.
"""

from typing import Any

import torch
from torch import Tensor, nn

from reelsense.model.pooled import Network, dropped, is_real
from reelsense.model.recipe import Recipe


class BiLSTM(Network):
    """Bidirectional LSTM over word vectors.

    Hochreiter & Schmidhuber 1997 (the cell, with the forget gate of Gers et al. 2000); Graves &
    Schmidhuber 2005 (both directions).
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.forward_lstm = _stack(nn.LSTM, recipe, dimensions)
        self.backward_lstm = _stack(nn.LSTM, recipe, dimensions)
        self.add_output(2 * recipe.hidden)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, 2H)."""
        share = self.recipe.dropout
        return from_both_ends(self.forward_lstm, self.backward_lstm, vectors, lengths, share, noise)


class BiGRU(Network):
    """Bidirectional GRU (Cho et al. 2014): one state and three quarters of the weights."""

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.forward_gru = _stack(nn.GRU, recipe, dimensions)
        self.backward_gru = _stack(nn.GRU, recipe, dimensions)
        self.add_output(2 * recipe.hidden)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, 2H)."""
        share = self.recipe.dropout
        return from_both_ends(self.forward_gru, self.backward_gru, vectors, lengths, share, noise)


class CNNLSTM(Network):
    """Convolution over three words, then a bidirectional LSTM (C-LSTM, Zhou et al. 2015).

    H filters as wide as three words, ReLU, no pooling between, so that each token keeps a state.
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.convolution = nn.Conv1d(dimensions, recipe.hidden, 3, padding="same")
        self.forward_lstm = _stack(nn.LSTM, recipe, recipe.hidden)
        self.backward_lstm = _stack(nn.LSTM, recipe, recipe.hidden)
        self.add_output(2 * recipe.hidden)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, 2H)."""
        words = vectors * is_real(vectors, lengths)
        phrases = torch.relu(self.convolution(words.mT)).mT
        share = self.recipe.dropout
        return from_both_ends(self.forward_lstm, self.backward_lstm, phrases, lengths, share, noise)


def from_both_ends(
    forward: nn.ModuleList,
    backward: nn.ModuleList,
    values: Tensor,
    lengths: Tensor,
    share: float,
    noise: torch.Generator | None,
) -> Tensor:
    """Return the states (B, T, 2H) of the last layer; `share` of the features drop between two."""
    # Packed sequences are many times slower on a CPU than padded rows (benchmarks/training.py).
    # Each row is reversed by its own length instead, so padding comes last in both directions
    # and no state of a word has seen any.
    order = _reversal(lengths, values.shape[1])
    for layer, (ahead, back) in enumerate(zip(forward, backward, strict=True)):
        if layer:
            values = dropped(values, share, noise, same_over_dim=1)
        from_left, _ = ahead(values)
        from_right, _ = back(_reordered(values, order))
        values = torch.cat([from_left, _reordered(from_right, order)], dim=2)
    return values


def _stack(cell: type[nn.LSTM] | type[nn.GRU], recipe: Recipe, width: int) -> nn.ModuleList:
    """Return one direction's layers: the first reads `width` features, the others 2H."""
    widths = [width] + [2 * recipe.hidden] * (recipe.layers - 1)
    return nn.ModuleList(cell(width, recipe.hidden, batch_first=True) for width in widths)


def _reversal(lengths: Tensor, tokens: int) -> Tensor:
    """Return the flat order (B * T,) that turns round each row's words and leaves its padding."""
    place = torch.arange(tokens, device=lengths.device)
    mirrored = lengths[:, None] - 1 - place
    within = torch.where(mirrored >= 0, mirrored, place)
    start = torch.arange(len(lengths), device=lengths.device)[:, None] * tokens
    return (within + start).flatten()


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    """Return values (B, T, D) with their B * T rows in an order from `_reversal`."""
    reordered: Tensor = _Reorder.apply(values, order)  # type: ignore[no-untyped-call]
    return reordered


class _Reorder(torch.autograd.Function):
    """Put the B * T rows into an order that is its own inverse, so the gradient is one copy too.

    The gradient of `gather` would be a scatter, which torch runs on one core.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return values.flatten(0, 1).index_select(0, order).view(values.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        gradient = gradients[0]
        return gradient.flatten(0, 1).index_select(0, order).view(gradient.shape), None

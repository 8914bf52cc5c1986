"""From token ids and lengths to one logit a review.

Knows no loss, data, device or file. B reviews a batch, T tokens (padded), D vector dimensions,
H units a direction. A score never depends on the padding or on the other reviews of its batch.

Noise is an argument, not a mode: `forward(ids, lengths)` is the network as it predicts, and
`forward(ids, lengths, noise)` draws its dropout from the given generator, so that several threads
can train on parts of a batch and still give the same weights for the same seed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reelsense.model.recipe import Recipe


class BiLSTM(nn.Module):
    """Bidirectional LSTM over word vectors, pooled over the tokens of the review.

    Hochreiter & Schmidhuber 1997 (the cell, with the forget gate of Gers et al. 2000); Graves &
    Schmidhuber 2005 (both directions). With pooling and `dense` 0 the logit is a sum over tokens.
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.embedding = nn.Embedding(words, dimensions, padding_idx=0)
        self.embedding.weight.requires_grad_(recipe.train_embedding)
        widths = [dimensions] + [2 * recipe.hidden] * (recipe.layers - 1)
        self.forward_lstm = nn.ModuleList(
            nn.LSTM(width, recipe.hidden, batch_first=True) for width in widths
        )
        self.backward_lstm = nn.ModuleList(
            nn.LSTM(width, recipe.hidden, batch_first=True) for width in widths
        )
        pooled = 2 * recipe.hidden * (2 if recipe.pooling == "max+mean" else 1)
        self.dense = nn.Linear(pooled, recipe.dense) if recipe.dense else None
        self.output = nn.Linear(recipe.dense or pooled, 1)

    def forward(self, ids: Tensor, lengths: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Return the logits (B,) of P(positive) for ids (B, T) and lengths (B,)."""
        return self.classify(self.embed(ids, noise), lengths, noise)

    def classify(
        self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None = None
    ) -> Tensor:
        """Return the logits (B,) of reviews given as their word vectors (B, T, D)."""
        states = self.encode(vectors, lengths, noise)
        return self.score(self.pool(states, lengths), noise)

    def embed(self, ids: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Return the word vectors (B, T, D), with the recipe's noise.

        Whole words are dropped (Dai & Le 2015), and whole dimensions for the length of a review:
        spatial dropout (Tompson et al. 2015), the same mask at every token (Gal & Ghahramani 2016).
        """
        vectors: Tensor = self.embedding(ids)
        if noise is not None and self.recipe.word_dropout:
            kept = torch.empty(*ids.shape, 1, device=ids.device)
            vectors = vectors * kept.bernoulli_(1 - self.recipe.word_dropout, generator=noise)
        return dropped(vectors, self.recipe.embedding_dropout, noise, same_over_dim=1)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, 2H): the forward direction's H, then the backward's."""
        # Packed sequences are many times slower on a CPU than padded rows (benchmarks/training.py).
        # Each row is reversed by its own length instead, so padding comes last in both directions
        # and no state of a word has seen any.
        order = _reversal(lengths, vectors.shape[1])
        states = vectors
        for layer, (ahead, back) in enumerate(
            zip(self.forward_lstm, self.backward_lstm, strict=True)
        ):
            if layer:
                states = dropped(states, self.recipe.dropout, noise, same_over_dim=1)
            from_left, _ = ahead(states)
            from_right, _ = back(_reordered(states, order))
            states = torch.cat([from_left, _reordered(from_right, order)], dim=2)
        return states

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector a review, float32: (B, 2H), or (B, 4H) for max+mean. Zeros if empty."""
        tokens = torch.arange(states.shape[1], device=states.device)
        real = (tokens < lengths[:, None]).unsqueeze(2)
        kind = self.recipe.pooling
        if kind == "last":
            hidden = self.recipe.hidden
            rows = torch.arange(len(states), device=states.device)
            last = states[rows, (lengths - 1).clamp(min=0), :hidden]
            return torch.cat([last, states[:, 0, hidden:]], dim=1).float() * real[:, 0]
        pooled = []
        if "max" in kind:
            highest = states.masked_fill(~real, -torch.inf).amax(dim=1).float()
            pooled.append(highest.masked_fill(lengths[:, None] == 0, 0.0))
        if "mean" in kind:
            total = (states * real).sum(dim=1, dtype=torch.float32)
            pooled.append(total / lengths[:, None].clamp(min=1))
        return torch.cat(pooled, dim=1)

    def score(self, pooled: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Return the logits (B,) of pooled reviews (B, 2H or 4H)."""
        features = dropped(pooled, self.recipe.dropout, noise)
        if self.dense is not None:
            # Here dropout stands after the dense layer, as in the original system.
            features = dropped(torch.relu(self.dense(pooled)), self.recipe.dropout, noise)
        logits: Tensor = self.output(features)
        return logits.squeeze(1).float()


def build(recipe: Recipe, vectors: NDArray[np.float32], found: NDArray[np.bool_]) -> BiLSTM:
    """Return the recipe's network with its first weights, the same for the same seed.

    Args:
        recipe: the network's shape and its seed.
        vectors: (V, D), a row a word of the vocabulary; row 0 is padding.
        found: (V,), where `vectors` has a vector. The others start at random, as spread as these.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    network = BiLSTM(recipe, *vectors.shape)
    with torch.no_grad():
        table = torch.tensor(vectors)
        missing = torch.tensor(~found)
        spread = float(vectors[found].std()) if found.any() else 0.1
        shape = (int(missing.sum()), vectors.shape[1])
        table[missing] = torch.empty(shape).normal_(0.0, spread, generator=generator)
        table[0] = 0.0
        network.embedding.weight.copy_(table)
        for name, weight in network.named_parameters():
            if not name.startswith("embedding"):
                initialise(name, weight, generator)
    return network


def initialise(name: str, weight: Tensor, generator: torch.Generator) -> None:
    """Set one weight: orthogonal recurrences, Xavier inputs, forget bias 1 (Jozefowicz 2015)."""
    if "weight_hh" in name:
        for gate in weight.chunk(4):
            nn.init.orthogonal_(gate, generator=generator)
    elif "weight_ih" in name:
        for gate in weight.chunk(4):
            nn.init.xavier_uniform_(gate, generator=generator)
    elif "weight" in name:
        nn.init.xavier_uniform_(weight, generator=generator)
    else:
        weight.zero_()
        if "bias_ih" in name:  # torch adds two biases; the gates stand in the order i, f, g, o
            weight.chunk(4)[1].fill_(1.0)


def dropped(
    values: Tensor, share: float, noise: torch.Generator | None, same_over_dim: int | None = None
) -> Tensor:
    """Zero a share of the values and scale the rest; one mask along `same_over_dim` if given."""
    if noise is None or not share:
        return values
    shape = [1 if dim == same_over_dim else size for dim, size in enumerate(values.shape)]
    kept = torch.empty(shape, device=values.device).bernoulli_(1 - share, generator=noise)
    return values * (kept / (1 - share)).to(values.dtype)


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

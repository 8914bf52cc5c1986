"""From token ids and lengths to one logit a review: the ends that all networks share.

Knows no loss, data, device or file. B reviews a batch, T tokens (padded), D vector dimensions,
S features of a state. A score never depends on the padding or on the other reviews of its batch.

Noise is an argument, not a mode: `forward(ids, lengths)` is the network as it predicts, and
`forward(ids, lengths, noise)` draws its dropout from the given generator, so that several threads
can train on parts of a batch and still give the same weights for the same seed.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from reelsense.model.recipe import Recipe

BELOW = -1e30  # lower than any score, and no infinity: the mean over nothing stays a number


class Network(nn.Module, ABC):
    """Word vectors, states of them, pooling over the tokens of the review, linear layers.

    With pooling other than the last state and `dense` 0 the logit is a sum over states. What the
    states are is said by `encode`, in which the networks differ.
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.embedding = nn.Embedding(words, dimensions, padding_idx=0)
        self.embedding.weight.requires_grad_(recipe.train_embedding)

    def add_output(self, features: int) -> None:
        """Add what follows states of so many features; the last thing that a network adds."""
        if self.recipe.pooling == "attention":
            self.attention = nn.Linear(features, features)
            self.context = nn.Linear(features, 1, bias=False)
        pooled = features * (2 if self.recipe.pooling == "max+mean" else 1)
        self.dense = nn.Linear(pooled, self.recipe.dense) if self.recipe.dense else None
        self.output = nn.Linear(self.recipe.dense or pooled, 1)

    @abstractmethod
    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, S) of word vectors (B, T, D); those of padding mean nothing."""

    def steps(self, lengths: Tensor) -> Tensor:
        """Return how many states a review of so many tokens has: as many, but for `DPCNN`."""
        return lengths

    def forward(self, ids: Tensor, lengths: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Return the logits (B,) of P(positive) for ids (B, T) and lengths (B,)."""
        return self.classify(self.embed(ids, noise), lengths, noise)

    def classify(
        self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None = None
    ) -> Tensor:
        """Return the logits (B,) of reviews given as their word vectors (B, T, D)."""
        states = self.encode(vectors, lengths, noise)
        return self.score(self.pool(states, self.steps(lengths)), noise)

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

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector a review, float32: (B, S), or (B, 2S) for max+mean. Zeros if empty."""
        real = is_real(states, lengths)
        kind = self.recipe.pooling
        if kind == "last":
            return _last(states, lengths) * real[:, 0]
        if kind == "attention":
            return self.attend(states, real)
        pooled = []
        if "max" in kind:
            highest = states.masked_fill(~real, -torch.inf).amax(dim=1).float()
            pooled.append(highest.masked_fill(lengths[:, None] == 0, 0.0))
        if "mean" in kind:
            total = (states * real).sum(dim=1, dtype=torch.float32)
            pooled.append(total / lengths[:, None].clamp(min=1))
        return torch.cat(pooled, dim=1)

    def attend(self, states: Tensor, real: Tensor) -> Tensor:
        """Return the mean of the states (B, S), weighted by what each says of its own weight.

        Yang et al. 2016, equations 5 to 7: u_t = tanh(W h_t + b), a_t = softmax(u_t . context).
        """
        asked = self.context(torch.tanh(self.attention(states))).float()
        weights = asked.masked_fill(~real, BELOW).softmax(dim=1) * real
        pooled: Tensor = (weights * states).sum(dim=1, dtype=torch.float32)
        return pooled

    def score(self, pooled: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Return the logits (B,) of pooled reviews (B, S or 2S)."""
        features = dropped(pooled, self.recipe.dropout, noise)
        if self.dense is not None:
            # Here dropout stands after the dense layer, as in the original system.
            features = dropped(torch.relu(self.dense(pooled)), self.recipe.dropout, noise)
        logits: Tensor = self.output(features)
        return logits.squeeze(1).float()


def is_real(values: Tensor, lengths: Tensor) -> Tensor:
    """Return where values (B, T, S) are of tokens and not of padding: (B, T, 1)."""
    tokens = torch.arange(values.shape[1], device=values.device)
    return (tokens < lengths[:, None]).unsqueeze(2)


def dropped(
    values: Tensor, share: float, noise: torch.Generator | None, same_over_dim: int | None = None
) -> Tensor:
    """Zero a share of the values and scale the rest; one mask along `same_over_dim` if given."""
    if noise is None or not share:
        return values
    shape = [1 if dim == same_over_dim else size for dim, size in enumerate(values.shape)]
    kept = torch.empty(shape, device=values.device).bernoulli_(1 - share, generator=noise)
    return values * (kept / (1 - share)).to(values.dtype)


def _last(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the states with which both directions end: ahead at the last token, back at the first.

    They lie side by side in the features of a state.
    """
    half = states.shape[2] // 2
    rows = torch.arange(len(states), device=states.device)
    last = states[rows, (lengths - 1).clamp(min=0), :half]
    return torch.cat([last, states[:, 0, half:]], dim=1).float()

"""Networks without a memory: convolutions over the words of a review, and no order at all.

B reviews a batch, T tokens (padded), D vector dimensions, H filters of each width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelsense.model.pooled import Network, is_real
from reelsense.model.recipe import Recipe

WIDTHS = (3, 4, 5)  # words that a filter sees at once (Kim 2014)


class CNN(Network):
    """Filters over three, four and five words, ReLU (Kim 2014); max pooling is the paper's.

    The text is continued by zeros at both ends, so that each token is the middle of a phrase.
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dimensions, recipe.hidden, width) for width in WIDTHS
        )
        self.add_output(len(WIDTHS) * recipe.hidden)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, 3H): what the filters of each width say around each token."""
        words = (vectors * is_real(vectors, lengths)).mT
        states = [
            torch.relu(one(functional.pad(words, ((width - 1) // 2, width // 2))))
            for width, one in zip(WIDTHS, self.convolutions, strict=True)
        ]
        return torch.cat(states, dim=1).mT


class DPCNN(Network):
    """Deep pyramid of convolutions (Johnson & Zhang 2017): each level sees twice as far.

    A region embedding of three words, and then levels of two convolutions over three states beside
    a shortcut, activation first. Between two levels a maximum over three states, every second one:
    `layers` times, which leaves T / 2^layers states.
    """

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.region = nn.Conv1d(dimensions, recipe.hidden, 3, padding="same")
        self.convolutions = nn.ModuleList(
            nn.Conv1d(recipe.hidden, recipe.hidden, 3, padding="same")
            for _ in range(2 * (recipe.layers + 1))
        )
        self.add_output(recipe.hidden)

    def steps(self, lengths: Tensor) -> Tensor:
        """Return how many states are left of so many tokens."""
        for _ in range(self.recipe.layers):
            lengths = (lengths + 1) // 2
        return lengths

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T / 2^layers rounded up, H)."""
        real = is_real(vectors, lengths).mT
        states: Tensor = self.region(vectors.mT * real) * real
        for level in range(self.recipe.layers + 1):
            if level:
                lengths = (lengths + 1) // 2
                states = states.masked_fill(~real, -torch.inf)
                states = functional.pad(states, (0, 2), value=-torch.inf)
                states = functional.max_pool1d(states, 3, stride=2)
                real = is_real(states.mT, lengths).mT
                states = states.masked_fill(~real, 0.0)
            one, other = self.convolutions[2 * level : 2 * level + 2]
            inner = one(torch.relu(states)) * real
            states = states + other(torch.relu(inner)) * real
        return states.mT


class MeanOfVectors(Network):
    """The word vectors themselves: what is known without order (Iyyer et al. 2015; Shen 2018)."""

    def __init__(self, recipe: Recipe, words: int, dimensions: int) -> None:
        super().__init__(recipe, words, dimensions)
        self.add_output(dimensions)

    def encode(self, vectors: Tensor, lengths: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return the states (B, T, D)."""
        return vectors

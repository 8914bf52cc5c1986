"""Two language models over one table of word vectors: one reads forwards, the other backwards.

Knows no loss, data, device or file. Its LSTMs and its table have the names and the shapes of those
of `recurrent.BiLSTM`, so its weights drop straight into that. B rows of text, T tokens, D vector
dimensions, H units.
"""

import torch
from torch import Tensor, nn

from reelsense.model.pooled import dropped

State = tuple[Tensor, Tensor]  # hidden and cell state, (1, B, H) each


class LanguageModel(nn.Module):
    """An LSTM a direction that says which word comes next (Dai & Le 2015; Mikolov et al. 2010).

    The score of word v after a state h is e_v . (P h) + b_v, where e_v is its word vector: input
    and output share the table (Press & Wolf 2017; Inan et al. 2017), P takes H units to D
    dimensions. Word 0 stands for the end of a review; its vector is zero and does not learn.
    """

    def __init__(self, words: int, dimensions: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(words, dimensions, padding_idx=0)
        self.forward_lstm = nn.ModuleList([nn.LSTM(dimensions, hidden, batch_first=True)])
        self.backward_lstm = nn.ModuleList([nn.LSTM(dimensions, hidden, batch_first=True)])
        self.forward_head = Head(words, hidden, dimensions)
        self.backward_head = Head(words, hidden, dimensions)

    def direction(self, backwards: bool) -> "tuple[nn.LSTM, Head]":
        """Return the two parts that read forwards, or backwards."""
        lstm = (self.backward_lstm if backwards else self.forward_lstm)[0]
        assert isinstance(lstm, nn.LSTM)
        return lstm, self.backward_head if backwards else self.forward_head

    def zero_state(self, rows: int) -> State:
        """Return the state at the beginning of a text, on the network's device."""
        units = self.direction(False)[0].hidden_size
        zeros = self.embedding.weight.new_zeros(1, rows, units)
        return zeros, zeros.clone()

    def read(
        self, backwards: bool, vectors: Tensor, state: State, noise: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Return what comes next as points among the word vectors (B, T, D), and the new state.

        `vectors` (B, T, D) are those of the words read, in the direction's own order. With `noise`,
        dimensions of the vectors are dropped for a whole row, and single units of the states.
        """
        lstm, head = self.direction(backwards)
        states, state = lstm(dropped(vectors, self.dropout, noise, same_over_dim=1), state)
        predicted: Tensor = head.project(dropped(states, self.dropout, noise))
        return predicted, state


class Head(nn.Module):
    """From the states of a direction to the words: P (D, H), and a bias (V,) a word."""

    def __init__(self, words: int, hidden: int, dimensions: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, dimensions, bias=False)
        self.bias = nn.Parameter(torch.zeros(words))

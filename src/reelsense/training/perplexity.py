"""The losses of a language model: the sampled softmax that it learns from, the whole one it is
measured by.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reelsense.model.language_model import LanguageModel
from reelsense.training.batches import Ids
from reelsense.training.machine import Machine

SAMPLE: Final = 200  # held-out reviews that the perplexity is measured on, always the same ones
LARGEST: Final = 700  # nats; the exponential of more is infinite
ROWS: Final = 512  # predictions whose scores of all words are held at a time


def sampled_loss(
    predicted: Tensor, table: Tensor, bias: Tensor, targets: Tensor, negatives: int
) -> Tensor:
    """Return the sum over N tokens of -log of the share of the right word among the sampled ones.

    With s_w = e_w . p + b_w - log E_w, where E_w is the chance of w to be sampled, and S the
    sampled words, the loss of a token t is log(sum of exp s_w over S and t) - s_t (Jean et al.
    2015, section 3; Bengio & Senecal 2008).

    Args:
        predicted: (N, D), a point p a token.
        table: (U, D), the vectors e of the step's words.
        bias: (U,), b_w - log E_w of each.
        targets: (N,), the right words, numbers into the table.
        negatives: the first so many words of the table are S.
    """
    scores = (predicted @ table[:negatives].T.to(predicted.dtype)).float() + bias[:negatives]
    right = (predicted * table[targets]).sum(dim=1, dtype=torch.float32) + bias[targets]
    sampled = scores.logsumexp(dim=1)
    # A right word that was sampled is among S already.
    whole = torch.where(targets < negatives, sampled, torch.logaddexp(sampled, right))
    return (whole - right).sum()


def perplexity(
    network: LanguageModel,
    reviews: Sequence[Ids],
    seed: int,
    machine: Machine,
    workers: ThreadPoolExecutor,
) -> tuple[float, float]:
    """Return the perplexity of reviews read forwards and backwards, over all words, in float32.

    The exponential of the mean of -log p over the tokens and the end of each review; infinite where
    that is no number that can be written. Of more than SAMPLE reviews, so many are measured; there
    must be one.
    """
    rows = np.random.default_rng(seed).permutation(len(reviews))[:SAMPLE]
    chosen = sorted((reviews[row] for row in rows), key=len)

    def one(backwards: bool) -> float:
        total, tokens = 0.0, 0
        with torch.inference_mode():
            for first in range(0, len(chosen), 32):
                batch = chosen[first : first + 32]
                total += _nats(network, batch, backwards, machine.device)
                tokens += sum(len(ids) + 1 for ids in batch)
        mean = total / tokens
        return math.exp(mean) if mean < LARGEST else math.inf

    forward, backward = workers.map(one, (False, True))
    return forward, backward


def _nats(
    network: LanguageModel, batch: Sequence[Ids], backwards: bool, device: torch.device
) -> float:
    """Return the sum of -log p over the tokens and the ends of some reviews."""
    longest = max(len(ids) for ids in batch)
    text = np.zeros((len(batch), longest + 2), np.int64)  # END, the words, END
    for row, ids in enumerate(batch):
        text[row, 1 : len(ids) + 1] = ids[::-1] if backwards else ids
    read = torch.from_numpy(text).to(device)
    vectors = network.embedding(read[:, :-1])
    predicted, _ = network.read(backwards, vectors, network.zero_state(len(batch)))
    lengths = torch.tensor([len(ids) + 1 for ids in batch], device=device)
    real = torch.arange(longest + 1, device=device) < lengths[:, None]
    points, targets = predicted[real], read[:, 1:][real]
    bias = network.direction(backwards)[1].bias
    return sum(
        float(
            cross_entropy(
                torch.addmm(bias, points[start : start + ROWS], network.embedding.weight.T),
                targets[start : start + ROWS],
                reduction="sum",
            )
        )
        for start in range(0, len(points), ROWS)
    )

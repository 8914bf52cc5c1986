"""A step of the language models: its window of text, its negatives, its gradients."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reelsense.model.language_model import LanguageModel, State
from reelsense.model.pretraining import Pretraining
from reelsense.training.checkpoint import Position, Tensors
from reelsense.training.corpus import END
from reelsense.training.machine import Machine
from reelsense.training.perplexity import sampled_loss

FRESH: Final = 0.05  # share of the rows that begin a window as if a review began there
# Negatives are drawn as often as their count to this power (Mikolov et al. 2013).
FLATTENED: Final = 0.75


@dataclass(frozen=True, eq=False)
class Window:
    """What a step reads: `ids` (2, B, T + 1) numbers into the `words` (U,) of the step.

    The last of the T + 1 tokens is only predicted. The first `negatives` words are the negatives;
    `log_expected` (U,) is the log of the chance of each word to be among them.
    """

    ids: Tensor
    words: Tensor
    negatives: int
    log_expected: Tensor


def chances_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the chance of each word to be drawn as a negative, (V,)."""
    flattened = np.asarray(counts, np.float64) ** FLATTENED
    return np.asarray(flattened / flattened.sum())


def draw_window(
    recipe: Pretraining,
    texts: list[NDArray[np.int32]],
    position: Position,
    chances: NDArray[np.float64],
) -> Window:
    """Return the tokens of a step and its negatives, with the words that occur in either.

    The table has tens of thousands of rows and a step uses some three thousand of them: gradients
    are made for those alone.
    """
    first = position.step * recipe.window
    ids = np.stack([text[:, first : first + recipe.window + 1] for text in texts])
    dice = np.random.default_rng([recipe.seed, position.epoch, position.step])
    drawn = np.searchsorted(chances.cumsum(), dice.random(recipe.negatives))
    negatives = np.unique(np.minimum(drawn, len(chances) - 1))
    others = np.setdiff1d(ids, negatives)
    words = np.concatenate([negatives, others]).astype(np.int64)
    place = np.zeros(len(chances), np.int64)
    place[words] = np.arange(len(words))
    # The chance to be drawn at least once; a word that is never drawn is never compared by it.
    drawn_once = -np.expm1(recipe.negatives * np.log1p(-np.minimum(chances[words], 1 - 1e-12)))
    return Window(
        torch.from_numpy(place[ids]),
        torch.from_numpy(words),
        len(negatives),
        torch.from_numpy(np.log(np.maximum(drawn_once, 1e-12))).float(),
    )


def set_gradients(
    network: LanguageModel,
    weights: Tensors,
    window: Window,
    states: list[State],
    recipe: Pretraining,
    position: Position,
    machine: Machine,
    workers: ThreadPoolExecutor,
) -> tuple[list[float], list[State]]:
    """Set the gradients of the sum of both directions' mean losses; return those and the states.

    A worker takes some rows of one direction there and back; sums are taken in a fixed order.
    """
    words = window.words.to(machine.device)
    table = network.embedding.weight.detach()[words]
    expected = window.log_expected.to(machine.device)
    parts = torch.arange(recipe.rows).tensor_split(position.shards)
    jobs = [(turned, rows) for turned in (False, True) for rows in parts]

    def backward(job: int) -> tuple[list[Tensor], float, State]:
        backwards, rows = jobs[job]
        chance = np.random.SeedSequence([recipe.seed, position.epoch, position.step, job])
        noise = torch.Generator(machine.device).manual_seed(int(chance.generate_state(1)[0]))
        ids = window.ids[int(backwards), rows].to(machine.device)
        lstm, head = network.direction(backwards)
        used = [table.clone().requires_grad_(), head.bias.detach()[words].requires_grad_()]
        own = [*lstm.parameters(), head.project.weight]
        state = _refreshed(states[backwards], rows, noise)
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16):
            predicted, after = network.read(backwards, used[0][ids[:, :-1]], state, noise)
            loss = sampled_loss(
                predicted.flatten(0, 1), used[0], used[1] - expected, ids[:, 1:].flatten(),
                window.negatives,
            ) / (recipe.rows * recipe.window)  # fmt: skip
        gradients = torch.autograd.grad(loss, [*used, *own])
        after = (after[0].detach().float(), after[1].detach().float())
        return list(gradients), float(loss.detach()), after

    results = list(workers.map(backward, range(len(jobs))))
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad.zero_()
    of_table = torch.zeros_like(table)
    losses, after = [0.0, 0.0], []
    for (backwards, _), (gradients, loss, state) in zip(jobs, results, strict=True):
        lstm, head = network.direction(backwards)
        of_table += gradients[0]
        _grad(head.bias).index_add_(0, words, gradients[1])
        for weight, gradient in zip(
            (*lstm.parameters(), head.project.weight), gradients[2:], strict=True
        ):
            _grad(weight).add_(gradient)
        losses[backwards] += loss
        after.append(state)
    of_table[words == END] = 0.0
    _grad(network.embedding.weight).index_copy_(0, words, of_table)
    shards = position.shards
    joined = [
        (torch.cat([h for h, _ in group], dim=1), torch.cat([c for _, c in group], dim=1))
        for group in (after[:shards], after[shards:])
    ]
    return losses, joined


def _refreshed(state: State, rows: Tensor, noise: torch.Generator) -> State:
    """Return the state of some rows, a few of them set to the state at the beginning of a text.

    A classifier begins every review there, and running text comes by it once in an epoch.
    """
    device = state[0].device
    goes_on = torch.empty(1, len(rows), 1, device=device).bernoulli_(1 - FRESH, generator=noise)
    rows = rows.to(device)
    return state[0][:, rows] * goes_on, state[1][:, rows] * goes_on


def _grad(weight: Tensor) -> Tensor:
    """Return the gradient of a weight, which has been set."""
    assert weight.grad is not None
    return weight.grad

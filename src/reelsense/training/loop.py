"""The training loop, top to bottom. It never sees the test part.

`train` yields after every step and every epoch, so the caller draws the progress and can close
the generator between two steps: the run is then saved and goes on from there. All chance comes
from (seed, epoch, step, shard), so an interrupted run ends with the weights of another.
"""

import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import clip_grad_norm_

from reelsense.errors import Failure
from reelsense.model.networks import BiLSTM
from reelsense.model.recipe import Recipe
from reelsense.training.batches import Batch, Examples, crop, pad, plan
from reelsense.training.checkpoint import (
    Position,
    Tensors,
    best_epoch,
    epoch_path,
    load_state,
    read_history,
    save_state,
    save_tensors,
    write_history,
)
from reelsense.training.machine import Machine
from reelsense.training.measure import logits, loss_and_accuracy

WARM_UP = 0.3  # share of a one-cycle run in which the rate rises (Smith & Topin 2018)
# A short memory of squared gradients (0.999 is usual): with it, the vector of a rare word moves a
# third as far each time the word is seen.
BETAS = (0.9, 0.99)
SAMPLE = 2500  # training reviews on which the training curve is measured, always the same ones


@dataclass(frozen=True)
class Step:
    """Progress after a step: its epoch (from 1), means over the epoch so far, seconds left."""

    epoch: int
    loss: float
    accuracy: float
    reviews_per_second: float
    share_done: float
    seconds_left: float


@dataclass(frozen=True)
class EpochEnd:
    """The line of `history.jsonl` of an epoch that has ended."""

    record: dict[str, Any]


@dataclass(frozen=True)
class _State:
    """Every tensor that a run needs to go on, by the names of the weights that learn."""

    weights: Tensors
    average: Tensors
    optimizer: torch.optim.Adam

    def tensors(self) -> Tensors:
        """Return them all under names of their own, for saving."""
        state = {f"weights.{name}": weight for name, weight in self.weights.items()}
        state |= {f"average.{name}": weight for name, weight in self.average.items()}
        for name, weight in self.weights.items():
            for key, value in self.optimizer.state[weight].items():
                state[f"adam.{key}.{name}"] = value
        return state

    def restore(self, saved: Tensors) -> None:
        """Put back what `tensors` returned."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(saved[f"weights.{name}"])
                self.average[name].copy_(saved[f"average.{name}"])
                self.optimizer.state[weight] = {
                    key: saved[f"adam.{key}.{name}"].to(weight.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }


def train(
    recipe: Recipe,
    network: BiLSTM,
    training: Examples,
    validation: Examples,
    run: Path,
    machine: Machine,
) -> Generator[Step | EpochEnd]:
    """Train the network, from where the run folder says, and save what each epoch ends with.

    Close the generator to interrupt the run between two steps; its state is then saved. Without
    validation reviews an epoch's record has no "validation".

    Raises:
        Failure: the loss is not a number, or the folder cannot be written.
    """
    network.to(machine.device)
    weights: Tensors = {name: p for name, p in network.named_parameters() if p.requires_grad}
    state = _State(
        weights=weights,
        average={name: weight.detach().clone() for name, weight in weights.items()},
        optimizer=torch.optim.Adam(
            weights.values(), lr=recipe.learning_rate, betas=BETAS, fused=True
        ),
    )
    # A resumed run keeps the number of shards that it began with: another would round otherwise.
    position = Position(shards=1 if machine.device.type == "cuda" else machine.threads)
    if (saved := load_state(run)) is not None:
        state.restore(saved[0])
        position = saved[1]
    history = read_history(run)[: position.epoch - 1]
    sample = _sample(training, recipe.seed)

    with machine.workers() as workers:
        while position.epoch <= recipe.epochs and not _has_stalled(history, recipe):
            examples, batches = _plan_epoch(recipe, training, position.epoch)
            for rows in batches[position.step :]:
                started = time.perf_counter()
                done = (position.epoch - 1 + position.step / len(batches)) / recipe.epochs
                state.optimizer.param_groups[0]["lr"] = learning_rate(recipe, done)
                shards = pad(examples, rows).shards(position.shards)
                loss, correct = _set_gradients(
                    network, weights, shards, recipe.seed, position, machine, workers
                )
                norm = float(clip_grad_norm_(weights.values(), recipe.clip))
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise Failure(_not_a_number(recipe, position, loss))
                state.optimizer.step()
                _move_average(state, recipe.average, position.steps_done)
                position = _advance(position, loss, correct, len(rows), started)
                try:
                    yield _progress(recipe, position, len(batches))
                except GeneratorExit:
                    save_state(run, state.tensors(), position)
                    raise

            started = time.perf_counter()
            trained = {name: weight.detach().clone() for name, weight in weights.items()}
            network.load_state_dict(state.average, strict=False)  # without frozen vectors
            save_tensors(epoch_path(run, position.epoch), network.state_dict(), {})
            measured = {
                name: loss_and_accuracy(logits(network, part, machine, workers), part.labels)
                for name, part in (("train", sample), ("validation", validation))
                if len(part)
            }
            network.load_state_dict(trained, strict=False)
            seconds = position.epoch_seconds + time.perf_counter() - started
            history.append(_record(recipe, position, seconds) | measured)
            write_history(run, history)
            position = Position(position.epoch + 1, 0, position.steps_done, shards=position.shards)
            save_state(run, state.tensors(), position)
            yield EpochEnd(history[-1])


def learning_rate(recipe: Recipe, done: float) -> float:
    """Return the rate when a share `done` of the run is over.

    one-cycle: up in a straight line for the first 30%, then down a half cosine to a hundredth.
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if done < WARM_UP:
        return recipe.learning_rate * max(0.01, done / WARM_UP)
    falling = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
    return recipe.learning_rate * max(0.01, falling)


def _plan_epoch(
    recipe: Recipe, training: Examples, epoch: int
) -> tuple[Examples, list[NDArray[np.int64]]]:
    """Return the examples of an epoch, cropped if it is not among the last, and its batches."""
    order = np.random.default_rng([recipe.seed, epoch])
    whole = epoch > recipe.epochs - recipe.whole_epochs
    examples = crop(training, 0 if whole else recipe.crop_tokens, order)
    lengths = [len(ids) for ids in examples.ids]
    return examples, plan(lengths, recipe.batch_reviews, recipe.batch_tokens, order)


def _sample(training: Examples, seed: int) -> Examples:
    """Return the training reviews that the training curve is measured on."""
    rows = np.random.default_rng(seed).permutation(len(training))[:SAMPLE]
    return Examples([training.ids[row] for row in rows], training.labels[rows])


def _set_gradients(
    network: BiLSTM,
    weights: Tensors,
    shards: list[Batch],
    seed: int,
    position: Position,
    machine: Machine,
    workers: ThreadPoolExecutor,
) -> tuple[float, int]:
    """Set the weights' gradients of the batch's mean loss; return the loss and how many were right.

    Each worker takes one shard through the network and back; the sums are taken in the shards'
    order, so the same shards give the same bits whichever worker ends first.
    """
    reviews = sum(map(len, shards))

    def backward(place: int) -> tuple[tuple[Tensor, ...], float, int]:
        chance = np.random.SeedSequence([seed, position.epoch, position.step, place])
        noise = torch.Generator(machine.device).manual_seed(int(chance.generate_state(1)[0]))
        batch = shards[place].to(machine.device)
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16):
            scores = network(batch.ids, batch.lengths, noise)
        loss = binary_cross_entropy_with_logits(scores, batch.labels, reduction="sum") / reviews
        gradients = torch.autograd.grad(loss, list(weights.values()))
        return gradients, float(loss.detach()), int(((scores > 0) == (batch.labels > 0.5)).sum())

    results = list(workers.map(backward, range(len(shards))))
    for weight, *parts in zip(weights.values(), *(result[0] for result in results), strict=True):
        weight.grad = parts[0]
        for part in parts[1:]:
            weight.grad.add_(part)
    return sum(result[1] for result in results), sum(result[2] for result in results)


def _move_average(state: _State, decay: float, steps: int) -> None:
    """Move the averaged weights towards the weights; the first steps count more."""
    keep = min(decay, (1 + steps) / (10 + steps))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.values()), list(state.weights.values()), 1 - keep)


def _not_a_number(recipe: Recipe, position: Position, loss: float) -> str:
    """Return what to say of a loss, or of its gradient, that is infinite or not a number."""
    what = "gradient" if math.isfinite(loss) else "loss"
    return (
        f"the {what} is not a number in epoch {position.epoch}, step {position.step + 1}; try a "
        f"lower --learning-rate than {recipe.learning_rate:g}, a lower --clip or --precision fp32"
    )


def _record(recipe: Recipe, position: Position, seconds: float) -> dict[str, Any]:
    """Return the line of `history.jsonl` of an epoch, but for what is measured after it."""
    return {
        "epoch": position.epoch,
        "batch_loss": position.loss / max(1, position.seen),
        "learning_rate": learning_rate(recipe, position.epoch / recipe.epochs),
        "seconds": seconds,
        "reviews_per_second": position.seen / max(1e-9, position.epoch_seconds),
    }


def _advance(position: Position, loss: float, correct: int, seen: int, started: float) -> Position:
    """Return the position after one more step."""
    return position.changed(
        step=position.step + 1,
        steps_done=position.steps_done + 1,
        loss=position.loss + loss * seen,
        correct=position.correct + correct,
        seen=position.seen + seen,
        epoch_seconds=position.epoch_seconds + time.perf_counter() - started,
    )


def _progress(recipe: Recipe, position: Position, steps: int) -> Step:
    """Return what the caller may want to draw."""
    done = (position.epoch - 1 + position.step / steps) / recipe.epochs
    pace = position.epoch_seconds / position.step  # seconds a step in this epoch
    return Step(
        epoch=position.epoch,
        loss=position.loss / position.seen,
        accuracy=position.correct / position.seen,
        reviews_per_second=position.seen / max(1e-9, position.epoch_seconds),
        share_done=done,
        seconds_left=pace * steps * recipe.epochs * (1 - done),
    )


def _has_stalled(history: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Say whether the validation loss has not fallen for as many epochs as the recipe bears."""
    if not recipe.patience or not history:
        return False
    return len(history) - best_epoch(history) >= recipe.patience

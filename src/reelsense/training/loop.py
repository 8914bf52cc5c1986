"""The training loop, top to bottom. It never sees the test part.

`train` yields after every step and every epoch, so the caller draws the progress and can close
the generator between two steps: the run is then saved and goes on from there. All chance comes
from (seed, epoch, step, shard), so an interrupted run ends with the weights of another. Several
processes may train together (see `team`): all take the same steps, and the first one writes.
"""

import math
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import clip_grad_norm_

from reelsense.errors import Failure
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.torchrun import PeerLost
from reelsense.training.augment import Guards, augmented
from reelsense.training.batches import Batch, Examples, Pool, crop, pad, plan
from reelsense.training.checkpoint import (
    Position,
    Tensors,
    best_epoch,
    epoch_path,
    learning_tensors,
    restore_learning,
    save_state,
    save_tensors,
    write_history,
)
from reelsense.training.machine import Machine
from reelsense.training.regularise import Gradients, gradients
from reelsense.training.team import ALONE, Team, measured_by_all, sum_over, where_to_begin

# A short memory of squared gradients (0.999 is usual): with it, the vector of a rare word moves a
# third as far each time the word is seen.
BETAS = (0.9, 0.99)
HEAD = ("attention", "context", "dense", "output")  # the weights after the encoder
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
        average = {f"average.{name}": weight for name, weight in self.average.items()}
        return learning_tensors(self.weights, self.optimizer) | average

    def restore(self, saved: Tensors) -> None:
        """Put back what `tensors` returned."""
        restore_learning(saved, self.weights, self.optimizer)
        for name, average in self.average.items():
            average.copy_(saved[f"average.{name}"])


def train(
    recipe: Recipe,
    network: Network,
    training: Examples,
    validation: Examples,
    run: Path,
    machine: Machine,
    pools: Sequence[Pool] = (),
    alike: Sequence[NDArray[np.int64]] = (),
    guards: Guards | None = None,
    team: Team = ALONE,
) -> Generator[Step | EpochEnd]:
    """Train the network, from where the run folder says, and save what each epoch ends with.

    Close the generator to interrupt the run between two steps; its state is then saved. Without
    validation reviews an epoch's record has no "validation". Beside the training reviews an epoch
    draws its share of each pool. The words of each group of `alike` share one vector. With `guards`
    the training reviews are altered as the recipe says.

    Raises:
        Failure: the loss is not a number, or the folder cannot be written.
        PeerLost: another process of the team has ended; the state is saved as after a close.
    """
    network.to(machine.device)
    weights: Tensors = {name: p for name, p in network.named_parameters() if p.requires_grad}
    table = network.embedding.weight
    _share_rows(table.data, alike)
    state = _State(
        weights=weights,
        average={name: weight.detach().clone() for name, weight in weights.items()},
        optimizer=torch.optim.Adam(
            [
                {"params": [weight], "share": _share(recipe, name)}
                for name, weight in weights.items()
            ],
            lr=recipe.learning_rate,
            betas=BETAS,
            fused=True,
        ),
    )
    of_each = 1 if machine.device.type == "cuda" else machine.threads
    saved, position, history = where_to_begin(team, run, of_each)
    if saved is not None:
        state.restore(saved)
    sample = _sample(training, recipe.seed)

    try:
        with machine.workers() as workers:
            while position.epoch <= recipe.epochs and not _has_stalled(history, recipe):
                examples, batches = _plan_epoch(recipe, training, pools, position.epoch, guards)
                for rows in batches[position.step :]:
                    started = time.perf_counter()
                    done = (position.epoch - 1 + position.step / len(batches)) / recipe.epochs
                    for group in state.optimizer.param_groups:
                        group["lr"] = group["share"] * learning_rate(recipe, done)
                    shards = pad(examples, rows).shards(position.shards)
                    step = _set_gradients(
                        network, weights, shards, recipe, position, machine, workers, team
                    )
                    if table.grad is not None:
                        _share_rows(table.grad, alike)
                    norm = float(clip_grad_norm_(weights.values(), recipe.clip))
                    if not (math.isfinite(step.loss) and math.isfinite(norm)):
                        raise Failure(_not_a_number(recipe, position, step.loss))
                    state.optimizer.step()
                    _move_average(state, recipe.average, position.steps_done)
                    position = _advance(position, step, len(rows), started)
                    yield _progress(recipe, position, len(batches))

                started = time.perf_counter()
                trained = {name: weight.detach().clone() for name, weight in weights.items()}
                network.load_state_dict(state.average, strict=False)  # without frozen vectors
                try:
                    if team.first:
                        save_tensors(epoch_path(run, position.epoch), network.state_dict(), {})
                    measured = {
                        name: measured_by_all(team, network, part, machine, workers)
                        for name, part in (("train", sample), ("validation", validation))
                        if len(part)
                    }
                finally:
                    network.load_state_dict(trained, strict=False)
                seconds = position.epoch_seconds + time.perf_counter() - started
                history.append(_record(recipe, position, seconds) | measured)
                position = Position(
                    position.epoch + 1, 0, position.steps_done, shards=position.shards
                )
                if team.first:
                    write_history(run, history)
                    save_state(run, state.tensors(), position)
                yield EpochEnd(history[-1])
    except (GeneratorExit, PeerLost):
        # They come between two steps, or before the weights have moved: all is as it was then.
        if team.first:
            save_state(run, state.tensors(), position)
        raise


def learning_rate(recipe: Recipe, done: float) -> float:
    """Return the rate when a share `done` of the run is over.

    one-cycle: up in a straight line for the first part, `warm_up`, then down a half cosine to a
    hundredth (Smith & Topin 2018).
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if done < recipe.warm_up:
        return recipe.learning_rate * max(0.01, done / recipe.warm_up)
    falling = 0.5 * (1 + math.cos(math.pi * (done - recipe.warm_up) / (1 - recipe.warm_up)))
    return recipe.learning_rate * max(0.01, falling)


def _plan_epoch(
    recipe: Recipe,
    training: Examples,
    pools: Sequence[Pool],
    epoch: int,
    guards: Guards | None = None,
) -> tuple[Examples, list[NDArray[np.int64]]]:
    """Return the examples of an epoch and its batches, of one pass after the other."""
    crop_tokens = 0 if epoch > recipe.epochs - recipe.whole_epochs else recipe.crop_tokens
    passes: list[Examples] = []
    batches: list[NDArray[np.int64]] = []
    for number in range((epoch - 1) * recipe.passes + 1, epoch * recipe.passes + 1):
        first = sum(map(len, passes))
        examples, rows = _plan_pass(recipe, training, pools, number, crop_tokens, guards)
        passes.append(examples)
        batches += [first + batch for batch in rows]
    return passes[0].with_more(passes[1:]), batches


def _plan_pass(
    recipe: Recipe,
    training: Examples,
    pools: Sequence[Pool],
    number: int,
    crop_tokens: int,
    guards: Guards | None,
) -> tuple[Examples, list[NDArray[np.int64]]]:
    """Return the examples of a pass, the first of the run has the number 1, and its batches."""
    order = np.random.default_rng([recipe.seed, number])
    examples = augmented(training, recipe, guards, number)
    examples = examples.with_more([pool.draw(recipe.seed, number) for pool in pools])
    examples = crop(examples, crop_tokens, order)
    lengths = [len(ids) for ids in examples.ids]
    return examples, plan(lengths, recipe.batch_reviews, recipe.batch_tokens, order)


def _sample(training: Examples, seed: int) -> Examples:
    """Return the training reviews that the training curve is measured on."""
    rows = np.random.default_rng(seed).permutation(len(training))[:SAMPLE]
    return training.take(rows)


def _set_gradients(
    network: Network,
    weights: Tensors,
    shards: list[Batch],
    recipe: Recipe,
    position: Position,
    machine: Machine,
    workers: ThreadPoolExecutor,
    team: Team = ALONE,
) -> Gradients:
    """Set the weights' gradients of what a batch costs, and return them.

    Each worker takes one shard through the network and back, of those that fall to this process;
    the sums are taken in the shards' order, so the same shards give the same bits whichever worker
    ends first.
    """
    reviews = sum(map(len, shards))

    def backward(place: int) -> Gradients:
        chance = np.random.SeedSequence([recipe.seed, position.epoch, position.step, place])
        noise = torch.Generator(machine.device).manual_seed(int(chance.generate_state(1)[0]))
        batch = shards[place].to(machine.device)
        return gradients(network, weights, batch, reviews, recipe, noise, machine.bf16)

    own = range(team.rank, len(shards), team.size)
    whole = sum_over(team, list(workers.map(backward, own)), weights)
    for weight, gradient in zip(weights.values(), whole.of_weights, strict=True):
        weight.grad = gradient
    return whole


def _share(recipe: Recipe, name: str) -> float:
    """Return the learning rate of a weight as a share of the recipe's (Howard & Ruder 2018)."""
    if name.startswith("embedding"):
        return recipe.embedding_rate
    return 1.0 if name.startswith(HEAD) else recipe.encoder_rate


def _share_rows(table: torch.Tensor, alike: Sequence[NDArray[np.int64]]) -> None:
    """Give the rows (V, D) of each group their mean: the same gradients keep them the same."""
    for group in alike:
        rows = torch.from_numpy(group).to(table.device)
        table[rows] = table[rows].mean(dim=0)


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
        "batch_loss": position.loss / max(1, position.labelled),
        "learning_rate": learning_rate(recipe, position.epoch / recipe.epochs),
        "seconds": seconds,
        "reviews_per_second": position.seen / max(1e-9, position.epoch_seconds),
    }


def _advance(position: Position, step: Gradients, seen: int, started: float) -> Position:
    """Return the position after one more step, of so many reviews."""
    return position.changed(
        step=position.step + 1,
        steps_done=position.steps_done + 1,
        loss=position.loss + step.loss,
        correct=position.correct + step.correct,
        labelled=position.labelled + step.labelled,
        seen=position.seen + seen,
        epoch_seconds=position.epoch_seconds + time.perf_counter() - started,
    )


def _progress(recipe: Recipe, position: Position, steps: int) -> Step:
    """Return what the caller may want to draw."""
    done = (position.epoch - 1 + position.step / steps) / recipe.epochs
    pace = position.epoch_seconds / position.step  # seconds a step in this epoch
    return Step(
        epoch=position.epoch,
        loss=position.loss / max(1, position.labelled),
        accuracy=position.correct / max(1, position.labelled),
        reviews_per_second=position.seen / max(1e-9, position.epoch_seconds),
        share_done=done,
        seconds_left=pace * steps * recipe.epochs * (1 - done),
    )


def _has_stalled(history: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Say whether the validation loss has not fallen for as many epochs as the recipe bears."""
    if not recipe.patience or not history:
        return False
    return len(history) - best_epoch(history) >= recipe.patience

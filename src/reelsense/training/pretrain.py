"""Pre-training: language models in both directions on reviews, whose labels nobody looks at.

Dai & Le 2015, "Semi-supervised Sequence Learning": an LSTM that has learned which word comes next
begins the classification with everything that it had to know for that. Each direction learns from
the same text, one from its first word to its last, the other from its last to its first, with the
state carried from one window to the next (truncated backpropagation through time).

`pretrain` yields after every step, as `loop.train` does, and may be closed and resumed likewise.
"""

import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from reelsense.errors import BadInput, Failure
from reelsense.evaluation.epoch_plots import draw_perplexity
from reelsense.model.language_model import LanguageModel, State
from reelsense.model.networks import initialise
from reelsense.model.pretraining import Pretraining
from reelsense.training.checkpoint import (
    Position,
    Tensors,
    clear_checkpoints,
    learning_tensors,
    load_state,
    read_history,
    restore_learning,
    save_state,
    save_tensors,
    weights_hash,
    write_history,
)
from reelsense.training.corpus import END, Corpus, streams
from reelsense.training.machine import Machine
from reelsense.training.perplexity import perplexity
from reelsense.training.windows import chances_of, draw_window, set_gradients

BETAS: Final = (0.9, 0.99)  # see `loop.BETAS`
WARM_UP: Final = 0.02  # share of the run in which the rate rises
SAVE_SECONDS: Final = 300  # so much work a kill -9 costs
LEARNED_SPREAD: Final = 0.1  # of the dimensions that GloVe does not have, when they begin
DIRECTIONS: Final = ("forward", "backward")


@dataclass(frozen=True)
class PretrainingStep:
    """Progress after a step; the loss is that of the sampled softmax, in nats a token."""

    epoch: int
    loss: float
    reviews_per_second: float
    share_done: float
    seconds_left: float


@dataclass(frozen=True)
class Measured:
    """A line of `history.jsonl`: the perplexity of held-out reviews after so many epochs.

    Where no review was held out there is no "perplexity".
    """

    record: dict[str, Any]


def build_language_model(
    recipe: Pretraining, corpus: Corpus, before: Tensors | None = None
) -> LanguageModel:
    """Return the language model with its first weights, the same for the same seed.

    The first dimensions of a word are its vector, the others begin near zero; a word without a
    vector begins at random. A word's bias is the log of its share of the text. Weights from
    `before`, of a language model that goes on learning, take the place of these.

    Raises:
        BadInput: those are not of such a language model.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    size, known = corpus.vectors.matrix.shape
    network = LanguageModel(size, recipe.dimensions, recipe.hidden, recipe.dropout)
    found = corpus.vectors.found
    spread = float(corpus.vectors.matrix[found].std()) if found.any() else LEARNED_SPREAD
    with torch.no_grad():
        table = network.embedding.weight.normal_(0.0, LEARNED_SPREAD, generator=generator)
        table[:, :known].normal_(0.0, spread, generator=generator)
        table[torch.from_numpy(found), :known] = torch.from_numpy(corpus.vectors.matrix[found])
        table[END] = 0.0
        share = torch.from_numpy((corpus.counts + 1) / (corpus.tokens() + size)).log()
        for backwards in (False, True):
            lstm, head = network.direction(backwards)
            for name, weight in lstm.named_parameters():
                initialise(name, weight, generator)
            torch.nn.init.xavier_uniform_(head.project.weight, generator=generator)
            head.bias.copy_(share)
    try:
        network.load_state_dict(network.state_dict() | (before or {}))
    except RuntimeError:
        raise BadInput("the weights to start from do not fit their recipe.toml") from None
    return network


def pretrain(
    recipe: Pretraining, network: LanguageModel, corpus: Corpus, run: Path, machine: Machine
) -> Generator[PretrainingStep | Measured]:
    """Train the language model, from where the run folder says.

    Raises:
        Failure: loss or perplexity is not a number, or the folder cannot be written.
    """
    network.to(machine.device)
    weights: Tensors = dict(network.named_parameters())
    optimizer = torch.optim.Adam(weights.values(), lr=recipe.learning_rate, betas=BETAS, fused=True)
    # One core a direction, and then more rows: the two directions never have to meet.
    shards = 1 if machine.device.type == "cuda" else max(1, machine.threads // 2)
    position = Position(shards=min(shards, recipe.rows))
    states = [network.zero_state(recipe.rows) for _ in DIRECTIONS]
    if (saved := load_state(run)) is not None:
        position = saved[1]
        _restore(saved[0], weights, optimizer, states)
    history = [row for row in read_history(run) if row["step"] <= position.steps_done]
    chances = chances_of(corpus.counts)

    with machine.workers() as workers:
        while position.epoch <= recipe.epochs:
            texts = [_text(recipe, corpus, position.epoch, turned) for turned in (False, True)]
            steps = (texts[0].shape[1] - 1) // recipe.window
            measured_at = {steps * k // recipe.measure for k in range(1, recipe.measure + 1)}
            saved_at = time.monotonic()
            if position.step == 0:
                states = [network.zero_state(recipe.rows) for _ in DIRECTIONS]
            while position.step < steps:
                started = time.perf_counter()
                done = (position.epoch - 1 + position.step / steps) / recipe.epochs
                optimizer.param_groups[0]["lr"] = learning_rate(recipe, done)
                window = draw_window(recipe, texts, position, chances)
                losses, states = set_gradients(
                    network, weights, window, states, recipe, position, machine, workers
                )
                norm = float(torch.nn.utils.clip_grad_norm_(weights.values(), recipe.clip))
                if not (math.isfinite(sum(losses)) and math.isfinite(norm)):
                    what = "loss or its gradient"
                    raise Failure(_not_a_number(recipe, position.epoch, position.step + 1, what))
                optimizer.step()
                position = _advance(position, sum(losses) / 2, recipe, started)
                try:
                    if position.step in measured_at:
                        history.append(
                            _record(recipe, network, corpus, position, steps, machine, workers)
                        )
                        write_history(run, history)
                        yield Measured(history[-1])
                    yield _progress(recipe, corpus, position, steps)
                except GeneratorExit:
                    save_state(run, _tensors(weights, optimizer, states), position)
                    raise
                if time.monotonic() - saved_at > SAVE_SECONDS:
                    save_state(run, _tensors(weights, optimizer, states), position)
                    saved_at = time.monotonic()
            position = Position(position.epoch + 1, 0, position.steps_done, shards=position.shards)
            save_state(run, _tensors(weights, optimizer, states), position)


def learning_rate(recipe: Pretraining, done: float) -> float:
    """Return the rate when a share `done` of the run is over: up, level, and down in a line."""
    cooling = (1 - done) / recipe.cooling if recipe.cooling else 1.0
    return recipe.learning_rate * max(0.01, min(1.0, done / WARM_UP, cooling))


def _text(recipe: Pretraining, corpus: Corpus, epoch: int, backwards: bool) -> NDArray[np.int32]:
    """Return the text of an epoch in a direction, (rows, tokens)."""
    order = np.random.default_rng([recipe.seed, epoch])
    return streams(corpus.training, recipe.rows, order, backwards)


def _tensors(weights: Tensors, optimizer: torch.optim.Adam, states: list[State]) -> Tensors:
    """Return everything that a run needs to go on, by names of their own, for saving."""
    kept = learning_tensors(weights, optimizer)
    for direction, (hidden, cell) in zip(DIRECTIONS, states, strict=True):
        kept |= {f"state.{direction}.hidden": hidden, f"state.{direction}.cell": cell}
    return kept


def _restore(
    saved: Tensors, weights: Tensors, optimizer: torch.optim.Adam, states: list[State]
) -> None:
    """Put back what `_tensors` returned."""
    restore_learning(saved, weights, optimizer)
    for direction, (hidden, cell) in zip(DIRECTIONS, states, strict=True):
        hidden.copy_(saved[f"state.{direction}.hidden"])
        cell.copy_(saved[f"state.{direction}.cell"])


def _record(
    recipe: Pretraining,
    network: LanguageModel,
    corpus: Corpus,
    position: Position,
    steps: int,
    machine: Machine,
    workers: ThreadPoolExecutor,
) -> dict[str, Any]:
    """Measure the perplexity of held-out reviews; return the line of `history.jsonl`."""
    measured = {}
    if corpus.validation:
        values = perplexity(network, corpus.validation, recipe.seed, machine, workers)
        if not math.isfinite(sum(values)):
            raise Failure(_not_a_number(recipe, position.epoch, position.step, "perplexity"))
        measured = {"perplexity": dict(zip(DIRECTIONS, values, strict=True))}
    return {
        "step": position.steps_done,
        "epochs": position.epoch - 1 + position.step / steps,
        "batch_loss": position.loss / position.step,
        "learning_rate": learning_rate(
            recipe, (position.epoch - 1 + position.step / steps) / recipe.epochs
        ),
        "seconds": position.epoch_seconds,
        "tokens_per_second": position.seen / position.epoch_seconds,
        **measured,
    }


def _not_a_number(recipe: Pretraining, epoch: int, step: int, what: str) -> str:
    return (
        f"the {what} is not a number in epoch {epoch}, step {step}; try a lower "
        f"--learning-rate than {recipe.learning_rate:g}, a lower --clip or --precision fp32"
    )


def _advance(position: Position, loss: float, recipe: Pretraining, started: float) -> Position:
    """Return the position after one more step."""
    return position.changed(
        step=position.step + 1,
        steps_done=position.steps_done + 1,
        loss=position.loss + loss,
        seen=position.seen + recipe.rows * recipe.window,
        epoch_seconds=position.epoch_seconds + time.perf_counter() - started,
    )


def _progress(
    recipe: Pretraining, corpus: Corpus, position: Position, steps: int
) -> PretrainingStep:
    """Return what the caller may want to draw."""
    done = (position.epoch - 1 + position.step / steps) / recipe.epochs
    tokens_per_second = position.seen / max(1e-9, position.epoch_seconds)
    return PretrainingStep(
        epoch=position.epoch,
        loss=position.loss / position.step,
        reviews_per_second=tokens_per_second * len(corpus.training) / corpus.tokens(),
        share_done=done,
        seconds_left=position.epoch_seconds / position.step * steps * recipe.epochs * (1 - done),
    )


def finish(run: Path, network: LanguageModel) -> str:
    """Save the weights; return their hash."""
    kept = network.state_dict()
    history = [row for row in read_history(run) if "perplexity" in row]
    if history:
        draw_perplexity(history, run / "perplexity.png")
    digest = weights_hash(kept)
    save_tensors(run / "weights.safetensors", kept, {"sha256": digest})
    clear_checkpoints(run)
    return digest

"""A run that starts from words and weights that are there, instead of from GloVe.

From those of a bundle: fine-tuning. Or from those of a language model, which no label has touched:
see `training.pretrain`. Knows no bundle: `read_start` takes the recipe, tokenizer and weights of
one that has been checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.networks import build, untrained
from reelsense.model.pooled import Network
from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.model.settings import Settings, flag
from reelsense.text.fingerprints import Hashes, from_npy
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import (
    STARTING_WEIGHTS,
    Tensors,
    load_weights,
    read_run,
    read_run_of,
)
from reelsense.vectors.glove import WordVectors

STARTED_FROM: Final = "started_from.npy"  # in the run of a fine-tuning; see `learned_before`
READ: Final = "read.npy"  # in the run of a pre-training: hashes of the texts that it has read
NO_TEXTS: Final[Hashes] = np.empty(0, np.uint64)
# What the weights or the vocabulary were made with, and so cannot be chosen again.
FIXED: Final = (
    "arch", "hidden", "layers", "pooling", "dense",
    "embedding", "cleanup", "min_count", "min_films", "max_words",
)  # fmt: skip
OF_THE_LANGUAGE_MODEL: Final = (
    "arch", "hidden", "layers",
    "embedding", "cleanup", "min_count", "min_films", "max_words",
)  # fmt: skip
OF_THE_PRETRAINING: Final = (  # where that goes on
    "hidden", "dimensions", "embedding", "min_count", "min_films", "max_words",
)  # fmt: skip
HEADS: Final = ("forward_head.", "backward_head.")  # of `model.language_model`
# The lowest log losses of seven choices, rates from 3e-4 to 4e-3, for 600 reviews of held-out films
# measured on 1,914 of others: 0.236 after 0.243 before, and of their last 25 words alone, a kind of
# text that `default` was not trained on, 0.458 after 0.505. 4e-3 forgets: 0.244 on whole reviews.
GENTLE: Final[Mapping[str, Any]] = {
    "epochs": 3,
    "passes": 1,
    "batch_reviews": 32,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "patience": 0,
}
# Its parts, seeds and share are those of other reviews; a bundle may have been trained on all.
OF_THE_DATA: Final = ("validation", "test", "split_seed", "seed", "label_share")


@dataclass(frozen=True, eq=False)
class Start:
    """What a fine-tuning starts from; the weights are float32, named as in `model.networks`."""

    name: str  # of the bundle or the run
    recipe: Recipe  # of a language model: the words and the LSTM alone are its own
    tokenizer: Tokenizer
    weights: Tensors
    learned: Hashes  # of the texts whose labels the weights have learned from
    read: Hashes = field(default_factory=lambda: NO_TEXTS)  # of those read without their labels

    def vectors(self) -> WordVectors:
        """Return the word vectors among the weights; every word of the vocabulary has one."""
        matrix = self.weights["embedding.weight"].numpy()
        return WordVectors(matrix, np.arange(len(matrix)) > 1, f"those of {self.name}")

    def network(self, recipe: Recipe) -> Network:
        """Return the network with the weights, and with the recipe's noise in training.

        After a language model the output begins at random.
        """
        weights = self.weights
        if self.is_language_model:
            first = build(recipe, self.vectors().matrix, self.vectors().found)
            weights = first.state_dict() | weights
        return network_of(recipe, weights, f"the weights of {self.name} do not fit the recipe")

    @property
    def is_language_model(self) -> bool:
        """Whether the weights have learned from no label."""
        return "output.weight" not in self.weights

    @property
    def fixed(self) -> tuple[str, ...]:
        """The values of a recipe that the weights or the words were made with."""
        return OF_THE_LANGUAGE_MODEL if self.is_language_model else FIXED


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A finished run of a pre-training; the weights are those of `model.language_model`."""

    name: str
    recipe: Pretraining
    tokenizer: Tokenizer
    weights: Tensors  # float32; runs of earlier versions have no heads
    read: Hashes  # of the texts that it has read


def read_pretrained(folder: Path, name: str) -> Pretrained:
    """Return the finished run of a pre-training.

    Raises:
        BadInput: it is no such run, it has not finished, or its words and weights do not fit.
    """
    try:
        made, _ = read_run_of(folder, Pretraining)
    except BadInput as error:
        raise BadInput(
            f"{error}; --from takes a run of `reelsense pretrain`, or a bundle"
        ) from None
    if not (folder / "weights.safetensors").exists():
        raise BadInput(
            f"{folder}: has no weights yet; finish it with `reelsense pretrain --resume`"
        )
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    weights = {key: weight.float() for key, weight in load_weights(folder).items()}
    _check_words(folder, tokenizer, weights)
    # Runs of earlier versions do not say what they have read.
    read = _read_hashes(folder / READ, "pretrain again") if (folder / READ).exists() else NO_TEXTS
    return Pretrained(name, made, tokenizer, weights, read)


def read_language_model(folder: Path, name: str) -> Start:
    """Return what the run of a pre-training gives to a training.

    Raises:
        BadInput: as `read_pretrained`.
    """
    before = read_pretrained(folder, name)
    both = (key for key in OF_THE_PRETRAINING if key in OF_THE_LANGUAGE_MODEL)
    same = {key: getattr(before.recipe, key) for key in both}
    weights = {  # the heads say words, which nobody asks a classifier for
        key: weight for key, weight in before.weights.items() if not key.startswith(HEADS)
    }
    recipe = Recipe(name=before.recipe.name, **same)
    return Start(name, recipe, before.tokenizer, weights, learned=NO_TEXTS, read=before.read)


def read_start(
    folder: Path,
    about: Mapping[str, Any],
    tokenizer: Tokenizer,
    weights: Mapping[str, NDArray[np.float32]],
    learned: Hashes,
) -> Start:
    """Return what a bundle gives to a fine-tuning.

    Args:
        folder: of the bundle, for messages.
        about: the content of its bundle.json, of which "name" and "recipe" are read.
        tokenizer: the bundle's.
        weights: those of its graph.
        learned: the hashes of the texts that it was trained on.

    Raises:
        BadInput: recipe, weights and words do not fit each other.
    """
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    recipe = Recipe.from_values(about["recipe"], f"{folder / 'bundle.json'}")
    network_of(recipe, tensors, f"{folder}: its weights do not fit its recipe")
    _check_words(folder, tokenizer, tensors)
    return Start(about["name"], recipe, tokenizer, tensors, learned)


def _check_words(folder: Path, tokenizer: Tokenizer, weights: Tensors) -> None:
    """Refuse weights of other words than the tokenizer's."""
    words, rows = len(tokenizer.vocabulary), len(weights["embedding.weight"])
    if words != rows:
        raise BadInput(
            f"{folder}: {words:,} words in its tokenizer.json, {rows:,} in its weights; "
            "take another copy of the folder"
        )


def fine_tuning(start: Start, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a fine-tuning: the start's, trained more gently, with changed values.

    Raises:
        BadInput: a change that the weights or the vocabulary do not allow; names the flag.
    """
    usual = Recipe()
    values = {name: getattr(usual, name) for name in OF_THE_DATA} | {**GENTLE}
    gentle = start.recipe.changed(
        name="fine-tuned", about=f"a few gentle epochs from the weights of {start.name}", **values
    )
    return started(gentle, start, changes)


def started(recipe: Recipe, start: Start, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with changed values and with what the start decides.

    Raises:
        BadInput: a change that the weights or the vocabulary do not allow; names the flag.
    """
    return recipe.changed(**_fixed(start.fixed, start.name, start.recipe, changes), **changes)


def going_on(recipe: Pretraining, before: Pretrained, changes: Mapping[str, Any]) -> Pretraining:
    """Return the recipe of a pre-training with changed values and with what the one before decides.

    Raises:
        BadInput: a change that the weights or the words do not allow; names the flag.
    """
    fixed = _fixed(OF_THE_PRETRAINING, before.name, before.recipe, changes)
    return recipe.changed(**fixed, **changes)


def _fixed(
    names: Sequence[str], origin: str, made: Settings, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of these names that `origin` was made with; refuse changes of them."""
    for name in names:
        if name in changes:
            raise BadInput(
                f"{flag(name)} cannot be changed with --from: {origin} was made with "
                f"{getattr(made, name)}; leave {flag(name)} out"
            )
    return {name: getattr(made, name) for name in names}


def learned_before(run: Path) -> Hashes:
    """Return the hashes of the texts that the start of a run had learned from.

    None but for a fine-tuning, which keeps those of its bundle: the texts of both have shaped its
    weights.

    Raises:
        BadInput: it is no run, or it was fine-tuned and the hashes are gone.
    """
    if STARTING_WEIGHTS not in read_run(run)[1]["hashes"]:
        return NO_TEXTS
    return _read_hashes(run / STARTED_FROM, "fine-tune again")


def _read_hashes(file: Path, again: str) -> Hashes:
    """Read a file of `fingerprints.to_npy`; `again` says how to get it anew."""
    try:
        return from_npy(file.read_bytes(), str(file))
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}); {again}") from None


def network_of(recipe: Recipe, weights: Tensors, misfit: str) -> Network:
    """Return the recipe's network with these weights.

    Raises:
        BadInput: they are not the weights of such a network; says `misfit`.
    """
    try:
        network = untrained(recipe, *weights["embedding.weight"].shape)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError):
        raise BadInput(misfit) from None
    return network

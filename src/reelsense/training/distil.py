"""Distillation: what teachers say of many texts, for a student to learn (Hinton et al. 2015).

Teachers are finished runs. They must not have seen what the student holds out, so they were made
with the same reviews and, unless it holds nothing out, with the same split. Their logits are
averaged, with those of the linear baseline beside them for whole reviews, and the student learns
the probability: of the training reviews mixed with their labels, of reviews that have no label, and
of stretches of sentences, mixed with what is known of the review that they stand in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.evaluation.metrics import sigmoid
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.model.settings import flag
from reelsense.text.fingerprints import seen
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import tokenize
from reelsense.training import linear
from reelsense.training.batches import Examples, Pool
from reelsense.training.checkpoint import (
    load_tensors,
    load_weights,
    read_run,
    save_tensors,
    weights_hash,
)
from reelsense.training.machine import Machine
from reelsense.training.measure import logits
from reelsense.training.pools import (
    edited_sentences,
    need_plain_sentences,
    new_texts,
    stretches,
)
from reelsense.training.prepare import Prepared, as_read
from reelsense.training.start import learned_before, network_of

FILE: Final = "soft_labels.safetensors"  # in the student's run: a resumed run learns from the same
CLEAR: Final = 0.9  # P of the verdict of a review without a label whose sentences are edited
OF_THE_SPLIT: Final = ("validation", "test", "split_seed")

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A finished run: its network, with the words that this network reads."""

    recipe: Recipe
    tokenizer: Tokenizer
    network: Network
    sha256: str  # of its weights


@dataclass(frozen=True, eq=False)
class Lessons:
    """The texts that the teachers are asked of."""

    whole: list[str]  # the training reviews, then those without a label
    pieces: list[str]  # stretches of sentences of both
    owners: NDArray[np.int64]  # the review of each, a place in `whole`


def read_teacher(run: Path, student: Recipe, prepared: Prepared) -> Teacher:
    """Return the teacher in the folder of a run.

    Raises:
        BadInput: it is no finished run, or it may have seen what the student holds out.
    """
    try:
        recipe, data = read_run(run)
    except BadInput as error:
        raise BadInput(f"{error}; a teacher is a run of `reelsense train`") from None
    rows = [*prepared.split.validation, *prepared.split.test]
    for name in OF_THE_SPLIT:
        ours, theirs = getattr(student, name), getattr(recipe, name)
        if rows and ours != theirs:
            raise BadInput(
                f"{run}: was trained with {flag(name)} {theirs}, the student is with {ours}; "
                "a teacher must hold out the same reviews"
            )
    reviews = prepared.reviews
    if data["hashes"].get("reviews") != reviews.sha256:
        raise BadInput(
            f"{run}: was trained on other reviews than {reviews.source}; name the same with --data"
        )
    if known := int(
        seen((normalised(reviews.texts[row]) for row in rows), learned_before(run)).sum()
    ):
        raise BadInput(
            f"{run}: started from weights that had learned from {known:,} of the {len(rows):,} "
            "reviews that the student holds out; name another teacher"
        )
    misfit = f"{run}: its weights do not fit its recipe.toml; train again"
    weights = load_weights(run)
    network = network_of(recipe, weights, misfit)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    return Teacher(recipe, tokenizer, network, weights_hash(weights))


def make_lessons(recipe: Recipe, prepared: Prepared, unlabelled: Sequence[Reviews]) -> Lessons:
    """Return what the recipe has the student learn; the same again for a run that is resumed.

    Raises:
        BadInput: the recipe asks for reviews without a label, or for edited sentences, and there
            are none.
    """
    training = prepared.reviews.take(prepared.split.train)
    whole = list(training.texts)
    if recipe.unlabelled_share:
        whole += new_texts(recipe, prepared, unlabelled)
    # No more than the passes draw: the teachers are the dear part.
    most = _sentences(recipe, training) * recipe.passes * recipe.epochs
    order = np.random.default_rng(recipe.seed).permutation(len(whole))[:most]
    pieces, owners = stretches([whole[row] for row in order], recipe.seed)
    chosen = np.random.default_rng(recipe.seed).permutation(len(pieces))[:most]
    if recipe.counterfactual_share:
        need_plain_sentences(recipe, prepared)
    return Lessons(whole, [pieces[place] for place in chosen], order[owners[chosen]])


def soft_labels(
    recipe: Recipe,
    prepared: Prepared,
    lessons: Lessons,
    teachers: Sequence[Teacher],
    machine: Machine,
    run: Path,
    say: Say,
) -> tuple[Examples, list[Pool]]:
    """Return what the student learns: its training part, and the pools, with soft labels.

    What the teachers said is kept in the run's folder; a run that is resumed reads it there.
    `say` is told what goes on.

    Raises:
        BadInput: what was kept does not fit.
    """
    training = prepared.reviews.take(prepared.split.train)
    whole, pieces, n = lessons.whole, lessons.pieces, len(training)
    share = recipe.soft_share
    kept = run / FILE
    if not kept.exists():
        answers = teach(recipe, training, whole, pieces, teachers, machine, say)
        save_tensors(kept, {key: torch.from_numpy(value) for key, value in answers.items()}, {})
    saved = {key: value.numpy() for key, value in load_tensors(kept)[0].items()}
    sizes = {key: len(value) for key, value in saved.items()}
    if sizes != {"whole": len(whole), "pieces": len(pieces)}:
        raise BadInput(f"{kept}: is of other reviews; delete the run folder and distil again")

    def examples(texts: Sequence[str], labels: NDArray[np.float32]) -> Examples:
        return as_read([prepared.tokenizer.encode(text) for text in texts], labels, recipe)

    verdicts = saved["whole"].copy()
    verdicts[:n] = (1 - share) * training.labels + share * verdicts[:n]
    pools = []
    if len(whole) > n:
        pools.append(Pool(examples(whole[n:], verdicts[n:]), round(recipe.unlabelled_share * n)))
    if pieces:
        # A teacher errs on the verdict of the review that a sentence stands in four times as often
        # as when it reads the whole.
        mixed = (1 - share) * verdicts[lessons.owners] + share * saved["pieces"]
        learned = examples(pieces, mixed.astype(np.float32))
        pools.append(Pool(learned, _sentences(recipe, training)))
    if recipe.counterfactual_share:
        # The rules know better than the teachers what an edit does, once the verdict is known.
        sure = n + np.flatnonzero(np.abs(verdicts[n:] - 0.5) > CLEAR - 0.5)
        of_sure = (verdicts[sure] > 0.5).astype(np.int8)
        pools.append(edited_sentences(recipe, prepared, [whole[row] for row in sure], of_sure))
    return examples(whole[:n], verdicts[:n]), pools


def _sentences(recipe: Recipe, training: Reviews) -> int:
    """Return how many stretches an epoch draws."""
    return round(recipe.sentence_share * len(training))


def teach(
    recipe: Recipe,
    training: Reviews,
    whole: Sequence[str],
    pieces: Sequence[str],
    teachers: Sequence[Teacher],
    machine: Machine,
    say: Say,
) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities of whole reviews and of pieces, after all teachers together."""
    scores = {"whole": np.zeros(len(whole)), "pieces": np.zeros(len(pieces))}
    for number, teacher in enumerate(teachers, 1):
        for name, texts in (("whole", whole), ("pieces", pieces)):
            kind = "reviews" if name == "whole" else "sentences"
            say(f"Teacher {number} of {len(teachers)} reads {len(texts):,} {kind} ...")
            scores[name] += answers_of(teacher, texts, machine) / len(teachers)
    if recipe.linear_share:
        # Not of the pieces: word pairs say little of a sentence (69.6% of the Rotten Tomatoes
        # snippets are right, where networks have 76%).
        say("The linear baseline reads them too ...")
        model = linear.fit_linear([tokenize(text) for text in training.texts], training.labels)
        chances = model.probabilities(tokenize(text) for text in whole).clip(1e-6, 1 - 1e-6)
        of_linear = np.log(chances / (1 - chances))
        scores["whole"] += recipe.linear_share * (of_linear - scores["whole"])
    return {name: sigmoid(values).astype(np.float32) for name, values in scores.items()}


def answers_of(teacher: Teacher, texts: Sequence[str], machine: Machine) -> NDArray[np.float64]:
    """Return a teacher's logits of some texts."""
    ids = [teacher.tokenizer.encode(text) for text in texts]
    examples = as_read(ids, np.full(len(ids), -1, np.int8), teacher.recipe)
    with machine.workers() as workers:
        return logits(teacher.network.to(machine.device), examples, machine, workers, machine.bf16)

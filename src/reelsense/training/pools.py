"""What an epoch draws from beside the training reviews: stretches of sentences, and reviews
without a label.

People type ten words as often as three hundred, and a network that has only seen whole reviews
knows sentences badly: trained on these alone, 76% of the Rotten Tomatoes snippets.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.text.sentences import sentences
from reelsense.text.splits import normalised, rows_of_new_texts
from reelsense.training.batches import Pool
from reelsense.training.counterfactual import counterfactuals, plain_sentences
from reelsense.training.prepare import Prepared, as_read

SIZES: Final = (0.5, 0.3, 0.2)  # shares of the stretches of one, two and three sentences


def make_pools(
    recipe: Recipe, prepared: Prepared, unlabelled: Sequence[Reviews] = ()
) -> list[Pool]:
    """Return the pools that the recipe asks for: the stretches have their review's label.

    Raises:
        BadInput: the recipe asks for reviews without a label, for sentences or for edits of them,
            and there are none.
    """
    training = prepared.reviews.take(prepared.split.train)
    pools = []
    if recipe.sentence_share:
        pools.append(stretches_of_reviews(recipe, prepared))
    if recipe.counterfactual_share:
        pools.append(edited_sentences(recipe, prepared))
    if recipe.unlabelled_share:
        texts = new_texts(recipe, prepared, unlabelled)
        ids = [prepared.tokenizer.encode(text) for text in texts]
        examples = as_read(ids, np.full(len(ids), -1, np.int8), recipe)
        pools.append(Pool(examples, round(recipe.unlabelled_share * len(training))))
    return pools


def stretches_of_reviews(recipe: Recipe, prepared: Prepared) -> Pool:
    """Return the pool of the training reviews in stretches, each with its review's label.

    Raises:
        BadInput: no training review has a word.
    """
    training = prepared.reviews.take(prepared.split.train)
    texts, owners = stretches(training.texts, recipe.seed)
    if not texts:
        raise BadInput(
            f"--sentence-share {recipe.sentence_share:g}: the training reviews have no sentences; "
            "leave it out"
        )
    ids = [prepared.tokenizer.encode(text) for text in texts]
    examples = as_read(ids, training.labels[owners], recipe)
    return Pool(examples, round(recipe.sentence_share * len(training)))


def edited_sentences(
    recipe: Recipe,
    prepared: Prepared,
    more: Sequence[str] = (),
    verdicts: NDArray[np.int8] | None = None,
) -> Pool:
    """Return the pool of plain sentences of the training reviews and their edits.

    And of `more` reviews, whose `verdicts` (1 or 0) somebody else has given.

    Raises:
        BadInput: as `need_plain_sentences`.
    """
    need_plain_sentences(recipe, prepared)
    training = prepared.reviews.take(prepared.split.train)
    labels = training.labels if verdicts is None else np.append(training.labels, verdicts)
    texts, chances = counterfactuals([*training.texts, *more], labels, recipe.seed)
    examples = as_read([prepared.tokenizer.encode(text) for text in texts], chances, recipe)
    return Pool(examples, round(recipe.counterfactual_share * len(training)))


def need_plain_sentences(recipe: Recipe, prepared: Prepared) -> None:
    """Refuse a recipe of edited sentences where none can be made.

    Raises:
        BadInput: no training review has a plain sentence, or its "not" would be cleaned away.
    """
    if recipe.cleanup == "classic":
        raise BadInput(
            f"--counterfactual-share {recipe.counterfactual_share:g} teaches what 'not' does, and "
            "--cleanup classic takes that word away; leave out one of the two"
        )
    training = prepared.reviews.take(prepared.split.train)
    rows = zip(training.texts, training.labels.tolist(), strict=True)
    if not any(any(plain_sentences(text, label)) for text, label in rows):
        raise BadInput(
            f"--counterfactual-share {recipe.counterfactual_share:g}: no sentence of the training "
            "reviews is plain enough to edit; leave it out"
        )


def new_texts(recipe: Recipe, prepared: Prepared, unlabelled: Sequence[Reviews]) -> list[str]:
    """Return the texts of reviews without a label, each once, none that stands among the labelled.

    Raises:
        BadInput: there are none.
    """
    taken = set(map(normalised, prepared.reviews.texts))
    texts = [
        reviews.texts[row] for reviews in unlabelled for row in rows_of_new_texts(reviews, taken)
    ]
    if not texts:
        raise BadInput(
            f"--unlabelled-share {recipe.unlabelled_share:g} needs reviews without labels; "
            "name them with --unlabelled"
        )
    return texts


def stretches(texts: Sequence[str], seed: int) -> tuple[list[str], NDArray[np.int64]]:
    """Cut texts into stretches of one to three sentences; return these and the text of each."""
    dice = np.random.default_rng(seed)
    pieces: list[str] = []
    owners: list[int] = []
    for owner, text in enumerate(texts):
        bounds = sentences(text).tolist()
        sizes = dice.choice(len(SIZES), len(bounds), p=SIZES) + 1
        last = 0
        for size in sizes.tolist():
            if last == len(bounds):
                break
            first, last = last, min(last + size, len(bounds))
            pieces.append(text[bounds[first][0] : bounds[last - 1][1]])
            owners.append(owner)
    return pieces, np.array(owners, np.int64)

"""What an epoch draws from beside the training reviews: stretches of sentences, and reviews
without a label.

People type ten words as often as three hundred, and a network that has only seen whole reviews
finds its verdict in the length of them.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised, rows_of_new_texts
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.batches import Examples, Ids, Pool
from reelsense.training.prepare import Prepared, as_read

MARKS: Final = (".", "...", "!", "?")
SIZES: Final = (0.5, 0.3, 0.2)  # shares of the stretches of one, two and three sentences


def make_pools(
    recipe: Recipe, prepared: Prepared, unlabelled: Sequence[Reviews] = ()
) -> list[Pool]:
    """Return the pools that the recipe asks for.

    Raises:
        BadInput: it asks for reviews without a label and there are none.
    """
    rows = prepared.split.train
    pools = []
    if recipe.sentence_share:
        training = prepared.examples(recipe, "train")
        stretches = in_stretches(training, prepared.tokenizer, recipe.seed)
        pools.append(Pool(stretches, round(recipe.sentence_share * len(rows))))
    if recipe.unlabelled_share:
        ids = unlabelled_ids(prepared, unlabelled)
        if not ids:
            raise BadInput(
                f"--unlabelled-share {recipe.unlabelled_share:g} needs reviews without labels; "
                "name them with --unlabelled"
            )
        none = np.full(len(ids), -1, np.int8)
        examples = as_read(ids, none, recipe)
        pools.append(Pool(examples, round(recipe.unlabelled_share * len(rows))))
    return pools


def unlabelled_ids(prepared: Prepared, unlabelled: Sequence[Reviews]) -> list[Ids]:
    """Return the reviews without a label as word numbers, each text once, none that is labelled."""
    taken = set(map(normalised, prepared.reviews.texts))
    return [
        prepared.tokenizer.encode(reviews.texts[row])
        for reviews in unlabelled
        for row in rows_of_new_texts(reviews, taken)
    ]


def in_stretches(examples: Examples, tokenizer: Tokenizer, seed: int) -> Examples:
    """Cut each review into stretches of one to three sentences; each has the review's label."""
    marks = np.array([n for n, word in enumerate(tokenizer.vocabulary) if word in MARKS], np.int32)
    dice = np.random.default_rng(seed)
    pieces = [stretches(ids, marks, dice) for ids in examples.ids]
    counts = [len(of_one) for of_one in pieces]
    ids = [piece for of_one in pieces for piece in of_one]
    return Examples(ids, np.repeat(examples.labels, counts).astype(np.float32))


def stretches(ids: Ids, marks: NDArray[np.int32], dice: np.random.Generator) -> list[Ids]:
    """Cut a review behind some of its marks; nothing is lost."""
    is_mark = np.isin(ids, marks)
    ends = np.flatnonzero(is_mark[:-1] & ~is_mark[1:]) + 1
    if not len(ends):
        return [ids] if len(ids) else []
    sizes = dice.choice(len(SIZES), len(ends) + 1, p=SIZES) + 1
    chosen = np.cumsum(sizes) - 1
    return np.split(ids, ends[chosen[chosen < len(ends)]])

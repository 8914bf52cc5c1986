"""From reviews to the running text that a language model learns from. No label is looked at.

The films held out of the training that follows are held out here: text and words of the validation
and test parts are in no vocabulary and no stretch, whether they stand in the labelled reviews or,
as copies, in the unlabelled ones.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.pretraining import Pretraining
from reelsense.text.fingerprints import Hashes, hash_texts
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised, rows_of_new_texts, split
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import count_words
from reelsense.training.batches import Ids
from reelsense.training.prepare import words_of_films
from reelsense.vectors.glove import WordVectors, load_vectors

END = 0  # the number of padding, which no text holds, stands between two reviews


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts as word numbers, one array a review, and the words with their vectors and counts."""

    tokenizer: Tokenizer
    vectors: WordVectors
    counts: NDArray[np.int64]  # (V,), of each word in `training`; of END the reviews
    training: tuple[Ids, ...]
    validation: tuple[Ids, ...]
    sources: dict[str, str]  # what was read -> SHA-256, of several sources one after another
    read: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))  # of the texts in training

    def tokens(self) -> int:
        """Return the number of tokens of an epoch, the ends of reviews counted."""
        return int(self.counts.sum())


def read_corpus(
    recipe: Pretraining,
    labelled: Reviews,
    unlabelled: Sequence[Reviews],
    known: Tokenizer | None = None,
) -> Corpus:
    """Return the text of the labelled reviews' training part and of all unlabelled reviews.

    Each text once, whatever stands in the held-out parts left out, and in the source's own test
    part also where the recipe asks for none. The words are those of the text, or the `known` ones.

    Raises:
        BadInput: too few reviews to split or to read, no word left, or vectors that do not fit.
    """
    parts = split(labelled, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    own_test = [row for row, part in enumerate(labelled.parts) if part == "test"]
    held_out = (*parts.validation, *parts.test, *own_test)
    taken = {normalised(labelled.texts[row]) for row in held_out}
    texts: list[str] = []
    films: list[int] = []
    for reviews in (labelled.take(parts.train), *unlabelled):
        rows = rows_of_new_texts(reviews, taken)
        texts += [reviews.texts[row] for row in rows]
        films += reviews.films[rows].tolist()
    tokenizer = known or Tokenizer.from_counts(count_words(texts), min_count=recipe.min_count)
    training = [tokenizer.encode(text) for text in texts]
    if known is None:
        tokenizer, numbers = words_of_films(
            tokenizer, training, np.array(films), recipe.min_films, recipe.max_words or None
        )
        training = [numbers[row] for row in training]
    size = len(tokenizer.vocabulary)
    if size == 2:  # padding and unknown
        raise BadInput(
            f"{labelled.source}: no word is left to learn; lower --min-count {recipe.min_count} "
            f"and --min-films {recipe.min_films}, or bring more reviews"
        )
    counts = np.bincount(np.concatenate(training), minlength=size)
    counts[END] = len(training)
    if (1 + counts.sum()) // recipe.rows <= recipe.window:
        raise BadInput(
            f"{labelled.source}: {counts.sum():,} tokens are too few for {recipe.rows} rows of "
            f"{recipe.window}; lower --rows or --window, or bring more reviews"
        )
    vectors = load_vectors(recipe.embedding, tokenizer.vocabulary)
    if vectors.matrix.shape[1] > recipe.dimensions:
        raise BadInput(
            f"--dimensions {recipe.dimensions}: {recipe.embedding} has "
            f"{vectors.matrix.shape[1]}; give at least as many"
        )
    return Corpus(
        tokenizer,
        vectors,
        counts,
        tuple(training),
        tuple(tokenizer.encode(labelled.texts[row]) for row in parts.validation),
        {
            "reviews": labelled.sha256,
            "unlabelled reviews": " ".join(reviews.sha256 for reviews in unlabelled),
            "vectors": hashlib.sha256(vectors.matrix.tobytes()).hexdigest(),
        },
        hash_texts(map(normalised, texts)),
    )


def streams(
    training: Sequence[Ids], rows: int, order: np.random.Generator, backwards: bool
) -> NDArray[np.int32]:
    """Return all reviews as `rows` stretches of running text: (rows, tokens of each).

    The reviews come in an order of their own, END before the first and after each. Read backwards
    it is the same text from its last word to its first. A rest shorter than a row is left out.
    """
    between = np.array([END], np.int32)
    pieces = [between]
    for place in order.permutation(len(training)):
        pieces += [training[place], between]
    text = np.concatenate(pieces)
    if backwards:
        text = text[::-1]
    each = len(text) // rows
    return np.ascontiguousarray(text[: each * rows].reshape(rows, each))

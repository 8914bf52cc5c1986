"""From reviews and a recipe to what the loop trains on: split, vocabulary, vectors, token ids."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.text.describe import describe
from reelsense.text.reviews import Reviews
from reelsense.text.splits import Split, split, with_fewer_labels
from reelsense.text.tokenizer import UNKNOWN, Tokenizer, shorten
from reelsense.text.words import Cleanup, count_words
from reelsense.training.batches import Examples, Ids, Labels
from reelsense.training.checkpoint import STARTING_WEIGHTS, weights_hash
from reelsense.training.start import Start
from reelsense.vectors.glove import WordVectors, coverage, load_vectors

# The fields of a recipe that `prepare` reads: where they are the same, so is what it returns.
SHAPES_DATA: Final = (
    "embedding", "cleanup", "min_count", "min_films", "max_words",
    "validation", "test", "split_seed", "label_share", "seed",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run's data: `vectors` has a row a word of the tokenizer, `ids` a row a review, whole."""

    reviews: Reviews
    split: Split
    tokenizer: Tokenizer
    vectors: WordVectors
    counts: Counter[str]  # of the words of the training part
    ids: tuple[Ids, ...]
    start: Start | None = None  # of a fine-tuning; vocabulary and vectors are its own

    def examples(self, recipe: Recipe, part: str) -> Examples:
        """Return one part, "train", "validation" or "test", as the network reads it."""
        rows = getattr(self.split, part)
        return as_read([self.ids[row] for row in rows], self.reviews.labels[rows], recipe)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the reviews and of what the run starts from: vectors or weights."""
        if self.start is not None:
            weights = weights_hash(self.start.weights)
            return {"reviews": self.reviews.sha256, STARTING_WEIGHTS: weights}
        vectors = hashlib.sha256(self.vectors.matrix.tobytes()).hexdigest()
        return {"reviews": self.reviews.sha256, "vectors": vectors}

    def coverage(self) -> dict[str, Any]:
        """Say how much of the training part the vectors know; see `vectors.glove.coverage`."""
        return coverage(self.vectors, self.tokenizer.vocabulary, self.counts)

    def description(self) -> dict[str, Any]:
        """Describe the data and the split; see `text.describe`."""
        if self.tokenizer.cleanup != "none":  # its words are not all that the reviews hold
            return describe(self.reviews, self.split)
        return describe(self.reviews, self.split, (self.tokenizer, self.ids))


def parts_of(recipe: Recipe, reviews: Reviews) -> Split:
    """Return the parts of a run's reviews; the training part is the share that it learns from.

    Raises:
        BadInput: too few reviews, or too small a share.
    """
    whole = split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    return with_fewer_labels(whole, reviews, recipe.label_share, recipe.seed)


def prepare(recipe: Recipe, reviews: Reviews, start: Start | None = None) -> Prepared:
    """Split the reviews and build the vocabulary, from the training part only, with its vectors.

    With `start`, of a fine-tuning, the vocabulary and its vectors are those of the start.

    Raises:
        BadInput: too few reviews, vectors that cannot be read, or no word that is known.
    """
    parts = parts_of(recipe, reviews)
    texts = reviews.take(parts.train).texts
    cleanup: Cleanup = "classic" if recipe.cleanup == "classic" else "none"
    counts = count_words(texts, cleanup)
    if start is not None:
        ids = tuple(start.tokenizer.encode(text) for text in reviews.texts)
        if not any((ids[row] > UNKNOWN).any() for row in parts.train):
            raise BadInput(
                f"{reviews.source}: {start.name} knows none of its words; fine-tune it on reviews "
                "in the language that it was trained on, or train without --from"
            )
        return Prepared(reviews, parts, start.tokenizer, start.vectors(), counts, ids, start)
    tokenizer = Tokenizer.from_counts(
        counts, min_count=recipe.min_count, max_words=recipe.max_words or None, cleanup=cleanup
    )
    if len(tokenizer.vocabulary) == 2:  # padding and unknown
        raise BadInput(
            f"{reviews.source}: no word is left to train on; lower --min-count {recipe.min_count}, "
            "or bring more reviews"
        )
    ids = tuple(tokenizer.encode(text) for text in reviews.texts)
    if recipe.min_films > 1:  # counted on the training part
        in_training, films = [ids[row] for row in parts.train], reviews.films[parts.train]
        tokenizer, numbers = words_of_films(tokenizer, in_training, films, recipe.min_films)
        ids = tuple(numbers[row] for row in ids)
    vectors = load_vectors(recipe.embedding, tokenizer.vocabulary)
    return Prepared(reviews, parts, tokenizer, vectors, counts, ids)


def words_of_films(
    tokenizer: Tokenizer,
    ids: Sequence[Ids],
    films: NDArray[np.int64],
    least: int,
    most: int | None = None,
) -> tuple[Tokenizer, Ids]:
    """Return the vocabulary without words that reviews of fewer than `least` films use.

    Beside it the new number of each word of the old one, (V,).

    The names in a film's reviews say which film it is, and so how its other reviews ended; of a
    film that the network has not seen they say nothing. A review whose film is not known (-1)
    counts as a film of its own. At most the `most` first words of the vocabulary stay.
    """
    size = len(tokenizer.vocabulary)
    film = np.where(films >= 0, films, films.max(initial=0) + 1 + np.arange(len(films)))
    pairs = np.concatenate(
        [number * size + row.astype(np.int64) for number, row in zip(film, ids, strict=True)]
        or [film[:0]]
    )
    pairs.sort()
    seen_in = np.bincount(pairs[np.diff(pairs, prepend=-1) != 0] % size, minlength=size)
    kept = seen_in >= least
    kept[:2] = True  # padding and unknown
    if most is not None:
        kept &= np.cumsum(kept) <= most + 2
    renumbered = np.where(kept, np.cumsum(kept) - 1, UNKNOWN).astype(np.int32)
    vocabulary = tuple(
        word for word, is_kept in zip(tokenizer.vocabulary, kept, strict=True) if is_kept
    )
    return Tokenizer(vocabulary, tokenizer.cleanup), renumbered


def as_read(ids: Sequence[Ids], labels: Labels, recipe: Recipe) -> Examples:
    """Return token ids and labels as examples, shortened as the recipe says."""
    shortened = [shorten(row, recipe.max_tokens, recipe.keep) for row in ids]
    return Examples(shortened, labels)

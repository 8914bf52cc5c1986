"""From reviews and a recipe to what the loop trains on: split, vocabulary, vectors, token ids."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.text.splits import Split, split
from reelsense.text.tokenizer import Cleanup, Tokenizer, count_words
from reelsense.training.batches import Examples, shorten
from reelsense.vectors.glove import WordVectors, coverage, load_vectors


@dataclass(frozen=True, eq=False)
class Prepared:
    """The parts of a run's data, encoded; `vectors` has a row a word of the tokenizer."""

    reviews: Reviews
    split: Split
    tokenizer: Tokenizer
    vectors: WordVectors
    counts: Counter[str]  # of the words of the training part

    def examples(self, recipe: Recipe, part: str) -> Examples:
        """Encode one part: "train", "validation" or "test"."""
        return encode(recipe, self.tokenizer, self.reviews.take(getattr(self.split, part)))

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the reviews and of the vectors that the run starts from."""
        vectors = hashlib.sha256(self.vectors.matrix.tobytes()).hexdigest()
        return {"reviews": self.reviews.sha256, "vectors": vectors}

    def coverage(self) -> dict[str, Any]:
        """Say how much of the training part the vectors know; see `vectors.glove.coverage`."""
        return coverage(self.vectors, self.tokenizer.vocabulary, self.counts)


def prepare(recipe: Recipe, reviews: Reviews) -> Prepared:
    """Split the reviews and build the vocabulary, from the training part only, with its vectors.

    Raises:
        BadInput: too few reviews, or vectors that cannot be read.
    """
    parts = split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    texts = reviews.take(parts.train).texts
    cleanup: Cleanup = "classic" if recipe.cleanup == "classic" else "none"
    tokenizer = Tokenizer.fit(
        texts, min_count=recipe.min_count, max_words=recipe.max_words or None, cleanup=cleanup
    )
    vectors = load_vectors(recipe.embedding, tokenizer.vocabulary)
    return Prepared(reviews, parts, tokenizer, vectors, count_words(texts, cleanup))


def encode(recipe: Recipe, tokenizer: Tokenizer, reviews: Reviews) -> Examples:
    """Turn reviews into token ids, shortened as the recipe says."""
    ids = [
        shorten(tokenizer.encode(text), recipe.max_tokens, recipe.keep) for text in reviews.texts
    ]
    return Examples(ids, reviews.labels)

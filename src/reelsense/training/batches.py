"""From encoded reviews to padded batches: length buckets, a token budget, seeded order.

Knows no network and no text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int32]
Labels = NDArray[np.int8] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Encoded reviews: token ids (one array a review) and labels.

    1 positive, 0 negative, between them a teacher's probability, -1 none.
    """

    ids: Sequence[Ids]
    labels: Labels

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Examples":
        """Return some of them, in that order."""
        return Examples([self.ids[row] for row in rows], self.labels[rows])

    def with_more(self, others: "Iterable[Examples]") -> "Examples":
        """Return these and others as one."""
        parts = [self, *others]
        labels = np.concatenate([part.labels for part in parts]).astype(np.float32)
        return Examples([ids for part in parts for ids in part.ids], labels)


@dataclass(frozen=True, eq=False)
class Pool:
    """Examples of which every pass takes the next `a_pass`, in a shuffled order."""

    examples: Examples
    a_pass: int

    def draw(self, seed: int, number: int) -> Examples:
        """Return those of a pass (from 1): all have had their turn before one comes again."""
        first = (number - 1) * self.a_pass
        rows = np.empty(0, np.int64)
        while len(rows) < self.a_pass:
            turn, place = divmod(first + len(rows), len(self.examples))
            shuffled = np.random.default_rng([seed, turn]).permutation(len(self.examples))
            rows = np.concatenate([rows, shuffled[place : place + self.a_pass - len(rows)]])
        return self.examples.take(rows)


@dataclass(frozen=True, eq=False)
class Batch:
    """B reviews padded with 0 to T tokens: ids (B, T), lengths (B,), labels (B,), rows (B,).

    `rows` are the places of the reviews in the examples that the batch was made from.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        return Batch(
            self.ids.to(device), self.lengths.to(device), self.labels.to(device), self.rows
        )

    def shards(self, count: int) -> list["Batch"]:
        """Cut the batch into at most `count` parts of about as many tokens each."""
        parts = []
        for first in range(min(count, len(self))):
            # Rows lie sorted by length, so taking every count-th one shares the work evenly.
            lengths = self.lengths[first::count]
            ids = self.ids[first::count, : width(int(lengths.max()))]
            parts.append(Batch(ids, lengths, self.labels[first::count], self.rows[first::count]))
        return parts


def width(longest: int) -> int:
    """Return to how many tokens a batch is padded: the next multiple of 16, at least 16.

    Few different shapes: memory of one batch fits the next, and the LSTM keeps a plan a shape.
    """
    return max(16, -(-longest // 16) * 16)


def crop(examples: Examples, tokens: int, order: np.random.Generator) -> Examples:
    """Return a random stretch of at most `tokens` of each review (0: the examples as they are)."""
    if not tokens:
        return examples
    starts = order.random(len(examples))
    ids = [
        row[(first := int(start * (len(row) - tokens + 1))) : first + tokens]
        if len(row) > tokens
        else row
        for row, start in zip(examples.ids, starts, strict=True)
    ]
    return Examples(ids, examples.labels)


def plan(
    lengths: Sequence[int], reviews: int, tokens: int, order: np.random.Generator | None = None
) -> list[NDArray[np.int64]]:
    """Return the rows of each batch: reviews of like length, shortest first or shuffled by `order`.

    A batch holds at most `reviews` rows and, unless a single review is longer, at most `tokens`
    tokens with its padding. With `order`, lengths are jittered by up to a tenth before sorting, so
    that batches differ from epoch to epoch; padding then stays below 6% on the bundled reviews.
    """
    exact = np.asarray(lengths, dtype=np.int64)
    sizes = np.array([width(length) for length in lengths], dtype=np.int64)
    jitter = 1 + 0.1 * order.random(len(exact)) if order is not None else np.ones(len(exact))
    rows = np.argsort(exact * jitter, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start, longest = 0, 0
    for place, row in enumerate(rows):
        longest = max(longest, int(sizes[row]))
        count = place - start + 1
        if count > 1 and (count > reviews or count * longest > tokens):
            batches.append(rows[start:place])
            start, longest = place, int(sizes[row])
    if len(rows):
        batches.append(rows[start:])
    if order is not None:
        batches = [batches[place] for place in order.permutation(len(batches))]
    return [batch[np.argsort(exact[batch], kind="stable")] for batch in batches]


def pad(examples: Examples, rows: NDArray[np.int64]) -> Batch:
    """Return the examples at `rows` as one padded batch."""
    lengths = np.array([len(examples.ids[row]) for row in rows], dtype=np.int64)
    ids = np.zeros((len(rows), width(int(lengths.max()))), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]] = examples.ids[row]
    labels = torch.tensor(examples.labels[rows], dtype=torch.float32)
    return Batch(torch.from_numpy(ids), torch.from_numpy(lengths), labels, rows)


def in_order(examples: Examples, reviews: int = 256, tokens: int = 16384) -> Iterator[Batch]:
    """Yield all examples in batches, shortest first: for measuring."""
    for rows in plan([len(ids) for ids in examples.ids], reviews, tokens):
        yield pad(examples, rows)

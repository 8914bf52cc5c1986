"""What is in a data set and in its split: counts, lengths, words. For people, as JSON.

Changes nothing and chooses nothing. Words and n-grams are those of the training part, so that
whoever reads them has seen nothing of the test set.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reelsense.text.reviews import Reviews
from reelsense.text.splits import PARTS, Split, leaks
from reelsense.text.tokenizer import UNKNOWN, Tokenizer
from reelsense.text.words import STOP_WORDS

TOP = 20
BINS = 40
# A word or n-gram must stand in this share of the training reviews (and in at least 3). At 0.2%
# a third of the words distinctive of good reviews are names of people in single films.
RARE = 0.005
CLASSES = ("negative", "positive")


def describe(
    reviews: Reviews,
    split: Split,
    encoded: tuple[Tokenizer, Sequence[NDArray[np.int32]]] | None = None,
) -> dict[str, Any]:
    """Describe the labelled rows of `reviews`, cut by `split`.

    encoded: a tokenizer without clean-up and its word numbers of each review, where the caller
    has them already; they take most of the time.

    Returns a dict for JSON:
    - source, n, unlabelled, empty, duplicates, method, parts (counts of each), leaks (see
      `splits.leaks`);
    - lengths in tokens: mean, median, p95, p99, max, and a histogram of each class whose last
      bin also holds everything longer;
    - words and ngrams (of 2 and 3 words) of each class by log-odds, [name, count, log-odds],
      and frequent words other than stop words, [word, count].

    Every count is a number of reviews of that class in the training part, never of occurrences:
    one reviewer who repeats a name does not make it a word of the class. The log-odds are those
    of standing in a positive review against a negative one (or the other way round), with half
    a review added everywhere (Haldane and Anscombe).
    """
    if encoded is None:
        tokenizer = Tokenizer.fit(reviews.texts)
        tokens: Sequence[NDArray[np.int32]] = [tokenizer.encode(text) for text in reviews.texts]
    else:
        tokenizer, tokens = encoded
    labelled = np.flatnonzero(reviews.labels >= 0)
    lengths = np.array([len(tokens[row]) for row in labelled.tolist()], dtype=np.int64)
    train_labels = reviews.labels[split.train]
    grams = _ngrams(
        [tokens[row] for row in split.train.tolist()], train_labels, tokenizer.vocabulary
    )
    single = [gram for gram in grams if " " not in gram[0]]
    several = [gram for gram in grams if " " in gram[0]]
    return {
        "source": reviews.source,
        "n": len(labelled),
        "unlabelled": len(reviews) - len(labelled),
        "empty": reviews.empty,
        "parts": {name: _part(reviews.take(getattr(split, name))) for name in PARTS},
        "lengths": _lengths(lengths, reviews.labels[labelled]),
        "duplicates": split.duplicates,
        "leaks": leaks(reviews, split),
        "method": split.method,
        "words": _distinctive(single, train_labels),
        "ngrams": _distinctive(several, train_labels),
        "frequent": _frequent(single),
    }


_Gram = tuple[str, list[int]]  # words joined by spaces; negative and positive reviews


def _part(reviews: Reviews) -> dict[str, int]:
    return {
        "n": len(reviews),
        "positive": int((reviews.labels == 1).sum()),
        "negative": int((reviews.labels == 0).sum()),
        "films": len(np.unique(reviews.films[reviews.films >= 0])),
    }


def _lengths(lengths: NDArray[np.int64], labels: NDArray[np.int8]) -> dict[str, Any]:
    p95, p99 = np.percentile(lengths, [95, 99])
    step = max(1, int(np.ceil(p99 / BINS)))
    edges = np.arange(0, BINS + 1) * step
    held = np.minimum(lengths, edges[-1])
    histogram = {
        name: np.histogram(held[labels == label], edges)[0].tolist()
        for label, name in enumerate(CLASSES)
    }
    return {
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "p95": float(p95),
        "p99": float(p99),
        "max": int(lengths.max()),
        "histogram": {"edges": edges.tolist(), **histogram},
    }


def _ngrams(
    tokens: Sequence[NDArray[np.int32]], labels: NDArray[np.int8], names: Sequence[str]
) -> list[_Gram]:
    """Words and runs of 2 and 3 words that are not rare; punctuation ends a run.

    A run is looked at only if it without its last word is not rare, so a few million positions
    shrink quickly (a priori pruning, Agrawal and Srikant 1994).
    """
    least = max(3, round(RARE * len(tokens)))
    word = np.array([any(map(str.isalnum, name)) for name in names], dtype=bool)
    word[: UNKNOWN + 1] = False
    end = np.array([UNKNOWN], dtype=np.int32)  # no run crosses from one review to the next
    stream = np.concatenate([piece for row in tokens for piece in (row, end)]).astype(np.int64)
    review = np.repeat(np.arange(len(tokens)), [len(row) + 1 for row in tokens])
    stream[~word[stream]] = -1

    runs = [(name,) for name in names]
    at = np.flatnonzero(stream >= 0)  # where each run that is left ends
    here = stream[at]  # its number
    found: list[_Gram] = []
    for length in (1, 2, 3):
        counts = _count_reviews(here, review[at], labels, len(runs))
        common = counts.sum(axis=1) >= least
        found += [(" ".join(runs[i]), counts[i].tolist()) for i in np.flatnonzero(common)]
        if length == 3:
            break
        going = common[here] & (stream[at + 1] >= 0)  # a run never ends on the last position
        at, here = at[going] + 1, here[going]
        codes = here * len(names) + stream[at]
        kept = _repeated(codes, least)
        pairs = zip((kept // len(names)).tolist(), (kept % len(names)).tolist(), strict=True)
        runs = [(*runs[run], names[last]) for run, last in pairs]
        place = np.searchsorted(kept, codes)
        going = np.append(kept, -1)[place] == codes
        at, here = at[going], place[going]
    return found


def _repeated(codes: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Return the codes that occur at least `least` times, ascending."""
    # By sorting: np.unique of NumPy 2.3 hashes integers, and takes ten times as long on these.
    ordered = np.sort(codes)
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[starts[np.diff(starts, append=len(ordered)) >= least]]


def _count_reviews(
    grams: NDArray[np.int64], reviews: NDArray[np.int64], labels: NDArray[np.int8], n: int
) -> NDArray[np.int64]:
    """Count the reviews with each of the `n` grams: (n, 2), negative and positive."""
    each = _repeated(grams * len(labels) + reviews, least=1)
    gram, label = each // len(labels), labels[each % len(labels)]
    return np.bincount(gram * 2 + label, minlength=2 * n).reshape(n, 2)


def _distinctive(grams: Sequence[_Gram], labels: NDArray[np.int8]) -> dict[str, list[list[Any]]]:
    n = np.bincount(labels, minlength=2)
    counts = np.array([gram[1] for gram in grams], dtype=np.float64).reshape(-1, 2)
    odds = np.log((counts + 0.5) / (n - counts + 0.5))
    result = {}
    for label, name in enumerate(CLASSES):
        lead = odds[:, label] - odds[:, 1 - label]
        order = sorted(range(len(grams)), key=lambda i: (-lead[i], grams[i][0]))
        result[name] = [
            [grams[i][0], grams[i][1][label], round(float(lead[i]), 4)]
            for i in order[:TOP]
            if lead[i] > 0
        ]
    return result


def _frequent(words: Sequence[_Gram]) -> dict[str, list[list[Any]]]:
    telling = [
        (word, counts)
        for word, counts in words
        if word.isalpha() and len(word) > 1 and word not in STOP_WORDS
    ]
    return {
        name: [
            [word, counts[label]]
            for word, counts in sorted(telling, key=lambda gram: (-gram[1][label], gram[0]))[:TOP]
            if counts[label]
        ]
        for label, name in enumerate(CLASSES)
    }

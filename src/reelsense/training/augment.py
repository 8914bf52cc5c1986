"""Augmentation: training reviews with a few words changed, anew each epoch, that keep their label.

The kinds of Wei & Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks", EMNLP 2019: words replaced, inserted, swapped, deleted; and sentences that
change places. Words give way to their WordNet synonyms, or to neighbours among the word vectors.
`insert` and `eda`, which need no package more, put in neighbours where Wei & Zou have synonyms.
Neighbours of "good" include "bad", so guards decide what may be touched; what they are worth is
measured by benchmarks/augmentation.py.

Works on token ids, on all chosen reviews at once: 20,000 take a third of a second an epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.text.tokenizer import UNKNOWN
from reelsense.text.wordnet import synonyms
from reelsense.text.words import is_classic
from reelsense.training.batches import Examples, Ids
from reelsense.training.counterfactual import PIECES, TELLING, TURNS
from reelsense.training.prepare import Prepared
from reelsense.vectors.glove import WordVectors

SMOOTHING: Final = 1.0  # reviews of each class that are added to those that hold a word
STRONG: Final = 0.3  # log-odds above which a word tells its review's label
KNOWN: Final = 5  # reviews that hold a word; of one in fewer, too little is known to touch it
# Nearest words among which a replacement lies, and the word among its own. With ten, 16% of the
# words can be replaced, with five 12%, and "strange" no more by "mystery".
NEIGHBOURS: Final = 5
CHANCE: Final = 0x41554721  # beside (seed, epoch): the order of the reviews has dice of its own
NUMBERS: Final = frozenset(
    """
    zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty
    sixty seventy eighty ninety hundred thousand million half dozen first second third star stars
    """.split()  # noqa: SIM905
)
CONTRASTS: Final = frozenset(
    """
    not n't no never none nothing nobody neither nor cannot but however yet still though although
    despite except instead nevertheless nonetheless otherwise whereas while without hardly barely
    """.split()  # noqa: SIM905
)
ENDS: Final = frozenset([".", "!", "?"])  # not "...", after which many sentences go on
BINDS: Final = CONTRASTS | PIECES  # a sentence that begins so belongs to the one before it

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Guards:
    """What may be done with each of the V words.

    Attributes:
        fixed: (V,); where a word is left alone, wherever it stands.
        substitutes: (V, K); words that may stand for each or beside it: neighbours or synonyms.
        choices: (V,); how many of these there are.
        ends: (V,); marks behind which a sentence may begin.
        binds: (V,); words with which none begins.
    """

    fixed: Flags
    substitutes: NDArray[np.int32]
    choices: Numbers
    ends: Flags
    binds: Flags


@dataclass(frozen=True, eq=False)
class _Texts:
    """Reviews one behind the other: their N words and whose each is, (N,); lengths (n,)."""

    words: Ids
    owners: Numbers
    lengths: Numbers


def guards_of(recipe: Recipe, prepared: Prepared) -> Guards:
    """Return the guards of a run, which know its training reviews alone.

    Raises:
        BadInput: the recipe asks for substitutes and no word has one, or WordNet is missing.
    """
    words, kind = prepared.tokenizer.vocabulary, recipe.augment
    training = prepared.examples(recipe, "train")
    guards = make_guards(words, prepared.vectors, training, kind == "synonym")
    if kind in ("synonym", "neighbour", "insert", "eda") and not guards.choices.any():
        vectors = "" if kind == "synonym" else "name other vectors with --embedding, "
        raise BadInput(
            f"--augment {kind}: no word of the training reviews has another that may stand for it; "
            f"bring more reviews, {vectors}or choose swap, delete or shuffle"
        )
    return guards


def make_guards(
    vocabulary: Sequence[str], vectors: WordVectors, training: Examples, by_synonyms: bool = False
) -> Guards:
    """Return what augmentation may do with the words, after labelled reviews.

    Left alone are words that tell (by their log-odds, or by the lists of `counterfactual`), that
    turn what is said, that count, and those that too few reviews hold. A word may stand for another
    where both lean to the same class and each is among the other's nearest, or its synonym.
    """
    odds, reviews = class_log_odds(training, len(vocabulary))
    listed = TELLING | TURNS | CONTRASTS | NUMBERS
    fixed = np.array([word in listed or any(map(str.isdigit, word)) for word in vocabulary])
    fixed |= (np.abs(odds) > STRONG) | (reviews < KNOWN)
    fixed[: UNKNOWN + 1] = True
    if by_synonyms:
        words, others = pairs_of_synonyms(vocabulary, reviews)
    else:
        words, others = pairs_of_neighbours(vocabulary, vectors, reviews)
    pairs, turned = words * len(vocabulary) + others, others * len(vocabulary) + words
    allowed = np.isin(pairs, turned) & (odds[words] * odds[others] > 0)
    allowed &= ~fixed[words] & ~fixed[others]
    substitutes, choices = as_table(words[allowed], others[allowed], len(vocabulary))
    ends, binds = (np.array([word in marks for word in vocabulary]) for marks in (ENDS, BINDS))
    return Guards(fixed, substitutes, choices, ends, binds)


def class_log_odds(examples: Examples, words: int) -> tuple[NDArray[np.float64], Numbers]:
    """Return of each word how much likelier a positive review holds it, and how many hold it.

    log((p + s) / (P + 2s)) - log((q + s) / (Q + 2s)), where p of the P positive reviews and q of
    the Q others hold the word, and s is `SMOOTHING`; both (V,).
    """
    texts = _flat(examples.ids)
    held = np.unique(texts.owners * words + texts.words)
    labels: NDArray[np.float64] = np.asarray(examples.labels, np.float64)
    positive = labels > 0.5
    of_positive = positive[held // words]
    p = np.bincount(held[of_positive] % words, minlength=words)
    q = np.bincount(held[~of_positive] % words, minlength=words)
    odds = np.log((p + SMOOTHING) / (positive.sum() + 2 * SMOOTHING))
    odds -= np.log((q + SMOOTHING) / ((~positive).sum() + 2 * SMOOTHING))
    return odds, p + q


def pairs_of_neighbours(
    vocabulary: Sequence[str], vectors: WordVectors, reviews: Numbers
) -> tuple[Numbers, Numbers]:
    """Return words in use, in rising order, each `NEIGHBOURS` times, and its nearest of them."""
    rows = np.flatnonzero(_in_use(vocabulary, reviews) & vectors.found)
    near = nearest(vectors.matrix[rows], NEIGHBOURS)
    return np.repeat(rows, near.shape[1]), rows[near.ravel()]


def pairs_of_synonyms(vocabulary: Sequence[str], reviews: Numbers) -> tuple[Numbers, Numbers]:
    """Return words in use, in rising order, each as often as it has synonyms, and these."""
    words, others = synonyms(vocabulary)
    may = _in_use(vocabulary, reviews)
    kept = may[words] & may[others]
    return words[kept], others[kept]


def _in_use(vocabulary: Sequence[str], reviews: Numbers) -> Flags:
    """Say which words are in use and have a meaning of their own: no marks, no stop words."""
    return np.array([is_classic(word) for word in vocabulary]) & (reviews >= KNOWN)


def nearest(matrix: NDArray[np.float32], most: int) -> Numbers:
    """Return the rows of each row's `most` nearest others by cosine, (R, at most `most`)."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    table = torch.from_numpy(matrix / np.maximum(lengths, 1e-12))
    found = [np.empty((0, max(0, min(most, len(table) - 1))), np.int64)]
    for first in range(0, len(table), 1024):
        alike = table[first : first + 1024] @ table.T
        alike[torch.arange(len(alike)), torch.arange(first, first + len(alike))] = -2  # itself
        found.append(alike.topk(found[0].shape[1]).indices.numpy())
    return np.concatenate(found)


def as_table(words: Numbers, others: Numbers, size: int) -> tuple[NDArray[np.int32], Numbers]:
    """Return the `others` of each word as rows of a table (V, K), and how many each has (V,).

    `words` is in rising order; what a row does not fill is 0.
    """
    choices = np.bincount(words, minlength=size)
    place = np.arange(len(words)) - (np.cumsum(choices) - choices)[words]
    table = np.zeros((size, choices.max(initial=1)), np.int32)
    table[words, place] = others
    return table, choices


def augmented(training: Examples, recipe: Recipe, guards: Guards | None, epoch: int) -> Examples:
    """Return the training reviews of an epoch, a share of them altered; labels stay.

    The chance comes from the recipe's seed and the epoch alone. Without guards nothing is altered.
    """
    if guards is None:
        return training
    dice = np.random.default_rng([recipe.seed, epoch, CHANCE])
    rows = dice.permutation(len(training))[: round(recipe.augment_share * len(training))].tolist()
    ids = list(training.ids)
    chosen = [ids[row] for row in rows]
    new = altered(chosen, recipe.augment, recipe.augment_strength, guards, dice)
    for row, words in zip(rows, new, strict=True):
        ids[row] = words
    return Examples(ids, training.labels)


def altered(
    ids: Sequence[Ids], kind: str, strength: float, guards: Guards, dice: np.random.Generator
) -> list[Ids]:
    """Return reviews with a share `strength` of their words changed, as far as the guards let them.

    At least one word, or two that change places; of a shuffled review at least two sentences.
    """
    if kind == "eda":
        kinds, new = dice.integers(len(EDA), size=len(ids)), list(ids)
        for number, of_eda in enumerate(EDA):
            rows = np.flatnonzero(kinds == number).tolist()
            chosen = altered([ids[row] for row in rows], of_eda, strength, guards, dice)
            for row, words in zip(rows, chosen, strict=True):
                new[row] = words
        return new
    texts = ALTERED[kind](_flat(ids), strength, guards, dice)
    return np.split(texts.words, np.cumsum(texts.lengths)[:-1]) if len(ids) else []


def _flat(ids: Sequence[Ids]) -> _Texts:
    lengths = np.array([len(row) for row in ids], np.int64)
    words = np.concatenate([*ids, np.empty(0, np.int32)]).astype(np.int32)
    return _Texts(words, np.repeat(np.arange(len(ids)), lengths), lengths)


def _wanted(texts: _Texts, strength: float) -> Numbers:
    """Return how many words of each review to change, (n,)."""
    return np.maximum(1, np.round(strength * texts.lengths)).astype(np.int64)


def _chosen(may: Flags, texts: _Texts, wanted: Numbers, dice: np.random.Generator) -> Numbers:
    """Return up to `wanted` places of each review, of those that `may` be, in a random order."""
    places = np.flatnonzero(may)
    places = places[_shuffled_within(texts.owners[places], dice)]
    owners = texts.owners[places]
    rank = np.arange(len(places)) - np.searchsorted(owners, owners)
    return places[rank < wanted[owners]]


def _shuffled_within(owners: Numbers, dice: np.random.Generator) -> Numbers:
    """Return a random order of the entries of each owner, owner by owner, (N,)."""
    return np.argsort(owners + dice.random(len(owners)) / 2)  # a half never rounds up to one


def _may_leave(texts: _Texts, guards: Guards) -> Flags:
    """Say which places hold a word that is not left alone, and stands beside none that is.

    What stands around a telling word or a "not" is half of what it says: a fifth of the words
    swapped turned 0.1% of 2,000 held-out reviews, and 0.5% if these were touched (taken out: 0.4%
    and 0.6%).
    """
    fixed = guards.fixed[texts.words]
    beside = np.zeros(len(fixed), np.bool_)
    beside[1:] = fixed[:-1]
    beside[:-1] |= fixed[1:]
    return ~(fixed | beside)


def _others(words: Ids, guards: Guards, dice: np.random.Generator) -> Ids:
    """Return for each word one of those that may stand for it."""
    choice = (dice.random(len(words)) * guards.choices[words]).astype(np.int64)
    return guards.substitutes[words, choice]


def _replaced(texts: _Texts, strength: float, guards: Guards, dice: np.random.Generator) -> _Texts:
    """Put neighbours, or synonyms, in the place of words."""
    places = _chosen(guards.choices[texts.words] > 0, texts, _wanted(texts, strength), dice)
    words = texts.words.copy()
    words[places] = _others(words[places], guards, dice)
    return _Texts(words, texts.owners, texts.lengths)


def _inserted(texts: _Texts, strength: float, guards: Guards, dice: np.random.Generator) -> _Texts:
    """Put neighbours of some of a review's words anywhere into it."""
    places = _chosen(guards.choices[texts.words] > 0, texts, _wanted(texts, strength), dice)
    owners = texts.owners[places]
    firsts = np.cumsum(texts.lengths) - texts.lengths
    gaps = (dice.random(len(places)) * (texts.lengths[owners] + 1)).astype(np.int64)
    new = _others(texts.words[places], guards, dice)
    words = np.insert(texts.words, firsts[owners] + gaps, new)
    lengths = texts.lengths + np.bincount(owners, minlength=len(texts.lengths))
    return _Texts(words, np.repeat(np.arange(len(lengths)), lengths), lengths)


def _swapped(texts: _Texts, strength: float, guards: Guards, dice: np.random.Generator) -> _Texts:
    """Let pairs of a review's words change places."""
    may = _may_leave(texts, guards)
    there = np.bincount(texts.owners[may], minlength=len(texts.lengths))
    pairs = np.maximum(1, np.round(strength * texts.lengths / 2)).astype(np.int64)
    places = _chosen(may, texts, 2 * np.minimum(pairs, there // 2), dice)
    words = texts.words.copy()
    words[places[::2]], words[places[1::2]] = words[places[1::2]], words[places[::2]]
    return _Texts(words, texts.owners, texts.lengths)


def _deleted(texts: _Texts, strength: float, guards: Guards, dice: np.random.Generator) -> _Texts:
    """Take words out, never all."""
    wanted = np.minimum(_wanted(texts, strength), texts.lengths - 1)
    kept = np.ones(len(texts.words), np.bool_)
    kept[_chosen(_may_leave(texts, guards), texts, wanted, dice)] = False
    owners = texts.owners[kept]
    return _Texts(texts.words[kept], owners, np.bincount(owners, minlength=len(texts.lengths)))


def _shuffled(texts: _Texts, strength: float, guards: Guards, dice: np.random.Generator) -> _Texts:
    """Let sentences that hold the wanted share of a review's words change places."""
    starts = _sentences(texts, guards)
    sizes = np.diff(np.append(starts, len(texts.words)))
    owners = texts.owners[starts]
    order = _shuffled_within(owners, dice)
    first = np.searchsorted(owners, owners)
    before = np.cumsum(sizes[order]) - sizes[order]
    short = before - before[first] < (strength * texts.lengths)[owners]
    moved = order[short | (np.arange(len(order)) - first < 2)]
    # Each takes the place of the one before it, the first that of the last, so that none stays.
    first = np.searchsorted(owners[moved], owners[moved])
    is_last = np.diff(owners[moved], append=-1) != 0
    new = np.arange(len(starts))
    new[moved] = np.where(is_last, moved[first], np.roll(moved, -1))
    shift = np.repeat(starts[new] - (np.cumsum(sizes[new]) - sizes[new]), sizes[new])
    return _Texts(texts.words[shift + np.arange(len(shift))], texts.owners, texts.lengths)


def _sentences(texts: _Texts, guards: Guards) -> Numbers:
    """Return where sentences begin: with each review, and behind a mark that ends one."""
    begins = np.diff(texts.owners, prepend=-1) > 0
    behind = guards.ends[texts.words[:-1]]
    begins[1:] |= behind & ~guards.ends[texts.words[1:]] & ~guards.binds[texts.words[1:]]
    return np.flatnonzero(begins)


EDA: Final = ("neighbour", "insert", "swap", "delete")
ALTERED: Final[Mapping[str, Callable[[_Texts, float, Guards, np.random.Generator], _Texts]]] = {
    "synonym": _replaced,
    "neighbour": _replaced,
    "insert": _inserted,
    "swap": _swapped,
    "delete": _deleted,
    "shuffle": _shuffled,
}

"""Sentences of the training reviews, and the same with a few words changed that turn their verdict.

Reviews teach a network what words are worth, and little of what "not" does to them: no long review
is decided by one negation. Kaushik et al., "Learning the Difference that Makes a Difference with
Counterfactually-Augmented Data", ICLR 2020, had people write such edits; here rules make them of
sentences with a single telling word, whose verdict is therefore known: "the acting was superb" and
"the acting was n't superb", "the acting used to be superb", and so on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.text.sentences import sentences
from reelsense.text.words import tokenize

# Adjectives that mean the same of every film; what is "dark" or "slow" is good in one and bad in
# another. A sentence counts only where its review agrees.
GOOD: Final = frozenset(
    """
    good great excellent wonderful superb brilliant fantastic amazing terrific perfect outstanding
    awesome fabulous magnificent marvelous splendid beautiful lovely delightful enjoyable fun
    entertaining funny hilarious charming engaging gripping moving touching powerful memorable
    impressive believable convincing clever smart intelligent original fresh interesting fascinating
    exciting thrilling satisfying refreshing worthwhile stunning gorgeous flawless exceptional
    remarkable likable watchable captivating compelling nice decent solid
    """.split()  # noqa: SIM905
)
BAD: Final = frozenset(
    """
    bad terrible awful horrible dreadful poor weak boring dull tedious lame stupid dumb ridiculous
    silly pathetic laughable predictable forgettable disappointing annoying irritating painful
    unfunny uninteresting unconvincing unbelievable unwatchable bland flat mediocre lousy atrocious
    abysmal worthless useless pointless ugly cheap amateurish wooden clumsy tiresome contrived
    pretentious confusing incoherent messy lifeless shallow ludicrous embarrassing unbearable
    horrendous crappy trite sloppy uninspired repetitive rotten
    """.split()  # noqa: SIM905
)
LIKES: Final[Mapping[str, str]] = {
    "liked": "like", "loved": "love", "enjoyed": "enjoy", "adored": "adore", "admired": "admire",
    "like": "like", "love": "love", "enjoy": "enjoy", "recommend": "recommend",
}  # fmt: skip
HATES: Final[Mapping[str, str]] = {
    "hated": "hate", "disliked": "dislike", "despised": "despise", "detested": "detest",
    "hate": "hate", "dislike": "dislike", "regret": "regret", "regretted": "regret",
}  # fmt: skip
BE: Final = frozenset(["is", "was", "are", "were"])
BASES: Final = {**LIKES, **HATES}
PERSONS: Final = frozenset(["i", "we", "they"])
# What may stand between "was" and the word that it says. The loud ones go where "not" comes: what
# is "not just bad" is worse, and what is "not always good" is no bad film.
QUIET: Final = frozenset("a an the quite all".split())  # noqa: SIM905
LOUD: Final = frozenset(
    """
    so very really absolutely truly simply extremely completely just pretty rather also always
    """.split()  # noqa: SIM905
)
# These tell too, of a noun or a verb that no rule turns: a sentence with one more of them is not
# plain ("badly acted and boring", turned, would still say "badly acted").
ALSO_TELL: Final = (
    frozenset(
        """
    best better worst worse favorite favorites favourite favourites badly poorly well beautifully
    brilliantly wonderfully perfectly horribly terribly painfully waste wasted wasting crap garbage
    trash rubbish junk mess disaster joke turkey bomb fails failed sucks sucked suck ruined lacked
    lacking avoid boredom stupidity cliche cliches cliché clichés positive negative masterpiece gem
    classic delight joy pleasure charm strong underrated overrated unforgettable loves loving liking
    hates hating enjoying recommended worth worthy problem problems flaw flaws fault faults sorry
    """.split()  # noqa: SIM905
    )
    | set(LIKES) - {"like"}
    | set(HATES)
)
TELLING: Final = GOOD | BAD | ALSO_TELL
# With one of these a rule would be wrong about the verdict.
TURNS: Final = frozenset(
    """
    not n't never no nothing nobody none neither nor hardly barely without lack lacks cannot unless
    if but although though however despite yet except too would could should might may supposed
    thought expected hoped wish instead than enough only otherwise nevertheless nonetheless whereas
    while used until less least unlike whether maybe perhaps ?
    """.split()  # noqa: SIM905
)
# Marks with which a sentence is more than one, or somebody else's.
BREAKS: Final = frozenset([".", "!", "...", "--", ":", ";", "(", ")", "[", "]", '"', "'", "*", "/"])
PIECES: Final = frozenset(  # what begins half a sentence
    "and or so because which who also then first firstly second secondly".split()  # noqa: SIM905
)
# Behind one of these a sentence says a second thing, which no edit of the first would turn. Before
# the telling word "and" may join two subjects, and a comma follow "all in all".
GO_ON: Final = frozenset(["and", "or", "as", "so", "because", "before"])
STARTS: Final = frozenset("i it he she we they you this that these those there is was are".split())  # noqa: SIM905
NEGATED: Final = (  # after a form of "be", about as often as people write them
    "n't", "n't", "n't", "not", "not", "never", "hardly", "by no means", "far from", "anything but",
)  # fmt: skip
DENIED: Final = (  # of a whole sentence
    "i do n't think that", "i would n't say that", "i can not agree that", "nobody can say that",
    "it is not true that", "i never felt that",
)  # fmt: skip
AT_FIRST: Final = ("at first", "in the past", "years ago", "some people say", "for others")
NOW: Final = ("but now", "but today", "but these days", "but for me", "but in the end")
LONGEST: Final = 20  # words
# What is not good is bad; what is not bad may be no more than fair.
SURE, TURNED_GOOD = 0.95, 0.8

Words = Sequence[str]


@dataclass(frozen=True)
class Plain:
    """A sentence with one telling word, at `place`, whose verdict is that of its review."""

    words: tuple[str, ...]
    place: int
    positive: bool

    def chance(self, turned: bool = False) -> float:
        """Return the P(positive) of the sentence, or of it when it says the contrary."""
        if not turned:
            return SURE if self.positive else 1 - SURE
        return 1 - SURE if self.positive else TURNED_GOOD


def counterfactuals(
    texts: Sequence[str], labels: NDArray[np.int8], seed: int
) -> tuple[list[str], NDArray[np.float32]]:
    """Return plain sentences of the reviews and their edits, as texts, with P(positive).

    For each plain sentence: itself, itself negated (blame twice, in two ways: what "not" does to it
    is learned last), denied as a whole, as what used to be, with a word of the other verdict that
    it is said not to deserve, and beside a sentence of that verdict, one of the two said to be what
    counts.
    """
    plain = [
        found
        for text, label in zip(texts, labels.tolist(), strict=True)
        for found in plain_sentences(text, label)
    ]
    dice = np.random.default_rng(seed)
    sides = [[one for one in plain if one.positive is side] for side in (False, True)]
    made: list[tuple[Words, float]] = []
    for one in plain:
        made.append((one.words, one.chance()))
        times = 1 if one.positive else 2
        edits = [outdated(one), denied(one, dice), *(negated(one, dice) for _ in range(times))]
        turned = dict.fromkeys(tuple(edit) for edit in edits if edit is not None)
        made += [(edit, one.chance(turned=True)) for edit in turned]
        more = rounded(one, dice)
        if more is not None:
            made.append((more, one.chance()))
        against = sides[not one.positive]
        if against:
            other = against[int(dice.integers(len(against)))]
            made.append((contrasted(other, one, dice), one.chance()))
    return [" ".join(words) for words, _ in made], np.array([p for _, p in made], np.float32)


def plain_sentences(text: str, label: int) -> Iterator[Plain]:
    """Yield the sentences of a review whose one telling word agrees with its label."""
    for first, last in sentences(text).tolist():
        every = tokenize(text[first:last])
        words = _open(every)
        if not 0 < len(words) < LONGEST or words[0] in PIECES:
            continue
        if not (TURNS.isdisjoint(every) and BREAKS.isdisjoint(words)):
            continue
        verbs = [place for place in range(len(words)) if _is_said_by_persons(words, place)]
        telling = [place for place, word in enumerate(words) if word in TELLING]
        found = sorted({*verbs, *telling})
        if len(found) != 1 or not (verbs or _is_said_of_something(words, found[0])):
            continue
        positive = words[found[0]] in GOOD or words[found[0]] in LIKES
        if positive == bool(label):
            yield Plain((*words, "."), found[0], positive)


def negated(one: Plain, dice: np.random.Generator) -> Words | None:
    """Return the sentence with "not" or the like: of a person's verb, or after "is"."""
    words, place = list(one.words), one.place
    if not _says_one_thing(words, place):
        return None
    if _is_said_by_persons(words, place):
        base = BASES[words[place]]
        do = "do" if base == words[place] else "did"
        return [*words[:place], do, "n't", base, *words[place + 1 :]]
    verb = _verb(words, place)
    if verb is None:
        return None
    between = [word for word in words[verb + 1 : place] if word not in LOUD]
    if between and between[-1] in ("a", "an"):  # "a truly amazing", "an absolutely great"
        between[-1] = "an" if words[place][0] in "aeiou" else "a"
    word = NEGATED[int(dice.integers(len(NEGATED)))]
    alone = not between and place == len(words) - 2  # before the full stop
    at_all = ["at", "all"] if alone and word in ("n't", "not") and dice.random() < 0.5 else []
    return [*words[: verb + 1], *word.split(), *between, *words[place:-1], *at_all, words[-1]]


def denied(one: Plain, dice: np.random.Generator) -> Words | None:
    """Return the sentence as what is not so, all of it: "i would n't say that ..."."""
    if not _says_one_thing(one.words, one.place) or "," in one.words:  # "all in all, it is"
        return None
    return [*DENIED[int(dice.integers(len(DENIED)))].split(), *one.words]


def rounded(one: Plain, dice: np.random.Generator) -> Words | None:
    """Return the sentence with a word of the other verdict that is not deserved: "never dull"."""
    words, place = list(one.words), one.place
    if place != len(words) - 2 or words[place] in BASES or not _says_one_thing(words, place):
        return None
    against = sorted(BAD if one.positive else GOOD)
    other = against[int(dice.integers(len(against)))]
    forms = ["and never", ", never", "and not", "and hardly"]
    if one.positive:  # nobody says "dull without being funny"
        forms += ["without being", "but never"]
    return [*words[:-1], *forms[int(dice.integers(len(forms)))].split(), other, words[-1]]


def outdated(one: Plain) -> Words | None:
    """Return the sentence as what used to be so."""
    words, place = list(one.words), one.place
    if not _says_one_thing(words, place):
        return None
    if _is_said_by_persons(words, place):
        return [*words[:place], "used", "to", BASES[words[place]], *words[place + 1 :]]
    verb = _verb(words, place)
    if verb is None or words[verb - 1] in ("there", "here"):
        return None
    between = [word for word in words[verb + 1 : place] if word != "also"]
    return [*words[:verb], "used", "to", "be", *between, *words[place:]]


def contrasted(other: Plain, one: Plain, dice: np.random.Generator) -> Words:
    """Return both sentences as one in which `one` is what counts."""
    a, b = _open(other.words), _open(one.words)
    form = int(dice.integers(6))
    # "I" is neither "some people" nor "others".
    pick = int(dice.integers(len(AT_FIRST) - 2 * ("i" in a)))
    if form == 0:
        return [*a, ",", "but", *b, "."]
    if form == 1:
        return [*a, ".", "however", ",", *b, "."]
    if form == 2:
        return ["although", *a, ",", *b, "."]
    if form == 3:
        return [*b, ",", "even", "though", *a, "."]
    if form == 4:
        return [*AT_FIRST[pick].split(), *a, ",", *NOW[pick].split(), *b, "."]
    return [*b, ",", "even", "if", *a, "."]


def _is_said_by_persons(words: Words, place: int) -> bool:
    """Say whether the word at `place` is what persons did: "i loved"."""
    return place > 0 and words[place - 1] in PERSONS and words[place] in BASES


def _is_said_of_something(words: Words, place: int) -> bool:
    """Say whether the word at `place` is an adjective of the lists behind "is"."""
    return words[place] in GOOD | BAD and _verb(words, place) is not None


def _verb(words: Words, place: int) -> int | None:
    """Return the place of the "is" that says the word at `place`, with nothing weighty between."""
    here = place - 1
    while here >= 0 and (words[here] in QUIET or words[here] in LOUD):
        here -= 1
    return here if here > 0 and words[here] in BE else None


def _says_one_thing(words: Words, place: int) -> bool:
    """Say whether the word at `place` is all that the sentence says, as far as can be seen."""
    second = any(word in GO_ON and after in STARTS for word, after in pairwise(words[:place]))
    # "So bad that", "so bad it 's funny"
    result = "so" in words[max(0, place - 2) : place] and words[place + 1] in STARTS
    return not (second or result or (GO_ON | {","}) & set(words[place + 1 :]))


def _open(words: Words) -> list[str]:
    """Return a sentence without the marks around it."""
    said = [place for place, word in enumerate(words) if any(map(str.isalnum, word))]
    return list(words[said[0] : said[-1] + 1]) if said else []

import tomllib
from collections import Counter

import numpy as np
import pytest

from reelsense.text.alike import FILE, words_alike
from reelsense.text.tokenizer import PADDING, SPECIAL, UNKNOWN
from reelsense.text.words import tokenize

GROUPS = {
    name: words.split() for name, words in tomllib.loads(FILE.read_text(encoding="utf-8")).items()
}
WORDS = [word for words in GROUPS.values() for word in words]

# The words of at least a hundred of the bundled training reviews, their log-odds between good and
# bad reviews beyond 1.5; and words near that, or of two meanings, that look like names or places.
TELLING = """
    4/10 3/10 incoherent 1/10 mst3k unfunny waste laughable lousy worst atrocious pointless
    redeeming poorly awful wasting sucks existent stupidity remotely amateurish lame insult
    uninspired uninteresting pathetic wasted badly crap horrible tedious boredom suck unconvincing
    mess terrible idiotic wooden worse dreadful stupid garbage embarrassing pile avoid fest
    insulting rubbish amateur dull pitt friendship exceptional shines wonderful poignant
    unforgettable favorites brilliantly terrific extraordinary gripping timeless superb delightful
    underrated touching marvelous beautifully breathtaking delight refreshing wonderfully perfection
    captures 9/10 10/10 8/10 7/10
    turkey oscar frank rich grace hope joy faith bland grim sweet swift wit
""".split()  # noqa: SIM905


def of(*words):
    """The groups of a vocabulary, as words."""
    vocabulary = (*SPECIAL, *words)
    return [[vocabulary[row] for row in rows] for rows in words_alike(vocabulary)]


@pytest.mark.parametrize("name", GROUPS)
def test_every_word_is_one_that_the_tokenizer_makes(name):
    assert [word for word in GROUPS[name] if tokenize(word) != [word]] == []
    assert len(GROUPS[name]) > 1


def test_no_word_is_there_twice():
    assert [word for word, count in Counter(WORDS).items() if count > 1] == []


def test_no_word_says_something_about_a_film():
    assert set(TELLING) & set(WORDS) == set()


def test_words_of_a_group_are_found_and_others_are_not():
    found = of("film", "mary", "paris", "the", "john", "london", "she", "superb", "he")
    assert found == [["<unk>", "mary", "john"], ["paris", "london"], ["she", "he"]]


def test_names_are_of_one_group_with_the_unknown_word():
    assert of("mary", "film") == [["<unk>", "mary"]]


def test_a_group_of_one_word_is_left_out():
    assert of("paris", "he", "actor", "film") == []
    assert of() == []


def test_the_groups_are_rows_of_the_vocabulary_each_in_one_group_and_never_the_padding():
    vocabulary = (*SPECIAL, *sorted(WORDS), "film")
    groups = words_alike(vocabulary)
    assert len(groups) == len(GROUPS)
    rows = np.concatenate(groups)
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows) == len(WORDS) + 1
    assert PADDING not in rows
    assert UNKNOWN in groups[0]
    assert len(vocabulary) - 1 not in rows
    for group in groups:
        assert group.tolist() == sorted(group.tolist())

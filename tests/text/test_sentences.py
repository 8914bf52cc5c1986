import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.text.sentences import sentences
from reelsense.text.words import tokenize_with_offsets

# All that the rules look at, and what they should not mind.
FRAGMENTS = st.sampled_from(
    ["it", "It", "The", "U.S.", "Mr.", "etc.", "1", "8.5/10", ".", "...", "…", "!", "?", '"', "”",
     "'", ")", "(", "-", ":)", " ", " ", "\n\n", "\u2029", "<br />", "&lt;p&gt;", "<i>", "&nbsp;",
     "&quot;", "&hellip;", "&ngE;", "\xad", "\u0130", "\ud800"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(max_size=4)), max_size=20).map("".join)


def cut(text):
    return [text[start:end] for start, end in sentences(text).tolist()]


@pytest.mark.parametrize(
    "text",
    [
        "I saw it. | It was bad! | Was it? | Yes.",
        "i saw it. | it was bad! | was it? | no.",  # no capitals
        "I saw it.|It was bad!|Was it?|No.",  # no spaces
        "Mr. X and Dr. No met J. Smith of the U.S. Army and of a U.S. film, vs. The Thing.",
        "A film of the U.S. | The end.",
        "Actors, sets, etc. | It has actors, sets, etc. in it, etc. etc.",
        "With Robert Downey Jr. | He is good.",
        "I give it 8.5/10 or 3.5 of 5. | 10/10.",
        "See imdb.com or http://a.b/c. | Then decide.is it",
        "It was... well... bad... | The end.",
        "It was . . . bad . . . | The end",
        "So… it goes… | So.",
        "What?!? | No!!! | Well... ! | yes.",
        'He said "no." | Then he left. | "Why?" she asked. | "How?" | Nobody knew.',
        "“Why?” he asked. | ‘No!’ | “Good.”",
        'It was "bad". | "Very bad".',
        'He left."|I stayed',
        "It was bad (really bad!) and long. | (It was.) | [He left.] | The (!) end",
        "It was bad.|(Really.)|No.",
        "Loved it! :) | See it. ;-) | bye.",
        "1. The plot is bad. | 2. The acting is bad. | It is from 1930. | 8 of 10.",
        "**Spoilers!** | I left. | - A friend stayed. | (He did.)",
        "! | No",
        "no mark at all",
        "...",
        "It ends. '",
        " \t Trimmed.\n| \u3000 At both ends.  ",
    ],
)
def test_a_sentence_ends_at_each_bar(text):
    expected = [sentence.strip() for sentence in text.split("|")]
    assert cut(text.replace("|", "")) == expected


def test_entities_and_tags_are_what_they_stand_for():
    text = "It&nbsp;was&nbsp;bad.&nbsp;It was&hellip; bad&hellip; &quot;Yes.&quot; Was it?\x94 No"
    sentences = ["It&nbsp;was&nbsp;bad.", "It was&hellip; bad&hellip;", "&quot;Yes.&quot;"]
    assert cut(text) == [*sentences, "Was it?\x94", "No"]
    assert cut("It was <i>very</i> bad. <b>Really.</b> No") == [
        "It was <i>very</i> bad.", "Really.", "No"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line_end",
    [
        "<br /><br />",
        "<br>",
        " &lt;br/&gt; ",
        "</p>\n<p>",
        "\n\n",
        "\r\n \t\r\n",
        "\u2029",
        "<HR><i>",
    ],
)
def test_a_line_or_a_paragraph_ends_a_sentence(line_end):
    assert cut(f"Good, bad{line_end}and long") == ["Good, bad", "and long"]
    assert cut(f"{line_end}Bad.{line_end}Long.{line_end}") == ["Bad.", "Long."]


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", " <i>", "</b> ", "\x85 ", "&nbsp;"])
def test_a_line_that_is_wrapped_goes_on(space):
    assert len(cut(f"Good, bad{space}and long")) == 1


@pytest.mark.parametrize("text", ["", " \n ", "<br /><br />", "\xad", "&nbsp;"])
def test_without_words_there_is_no_sentence(text):
    assert sentences(text).shape == (0, 2)
    assert sentences(text).dtype == np.int32


@given(TEXTS)
def test_each_word_lies_in_exactly_one(text):
    found = sentences(text)
    _, offsets = tokenize_with_offsets(text)
    assert found.dtype == np.int32
    assert found.shape == (len(found), 2)
    holds = (found[:, :1] <= offsets[:, 0]) & (offsets[:, 1] <= found[:, 1:])
    assert (holds.sum(axis=0) == 1).all()
    assert holds.any(axis=1).all()  # and no sentence is empty
    assert (found[:-1, 1] <= found[1:, 0]).all()
    assert all(sentence == sentence.strip() for sentence in cut(text))


@pytest.mark.parametrize(
    "unit",
    ["a. ", ".", ". (", '."', "a. ( ", "\n", "\n ", "<br />", "1. ", "a.B", ". ' ", "u.s. I "],
)
def test_time_is_linear(unit):
    """Fifty thousand characters; quadratic time would be minutes."""
    text = unit * (50_000 // len(unit))
    start = time.perf_counter()
    sentences(text)
    assert time.perf_counter() - start < 3


def test_real_reviews(bundled_texts):
    """About as many sentences as people write, and few that are no sentence."""
    found = [sentence for text in bundled_texts[::10] for sentence in cut(text)]
    lengths = [len(sentence.split()) for sentence in found]
    assert 15 < np.mean(lengths) < 22
    assert np.mean(np.array(lengths) == 1) < 0.05
    assert not any("<br" in sentence for sentence in found)

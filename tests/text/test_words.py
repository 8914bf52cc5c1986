import hashlib
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.text.words import (
    PIECE,
    STOP_WORDS,
    Remembered,
    count_words,
    kept,
    locate,
    tokenize,
    tokenize_with_offsets,
    words_of,
)

# Like a review, broken in every way: markup, entities, odd letters, lone surrogates.
ODDITIES = r"""
<br\x20/> <BR> &lt;br/&gt; &amp; &#39; &#1; &nbsp; &quot; &bogus; & ; don't CAN'T did'nt dont 've
Mr. U.S. J. e.g. ... … -- – well-made 10/10 8.5 1,000 '90s :-) http://a.b/c www. ’s “ ” ´ ` ''
cafe\u0301 \u0130 ſ \u212a ß 电影 \U0001f600 \x00 \x85 \x96 \xad ! ? * === _ ' O'Connor's \n
"""
FRAGMENTS = st.sampled_from(
    [
        word.encode("latin-1", "backslashreplace").decode("unicode_escape")
        for word in ODDITIES.split()
    ]
    + [" ", "\ud800", "\udfff"]
)
TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(st.characters(), max_size=8)), max_size=12).map(
    "".join
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't, can't and won't.", "i do n't , ca n't and wo n't ."),
        ("She didn’t; HE WASN'T", "she did n't ; he was n't"),
        ("did'nt dont wouldnt nt", "did n't do n't would n't n't"),
        ("wouldn't've we'll they're I'm I'd", "would n't 've we 'll they 're i 'm i 'd"),
        ("O'Connor's \"Titanic\"'s the actors'", "o'connor 's \" titanic \" 's the actors '"),
        ("well-made sci-fi", "well - made sci - fi"),
        ("no--wait – what — now", "no -- wait -- what -- now"),
        ("so... bad.... movie.It", "so ... bad ... movie . it"),
        ("great!!! what?!", "great ! ! ! what ? !"),
        ("10/10 7.5/10 1/2 8.5 1,000 24/7.", "10/10 7.5 / 10 1/2 8.5 1,000 24/7 ."),
        ("the '90s, 1930's and '46", "the '90s , 1930 's and '46"),
        ("Mr. J. Smith of the U.S. etc. than I.", "mr. j. smith of the u.s. etc. than i ."),
        ("bad<br /><br/>film<BR>< br >yes</br>no", "bad film yes no"),
        ("bad&lt;br /&gt;film", "bad film"),
        ("<i>Jaws</i> <3 <nobr>", "jaws < 3 < nobr >"),
        ("&quot;Him &amp; her&quot; it&#39;s&nbsp;ok&hellip;", '" him & her " it \'s ok ...'),
        ("``quoted'' “quoted” «x»", '" quoted " " quoted " " x "'),
        (":-) ;-) :( :D (a list:)", ":) ;) :( :d ( a list :)"),
        ("see http://www.imdb.com/title/tt1.", "see http://www.imdb.com/title/tt1 ."),
        ("rating: **** ==== ____", "rating : * * * * = _"),
        ("cafe\u0301 na\xefve so\xadfa a\u200bb", "caf\xe9 na\xefve sofa ab"),
        ("x\x85y\x96z don\x92t", "x ... y -- z do n't"),
        ("and/or 50% $10 #1", "and / or 50 % $ 10 # 1"),
        ("", ""),
        (" \t\r\n\u3000\x1c <br /> ", ""),
    ],
)
def test_conventions(text, words):
    assert tokenize(text) == words.split()


def test_offsets_point_into_the_text_as_given():
    text = "A<br />\u0130T’S&nbsp;&quot;fun&quot;…\n can't"
    words, offsets = tokenize_with_offsets(text)
    assert words == ["a", "i\u0307t", "'s", '"', "fun", '"', "...", "ca", "n't"]
    came_from = [text[start:end] for start, end in offsets.tolist()]
    assert came_from == ["A", "\u0130T", "’S", "&quot;", "fun", "&quot;", "…", "ca", "n't"]


@given(TEXTS)
def test_one_path(text):
    """With and without offsets, remembered or not, the words are the same."""
    words, offsets = tokenize_with_offsets(text)
    assert tokenize(text) == words
    assert offsets.dtype == np.int32
    assert offsets.shape == (len(words), 2)
    starts, ends = offsets[:, 0], offsets[:, 1]
    assert (starts < ends).all()
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(ends) >= 0).all()
    assert not len(words) or (starts[0] >= 0 and ends[-1] <= len(text))


@given(TEXTS)
def test_a_chunk_alone_decides(text):
    """What stands around a chunk does not change its words: that is why memory is right."""
    for chunk in text.split():
        located = locate(chunk)
        assert located.words == words_of(chunk)
        assert len(located.bounds) == 2 * len(located.words)
        assert all(word and not word.isspace() for word in located.words)


@given(st.text(st.sampled_from("ab'ntsre.-!19/:&;lAI=_"), max_size=30))
def test_every_visible_character_is_in_a_word(text):
    _, offsets = tokenize_with_offsets(text)
    covered = {place for start, end in offsets.tolist() for place in range(start, end)}
    assert covered == set(range(len(text)))


@given(st.text(st.characters(categories=["L"]), min_size=1))
def test_letters_alone_are_one_word(letters):
    assert PIECE.findall(letters) == [letters]


@pytest.mark.parametrize(
    "unit",
    ["a", "\u0130", "1.", "1/", "'s", "n't", "a'", "<", "<br ", "&", "&lt;a x=", "a\u0301", "www.",
     ":-", "http://", "U.", "-", ".", "!", "\U0001f600", "电", "\ud800", "\xad", " ", "mr.", "''"],
)  # fmt: skip
def test_time_is_linear(unit):
    """A hundred thousand characters without a pause; quadratic time would be minutes."""
    text = unit * (100_000 // len(unit))
    start = time.perf_counter()
    words, _ = tokenize_with_offsets(text)
    assert tokenize(text) == words
    assert time.perf_counter() - start < 3


@given(st.lists(TEXTS, max_size=5))
def test_count_words_counts_what_tokenize_yields(texts):
    assert count_words(texts) == Counter(word for text in texts for word in tokenize(text))


def test_memory_is_bounded_and_forgets_without_a_trace():
    remembered = Remembered(str.upper, limit=10)
    for number in range(1000):
        chunk = f"c{number % 37}"
        assert remembered[chunk] == chunk.upper()
        assert len(remembered) <= 10
        assert len(remembered.older) <= 10
    assert remembered["x" * 1000] == "X" * 1000
    assert "x" * 1000 not in remembered


def test_classic_keeps_what_the_notebooks_keep():
    text = "I can't say it's a GOOD film, no! 10/10 B movie<br />isn't won't o'clock well-made"
    assert kept(tokenize(text), "classic") == ["say", "good", "film", "movie", "well", "made"]
    assert kept(tokenize(text), "none") == tokenize(text)
    assert len(STOP_WORDS) == 179 + 4


# The SHA-256 of their words, of version 1 of the tokenizer.
GOLDEN = "ebca2200bebe8874e7195f6a2d3d85315997fe396ee5bf71b3eb6a66f83c34fd"


def test_the_words_of_real_reviews_are_as_they_were(bundled_texts):
    """A trained model knows its words as they were cut then, so this must not change."""
    digest = hashlib.sha256()
    for text in bundled_texts:
        digest.update(" ".join(tokenize(text)).encode() + b"\n")
    assert digest.hexdigest() == GOLDEN

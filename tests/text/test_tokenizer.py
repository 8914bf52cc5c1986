import copy
import json
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.text.tokenizer import UNKNOWN, Tokenizer, shorten
from reelsense.text.words import tokenize

# Like a review; `test_words.py` has the odd ones.
FRAGMENTS = ["I ", "don't ", "like ", "the film", ", ", "<br />", "&amp;", "\u0130", "… ", "\ud800"]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=12).map(
    "".join
)


@given(TEXTS, st.sampled_from(["none", "classic"]))
def test_one_path(text, cleanup):
    """With and without offsets, remembered or not, the numbers are those of the words."""
    tokenizer = Tokenizer(("<pad>", "<unk>", *sorted(set(tokenize(text)))[::2]), cleanup)
    number = {word: index for index, word in enumerate(tokenizer.vocabulary)}
    expected = [number.get(word, UNKNOWN) for word in tokenizer.words(text)]
    for _ in range(2):  # the second time from memory
        assert tokenizer.encode(text).tolist() == expected
        ids, places = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == expected
        assert places.shape == (len(ids), 2)


def test_words_are_those_that_the_clean_up_leaves():
    tokenizer = Tokenizer.fit(["x"], cleanup="classic")
    assert tokenizer.words("I can't say it's a GOOD film") == ["say", "good", "film"]
    assert Tokenizer.fit(["x"]).words("A GOOD film!") == ["a", "good", "film", "!"]


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


def test_real_reviews(bundled_texts):
    """A thousand reviews: no trace of markup, negations split, and fast when seen before."""
    tokenizer = Tokenizer.fit(bundled_texts)
    assert {"n't", "'s", "!", "...", "-", "10/10"} <= set(tokenizer.vocabulary)
    assert not {"br", "don't", "&quot;", "<"} & set(tokenizer.vocabulary[:2000])
    for review in bundled_texts[:100]:
        ids, offsets = tokenizer.encode_with_offsets(review)
        assert ids.tolist() == tokenizer.encode(review).tolist()
        words = tokenizer.words(review)
        for word, (start, end) in zip(words, offsets.tolist(), strict=True):
            if review[start:end].isalpha():
                assert review[start:end].lower() == word or word == "n't"
    start = time.perf_counter()
    for review in bundled_texts:
        tokenizer.encode(review)
    assert len(bundled_texts) / (time.perf_counter() - start) > 1500  # 20,000 on a quiet machine


def test_shorten_keeps_head_tail_or_a_quarter_head_and_the_rest_tail():
    ids = np.arange(1, 101, dtype=np.int32)
    assert shorten(ids, 8, "head").tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert shorten(ids, 8, "tail").tolist() == [93, 94, 95, 96, 97, 98, 99, 100]
    assert shorten(ids, 8, "head+tail").tolist() == [1, 2, 95, 96, 97, 98, 99, 100]


@given(st.integers(0, 50), st.integers(0, 60), st.sampled_from(["head", "tail", "head+tail"]))
def test_shorten_keeps_as_many_as_it_may_in_their_order(length, tokens, keep):
    ids = np.arange(length, dtype=np.int32)
    short = shorten(ids, tokens, keep)
    assert len(short) == (min(length, tokens) if tokens else length)
    assert short.dtype == ids.dtype
    assert (np.diff(short) > 0).all()

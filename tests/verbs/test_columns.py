"""Text in columns: widths, cuts and rows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.verbs.columns import cut, width_of, wrapped

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MARK = {"bg": 75, "bold": True}


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("film", 4), ("电影", 4), ("cafe\u0301", 4), ("café", 4), ("영화", 4),
     ("\u1106\u1167\u11bc", 2), ("ｆ", 2), ("😀", 2), ("❤", 1), ("❤\ufe0f", 2), ("⭐\ufe0f", 2),
     ("1\ufe0f\u20e3", 2)],
)  # fmt: skip
def test_width(text, columns):
    assert width_of(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("film", 4, "film"), ("films", 4, "fil…"), ("电影", 4, "电影"), ("电影好", 5, "电影…"),
     ("电影好", 4, "电…"),
     ("e\u0301" * 4, 4, "e\u0301" * 4), ("e\u0301" * 5, 4, "e\u0301" * 3 + "…"),
     ("a❤\ufe0fb", 3, "a…")],
)  # fmt: skip
def test_cut(text, columns, shown):
    assert cut(text, columns) == shown


@pytest.mark.parametrize(
    ("pieces", "rows"),
    [
        ([("a great film", {})], ["a great", "film"]),
        ([("a great  film  ", {})], ["a great", "film"]),
        ([("a\n\n b  c \nd", {})], ["a", "", " b  c", "d"]),
        ([("one ", {}), ("two", {}), (", ", {}), ("three", {})], ["one two,", "three"]),
        ([("one four", {}), (",", {})], ["one", "four,"]),  # a comma stays with its word
        ([("x", {}), (" strong ", {"bold": True})], ["x", " strong "]),  # a mark stays whole
        ([("a ", {}), ("好看的", MARK), ("。电影", {})], ["a", "好看的", "。电影"]),
        ([("x" * 18, {})], ["x" * 8, "x" * 8, "xx"]),
        ([("电影" * 5, {})], ["电影" * 2, "电影" * 2, "电影"]),
        ([("e\u0301" * 9, {})], ["e\u0301" * 8, "e\u0301"]),
        ([("ab cd ", {}), ("❤", MARK), ("\ufe0f!", {})], ["ab cd", "❤\ufe0f!"]),
        ([("a", {}), (" ", {}), (" ", {}), ("b", {})], ["a  b"]),
        ([], [""]),
    ],
)
def test_rows(pieces, rows):
    assert COLOUR.sub("", wrapped(pieces, 8)).split("\n") == rows


def test_a_mark_in_two_rows_is_coloured_in_both():
    first, second = wrapped([("x" * 12, MARK)], 8).split("\n")
    start = "\x1b[48;5;75m\x1b[1m"
    assert (first, second) == (f"{start}{'x' * 8}\x1b[0m", f"{start}xxxx\x1b[0m")


SIGNS = st.sampled_from(["a", "b", " ", "好", "e\u0301", "❤\ufe0f", "\n"])
LETTERS = st.lists(SIGNS, max_size=30).map("".join)


@given(st.lists(st.tuples(LETTERS, st.just({}))), st.integers(4, 30))
def test_rows_fit_and_lose_nothing_but_spaces(pieces, columns):
    rows = wrapped(pieces, columns).split("\n")
    assert "".join("".join(rows).split()) == "".join("".join(text for text, _ in pieces).split())
    assert all(width_of(row) <= columns for row in rows)
    paragraphs = "".join(text for text, _ in pieces).split("\n")
    for paragraph in paragraphs:  # one that fits is a row as it is
        if width_of(paragraph) <= columns:
            assert paragraph.rstrip(" ") in rows

"""Rows as they stand in their files, and what is wrong with them."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.inference import rows
from reelsense.inference.rows import read_rows

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
TABLE = st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=12)


def read(data, kind="csv", text_column=None):
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    header, found = read_rows(io.BytesIO(data), "in", kind, text_column)
    return header, list(found)


def problems(found):
    return [None if row.problem is None else row.problem.kind for row in found]


@given(TABLE, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\n", "\r\n"]))
def test_a_csv_is_cut_into_its_records_without_losing_a_character(table, quoting, end):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=end).writerows([["id", "text", "x"], *table])
    header, found = read(text.getvalue())
    assert header.columns == ("id", "text", "x")
    assert [row.cells for row in found] == table
    assert header.line + end + "".join(row.raw + end for row in found) == text.getvalue()
    assert [row.text for row in found] == [
        cells[1] if row.problem is None else "" for row, cells in zip(found, table, strict=True)
    ]
    assert [row.number for row in found] == list(range(1, len(table) + 1))


def test_lines_are_counted_as_an_editor_counts_them():
    _, found = read('text\n"two\nlines"\n\nthird\n')
    assert [(row.number, row.line, row.text) for row in found] == [
        (1, 2, "two\nlines"),
        (2, 5, "third"),
    ]


@pytest.mark.parametrize("rest", ["", 'c,"quoted"\nd,x\n', "c,x\nd,y\n"])
def test_an_unbalanced_quote_takes_no_other_row_with_it(rest):
    _, found = read(f'id,text\na,fine\nb,"never closed\n{rest}')
    assert problems(found) == [None, "broken", *[None] * rest.count("\n")]
    assert (found[1].number, found[1].line, found[1].raw) == (2, 3, 'b,"never closed')
    assert "quote" in found[1].problem.said


def test_a_quote_that_is_never_closed_ends_where_rows_may_not_be_longer(monkeypatch):
    monkeypatch.setattr(rows, "ROW", 100)
    _, found = read('text\n"open\n' + "a line\n" * 50)
    assert problems(found) == ["broken", *[None] * 50]
    assert [row.line for row in found] == list(range(2, 53))


def test_a_line_without_end_is_not_read_into_memory(monkeypatch):
    monkeypatch.setattr(rows, "ROW", 100)
    with pytest.raises(BadInput, match="in: line 3 is longer than"):
        read("text\nfine\n" + "x" * 500)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("x" * (rows.LONGEST + 1), "too long"),
        ("x" * rows.LONGEST, None),
        ("caf\udce9", "encoding"),
        ("a\0b", "encoding"),
        ("...", None),
    ],
)
@pytest.mark.parametrize("kind_of_file", ["csv", "tsv", "jsonl", "text"])
def test_what_is_wrong_with_a_text(cell, kind, kind_of_file):
    if kind_of_file == "text":
        data = f"{cell}\nfine\n"
    elif kind_of_file == "jsonl":
        data = f'{{"text": "{cell}"}}\n{{"text": "fine"}}\n'
        kind = "broken" if cell in ("a\0b", " \t") else kind  # no JSON
    else:
        quoted = cell or '""'
        data = f"text\n{quoted}\nfine\n"
        if cell == " \t" and kind_of_file == "tsv":
            kind = "broken"
    _, found = read(data, kind_of_file)
    assert problems(found) == [kind, None]


def test_an_odd_byte_anywhere_in_a_row_is_said():
    _, found = read(b"id,text\n\xe9,fine\nb,fine\n")
    assert problems(found) == ["encoding", None]
    assert "0xe9" in found[0].problem.said


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"text": null}', "null"),
        ('{"other": "x"}', "null"),
        ('{"text": 17}', "broken"),
        ('{"text": "half \\ud83d"}', "encoding"),
        ("[1, 2]", "broken"),
        ("{", "broken"),
        ("[" * 100_000, "broken"),
        ('{"text": ""}', "empty"),
    ],
)
def test_a_line_of_json_that_cannot_be_scored_is_one_row(line, kind):
    header, found = read(f'{{"text": "first"}}\n{line}\n\n{{"text": "fine"}}\n', "jsonl")
    assert header.text == "text"
    assert [(row.number, row.line) for row in found] == [(1, 1), (2, 2), (3, 4)]
    assert problems(found) == [None, kind, None]


def test_the_first_object_may_come_late():
    header, found = read('nothing\n[1]\n{"text": "fine"}\n', "jsonl")
    assert (header.columns, problems(found)) == (("text",), ["broken", "broken", None])


def test_a_mark_of_utf_8_is_no_part_of_the_first_cell():
    for kind, data in (
        ("csv", "text\nfine\n"),
        ("jsonl", '{"text": "fine"}\n'),
        ("text", "fine\n"),
    ):
        header, found = read(b"\xef\xbb\xbf" + data.encode(), kind)
        assert (header.columns, found[0].text) == (("text",), "fine")


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        ("", "csv", "the file is empty"),
        ("", "jsonl", "the file is empty"),
        ("a,b\n1,2\n", "csv", "no column looks like the text.*'a', 'b'"),
        ('{"a": 1}\n', "jsonl", "no column looks like the text.*'a'"),
        ("text,text\n", "csv", "two columns are called 'text'"),
        ("text\rfine\r", "csv", "a carriage return ends no line"),
        ('"text\n', "csv", r"the header \(line 1\) cannot be read"),
        ("no json\n", "jsonl", "no line is a JSON object"),
        (b"\xff\xfet\0", "csv", "UTF-16"),
        (b"t\xe9xt\n", "csv", "the header is not UTF-8"),
    ],
)
def test_what_leaves_no_rows_to_speak_of_is_an_error(data, kind, said):
    with pytest.raises(BadInput, match=f"^in: .*{said}"):
        read(data, kind)


def test_plain_text_has_no_columns_to_name():
    with pytest.raises(BadInput, match="--text-column"):
        read("a\n", "text", "review")
    _, found = read("a\r\nb", "text")
    assert [row.text for row in found] == ["a", "b"]


def test_rows_come_one_at_a_time():
    lines = iter([b"text\n", *[b"fine\n"] * 5])

    class Once(io.RawIOBase):
        def readline(self, size=-1):
            return next(lines)

    _, found = read_rows(Once(), "in", "csv", None)
    next(found)
    assert len(list(lines)) == 4


def test_numbers_and_objects_are_as_json_has_them():
    line = '{"text": "fine", "id": 12345678901234567890, "x": 1.50, "x": [1]}'
    _, found = read(line + "\n", "jsonl")
    assert found[0].raw == line
    assert found[0].cells == json.loads(line)

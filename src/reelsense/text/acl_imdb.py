"""The official aclImdb (Maas et al. 2011), as a folder or as its .tar.gz streamed unpacked.

Gives plain rows; knows nothing of `Reviews`. Names inside an archive are parsed, never opened.
"""

import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reelsense.errors import BadInput

PARTS = ("train", "test", "unsup")
_GROUPS = {
    "train": ("train/neg", "train/pos"),
    "test": ("test/neg", "test/pos"),
    "unsup": ("train/unsup",),
}
_GROUP_LABELS = {"neg": 0, "pos": 1, "unsup": -1}

# The names that count inside aclImdb. They are only ever parsed, never opened as paths.
_ACL_NAME = re.compile(
    r"(?:\./)?(?:aclImdb/)?(?P<split>train|test)/"
    r"(?:(?P<group>pos|neg|unsup)/(?P<file>(?P<number>[0-9]{1,9})_[0-9]{1,3})"
    r"|urls_(?P<urls>pos|neg|unsup))\.txt"
)
_ACL_LARGEST = 16 << 20  # bytes; the largest real member (urls_unsup.txt) has 2.5 million

_Wanted = Callable[[str], bool]
_FETCH = "fetch it with `reelsense download imdb`"


class AclReview(NamedTuple):
    """A review of aclImdb; its text may be empty."""

    id: str  # "train/pos/0_9"
    text: str
    label: int  # 1 positive, 0 negative, -1 none
    film: int  # -1 where it is not known
    part: str  # "train", "test" or "unsup"


def read_acl_imdb(path: Path, parts: Sequence[str]) -> list[AclReview]:
    """Read a folder or archive, sorted whatever its order: train, test, unsup; neg, pos; ID.

    Raises:
        BadInput: it is not aclImdb, lacks one of the parts, or is broken.
        OSError: a file cannot be read.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise BadInput(f"unknown part {unknown[0]!r}; aclImdb has train, test and unsup")
    groups = [group for part in PARTS if part in parts for group in _GROUPS[part]]

    def wanted(name: str) -> bool:
        match = _ACL_NAME.fullmatch(name)
        return match is not None and _group(match) in groups

    found: dict[tuple[int, int], tuple[str, str]] = {}  # (group, ID) -> id, text
    films: dict[int, list[int]] = {}
    members = _folder_members if path.is_dir() else _tar_members
    for name, data in members(path, wanted):
        match = _ACL_NAME.fullmatch(name)
        assert match is not None
        group = groups.index(_group(match))
        text = _decode_member(path, name, data)
        if match["urls"]:
            films[group] = _films_of_urls(text)
        else:
            found[group, int(match["number"])] = f"{groups[group]}/{match['file']}", text
    for group in range(len(groups)):
        if not any(key[0] == group for key in found):
            raise BadInput(
                f"{path}: not the whole aclImdb, there are no reviews in {groups[group]}; {_FETCH}"
            )
    return [
        AclReview(
            *found[group, number],
            label=_GROUP_LABELS[groups[group].rpartition("/")[2]],
            film=_entry(films.get(group, []), number),
            part=_part(groups[group]),
        )
        for group, number in sorted(found)
    ]


def _group(match: re.Match[str]) -> str:
    return f"{match['split']}/{match['group'] or match['urls']}"


def _part(group: str) -> str:
    return "unsup" if group.endswith("unsup") else group.partition("/")[0]


def _entry(films: list[int], index: int) -> int:
    return films[index] if index < len(films) else -1


def _films_of_urls(text: str) -> list[int]:
    """urls_*.txt: line ID (from 0) is the page of the film of review ID."""
    matches = (re.search(r"/title/tt([0-9]{1,18})", line) for line in text.split("\n"))
    return [int(match[1]) if match else -1 for match in matches]


def _decode_member(path: Path, name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: {name} is not UTF-8 (byte {error.start + 1}); {_FETCH}") from error


def _folder_members(path: Path, wanted: _Wanted) -> Iterator[tuple[str, bytes]]:
    root = path / "aclImdb" if (path / "aclImdb").is_dir() else path
    folders = [root / name for name in ("train", "test") if (root / name).is_dir()]
    if not folders:
        raise BadInput(
            f"{path}: a folder, but not aclImdb (no train or test inside); name a file, or {_FETCH}"
        )
    for split in folders:
        groups = [split / group for group in _GROUP_LABELS]
        for folder in [split, *(group for group in groups if group.is_dir())]:
            for entry in os.scandir(folder):
                name = Path(entry.path).relative_to(root).as_posix()
                if wanted(name) and entry.is_file():
                    yield name, Path(entry.path).read_bytes()


def _tar_members(path: Path, wanted: _Wanted) -> Iterator[tuple[str, bytes]]:
    """Stream the archive through memory.

    gzip sits under tarfile on purpose: tarfile's own "r|gz" neither checks the CRC nor notices
    a file cut between two members.
    """
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if not member.isreg() or not wanted(member.name):
                    continue
                if member.size > _ACL_LARGEST:
                    raise BadInput(f"{path}: {member.name} is too large for a review; {_FETCH}")
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
                archive.members = []  # type: ignore[attr-defined]  # or it keeps 100,000 headers
            end = archive.offset
            while stream.read(1 << 20):
                pass
            # A whole archive ends in zero blocks, padded to 10 kB by the usual programs. Fewer
            # bytes: it was cut. Many more: tarfile gave up at a damaged header in the middle.
            if not 512 <= stream.tell() - end <= 1 << 20:
                raise tarfile.ReadError("unexpected end of data")
    except gzip.BadGzipFile as error:
        raise BadInput(f"{path}: not a whole .tar.gz ({error}); {_FETCH} again") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: the archive is broken or cut short; {_FETCH} again") from error

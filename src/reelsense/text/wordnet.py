"""Synonyms from WordNet 3.0 (Fellbaum, ed.: WordNet: An Electronic Lexical Database, 1998).

Its files come as a Python package, the extra `synonyms`. They are read as text, in the format of
wndb(5WN), and the package is never imported. It carries WordNet 3.3, too, but the licence beside
3.0 alone.

Knows no tokenizer and no review.
"""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput

PACKAGE: Final = "wn"
PACKAGE_VERSION: Final = "0.0.23"
PACKAGE_SHA256: Final = {
    "wordnet-3.0/data.adj": "f8a6085616e67bf373d782a4f110102f74fe09891c494f66d9983b62a994c4bb",
    "wordnet-3.0/data.adv": "beda2c54c618137912706c62611cdbb60d26708d9fc96ed8fbe5adc36673762e",
    "wordnet-3.0/data.noun": "0be5cc3ab9bf4dc907652ab8f72500b53f66dacf42b89e2b04349a04226a7db2",
    "wordnet-3.0/data.verb": "7ea10c680e97e21a549169fce62bbcd8be8876b87063f4ff0d873dfb029ac331",
    "wordnet-3.0/index.sense": "69f1e12f3fe9bc1b40c57314082d256bcc1b22a7d361c8b166d6fd17ea0ca6ac",
}
# The part of speech of each type of sense; 5 are adjectives that say more of another.
PARTS: Final = dict(zip("12345", ("noun", "verb", "adj", "adv", "adj"), strict=True))
# Share of a word's uses that a sense must have: a twentieth of the words of IMDB can be replaced.
# With all senses it is a tenth, but "know" gives way to "bed"; at a quarter, a fortieth.
LEAST_USE: Final = 0.1


def synonyms(vocabulary: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of words, in rising order, and of the words that share a synset with each.

    Both (N,): each pair of a vocabulary in lower case stands there once in either direction. Both
    words are used in that sense for at least `LEAST_USE` of the times (`_uses`).
    WordNet knows base forms: "film" has synonyms, "films" has none. A name, which it writes with a
    capital, and a lemma of several words ("motion_picture") are no words of such a vocabulary.

    Raises:
        BadInput: WordNet is not installed, or a file is another one.
    """
    rows = {word: row for row, word in enumerate(vocabulary)}
    uses = _uses(_package_file("wordnet-3.0/index.sense"))
    pairs: set[tuple[int, int]] = set()
    for part in sorted(set(PARTS.values())):
        for offset, lemmas in _synsets(_package_file(f"wordnet-3.0/data.{part}")):
            members = {
                rows[lemma]
                for lemma in lemmas
                if lemma in rows and uses.get((lemma, part, offset), 0.0) >= LEAST_USE
            }
            pairs.update(permutations(members, 2))
    words, others = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return words, others


def _uses(path: Path) -> Mapping[tuple[str, str, str], float]:
    """Return the share of a lemma's uses that each synset has, by part of speech and offset.

    After the texts in which senses were marked (SemCor); one use more of each sense than were
    found there, so that of a word that was not each has the same. A line of the file is
    "lemma%type:... offset number uses".
    """
    found: Counter[tuple[str, str, str]] = Counter()
    of_lemma: Counter[str] = Counter()
    with path.open(encoding="ascii") as file:
        for line in file:
            key, offset, _, uses = line.split()
            lemma, _, of_sense = key.partition("%")
            found[lemma, PARTS[of_sense[0]], offset] += int(uses) + 1
            of_lemma[lemma] += int(uses) + 1
    return {sense: uses / of_lemma[sense[0]] for sense, uses in found.items()}


def _synsets(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the offset and the lemmas of each synset of a data file.

    A line is "offset file type count lemma id lemma id ... | gloss", the count hexadecimal; lines
    of the licence begin with spaces. An adjective may say where it stands: "galore(ip)".
    """
    with path.open(encoding="ascii") as file:
        for line in file:
            if not line.startswith(" "):
                fields = line.partition("|")[0].split()
                lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                yield fields[0], [lemma.partition("(")[0] for lemma in lemmas]


def _package_file(name: str) -> Path:
    """The file of the package, found without importing it and checked."""
    try:
        files = importlib.metadata.files(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise BadInput(
            "--augment synonym: WordNet is not installed; pip install 'reelsense[synonyms]', or "
            "choose neighbour"
        ) from error
    found = [file for file in files or [] if file.as_posix().endswith(f"/{name}")]
    path = Path(str(found[0].locate())) if found else Path(name)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        digest = ""
    if digest != PACKAGE_SHA256[name]:
        raise BadInput(
            f"--augment synonym: {path} is not the file of {PACKAGE} {PACKAGE_VERSION}; pip "
            f"install --force-reinstall {PACKAGE}=={PACKAGE_VERSION}, or choose neighbour"
        )
    return path

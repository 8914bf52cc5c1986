"""Does augmentation keep the label? What the package's strong model says of altered reviews.

    python benchmarks/augmentation.py [--reviews N]

Reviews of films that the guards have not seen (the validation part of `reelsense train`) are
altered once in each way, with the guards, with guards that know the labels of a hundredth of the
training reviews alone, and without any. Judge is `accurate`; it counts where it was sure before,
that is where it gave a label rather than "uncertain". Needs the extra `synonyms`. Writes
results/augmentation.csv and results/augmentation.md; with --reviews, only prints what N of the
reviews say.
"""

import argparse
import csv
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import reelsense
from reelsense.atomic import write_atomically
from reelsense.evaluation.metrics import wilson_interval
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import split
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.augment import (
    ALTERED,
    Guards,
    altered,
    as_table,
    class_log_odds,
    make_guards,
    pairs_of_neighbours,
    pairs_of_synonyms,
)
from reelsense.training.batches import Examples, Ids
from reelsense.training.measure import code_version
from reelsense.vectors.glove import BUNDLED, WordVectors, load_vectors

RESULTS = Path(__file__).parent.parent / "results"
JUDGE = "accurate"
KINDS = (*ALTERED, "eda")
STRENGTHS = (0.1, 0.2)
SEED = 0
FEW = 0.01  # of the training reviews, as with few labels
AT_MOST = 0.01  # of the reviews may turn
ALL, SCARCE, NONE = "all labels", "1% of the labels", "none"

Chances = NDArray[np.float64]
Judge = Callable[[Sequence[Ids]], Chances]
Pair = tuple[Guards, Guards]  # with neighbours to put in, and with synonyms


@dataclass(frozen=True, eq=False)
class Material:
    """Every word of the reviews, so that each can be written as it was read, and two parts."""

    vocabulary: tuple[str, ...]
    vectors: WordVectors
    training: Examples
    held_out: list[Ids]


@dataclass(frozen=True)
class Row:
    """What one way of altering did; shares are of the reviews that the judge was sure of.

    `turned` crossed one half, and lies from `low` to `high` (Wilson, 95%); `turned_surely` got the
    other label; `uncertain` got none. `turned_of_all` is of all reviews, also of those that the
    judge had called uncertain. `changed` is the mean share of a review's words that are not where,
    or what, they were.
    """

    kind: str
    strength: float
    guards: str
    changed: float
    reviews: int
    sure: int
    turned: float
    low: float
    high: float
    turned_surely: float
    uncertain: float
    turned_of_all: float


def read_material() -> Material:
    reviews = read_reviews("bundled")
    parts = split(reviews)
    tokenizer = Tokenizer.fit(reviews.texts, min_count=1)
    ids = [tokenizer.encode(text) for text in reviews.texts]
    training = Examples([ids[row] for row in parts.train], reviews.labels[parts.train])
    held_out = [ids[row] for row in parts.validation if len(ids[row])]
    vectors = load_vectors(BUNDLED, tokenizer.vocabulary)
    return Material(tokenizer.vocabulary, vectors, training, held_out)


def guards_to_compare(material: Material) -> dict[str, Pair]:
    training = material.training
    order = np.random.default_rng(SEED).permutation(len(training))
    few = training.take(order[: round(FEW * len(training))])
    guarded = both_guards(material, training)
    return {
        ALL: guarded,
        SCARCE: both_guards(material, few),
        NONE: without_guards(material, guarded[0]),
    }


def both_guards(material: Material, training: Examples) -> Pair:
    words, vectors = material.vocabulary, material.vectors
    return make_guards(words, vectors, training), make_guards(words, vectors, training, True)


def without_guards(material: Material, guards: Guards) -> Pair:
    """Any word may go, and any word in use gives way to any of its nearest, or its synonyms."""
    words, size = material.vocabulary, len(material.vocabulary)
    in_use = class_log_odds(material.training, size)[1]
    nothing = np.zeros(size, np.bool_)

    def giving_way(pairs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Guards:
        substitutes, choices = as_table(*pairs, size)
        return Guards(nothing, substitutes, choices, guards.ends, nothing)

    nearest = pairs_of_neighbours(words, material.vectors, in_use)
    return giving_way(nearest), giving_way(pairs_of_synonyms(words, in_use))


def measure(
    judge: Judge, confidence: float, ids: Sequence[Ids], compared: dict[str, Pair]
) -> list[Row]:
    """A row for each kind, strength and guards. `judge`: reviews to P(positive)."""
    before = judge(ids)
    rows = []
    for name, (by_neighbours, by_synonyms) in compared.items():
        for kind in KINDS:
            guards = by_synonyms if kind == "synonym" else by_neighbours
            for strength in STRENGTHS:
                new = altered(ids, kind, strength, guards, np.random.default_rng(SEED))
                changed = float(np.mean(list(map(share_changed, ids, new))))
                found = counted(before, judge(new), confidence)
                rows.append(Row(kind, strength, name, changed, **found))
                print(rows[-1], file=sys.stderr)
    return rows


def counted(before: Chances, after: Chances, confidence: float) -> dict[str, float]:
    sure, still = (np.maximum(p, 1 - p) >= confidence for p in (before, after))
    turned = (before >= 0.5) != (after >= 0.5)
    n, of_sure = int(sure.sum()), int((turned & sure).sum())
    low, high = wilson_interval(of_sure, n)
    return {
        "reviews": len(before),
        "sure": n,
        "turned": of_sure / n,
        "low": low,
        "high": high,
        "turned_surely": int((turned & sure & still).sum()) / n,
        "uncertain": int((sure & ~still).sum()) / n,
        "turned_of_all": float(turned.mean()),
    }


def share_changed(old: Ids, new: Ids) -> float:
    """Words taken out or put in, else places that hold another word than before."""
    if len(old) != len(new):
        return abs(len(old) - len(new)) / len(old)
    return float((old != new).mean())


def as_csv(rows: Sequence[Row], origin: dict[str, str]) -> str:
    text = io.StringIO(newline="")
    columns = [*(field.name for field in fields(Row)), *origin]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        figures = asdict(row)
        for name, value in figures.items():
            if isinstance(value, float) and name != "strength":
                figures[name] = f"{value:.4f}"
        writer.writerow(figures | origin)
    return text.getvalue()


def as_page(rows: Sequence[Row], judge: str) -> str:
    first = rows[0]
    by_guards: dict[tuple[str, float], dict[str, Row]] = {}
    for row in rows:
        by_guards.setdefault((row.kind, row.strength), {})[row.guards] = row
    lines = [
        f"How many reviews turn when they are altered: of {first.reviews:,} bundled reviews of "
        f"held-out films,\nthe {first.sure:,} to which {judge} gave a label rather than "
        "“uncertain”,\nthose whose probability then lies on the other side of one half. In "
        "brackets Wilson's 95%\ninterval, behind it the mean share of a review's words that "
        "changed (of a shuffled review, of places\nthat hold another word). With guards at most "
        f"{AT_MOST:.0%} may turn.\nMade by `python benchmarks/augmentation.py`, seed {SEED}.\n\n"
        "The judge has learned from these reviews, as from all bundled ones: it knows how they "
        "end, and is\nsurer of them than of others. In augmentation.csv `turned_of_all` counts "
        "the reviews that it was not\nsure of, too.\n",
        f"| kind | strength | guards: {ALL} | guards: {SCARCE} | no guards |",
        "|---|---|---|---|---|",
    ]
    for (kind, strength), found in by_guards.items():
        cells = " | ".join(cell(found[name]) for name in (ALL, SCARCE, NONE))
        lines.append(f"| {kind} | {strength} | {cells} |")
    return "\n".join(lines) + "\n"


def cell(row: Row) -> str:
    return f"{row.turned:.2%} ({row.low:.2%} to {row.high:.2%}), {row.changed:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, metavar="N", help="print what so many say")
    asked = parser.parse_args()
    material = read_material()
    order = np.random.default_rng(SEED).permutation(len(material.held_out))[: asked.reviews]
    model = reelsense.load(JUDGE)

    def judge(ids: Sequence[Ids]) -> Chances:
        texts = [" ".join(material.vocabulary[word] for word in row) for row in ids]
        return model.predict_proba(texts)[:, 1]

    ids = [material.held_out[row] for row in order]
    rows = measure(judge, model.confidence, ids, guards_to_compare(material))
    bundle = f"{JUDGE} {model.about['variant']} {model.about['seal'][:12]}"
    page = as_page(rows, bundle)
    print(page)
    if asked.reviews:
        return
    versions = {name: metadata.version(name) for name in ("numpy", "torch", "onnxruntime")}
    origin = {"seed": str(SEED), "judge": bundle, "commit": code_version(), **versions}
    origin["command"] = shlex.join(["python", *sys.argv])
    write_atomically(RESULTS / "augmentation.csv", as_csv(rows, origin))
    write_atomically(RESULTS / "augmentation.md", page)


if __name__ == "__main__":
    main()

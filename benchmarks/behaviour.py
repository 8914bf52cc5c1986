"""What a model makes of the team's own templates: CheckList for film reviews (Ribeiro et al. 2020).

    python benchmarks/behaviour.py [--model FOLDER] [--show N]

The templates are in behaviour.toml, which explains its own notation. They are for measuring: never
trained on, and no model is chosen on their single cases. Which cases are taken depends on nothing
but their own words (a hash), so that the suite is the same everywhere and a new template moves few
of the others. `measure` takes any function from texts to P(positive). Asks the bundles in the
package and writes results/behaviour.csv, results/behaviour.md and README's table; with --model asks
that bundle alone, and only prints.
"""

import argparse
import csv
import hashlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import reelsense
from record import bundles_in_the_package, put_into_readme
from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.evaluation.metrics import wilson_interval
from reelsense.training.measure import code_version

TEMPLATES = Path(__file__).with_suffix(".toml")
RESULTS = Path(__file__).parent.parent / "results"
LABELS: dict[str, int | None] = {"positive": 1, "negative": 0, "neutral": None}
OTHER = {"positive": "negative", "negative": "positive"}
SWAPPED = 8  # fillers a sentence: four pairs that share no text, so that pairs are counted once
TOLERANCE = 0.1  # what a probability may move against the direction
SLOT = re.compile(r"\{(!?)(\w+)\}")
EITHER = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
STARRED = re.compile(r"\*(\w+)\*")
# "a one-off", "a unique" and "a European" are said with a consonant.
ARTICLE = re.compile(r"\b([Aa])(?= (?!one|uni|eu)[aeiou])", re.IGNORECASE)

Item = TypeVar("Item")
Fillers = Mapping[str, Any]
Chances = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """One question: a text, or two that belong together.

    `label` is the right answer (None: neutral, any answer will do). In a direction test the second
    text may be surer of its label than the first (`toward_label`) or less sure. `group` names the
    sentence of which an invariance case shows two forms.
    """

    texts: tuple[str, ...]
    label: int | None
    group: str = ""
    toward_label: bool = True


@dataclass(frozen=True)
class Capability:
    """A table of behaviour.toml, expanded."""

    name: str
    test: str
    about: str
    at_most: float | None
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Row:
    """What was measured of one capability. Shares are of the cases; None: no such case.

    `low` and `high` are Wilson's 95% interval. `spread_mean` and `spread_max` are of an invariance
    test: between the highest and the lowest probability of the forms of one sentence.
    """

    capability: str
    test: str
    n: int
    wrong: int
    share: float
    low: float
    high: float
    at_most: float | None
    wrong_of_positive: float | None
    wrong_of_negative: float | None
    wrong_of_neutral: float | None
    spread_mean: float | None
    spread_max: float | None


def measure(probabilities_of: Callable[[list[str]], NDArray[np.float64]]) -> list[Row]:
    """A row for every capability. `probabilities_of`: texts to P(positive), one number a text.

    Raises:
        BadInput: not one probability between 0 and 1 for every text.
    """
    capabilities = suite()
    chances = ask(probabilities_of, capabilities)
    return [row_of(capability, chances) for capability in capabilities]


def ask(
    probabilities_of: Callable[[list[str]], NDArray[np.float64]],
    capabilities: Sequence[Capability],
) -> dict[str, float]:
    """P(positive) for every text of the suite; each is asked for once, all in one call."""
    texts = list(
        dict.fromkeys(text for part in capabilities for case in part.cases for text in case.texts)
    )
    chances = np.asarray(probabilities_of(texts), dtype=np.float64)
    if chances.shape != (len(texts),) or not ((chances >= 0) & (chances <= 1)).all():
        raise BadInput(
            f"the model gave {chances.shape} numbers for {len(texts)} texts: one P(positive) "
            "between 0 and 1 is needed for each"
        )
    return dict(zip(texts, chances.tolist(), strict=True))


def row_of(capability: Capability, chances: Chances) -> Row:
    wrong = [error(capability.test, case, chances) > 0 for case in capability.cases]
    groups: dict[str, list[float]] = {}
    for case in capability.cases:
        groups.setdefault(case.group, []).extend(chances[text] for text in case.texts)
    spreads = [max(group) - min(group) for group in groups.values()]
    low, high = wilson_interval(sum(wrong), len(wrong))

    def share_of(label: int | None) -> float | None:
        of_label = [
            bad for bad, case in zip(wrong, capability.cases, strict=True) if case.label == label
        ]
        # A pair of an edited review has both labels, and so neither column.
        return float(np.mean(of_label)) if of_label and capability.test != "BOTH" else None

    return Row(
        capability=capability.name,
        test=capability.test,
        n=len(wrong),
        wrong=sum(wrong),
        share=float(np.mean(wrong)),
        low=low,
        high=high,
        at_most=capability.at_most,
        wrong_of_positive=share_of(1),
        wrong_of_negative=share_of(0),
        wrong_of_neutral=share_of(None),
        spread_mean=float(np.mean(spreads)) if capability.test == "INV" else None,
        spread_max=max(spreads) if capability.test == "INV" else None,
    )


def error(test: str, case: Case, chances: Chances) -> float:
    """How wrong the answer is, above 0 and up to 1; 0 for a right one."""
    p = [chances[text] for text in case.texts]
    if test == "INV":
        return abs(p[0] - p[1]) if (p[0] >= 0.5) != (p[1] >= 0.5) else 0.0
    if test == "DIR":
        toward = (p[1] - p[0]) * (1 if case.label == 1 else -1)
        against = -toward if case.toward_label else toward
        return against if against > TOLERANCE else 0.0
    labels = (1, 0) if test == "BOTH" else (case.label,)
    return max(_miss(chance, label) for chance, label in zip(p, labels, strict=True))


def _miss(chance: float, label: int | None) -> float:
    if (chance >= 0.5) == (label == 1):
        return 0.0
    # 0.5 itself is called positive: a miss for a negative text, if a small one.
    return max(2 * abs(chance - 0.5), 1e-9)


def suite(path: Path = TEMPLATES) -> list[Capability]:
    """All capabilities of the file, expanded; the same cases in the same order every time."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    shared = tables.pop("fillers")
    found = []
    for name, table in tables.items():
        cases = EXPAND[table["how"]](table, shared | table.get("fillers", {}))
        found.append(
            Capability(name, table["test"], table["about"], table.get("at_most"), tuple(cases))
        )
        if table["test"] == "BOTH":  # the same texts one by one
            single = [
                Case((text,), label)
                for case in cases
                for text, label in zip(case.texts, (1, 0), strict=True)
            ]
            found.append(
                Capability(f"{name}_texts", "MFT", "their texts one by one", None, tuple(single))
            )
    return found


def statements(table: Mapping[str, Any], fillers: Fillers) -> list[Case]:
    cases = []
    for side in OTHER:
        texts = [
            [tidy(text) for text in fill(template, side, fillers)]
            for template in templates_of(table, side)
        ]
        cases += [Case((text,), LABELS[side]) for text in sample(texts, table["cases"] // 2)]
    return cases


def additions(table: Mapping[str, Any], fillers: Fillers) -> list[Case]:
    """Pairs without and with the filler of the one slot that `added` names."""
    cases = []
    for side in OTHER:
        pairs = []
        for template in templates_of(table, side):
            slot = only_slot(template, table["added"])
            pairs.append(
                [
                    (tidy(text.replace(slot, "")), tidy(text.replace(slot, word)))
                    for text in fill(template, side, fillers, table["added"])
                    for word in words_for(slot[1:-1], side, fillers)
                ]
            )
        toward = table.get("toward_label", True)
        cases += [
            Case(pair, LABELS[side], pair[0], toward) for pair in sample(pairs, table["cases"] // 2)
        ]
    return cases


def swaps(table: Mapping[str, Any], fillers: Fillers) -> list[Case]:
    """Pairs of one sentence with different fillers in the one slot that `swap` names."""
    cases = []
    for side in LABELS:
        forms = [
            list(fill(template, side, fillers, table["swap"]))
            for template in templates_of(table, side)
        ]
        for form in sample(forms, table["cases"] // len(LABELS) // (SWAPPED // 2)):
            slot = only_slot(form, table["swap"])
            texts = [
                tidy(form.replace(slot, word)) for word in words_for(slot[1:-1], side, fillers)
            ]
            chosen = sorted(texts, key=by_hash)[:SWAPPED]
            pairs = zip(chosen[::2], chosen[1::2], strict=True)
            cases += [Case(pair, LABELS[side], form) for pair in pairs]
    return cases


def typos(table: Mapping[str, Any], fillers: Fillers) -> list[Case]:
    """Pairs without and with two neighbouring inner letters of the starred word exchanged."""
    cases = []
    for side in OTHER:
        pairs = []
        for template in templates_of(table, side):
            texts = [tidy(text) for text in fill(template, side, fillers)]
            pairs.append(
                [
                    (STARRED.sub(r"\1", text), STARRED.sub(word, text))
                    for text in texts
                    for starred in STARRED.findall(text)
                    for word in misspelt(starred)
                ]
            )
        cases += [Case(pair, LABELS[side], pair[0]) for pair in sample(pairs, table["cases"] // 2)]
    return cases


def edits(table: Mapping[str, Any], fillers: Fillers) -> list[Case]:
    return [
        Case((tidy(EITHER.sub(r"\1", review)), tidy(EITHER.sub(r"\2", review))), None)
        for review in table["reviews"]
    ]


EXPAND: dict[str, Callable[[Mapping[str, Any], Fillers], list[Case]]] = {
    "statements": statements,
    "additions": additions,
    "swaps": swaps,
    "typos": typos,
    "edits": edits,
}


def templates_of(table: Mapping[str, Any], side: str) -> list[str]:
    return [*table.get(side, []), *(table.get("both", []) if side in OTHER else [])]


def fill(template: str, side: str, fillers: Fillers, keep: Iterable[str] = ()) -> Iterator[str]:
    """Every way to fill the slots, but for those to `keep`. Twice the same slot, twice the word."""
    slots = dict.fromkeys(match[0] for match in SLOT.finditer(template) if match[2] not in keep)
    for words in product(*(words_for(slot[1:-1], side, fillers) for slot in slots)):
        text = template
        for slot, word in zip(slots, words, strict=True):
            text = text.replace(slot, word)
        yield text


def words_for(slot: str, side: str, fillers: Fillers) -> list[str]:
    name = slot.removeprefix("!")
    found = fillers[name[0].lower() + name[1:]]
    if isinstance(found, Mapping):
        found = found[OTHER[side] if slot.startswith("!") else side]
    words: list[str] = found
    return [word[0].upper() + word[1:] for word in words] if name[0].isupper() else words


def only_slot(template: str, names: Sequence[str]) -> str:
    (slot,) = {match[0] for match in SLOT.finditer(template) if match[2] in names}
    return slot


def tidy(text: str) -> str:
    return ARTICLE.sub(r"\1n", " ".join(text.split()))


def misspelt(word: str) -> list[str]:
    return [
        word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        for at in range(1, len(word) - 2)
        if word[at] != word[at + 1]
    ]


def by_hash(item: object) -> bytes:
    return hashlib.sha256(repr(item).encode()).digest()


def sample(lists: Sequence[Iterable[Item]], n: int) -> list[Item]:
    """The first n when all lists, each in the order of its hashes, take turns; none twice."""
    ordered = [sorted(set(items), key=by_hash) for items in lists]
    turns = (item for turn in zip_longest(*ordered) for item in turn if item is not None)
    return list(dict.fromkeys(turns))[:n]


def failures(capability: Capability, chances: Chances, n: int) -> list[str]:
    """The n worst wrong cases, a line each: P(positive) and text."""
    errors = [(error(capability.test, case, chances), case) for case in capability.cases]
    worst = sorted((pair for pair in errors if pair[0] > 0), key=lambda pair: -pair[0])[:n]
    return [
        "  " + " | ".join(f"{chances[text]:.2f} {text}" for text in case.texts) for _, case in worst
    ]


def as_csv(measured: dict[str, list[Row]], origin: dict[str, str]) -> str:
    text = io.StringIO(newline="")
    columns = [*(field.name for field in fields(Row)), "bundle", *origin]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for bundle, rows in measured.items():
        for row in rows:
            figures = {
                name: f"{value:.4f}" if isinstance(value, float) else value
                for name, value in asdict(row).items()
            }
            writer.writerow(figures | {"bundle": bundle} | origin)
    return text.getvalue()


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def as_table(rows: Sequence[Row]) -> str:
    lines = [
        "| capability | test | cases | wrong | 95% interval | at most | of positive | of negative "
        "| of neutral | spread |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = (
            ""
            if row.spread_mean is None or row.spread_max is None
            else f"{row.spread_mean:.2f}, {row.spread_max:.2f}"
        )
        cells = [
            row.capability,
            row.test,
            f"{row.n}",
            percent(row.share),
            f"{row.low:.1%} to {row.high:.1%}",
            percent(row.at_most),
            percent(row.wrong_of_positive),
            percent(row.wrong_of_negative),
            percent(row.wrong_of_neutral),
            spread,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_page(measured: dict[str, list[Row]], capabilities: Sequence[Capability]) -> str:
    """The tables of all bundles, and what they mean."""
    return "\n".join(
        [
            "The team's own templates, for measuring only.",
            "Made by `python benchmarks/behaviour.py`.",
            "",
            "MFT: the label is wrong; INV: the verdict changed; DIR: the probability moved by more "
            f"than {TOLERANCE}\nagainst the direction; BOTH: one of the two texts is wrong, or "
            "both. Spread: highest less lowest\nprobability of the forms of one sentence, mean and "
            "largest.",
            *(f"\n## {bundle}\n\n{as_table(rows)}" for bundle, rows in measured.items()),
            *(f"- {part.name}: {part.about}" for part in capabilities),
            "",
        ]
    )


def as_summary(measured: dict[str, list[Row]]) -> str:
    """README's table: a column a bundle, the share of wrong cases."""
    names = [f"`{bundle.split()[0]}`" for bundle in measured]
    lines = [
        "Made by `python benchmarks/behaviour.py`, which has the intervals too.",
        "",
        f"| wrong, of the team's own templates | {' | '.join(names)} | at most |",
        "|---|" + "---|" * len(names) + "---|",
    ]
    for rows in zip(*measured.values(), strict=True):
        shares = " | ".join(percent(row.share) for row in rows)
        what = f"{rows[0].capability} ({rows[0].n})"
        lines.append(f"| {what} | {shares} | {percent(rows[0].at_most)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="NAME", help="print what this one does, write nothing")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="worst failures of each")
    asked = parser.parse_args()
    names = [asked.model] if asked.model else bundles_in_the_package()
    capabilities = suite()
    measured: dict[str, list[Row]] = {}
    for name in names:
        model = reelsense.load(name)
        chances = ask(lambda texts, of=model: of.predict_proba(texts)[:, 1], capabilities)
        bundle = f"{model.about['name']} {model.about['variant']} {model.about['seal'][:12]}"
        measured[bundle] = [row_of(capability, chances) for capability in capabilities]
        for capability in capabilities if asked.show else ():
            print(f"{bundle}, {capability.name}, P(positive) and text:")
            print("\n".join(failures(capability, chances, asked.show)))
    page = as_page(measured, capabilities)
    print(page)
    if asked.model:
        return
    origin = {"commit": code_version(), "command": shlex.join(["python", *sys.argv])}
    write_atomically(RESULTS / "behaviour.csv", as_csv(measured, origin))
    write_atomically(RESULTS / "behaviour.md", page)
    put_into_readme("behaviour", as_summary(measured), "benchmarks/behaviour.py")


if __name__ == "__main__":
    main()

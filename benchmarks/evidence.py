"""Does the evidence tell the truth? Take out the words with most of it and see the answer fall.

    python benchmarks/evidence.py RUN [--reviews 500]

RUN is the folder of a finished run; the reviews are from its test part, by chance. Each method
ranks the words of a review by how much they speak for the label that the network gives. The first
k are deleted, the network reads what is left, and the probability of that label is measured:
comprehensiveness (DeYoung et al. 2020), its mean over all k being AOPC (Samek et al. 2017). The
methods:

- evidence: ours, exact, an output of the graph (relevance through the gates, Arras et al. 2017)
- Integrated Gradients (Sundararajan et al. 2017): captum, 50 steps from zero vectors
- occlusion: the fall of the logit when the word alone is deleted, a pass for every word
- chance: words in random order

Writes results/evidence.csv, results/evidence.md and README's table.
"""

import argparse
import csv
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from numpy.typing import NDArray

from record import put_into_readme
from reelsense.bundle import session
from reelsense.bundle.graph import build_graph
from reelsense.bundle.held_out import graph_logits, weights_of
from reelsense.evaluation.metrics import sigmoid
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import split
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import read_run
from reelsense.training.measure import code_version, load_network

ROOT = Path(__file__).parent.parent
REMOVED = (1, 2, 3, 5, 8, 12, 20, 30, 50)  # words
Ids = NDArray[np.int32]
Ranks = Callable[[Ids], NDArray[np.float64]]  # what each word adds to the logit


def of_evidence(model: bytes) -> Ranks:
    opened = session.open_session(model)
    return lambda ids: session.run(opened, [ids], ["evidence"])[0][0, : len(ids)]


def of_gradients(run: Path) -> Ranks:
    recipe, _ = read_run(run)
    network = load_network(run, recipe)

    def forward(ids: torch.Tensor) -> torch.Tensor:
        # captum repeats the ids for its steps; no row is padded.
        return network(ids, torch.full((len(ids),), ids.shape[1]))

    method = LayerIntegratedGradients(forward, network.embedding)

    def ranks(ids: Ids) -> NDArray[np.float64]:
        row = torch.from_numpy(ids.astype(np.int64))[None]
        # Row 0 of the table, padding, is the zero vector.
        found = method.attribute(row, torch.zeros_like(row), n_steps=50, internal_batch_size=10)
        return found.sum(2)[0].detach().numpy()

    return ranks


def of_occlusion(model: bytes) -> Ranks:
    def ranks(ids: Ids) -> NDArray[np.float64]:
        without = [np.delete(ids, place) for place in range(len(ids))]
        scores = graph_logits(model, [ids, *without])
        return scores[0] - scores[1:]

    return ranks


def of_chance() -> Ranks:
    chance = np.random.default_rng(1)
    return lambda ids: chance.random(len(ids))


def falls(model: bytes, reviews: Sequence[Ids], ranks: Ranks) -> tuple[NDArray[np.float64], float]:
    """Return by how much the probability of the label falls, (reviews, REMOVED), and the seconds
    that ranking a review takes.
    """
    whole = graph_logits(model, reviews)
    sides = np.where(whole >= 0, 1.0, -1.0)
    begin = time.perf_counter()
    orders = [
        np.argsort(-side * ranks(ids), kind="stable")
        for ids, side in zip(reviews, sides, strict=True)
    ]
    seconds = (time.perf_counter() - begin) / len(reviews)
    before = sigmoid(whole * sides)
    after = []
    for count in REMOVED:
        left = [np.delete(ids, order[:count]) for ids, order in zip(reviews, orders, strict=True)]
        after.append(before - sigmoid(graph_logits(model, left) * sides))
    return np.stack(after, axis=1), seconds


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean and its 95% bootstrap interval over the reviews."""
    chance = np.random.default_rng(0)
    means = values[chance.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def main() -> None:
    torch.set_num_threads(1)  # one review at a time: more threads wait for each other
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--reviews", type=int, default=500)
    arguments = parser.parse_args()
    recipe, _ = read_run(arguments.run)
    model = build_graph(recipe, weights_of(arguments.run), 1.0, "fp32")
    reviews = read_reviews()
    test = split(
        reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed
    ).test
    chosen = np.random.default_rng(0).permutation(test)[: arguments.reviews]
    tokenizer = Tokenizer.load(arguments.run / "tokenizer.json")
    ids = [tokenizer.encode(reviews.texts[row]) for row in chosen]
    ids = [row for row in ids if len(row) > max(REMOVED)]
    methods = {
        "evidence": of_evidence(model),
        "Integrated Gradients": of_gradients(arguments.run),
        "occlusion": of_occlusion(model),
        "chance": of_chance(),
    }
    found, seconds = {}, {}
    for name, ranks in methods.items():
        found[name], seconds[name] = falls(model, ids, ranks)
        print(name, found[name].mean(axis=0).round(3), f"{1000 * seconds[name]:.1f} ms", flush=True)
    write(arguments.run, len(ids), found, seconds)


def write(
    run: Path, reviews: int, found: dict[str, NDArray[np.float64]], seconds: dict[str, float]
) -> None:
    birth = {"commit": code_version(), "command": shlex.join(["python", *sys.argv])}
    ours = found["evidence"].mean(axis=1)
    rows = []
    for name, values in found.items():
        mean, low, high = interval(values.mean(axis=1))
        apart, apart_low, apart_high = interval(ours - values.mean(axis=1))
        rows.append(
            {
                "method": name,
                "reviews": reviews,
                "aopc": f"{mean:.4f}",
                "aopc_low": f"{low:.4f}",
                "aopc_high": f"{high:.4f}",
                "evidence_minus_this": f"{apart:.4f}",
                "difference_low": f"{apart_low:.4f}",
                "difference_high": f"{apart_high:.4f}",
                **{
                    f"fall_after_{count}": f"{fall:.4f}"
                    for count, fall in zip(REMOVED, values.mean(axis=0), strict=True)
                },
                "milliseconds_a_review": f"{1000 * seconds[name]:.2f}",
                **birth,
            }
        )
    with (ROOT / "results" / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    counts = ", ".join(map(str, REMOVED))
    lines = [
        f"Mean fall of the probability of the label when {counts} words are taken out",
        f"({reviews} held-out reviews; 95% bootstrap intervals over them).",
        "Made by `python benchmarks/evidence.py RUN`.",
        "",
        "| words ranked by | mean fall (AOPC) | ours minus this | after 5 | after 20 | ms each |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        apart = (
            f"{row['evidence_minus_this']} ({row['difference_low']} to {row['difference_high']})"
        )
        cells = (
            row["method"],
            f"{row['aopc']} ({row['aopc_low']} to {row['aopc_high']})",
            "" if row["method"] == "evidence" else apart,
            row["fall_after_5"],
            row["fall_after_20"],
            row["milliseconds_a_review"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (ROOT / "results" / "evidence.md").write_text(text, encoding="utf-8")
    put_into_readme("evidence", text, "benchmarks/evidence.py")


if __name__ == "__main__":
    main()

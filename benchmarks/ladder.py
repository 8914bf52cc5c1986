"""The ladder: what each step from the plain BiLSTM to the shipped networks is worth.

    python benchmarks/ladder.py "plain BiLSTM=runs/plain-0,runs/plain-1" "+ pooling=runs/..." ...

The steps in their order, each with its finished runs, all of the same split; a run's place in the
list is its pair in the step before. Runs of `--trial` are measured on their test part here, for the
first time: this is the final check, after everything has been chosen. A run that was measured
before is not measured again, so that a ladder can grow. Writes results/accuracy_ladder.csv (a row a
run), .md and .png.
"""

import csv
import json
import shlex
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import behaviour
import short_texts
from reelsense.bundle.graph import build_graph, can_quantise
from reelsense.bundle.held_out import graph_logits, weights_of
from reelsense.evaluation.metrics import mcnemar, sigmoid, wilson_interval
from reelsense.evaluation.plain_plots import BASELINE, INK, NETWORK, QUIET, canvas, head, save
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews, read_reviews
from reelsense.text.splits import split
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import read_run
from reelsense.training.machine import find_machine
from reelsense.training.measure import evaluate_run, load_network, logits
from reelsense.training.prepare import as_read

RESULTS = Path(__file__).parent.parent / "results"
CAPABILITIES = ("plain", "negation", "contrast", "time", "names", "places", "identity", "edits")


def answers(run: Path, recipe: Recipe, texts: list[str]) -> NDArray[np.float64]:
    """P(positive) of texts after a run's network."""
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    machine = find_machine("auto", None, recipe.precision)
    ids = [tokenizer.encode(text) for text in texts]
    examples = as_read(ids, np.zeros(len(ids), np.int8), recipe)
    network = load_network(run, recipe).to(machine.device)
    with machine.workers() as workers:
        return sigmoid(logits(network, examples, machine, workers, machine.bf16))


def right(run: Path) -> NDArray[np.bool_]:
    """Which reviews of the test part the run has right, in their order."""
    with (run / "evaluation" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([(float(row["logit"]) >= 0) == (row["label"] == "1") for row in rows])


def speed(run: Path, recipe: Recipe, reviews: Reviews) -> tuple[float, float]:
    """Reviews a second of the graph on test reviews as token ids, on all cores, and its MB."""
    variant = "int8" if can_quantise(recipe) else "fp32"
    graph = build_graph(recipe, weights_of(run), 1.0, variant)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    ids = [tokenizer.encode(text) for text in reviews.texts[:2000]]
    graph_logits(graph, ids[:100])
    started = time.perf_counter()
    graph_logits(graph, ids)
    return len(ids) / (time.perf_counter() - started), len(graph) / 1e6


def without_folders(command: str) -> str:
    """The command with the names of files alone: where they lay is one machine's affair."""
    return shlex.join(word.rpartition("/")[2] for word in shlex.split(command))


def row_of(step: str, run: Path, reviews: Reviews) -> dict[str, object]:
    """Measure one run."""
    recipe, _ = read_run(run)
    metrics = json.loads((run / "metrics.json").read_text())
    if not (run / "evaluation" / "metrics.json").exists():
        machine = find_machine("auto", None, recipe.precision)
        evaluate_run(run, recipe, reviews, None, "test", run / "evaluation", machine)
    checked = json.loads((run / "evaluation" / "metrics.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    test, of_linear = checked["test"], checked["baseline"]["test"]["accuracy"]
    parts = split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    a_second, megabytes = speed(run, recipe, reviews.take(parts.test))
    texts, labels = short_texts.snippets()
    of_sentences = float(((answers(run, recipe, texts) >= 0.5) == labels).mean())
    measured = behaviour.measure(lambda asked: answers(run, recipe, asked))
    wrong = {f"wrong_{row.capability}": round(row.share, 4) for row in measured}
    return {
        "step": step,
        "run": run.name,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "split_seed": recipe.split_seed,
        "test_n": test["n"],
        "accuracy": round(test["accuracy"], 5),
        "low": round(test["accuracy_interval"][0], 5),
        "high": round(test["accuracy_interval"][1], 5),
        "linear_accuracy": round(of_linear, 5),
        "above_linear": round(test["accuracy"] - of_linear, 5),
        "mcnemar_p_linear": f"{checked['mcnemar']['p_value']:.3g}",
        "validation_accuracy": round(metrics["validation"]["accuracy"], 5),
        "rotten_tomatoes": round(of_sentences, 4),
        **{key: wrong.get(key, "") for key in (f"wrong_{name}" for name in CAPABILITIES)},
        "parameters": metrics["parameters"],
        "graph_mb": round(megabytes, 2),
        "reviews_per_second": round(a_second),
        "training_seconds": round(metrics["seconds"]),
        "weights_sha256": metrics["weights_sha256"],
        "machine": f"{environment['device']} {environment['processor']}",
        "torch": environment["torch"],
        "commit": environment["commit"],
        "command": without_folders(environment["command"]),
    }


def add_differences(steps: dict[str, list[Path]], rows: list[dict[str, object]]) -> None:
    """Add to each row what its run has right beyond its pair in the step before, with McNemar."""
    before: list[Path] = []
    by_run = {row["run"]: row for row in rows}
    for runs in steps.values():
        for place, run in enumerate(runs):
            row = by_run[run.name]
            row["difference"] = row["mcnemar_p"] = ""
            if before:
                paired = mcnemar(right(run), right(before[min(place, len(before) - 1)]))
                row["difference"] = round(paired["difference"], 5)
                row["mcnemar_p"] = f"{paired['p_value']:.3g}"
        before = runs


def table(steps: dict[str, list[Path]], rows: list[dict[str, object]]) -> str:
    """The ladder in Markdown, a line a step, means over its runs."""
    by_run = {row["run"]: row for row in rows}

    def mean(step: str, key: str) -> float:
        return statistics.mean(float(str(by_run[run.name][key])) for run in steps[step])

    linear = float(str(rows[0]["linear_accuracy"]))
    n = int(str(rows[0]["test_n"]))
    low, high = wilson_interval(round(linear * n), n)
    lines = [
        f"Accuracy on {n:,} film-disjoint held-out reviews, means over the runs of a step; the "
        f"linear baseline has {linear:.2%} there ({low:.1%} to {high:.1%}).",
        "Gain: over the paired run of the step before, with McNemar's p of the first pair. "
        "Sentences: Rotten Tomatoes snippets right. Wrong: of the team's templates.",
        "Made by `python benchmarks/ladder.py` from `accuracy_ladder.csv`.",
        "",
        "| step | runs | accuracy | gain | p | above linear | sentences | plain, negation, time, "
        "identity wrong | MB | reviews/s | training s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for step, runs in steps.items():
        first = by_run[runs[0].name]
        gain = f"{100 * mean(step, 'difference'):+.2f}" if first["difference"] != "" else ""
        wrong = ", ".join(
            f"{mean(step, f'wrong_{name}'):.0%}"
            for name in ("plain", "negation", "time", "identity")
        )
        lines.append(
            f"| {step} | {len(runs)} | {mean(step, 'accuracy'):.2%} | {gain} "
            f"| {first['mcnemar_p']} | {100 * mean(step, 'above_linear'):+.2f} "
            f"| {mean(step, 'rotten_tomatoes'):.1%} | {wrong} | {mean(step, 'graph_mb'):.1f} "
            f"| {mean(step, 'reviews_per_second'):,.0f} "
            f"| {mean(step, 'training_seconds'):,.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw(steps: dict[str, list[Path]], rows: list[dict[str, object]], path: Path) -> None:
    """A dot a run, with its interval, and the linear baseline as a line."""
    by_run = {row["run"]: row for row in rows}
    figure, axes = canvas(8.2, 0.62 * len(steps) + 1.6)
    linear = float(str(rows[0]["linear_accuracy"]))
    axes.axvline(100 * linear, color=BASELINE, linestyle=":", linewidth=2)
    beside = f"linear {linear:.1%}  "
    axes.text(100 * linear, -0.62, beside, color=BASELINE, ha="right", fontsize=9)
    for place, runs in enumerate(steps.values()):
        for number, run in enumerate(runs):
            low, here, high = (
                100 * float(str(by_run[run.name][key])) for key in ("low", "accuracy", "high")
            )
            height = place + 0.16 * (number - (len(runs) - 1) / 2)
            axes.plot([low, high], [height, height], color=QUIET, linewidth=1)
            axes.plot(here, height, marker="o", color=NETWORK, markersize=6)
        mean = statistics.mean(float(str(by_run[run.name]["accuracy"])) for run in runs)
        axes.text(
            1.01, place, f"{mean:.2%}", transform=axes.get_yaxis_transform(), va="center",
            color=INK, fontweight="bold",
        )  # fmt: skip
    axes.set_yticks(range(len(steps)), list(steps))
    axes.set_ylim(len(steps) - 0.5, -0.8)
    axes.set_xlabel("accuracy on held-out films, %")
    head(axes, "The ladder", "a dot a run, its 95% interval, and the mean of each step")
    save(figure, path)


def main() -> None:
    steps: dict[str, list[Path]] = {}
    for argument in sys.argv[1:]:
        step, _, runs = argument.rpartition("=")
        steps[step] = [Path(run) for run in runs.split(",")]
    path = RESULTS / "accuracy_ladder.csv"
    known: dict[str, dict[str, object]] = {}
    if path.exists():
        with path.open(newline="") as file:
            known = {row["weights_sha256"]: dict(row) for row in csv.DictReader(file)}
    reviews = read_reviews("bundled")
    rows = []
    for step, runs in steps.items():
        for run in runs:
            digest = json.loads((run / "metrics.json").read_text())["weights_sha256"]
            row = known.get(digest) or row_of(step, run, reviews)
            rows.append(row | {"step": step, "run": run.name})
            print(step, run, rows[-1]["accuracy"], flush=True)
    add_differences(steps, rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = table(steps, rows)
    (RESULTS / "accuracy_ladder.md").write_text(text)
    draw(steps, rows, RESULTS / "accuracy_ladder.png")
    print(text)


if __name__ == "__main__":
    main()

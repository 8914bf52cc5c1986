"""A run to a bundle: build the graph, prove it, calibrate it, say what it is worth.

What a bundle says of reviews that it was not trained on comes from the held-out parts of runs: of
the run itself, or, where it learned from every review, of others with its recipe.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch

from reelsense import __version__
from reelsense.bundle import session
from reelsense.bundle.card import model_card
from reelsense.bundle.folder import (
    FORMAT,
    MODEL,
    PICTURES,
    TOKENIZER,
    TRAINED_ON,
    write_bundle,
)
from reelsense.bundle.graph import build_graph, has_evidence
from reelsense.bundle.held_out import (
    STATED_ERROR,
    cost_of_int8,
    figures_of,
    longest,
    read_held_out,
    weights_of,
)
from reelsense.bundle.int8 import to_levels
from reelsense.errors import BadInput, Failure
from reelsense.evaluation.plots import draw_reliability_pair, draw_risk_coverage
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import STARTING_WEIGHTS, read_history, read_run
from reelsense.training.measure import code_version, load_network
from reelsense.training.prepare import parts_of
from reelsense.training.start import learned_before

PARITY = 1e-5  # largest difference between the logits of the fp32 graph and torch's
INT8_LOSS = 0.001  # fall of validation accuracy from which on int8 is not worth it


def export(
    run: Path,
    folder: Path,
    reviews: Reviews,
    held_out: Sequence[Path] = (),
    variant: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the bundle of a finished run; return its bundle.json.

    Args:
        run: its folder.
        folder: of the bundle.
        reviews: those that the run and the held-out runs were split from.
        held_out: runs whose held-out reviews say what the bundle is worth; by default the run.
        variant: "fp32" or "int8"; by default int8 unless that costs validation accuracy.
        overwrite: replace what is there.

    Raises:
        BadInput: nothing is held out, or a run is another recipe's or other data's.
        Failure: the graph is not the network, or int8 was asked for and costs too much.
    """
    recipe, data = read_run(run)
    if reviews.sha256 != data["hashes"].get("reviews"):
        raise BadInput(f"{reviews.source}: not the reviews that {run} was trained on")
    before = learned_before(run)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    weights = weights_of(run)
    parity = prove(load_network(run, recipe), build_graph(recipe, weights, 1.0, "fp32"))
    measured = held_out or [run]
    parts = read_held_out(measured, recipe, reviews)
    cost = cost_of_int8(parts["validation"])
    variant = _variant(variant, cost)
    figures = figures_of(parts, variant) | {"parity": parity, "int8": cost}
    figures["curves"] = curves(measured[0])
    training = parts_of(recipe, reviews).train
    learned = hash_texts(normalised(reviews.texts[row]) for row in training)
    shifted = weights["output.bias"] + np.float32(figures["shift"])
    weights = {**weights, "output.bias": shifted}
    about = _about(recipe, variant, figures, len(tokenizer.vocabulary))
    about["bias"] = float(weights["output.bias"][0] / np.float32(figures["temperature"]))
    if variant == "int8":  # for `weights.weights_of_graph`
        about["spread"] = to_levels(weights["embedding.weight"])[1].tolist()
    about["trained_on"] = {
        "source": reviews.source,
        "reviews": len(training),
        "texts_before": len(before),  # of the bundle that a fine-tuning started from
        "language_model": STARTING_WEIGHTS in data["hashes"] and not len(before),
        "unlabelled": [Path(file).name for file in data["source"].get("unlabelled", [])],
        "teachers": sum(name.startswith("teacher ") for name in data["hashes"]),
    }
    about["held_out"] = {
        "runs": len(held_out) or 1,
        "own": list(held_out) in ([], [run]),
        "films": len(np.unique(reviews.films[reviews.films >= 0])),
    }
    files = {
        MODEL: build_graph(recipe, weights, figures["temperature"], variant),
        TOKENIZER: tokenizer.to_json().encode(),
        TRAINED_ON: to_npy(np.append(before, learned)),
        **_pictures(figures),
    }
    files["README.md"] = model_card(about, files[MODEL], tokenizer).encode()
    write_bundle(folder, about, files, overwrite)
    return about


def prove(network: Network, model: bytes) -> float:
    """Return the largest difference between the logits of an fp32 graph and of torch.

    Of a logit beyond 1, the difference as a share of it: float32 has seven digits.

    On ragged batches of 1 to 64 reviews of random words, with lengths 0, 1 and 3,000 among them.

    Raises:
        Failure: it is larger than 1e-5.
    """
    opened = session.open_session(session.without_evidence(model))
    chance = np.random.default_rng(0)
    words = network.embedding.num_embeddings
    several = [chance.integers(0, 400, size).tolist() for size in (2, 7, 31, 64)]
    worst = 0.0
    for lengths in ([0], [1], [3000], [1, 0, 3000, 40], *several):
        rows = [chance.integers(1, words, length).astype(np.int32) for length in lengths]
        padded = torch.zeros(len(rows), max(1, *lengths, 1), dtype=torch.int64)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = torch.from_numpy(row)
        with torch.inference_mode():
            expected = network(padded, torch.tensor(lengths)).numpy()
        (found,) = session.run(opened, rows, ["logit"])
        off = np.abs(found - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(off.max()))
    if not worst <= PARITY:  # a NaN is not either
        raise Failure(f"the graph is off by {worst:.2g} from the network; nothing is written")
    return worst


def _variant(asked: str | None, cost: dict[str, Any] | None) -> str:
    """Return the variant to write: int8 unless it costs accuracy."""
    if cost is None:
        if asked == "int8":
            raise BadInput("--variant int8: only networks with --layers 1 have one; use fp32")
        return "fp32"
    fits = cost["fall"] < INT8_LOSS
    if asked == "int8" and not fits:
        points = 100 * cost["fall"]
        raise Failure(f"int8 costs {points:.2f} points of validation accuracy; use --variant fp32")
    return asked or ("int8" if fits else "fp32")


def curves(run: Path) -> list[dict[str, Any]]:
    """Return loss and accuracy of each part of a run's reviews after each of its epochs."""
    shown = ("epoch", "train", "validation", "test")
    return [{key: record[key] for key in shown if key in record} for record in read_history(run)]


def _about(recipe: Recipe, variant: str, figures: dict[str, Any], words: int) -> dict[str, Any]:
    """Return what bundle.json says of the network and its figures."""
    return {
        "format": FORMAT,
        "name": recipe.name,
        "made_with": {
            "reelsense": __version__,
            "commit": code_version(),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "variant": variant,
        "recipe": asdict(recipe),
        "labels": ["negative", "positive"],
        "shift": figures["shift"],
        "temperature": figures["temperature"],
        "confidence": figures["decided"]["confidence"],
        "stated_error": STATED_ERROR,
        "evidence": has_evidence(recipe),
        "words": words,
        "longest": longest(recipe),
        "keep": recipe.keep,
        "figures": figures,
    }


def _pictures(figures: dict[str, Any]) -> dict[str, bytes]:
    """Return the pictures of the card as files."""
    with TemporaryDirectory() as folder:
        pair, curve = (Path(folder, name) for name in PICTURES)
        draw_reliability_pair(figures["before"], figures, pair)
        draw_risk_coverage(figures["risk_coverage"], figures["decided"], curve)
        return {path.name: path.read_bytes() for path in (pair, curve)}

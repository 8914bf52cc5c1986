"""What an exported graph says of the reviews that its run, or runs of its recipe, held out."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reelsense.bundle import session
from reelsense.bundle.encoders import Weights
from reelsense.bundle.graph import build_graph, can_quantise
from reelsense.cores import available_cores
from reelsense.errors import BadInput
from reelsense.evaluation.calibrate import (
    calibration_noise,
    confidence_for,
    cross_fitted,
    decided,
    fit_shift,
    fit_temperature,
    risk_coverage,
)
from reelsense.evaluation.metrics import calibration_error, evaluate, reliability, sigmoid
from reelsense.model.recipe import Recipe
from reelsense.model.settings import differences, flag
from reelsense.text.reviews import Reviews
from reelsense.text.splits import split
from reelsense.text.tokenizer import Tokenizer, shorten
from reelsense.training.checkpoint import load_weights, read_run

STATED_ERROR = 0.05  # of the labels that are not "uncertain"
LONGEST = 32_768  # tokens; the LSTM takes about 5 kB a token, and the longest IMDB review has 2,742
# What may differ between a run and those that its figures come from.
CHANCE = {"name", "about", "seed", "split_seed", "validation", "test"}
PARTS = ("validation", "test")

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One part of the held-out reviews of all runs, each review once; a logit a review."""

    reviews: Reviews
    lengths: NDArray[np.int64]
    fp32: Floats
    int8: Floats | None  # None where the recipe has no int8 graph


def weights_of(run: Path) -> Weights:
    """Return the weights of a finished run as `graph.build_graph` takes them."""
    return {name: weight.numpy() for name, weight in load_weights(run).items()}


def graph_logits(model: bytes, ids: Sequence[Ids]) -> Floats:
    """Return what a graph says of reviews given as token ids, in their order."""
    opened = session.open_session(session.without_evidence(model))
    scores = np.zeros(len(ids))

    def score(batch: NDArray[np.int64]) -> None:
        (scores[batch],) = session.run(opened, [ids[row] for row in batch], ["logit"])

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(score, session.batches([len(row) for row in ids])))
    return scores


def read_held_out(runs: Sequence[Path], recipe: Recipe, reviews: Reviews) -> dict[str, HeldOut]:
    """Return the validation and the test reviews of the runs with what their graphs say.

    A review that several runs held out counts once, with the first of them.

    Raises:
        BadInput: a run has other reviews or another recipe, or has not finished, or none held any
            reviews out.
    """
    found: dict[str, list[tuple[list[int], list[Ids], Floats, Floats | None]]] = {}
    taken: dict[str, set[int]] = {part: set() for part in PARTS}
    for run in runs:
        rows_of = _rows(run, recipe, reviews)
        tokenizer = Tokenizer.load(run / "tokenizer.json")
        weights = weights_of(run)
        fp32 = build_graph(recipe, weights, 1.0, "fp32")
        int8 = build_graph(recipe, weights, 1.0, "int8") if can_quantise(recipe) else None
        for part, rows in rows_of.items():
            new = [row for row in rows if row not in taken[part]]
            taken[part].update(new)
            ids = [
                shorten(tokenizer.encode(reviews.texts[row]), longest(recipe), recipe.keep)
                for row in new
            ]
            quantised = None if int8 is None else graph_logits(int8, ids)
            found.setdefault(part, []).append((new, ids, graph_logits(fp32, ids), quantised))
    if "validation" not in found:
        raise BadInput(
            f"{runs[0]}: held out no reviews, so nothing says how sure it may be; name finished "
            "runs of the same recipe that did with --held-out RUN"
        )
    return {part: _joined(reviews, pieces) for part, pieces in found.items()}


def longest(recipe: Recipe) -> int:
    """Return how many tokens of a review are read at most."""
    return recipe.max_tokens or LONGEST


def _rows(run: Path, recipe: Recipe, reviews: Reviews) -> dict[str, list[int]]:
    """Return the rows of the reviews that a run held out, by part; a trial's test part too."""
    of_run, data = read_run(run)
    if odd := [flag(key) for key in differences(recipe, of_run) if key not in CHANCE]:
        raise BadInput(f"--held-out {run}: its recipe differs in {', '.join(odd)}; name another")
    if data["hashes"].get("reviews") != reviews.sha256:
        raise BadInput(f"--held-out {run}: was trained on other reviews; name another")
    parts = split(reviews, validation=of_run.validation, test=of_run.test, seed=of_run.split_seed)
    rows = {name: getattr(parts, name).tolist() for name in PARTS}
    return {name: some for name, some in rows.items() if some}


def _joined(
    reviews: Reviews, pieces: Sequence[tuple[list[int], list[Ids], Floats, Floats | None]]
) -> HeldOut:
    """Return the pieces of several runs as one."""
    rows, ids, fp32, int8 = zip(*pieces, strict=True)
    return HeldOut(
        reviews=reviews.take([row for piece in rows for row in piece]),
        lengths=np.array([len(row) for piece in ids for row in piece], np.int64),
        fp32=np.concatenate(fp32),
        int8=None if int8[0] is None else np.concatenate(int8),
    )


def cost_of_int8(validation: HeldOut) -> dict[str, Any] | None:
    """Return by how much the int8 graph's validation accuracy falls; None where there is none."""
    if validation.int8 is None:
        return None
    truth = validation.reviews.labels == 1
    right = {"fp32": (validation.fp32 >= 0) == truth, "int8": (validation.int8 >= 0) == truth}
    return {
        "reviews": len(truth),
        **{name: float(values.mean()) for name, values in right.items()},
        "fall": float(right["fp32"].mean() - right["int8"].mean()),
        "changed": int((right["fp32"] != right["int8"]).sum()),
        "logit_rms": float(np.sqrt(np.mean((validation.int8 - validation.fp32) ** 2))),
    }


def figures_of(parts: Mapping[str, HeldOut], variant: str) -> dict[str, Any]:
    """Return what a variant is worth.

    Shift, temperature and confidence are fitted on every held-out review. Accuracy, loss and AUC
    are those of the test part, or where there is none of the validation part, and "part" says
    which; how well calibrated it is and what comes of deciding, those of every held-out review
    after constants fitted on other films.
    """
    part = "test" if "test" in parts else "validation"
    chosen = parts[part]
    found = [_labelled(one, variant) for one in _each_once([chosen, *parts.values()])]
    labels, logits, films = (np.concatenate(values) for values in zip(*found, strict=True))
    shift = fit_shift(labels, logits)
    temperature = fit_temperature(labels, logits + shift)
    calibrated = sigmoid((logits + shift) / temperature)
    confidence = confidence_for(labels, calibrated, STATED_ERROR)
    said = calibrated[: len(chosen.lengths)]  # the chosen part stands first
    measured = evaluate(chosen.reviews.labels, said, chosen.lengths, chosen.reviews.ids)
    del measured["mistakes"], measured["roc"]  # ids and a curve that say nothing to its reader
    fair, limits = cross_fitted(labels, logits, films, STATED_ERROR)
    raw = sigmoid(logits)
    return {
        "shift": shift,
        "temperature": temperature,
        "fitted_on": len(labels),
        "part": part,
        **measured,
        "calibration_error": calibration_error(labels, fair),
        "reliability": reliability(labels, fair),
        "calibration_noise": calibration_noise(fair),
        "before": {
            "calibration_error": calibration_error(labels, raw),
            "reliability": reliability(labels, raw),
        },
        "decided": decided(labels, fair, limits) | {"confidence": confidence},
        "risk_coverage": risk_coverage(labels, fair),
    }


def _each_once(parts: Sequence[HeldOut]) -> list[HeldOut]:
    """Return the parts without the reviews that stand in one before.

    With several runs a validation review of one may be a test review of another.
    """
    seen: set[str] = set()
    kept = []
    for part in parts:
        rows = np.array([row for row, name in enumerate(part.reviews.ids) if name not in seen], int)
        seen.update(part.reviews.ids)
        int8 = None if part.int8 is None else part.int8[rows]
        kept.append(HeldOut(part.reviews.take(rows), part.lengths[rows], part.fp32[rows], int8))
    return kept


def _labelled(part: HeldOut, variant: str) -> tuple[NDArray[np.int8], Floats, NDArray[np.int64]]:
    """Return the labels, the variant's logits, and a number for each review's film."""
    logits = part.int8 if variant == "int8" and part.int8 is not None else part.fp32
    films = part.reviews.films
    alone = -1 - np.arange(len(films))  # what is of no known film
    return part.reviews.labels, logits, np.where(films >= 0, films, alone)

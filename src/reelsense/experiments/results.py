"""Finished runs of a comparison to figures, and to a table with a row a run."""

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import Failure
from reelsense.experiments.plan import Cell, Plan
from reelsense.experiments.runs import why_it_failed

LINEAR: Final = "linear baseline"
COSTS: Final = "costs.json"
VERSIONS: Final = ("reelsense", "torch", "numpy", "scikit-learn", "python")

Right = NDArray[np.bool_]
Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Result:
    """A run that was measured: of a network, or of the baseline that it was measured beside.

    measured: what `metrics.evaluate` says of the part that is compared.
    right: of each review of that part, whether it is (N,).
    """

    cell: Cell
    measured: Json
    right: Right
    metrics: Json
    environment: Json
    cost: Json

    @property
    def training_seconds(self) -> float:
        """How long it learned."""
        of = self.metrics["baseline"] if self.cell.recipe == LINEAR else self.metrics
        return float(of["seconds"])


@dataclass(frozen=True, eq=False)
class Results:
    """All runs of a comparison: what came of them, and why the others came to nothing."""

    plan: Plan
    found: Mapping[Cell, Result]
    failed: Mapping[Cell, str]


def read_results(plan: Plan) -> Results:
    """Return what came of every run of the plan.

    Raises:
        Failure: the runs were not measured on the same reviews.
    """
    saved = plan.folder / COSTS
    costs = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {}
    found: dict[Cell, Result] = {}
    failed: dict[Cell, str] = {}
    for cell in plan.cells():
        if (reason := why_it_failed(plan, cell)) is not None:
            failed[cell] = reason
            continue
        of_network, of_linear = _read_run(plan, cell, costs)
        found[cell] = of_network
        found.setdefault(of_linear.cell, of_linear)
    for share in plan.shares:
        for seed in range(plan.seeds):
            of_linear_cell = Cell(LINEAR, share, seed)
            if of_linear_cell not in found:
                failed[of_linear_cell] = "no run that it would have been trained beside"
    return Results(plan, found, failed)


def _read_run(plan: Plan, cell: Cell, costs: Mapping[str, Json]) -> tuple[Result, Result]:
    """Return what a finished run says of its network and of the baseline beside it."""
    run, part = plan.run(cell), plan.part
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    right, linear_right = _right(plan, run)
    linear = Cell(LINEAR, cell.share, cell.seed)
    return (
        Result(cell, metrics[part], right, metrics, environment, costs.get(cell.name, {})),
        Result(
            linear,
            metrics["baseline"][part],
            linear_right,
            metrics,
            environment,
            costs.get(linear.name, {}),
        ),
    )


def _right(plan: Plan, run: Path) -> tuple[Right, Right]:
    """Return which reviews of the part a run has right, and which its baseline."""
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == plan.part]
    expected = [plan.reviews.ids[row] for row in getattr(plan.split, plan.part).tolist()]
    if [row["id"] for row in rows] != expected:
        raise Failure(f"{run}: was measured on other reviews; delete it and compare again")
    labels = np.array([row["label"] == "1" for row in rows], dtype=bool)
    logits = np.array([float(row["logit"]) for row in rows])
    linear = np.array([float(row["linear"]) for row in rows])
    return (logits >= 0) == labels, (linear >= 0.5) == labels


# --- a row a run ----------------------------------------------------------------------------------


def runs_csv(results: Results) -> str:
    """Return a line a run, the failed ones too, the baseline's last."""
    return table_csv([_row(results, cell) for cell in _in_order(results)])


def table_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _in_order(results: Results) -> list[Cell]:
    """Return the cells by recipe, share and seed."""
    names = [*results.plan.recipes, LINEAR]
    cells = [*results.found, *results.failed]
    return sorted(cells, key=lambda cell: (names.index(cell.recipe), cell.share, cell.seed))


def _row(results: Results, cell: Cell) -> dict[str, object]:
    """Return what there is to say of a run; what a failed one lacks is empty."""
    row: dict[str, object] = {
        "recipe": cell.recipe,
        "label_share": f"{cell.share:.9g}",
        "seed": cell.seed,
        "failed": results.failed.get(cell, ""),
        "part": results.plan.part,
        "reviews": len(getattr(results.plan.split, results.plan.part)),
        **dict.fromkeys(_COLUMNS, ""),
    }
    if (result := results.found.get(cell)) is None:
        return row
    of_linear = cell.recipe == LINEAR
    measured, metrics = result.measured, result.metrics
    low, high = measured["accuracy_interval"]
    row |= {
        "accuracy": round(measured["accuracy"], 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "log_loss": round(measured["log_loss"], 4),
        "calibration_error": round(measured["calibration_error"], 4),
        "labelled": metrics["split"]["train"],
        "training_seconds": round(result.training_seconds, 1),
        "split_seed": metrics["split"]["seed"],
        "data": metrics["data"]["source"].rpartition("/")[2],
        "machine": f"{result.environment['device']} {result.environment['processor']}",
        "versions": " ".join(
            f"{name} {result.environment[name]}" for name in VERSIONS if name in result.environment
        ),
        "commit": result.environment["commit"],
        "command": without_folders(result.environment["command"]),
        **{key: result.cost.get(key, "") for key in _OF_THE_COST},
    }
    if not of_linear:
        row |= {
            "epochs": results.plan.recipe_of(cell).epochs,
            "passes": results.plan.passes_of(cell),
            "best_epoch": metrics["best_epoch"],
            "parameters": metrics["parameters"],
            "training_peak_mb": round(metrics["peak_memory_mb"]),
            "weights_sha256": metrics["weights_sha256"],
        }
    return row


_OF_THE_COST: Final = ("parameters", "variant", "bundle_mb", "reviews_per_second", "peak_mb")
_COLUMNS: Final = (
    "accuracy", "low", "high", "log_loss", "calibration_error", "labelled", "epochs", "passes",
    "best_epoch", "training_seconds", "training_peak_mb", *_OF_THE_COST, "weights_sha256",
    "split_seed", "data", "machine", "versions", "commit", "command",
)  # fmt: skip


def without_folders(command: str) -> str:
    """Return a command with the names of files alone: where they lay is one machine's affair."""
    return shlex.join(word.rpartition("/")[2] for word in shlex.split(command))

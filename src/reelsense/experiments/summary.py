"""What a recipe is worth over its seeds, and whether it is worth more than the first."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reelsense.evaluation.seeds import Estimate, accuracy, difference, holm, over_seeds
from reelsense.experiments.results import LINEAR, Result, Results, table_csv

SURE: Final = 0.05  # p-values below it, corrected, are more than chance


@dataclass(frozen=True)
class Against:
    """A recipe against the first, on the seeds that have finished of both.

    estimate: accuracy less that of the first, its interval for other seeds and other reviews, and
        its p-value; `p_holm` is that corrected for all tests with the same share of the labels.
    over_seeds: its interval for other seeds alone; None for one seed.
    """

    seeds: int
    estimate: Estimate
    over_seeds: tuple[float, float] | None
    p_holm: float = 1.0

    @property
    def is_sure(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_holm < SURE


@dataclass(frozen=True)
class Summary:
    """A recipe with a share of the labels, over its seeds.

    interval: for other seeds and other reviews; `over_seeds` for other seeds alone, None for one.
    costs: medians over the seeds, by the names of `COSTS`, but of training_seconds the least: what
        else a machine does beside a run only adds to them. What was not measured is not there.
    against: None for the first recipe, and where no seed of both has finished.
    """

    recipe: str
    share: float
    seeds: int
    failed: int
    accuracy: float
    interval: tuple[float, float]
    over_seeds: tuple[float, float] | None
    log_loss: float
    labelled: int
    costs: Mapping[str, float]
    against: Against | None = None


COSTS: Final = (
    "parameters", "training_seconds", "training_peak_mb", "reviews_per_second", "peak_mb",
    "bundle_mb",
)  # fmt: skip


def summarise(results: Results) -> list[Summary]:
    """Return a summary of each recipe and share that has a finished run, by share and recipe.

    The baseline stands last among those of a share. Every recipe is tested against the first one
    with the same share. Each share is a question of its own: its tests are corrected together.
    """
    plan = results.plan
    films = plan.reviews.films[getattr(plan.split, plan.part)]
    found: list[Summary] = []
    for share in plan.shares:
        rows = []
        first = _of(results, plan.first, share)
        for recipe in (*plan.recipes, LINEAR):
            if own := _of(results, recipe, share):
                row = _summary(recipe, share, own, plan.seeds - len(own), films)
                if recipe != plan.first:
                    row = replace(row, against=_against(own, first, films))
                rows.append(row)
        found += _corrected(rows)
    return found


def _corrected(rows: list[Summary]) -> list[Summary]:
    """Return the summaries with p-values that are corrected for all of their tests (Holm)."""
    p_values = iter(holm([row.against.estimate.p_value for row in rows if row.against]))
    return [
        replace(row, against=replace(row.against, p_holm=next(p_values))) if row.against else row
        for row in rows
    ]


def _of(results: Results, recipe: str, share: float) -> dict[int, Result]:
    """Return the finished runs of a recipe and a share, by their seeds."""
    return {
        cell.seed: result
        for cell, result in results.found.items()
        if (cell.recipe, cell.share) == (recipe, share)
    }


def _summary(
    recipe: str, share: float, runs: Mapping[int, Result], failed: int, films: NDArray[np.int64]
) -> Summary:
    found = list(runs.values())
    mean, low, high = accuracy(np.stack([run.right for run in found]), films)
    between = over_seeds([run.measured["accuracy"] for run in found])
    return Summary(
        recipe=recipe,
        share=share,
        seeds=len(found),
        failed=failed,
        accuracy=mean,
        interval=(low, high),
        over_seeds=None if between is None else (max(0.0, between[0]), min(1.0, between[1])),
        log_loss=statistics.mean(run.measured["log_loss"] for run in found),
        labelled=found[0].metrics["split"]["train"],
        costs=_costs(found),
    )


def _costs(runs: list[Result]) -> dict[str, float]:
    """Return each cost over the runs for which it was measured: see `Summary`."""
    values = [_costs_of(run) for run in runs]
    return {
        name: min(known) if name == "training_seconds" else statistics.median(known)
        for name in COSTS
        if (known := [costs[name] for costs in values if name in costs])
    }


def _costs_of(run: Result) -> dict[str, float]:
    costs: dict[str, float] = {name: run.cost[name] for name in COSTS if name in run.cost}
    costs["training_seconds"] = run.training_seconds
    if run.cell.recipe != LINEAR:
        costs["parameters"] = run.metrics["parameters"]
        costs["training_peak_mb"] = run.metrics["peak_memory_mb"]
    return costs


def _against(
    own: Mapping[int, Result], first: Mapping[int, Result], films: NDArray[np.int64]
) -> Against | None:
    """Compare the runs of the seeds that both have."""
    seeds = sorted(own.keys() & first.keys())
    if not seeds:
        return None
    a, b = (np.stack([runs[seed].right for seed in seeds]) for runs in (own, first))
    return Against(len(seeds), difference(a, b, films), over_seeds(a.mean(axis=1) - b.mean(axis=1)))


def recipes_csv(summaries: Sequence[Summary]) -> str:
    """Return a line a recipe and share: its mean with intervals, and against the first."""
    return table_csv([_row(summary) for summary in summaries])


def _row(summary: Summary) -> dict[str, object]:
    low, high = summary.interval
    row: dict[str, object] = {
        "recipe": summary.recipe,
        "label_share": f"{summary.share:.9g}",
        "labelled": summary.labelled,
        "seeds": summary.seeds,
        "failed": summary.failed,
        "accuracy": round(summary.accuracy, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "seeds_low": "",
        "seeds_high": "",
        "log_loss": round(summary.log_loss, 4),
        **dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_holm"), ""),
        **{name: _short(summary.costs[name]) if name in summary.costs else "" for name in COSTS},
    }
    if summary.over_seeds is not None:
        row["seeds_low"], row["seeds_high"] = (round(value, 5) for value in summary.over_seeds)
    if summary.against is not None:
        of = summary.against.estimate
        row |= {
            "difference": round(of.mean, 6),
            "difference_low": round(of.low, 6),
            "difference_high": round(of.high, 6),
            "p": f"{of.p_value:.3g}",
            "p_holm": f"{summary.against.p_holm:.3g}",
        }
    return row


def _short(value: float) -> float:
    """Return a figure with as many digits as it is worth."""
    return round(value) if value >= 100 else round(value, 2)

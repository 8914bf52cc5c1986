"""A comparison to its files: two tables, pictures, and one page that holds all of it."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from reelsense.atomic import write_atomically
from reelsense.evaluation import comparison_plots as plots
from reelsense.evaluation.page import as_uri, template
from reelsense.experiments.conclusion import conclude, labels
from reelsense.experiments.plan import Plan
from reelsense.experiments.results import LINEAR, VERSIONS, Result, Results, runs_csv
from reelsense.experiments.summary import Summary, recipes_csv
from reelsense.model.settings import differences
from reelsense.training.checkpoint import read_history

Json = dict[str, Any]


def write_page(results: Results, summaries: Sequence[Summary], command: str) -> Path:
    """Write runs.csv, recipes.csv, conclusion.txt, the pictures and report.html, the page."""
    folder = results.plan.folder
    write_atomically(folder / "runs.csv", runs_csv(results))
    write_atomically(folder / "recipes.csv", recipes_csv(summaries))
    pictures = draw(results, summaries)
    source = resources.files("reelsense.experiments").joinpath("comparison.html.j2")
    content = _content(results, summaries, command)
    write_atomically(folder / "conclusion.txt", content["conclusion"] + "\n")
    content |= {"pictures": {path.stem: as_uri(path) for path in pictures}}
    page = folder / "report.html"
    write_atomically(page, template(source.read_text("utf-8")).render(content))
    return page


def draw(results: Results, summaries: Sequence[Summary]) -> list[Path]:
    """Draw all that the runs allow into the folder; return the paths."""
    if not summaries:
        return []
    plan, folder = results.plan, results.plan.folder
    rows = [_to_draw(results, summary) for summary in summaries]
    drawn = [plots.draw_accuracies(rows, folder / "accuracy.png")]
    if len({row["share"] for row in rows}) > 1:
        drawn.append(plots.draw_learning_curves(rows, folder / "labels.png"))
    most = max(row["share"] for row in rows)
    at_most = [row for row in rows if row["share"] == most]
    drawn.append(plots.draw_costs(at_most, folder / "costs.png"))
    for share in plan.shares:
        if histories := _histories(results, share):
            for figure in ("accuracy", "loss"):
                path = folder / f"curves-{figure}-{share:.9g}.png"
                drawn.append(plots.draw_curves(histories, figure, share, path))
    return drawn


def _to_draw(results: Results, summary: Summary) -> Json:
    """Return a summary as `evaluation.comparison_plots` reads it."""
    speed = summary.costs.get("reviews_per_second")
    return {
        "recipe": summary.recipe,
        "share": summary.share,
        "is_baseline": summary.recipe == LINEAR,
        "labelled": summary.labelled,
        "accuracy": summary.accuracy,
        "low": summary.interval[0],
        "high": summary.interval[1],
        "runs": [run.measured["accuracy"] for run in _runs(results, summary)],
        "training_seconds": summary.costs.get("training_seconds"),
        "milliseconds": 1000 / speed if speed else None,
    }


def _runs(results: Results, summary: Summary) -> list[Result]:
    """Return the runs of a summary, by seed."""
    cells = [
        cell
        for cell in results.found
        if (cell.recipe, cell.share) == (summary.recipe, summary.share)
    ]
    return [results.found[cell] for cell in sorted(cells, key=lambda cell: cell.seed)]


def _histories(results: Results, share: float) -> dict[str, list[list[Json]]]:
    """Return the lines of history.jsonl of each finished run with a share, by recipe."""
    found: dict[str, list[list[Json]]] = {}
    for recipe in results.plan.recipes:
        for cell in results.found:
            if (cell.recipe, cell.share) == (recipe, share):
                found.setdefault(recipe, []).append(read_history(results.plan.run(cell)))
    return found


def _content(results: Results, summaries: Sequence[Summary], command: str) -> Json:
    """All that the template may ask for."""
    plan = results.plan
    any_run = next(iter(results.found.values()), None)
    return {
        "plan": plan,
        "n": len(getattr(plan.split, plan.part)),
        "linear": LINEAR,
        "conclusion": " ".join(conclude(results, summaries)),
        "tables": [
            (labels(share), share, [row for row in summaries if row.share == share])
            for share in reversed(plan.shares)
        ],
        "runs": [
            (cell, results.found[cell], plan.recipe_of(cell))
            for cell in plan.cells()
            if cell in results.found
        ],
        "failed": [(cell, why) for cell, why in results.failed.items() if cell.recipe != LINEAR],
        "recipes": [
            (recipe.name, recipe.about, _changes(plan, recipe.name))
            for recipe in plan.recipes.values()
        ],
        "facts": _facts(results, any_run, command),
    }


def _changes(plan: Plan, name: str) -> str:
    """Return the values in which a recipe differs from the first."""
    found = differences(plan.recipes[plan.first], plan.recipes[name])
    own = {key: value for key, (_, value) in found.items() if key not in ("name", "about")}
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in own.items())


def _facts(results: Results, run: Result | None, command: str) -> list[tuple[str, str]]:
    """Return what the figures were made with."""
    plan = results.plan
    facts = [
        ("command", command),
        ("reviews", plan.reviews.source.rpartition("/")[2]),
        ("sha256 of the reviews", plan.reviews.sha256),
        ("split", f"{plan.split.method}, seed {plan.split.seed}"),
    ]
    if run is not None:
        commits = sorted({found.environment["commit"] for found in results.found.values()})
        machines = sorted({_machine(found) for found in results.found.values()})
        facts += [
            ("machine", "; ".join(machines)),
            ("commit" if len(commits) == 1 else "commits", ", ".join(commits)),
            *((name, run.environment[name]) for name in VERSIONS if name in run.environment),
        ]
    return facts


def _machine(run: Result) -> str:
    return f"{run.environment['device']} {run.environment['processor']}"

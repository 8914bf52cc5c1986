"""Enter finished runs into results/runs.csv; write results/runs.md and README's table from it.

    python benchmarks/record.py RUN_FOLDER ...
    python benchmarks/record.py --choices RUN_FOLDER ...
    python benchmarks/record.py --shipped
    python benchmarks/record.py --curves RUN_FOLDER

--choices enters what the validation part said of settings that were tried into results/choices.csv
instead, without any figure of the test part. A run is not entered twice. --shipped writes README's
table of the bundles in the package from each bundle.json. --curves writes the training curves that
the server's page shows for bundles that have none of their own.
"""

import csv
import json
import math
import statistics
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from reelsense.bundle.export import curves
from reelsense.bundle.folder import folder_of, in_the_package
from reelsense.model.recipe import Recipe
from reelsense.model.settings import differences, flag

RESULTS = Path(__file__).parent.parent / "results"


def bundles_in_the_package() -> list[str]:
    return [name for name in in_the_package() if name != "pretrained"]


def choice_of(run: Path) -> dict[str, object]:
    metrics = json.loads((run / "metrics.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    of_linear = metrics["baseline"]["validation"]
    recipe = Recipe.from_toml((run / "recipe.toml").read_text(), str(run))
    values = differences(Recipe(), recipe.changed(name="default", about=""))
    return {
        "values_that_differ_from_the_fields_defaults": " ".join(
            f"{flag(key)} {value}" for key, (_, value) in values.items()
        ),
        "validation_accuracy": round(metrics["validation"]["accuracy"], 5),
        "validation_log_loss": round(metrics["validation"]["log_loss"], 4),
        "linear_validation_accuracy": round(of_linear["accuracy"], 5),
        "best_epoch": metrics["best_epoch"],
        "parameters": metrics["parameters"],
        "training_seconds": round(metrics["seconds"], 1),
        "weights_sha256": metrics["weights_sha256"],
        "commit": environment["commit"],
    }


def row_of(run: Path) -> dict[str, object] | None:
    metrics = json.loads((run / "metrics.json").read_text())
    if "test" not in metrics:
        print(f"{run}: held out no test part, so it has no row in runs.csv", file=sys.stderr)
        return None
    environment = json.loads((run / "environment.json").read_text())
    test = metrics["test"]
    low, high = test["accuracy_interval"]
    return {
        "recipe": metrics["recipe"],
        "seed": environment["seed"],
        "split_seed": metrics["split"]["seed"],
        "reviews": metrics["data"]["source"],
        "test_n": test["n"],
        "accuracy": round(test["accuracy"], 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "roc_auc": round(test["roc_auc"], 5),
        "log_loss": round(test["log_loss"], 4),
        "calibration_error": round(test["calibration_error"], 4),
        "linear_accuracy": round(metrics["baseline"]["test"]["accuracy"], 5),
        "mcnemar_p": f"{metrics['mcnemar']['p_value']:.3g}",
        "best_epoch": metrics["best_epoch"],
        "parameters": metrics["parameters"],
        "training_seconds": round(metrics["seconds"], 1),
        "run_seconds": round(metrics["run_seconds"], 1),
        "reviews_per_second": round(metrics["reviews_per_second"], 1),
        "peak_memory_mb": round(metrics["peak_memory_mb"]),
        "weights_sha256": metrics["weights_sha256"],
        "machine": f"{environment['device']} {environment['processor']}",
        "torch": environment["torch"],
        "commit": environment["commit"],
        "command": environment["command"],
    }


def interval(values: list[float]) -> str:
    """Mean and 95% interval over seeds (Student's t), in percent."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2%}"
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 2.0)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.2%} ± {half * 100:.2f}"


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "Test accuracy, film-disjoint parts of the bundled reviews. ± is the 95% interval of the",
        "mean over seeds; the Wilson interval is that of one run on its test reviews.",
        "Made by `python benchmarks/record.py` from `runs.csv`.",
        "",
        "| recipe | split | seeds | test accuracy | one run (Wilson 95%) "
        "| linear, same split | seconds, all | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for recipe, split in sorted({(row["recipe"], row["split_seed"]) for row in rows}):
        group = [row for row in rows if (row["recipe"], row["split_seed"]) == (recipe, split)]
        accuracy = [float(row["accuracy"]) for row in group]
        lines.append(
            f"| `{recipe}` | {split} | {len(group)} | {interval(accuracy)} "
            f"| {float(group[0]['low']):.1%} to {float(group[0]['high']):.1%} "
            f"| {float(group[0]['linear_accuracy']):.2%} "
            f"| {statistics.median(float(row['run_seconds']) for row in group):.0f} "
            f"| {max(int(row['peak_memory_mb']) for row in group)} |"
        )
    return "\n".join(lines) + "\n"


def shipped_table() -> str:
    bundles = [
        json.loads((folder_of(name) / "bundle.json").read_text(encoding="utf-8"))
        for name in bundles_in_the_package()
    ]
    columns = [cells_of(about) for about in bundles]
    lines = ["Made by `python benchmarks/record.py --shipped` from each `bundle.json`.", ""]
    for what in columns[0]:
        lines.append(f"| {what} | {' | '.join(cells[what] for cells in columns)} |")
        if len(lines) == 3:
            lines.append("|---" * (len(columns) + 1) + "|")
    return "\n".join(lines) + "\n"


def cells_of(about: dict[str, Any]) -> dict[str, str]:
    figures, decided = about["figures"], about["figures"]["decided"]
    low, high = figures["accuracy_interval"]
    error_low, error_high = decided["error_interval"]
    size = sum(file["bytes"] for file in about["files"].values()) / 1e6
    return {
        f"on {figures['n']:,} reviews of held-out films": f"`{about['name']}`",
        "accuracy": f"{figures['accuracy']:.2%} ({low:.1%} to {high:.1%})",
        "ROC AUC": f"{figures['roc_auc']:.4f}",
        f"calibration error, of {figures['fitted_on']:,}": f"{figures['calibration_error']:.2%} "
        f"({figures['before']['calibration_error']:.2%} before it was fitted; "
        f"{figures['calibration_noise']:.2%} would be chance alone)",
        "gets a label rather than “uncertain”": f"{decided['coverage']:.0%}, of which "
        f"{decided['error']:.1%} are wrong ({error_low:.1%} to {error_high:.1%})",
        "size": f"{size:.1f} MB, {about['variant']}, {about['recipe']['hidden']} units a "
        f"direction, {about['words'] - 2:,} words",
    }


def enter(path: Path, new: list[dict[str, object]]) -> list[dict[str, str]]:
    """Add rows to a CSV file, but for those whose weights stand there already; return all."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    for row in new:
        if all(row["weights_sha256"] != other["weights_sha256"] for other in rows):
            rows.append({key: str(value) for key, value in row.items()})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def curves_of(run: Path) -> dict[str, object]:
    """Return the curves of a run with a sentence that says whose they are."""
    environment = json.loads((run / "environment.json").read_text())
    recipe = Recipe.from_toml((run / "recipe.toml").read_text(), str(run))
    return {
        "about": "The curves of the weights that answer here are not in their bundle. These are "
        f"those of the recipe {recipe.name}, which learns from labels alone: what make train "
        "gives. The test part is looked at only after the training.",
        "command": environment["command"],
        "commit": environment["commit"],
        "seed": recipe.seed,
        "epochs": curves(run),
    }


def main() -> None:
    if sys.argv[1] == "--choices":
        enter(RESULTS / "choices.csv", [choice_of(Path(run)) for run in sys.argv[2:]])
        return
    if sys.argv[1] == "--shipped":
        put_into_readme("shipped", shipped_table())
        return
    if sys.argv[1] == "--curves":
        text = json.dumps(curves_of(Path(sys.argv[2])), indent=1) + "\n"
        (files("reelsense.serving") / "static" / "curves.json").write_text(text)
        return
    rows = [row for run in sys.argv[1:] if (row := row_of(Path(run))) is not None]
    text = table(enter(RESULTS / "runs.csv", rows))
    (RESULTS / "runs.md").write_text(text)
    put_into_readme("runs", text)


def put_into_readme(name: str, text: str, by: str = "benchmarks/record.py") -> None:
    """Write a generated table into README, and print it."""
    put_into(RESULTS.parent / "README.md", name, text, by)
    print(text)


def put_into(page: Path, name: str, text: str, by: str) -> None:
    """Write what was generated between its two marks on a page."""
    begin, end = f"<!-- {name}: made by {by} -->", f"<!-- /{name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{page}: has no place for {name}: {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

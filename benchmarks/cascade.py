"""Is a second opinion worth its time? One model, the other, and the two together.

    python benchmarks/cascade.py runs/small-0 runs/accurate-0

Two finished runs of one split, after everything has been chosen. Their bundles answer the test
part each alone, and then together: the second reads again what the first is uncertain of, as
`reelsense.load(second=...)` has it. What "uncertain" means was fitted on the held-out reviews of
both parts, these among them. Writes results/cascade.csv and README's table.
"""

import csv
import shlex
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import reelsense
from record import RESULTS, put_into_readme
from reelsense.bundle.export import export
from reelsense.cores import available_cores
from reelsense.evaluation.metrics import mcnemar, wilson_interval
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import split
from reelsense.training.checkpoint import read_run
from reelsense.training.measure import code_version


def main() -> None:
    runs = [Path(argument) for argument in sys.argv[1:]]
    reviews = read_reviews()
    recipe, _ = read_run(runs[0])
    parts = split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    test = reviews.take(parts.test)
    with TemporaryDirectory() as folder:
        first, second = (Path(folder, name) for name in ("first", "second"))
        names = [
            export(run, place, reviews)["name"]
            for run, place in zip(runs, (first, second), strict=True)
        ]
        models = {
            names[0]: reelsense.load(first),
            names[1]: reelsense.load(second),
            f"{names[0]}, then {names[1]}": reelsense.load(first, second=second),
        }
        rows, right = [], {}
        for name, model in models.items():
            started = time.perf_counter()
            chances = model.predict_proba(list(test.texts))[:, 1]
            seconds = time.perf_counter() - started
            right[name] = (chances >= 0.5) == (test.labels == 1)
            rows.append(row_of(name, right[name], right[names[0]], len(test) / seconds))
        uncertain = sum(
            answer.label == "uncertain" for answer in models[names[0]](list(test.texts))
        )
    rows[-1]["read_again"] = round(uncertain / len(test), 4)
    with (RESULTS / "cascade.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[-1], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    put_into_readme("cascade", table(rows), "benchmarks/cascade.py")


def row_of(name: str, right, of_first, a_second: float) -> dict[str, object]:
    count = int(right.sum())
    low, high = wilson_interval(count, len(right))
    return {
        "model": name,
        "reviews": len(right),
        "accuracy": round(count / len(right), 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "mcnemar_p_first": f"{mcnemar(right, of_first)['p_value']:.3g}",
        "reviews_per_second": round(a_second),
        "cores": available_cores(),
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        f"{rows[0]['reviews']:,} test reviews; the second reads {rows[-1]['read_again']:.1%} of "
        "them again.",
        "Made by `python benchmarks/cascade.py RUN RUN`.",
        "",
        "| who answers | accuracy | reviews/s | p beside the first |",
        "|---|---|---|---|",
    ]
    for row in rows:
        share = f"{row['accuracy']:.2%} ({row['low']:.1%} to {row['high']:.1%})"
        p = "" if row is rows[0] else row["mcnemar_p_first"]
        lines.append(f"| `{row['model']}` | {share} | {row['reviews_per_second']:,} | {p} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

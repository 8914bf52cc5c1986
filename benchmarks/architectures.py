"""The tables, pictures and conclusions of docs/architectures.md, from the comparisons behind it.

    python benchmarks/architectures.py FOLDER

FOLDER is that of scripts/compare_architectures.sh. Of each of its comparisons the rows go to
results/compared_NAME.csv (a recipe and share of the labels) and compared_NAME_runs.csv (a run), the
pictures that the page shows to docs/images, and a table a share and what can be concluded between
marks on the page.
"""

import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from record import RESULTS, put_into

ROOT = RESULTS.parent
PAGE = ROOT / "docs" / "architectures.md"
NAMES = ("architectures", "augmentation")
BY = "benchmarks/architectures.py"

Row = dict[str, str]


def percent(value: str, digits: int = 2) -> str:
    return f"{float(value):.{digits}%}"


def points(value: str) -> str:
    return f"{100 * float(value):+.2f}"


def against(row: Row) -> str:
    """What a recipe adds to the first, in points, with its interval and corrected p-value."""
    if not row["difference"]:
        return ""
    low, high = points(row["difference_low"]), points(row["difference_high"])
    text = f"{points(row['difference'])} ({low} to {high}), p {float(row['p_holm']):.2g}"
    return f"**{text}**" if float(row["p_holm"]) < 0.05 else text


def costs(row: Row) -> str:
    """Parameters, minutes to train, reviews a second, megabytes of memory and of the bundle."""
    parameters = f"{float(row['parameters']) / 1e6:.2f}"
    minutes = f"{float(row['training_seconds']) / 60:.1f}"
    rest = [row[key] for key in ("reviews_per_second", "peak_mb", "bundle_mb")]
    return " | ".join([parameters, minutes, *(value or "–" for value in rest)])


def table(rows: Sequence[Row]) -> str:
    """The recipes with one share of the labels, their costs where all labels were there."""
    with_costs = rows[0]["label_share"] == "1"
    head = [f"{int(rows[0]['labelled']):,} training reviews", "accuracy (95%)", "seeds"]
    head.append("points against the first (95%), p corrected")
    if with_costs:
        head += ["million weights", "minutes to train", "reviews/s", "MB in use", "MB of bundle"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        accuracy = f"{percent(row['accuracy'])} ({percent(row['low'], 1)} to "
        accuracy += f"{percent(row['high'], 1)})"
        cells = [row["recipe"], accuracy, row["seeds"], against(row)]
        lines.append("| " + " | ".join([*cells, *([costs(row)] if with_costs else [])]) + " |")
    return "\n".join(lines) + "\n"


def enter(folder: Path, name: str) -> None:
    """Copy a comparison's rows and pictures, and write its part of the page."""
    for source, target in (("recipes", f"compared_{name}"), ("runs", f"compared_{name}_runs")):
        shutil.copyfile(folder / f"{source}.csv", RESULTS / f"{target}.csv")
    for picture in folder.glob("*.png"):
        if (target := f"{name}-{picture.name}") in PAGE.read_text(encoding="utf-8"):
            shutil.copyfile(picture, ROOT / "docs" / "images" / target)
    with (folder / "recipes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shares = sorted({row["label_share"] for row in rows}, key=float, reverse=True)
    tables = [table([row for row in rows if row["label_share"] == share]) for share in shares]
    conclusion = (folder / "conclusion.txt").read_text(encoding="utf-8")
    put_into(PAGE, name, "\n".join([*tables, conclusion]), BY)


def main() -> None:
    for name in NAMES:
        if (folder := Path(sys.argv[1], name)).exists():
            enter(folder, name)


if __name__ == "__main__":
    main()

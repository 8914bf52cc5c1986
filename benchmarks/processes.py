"""Training in several processes beside training in one: time an epoch, accuracy, the same bits?

    python benchmarks/processes.py [--recipe quick] [--seeds 3]

The bundled reviews; one process of one thread, one of two threads, two of one thread, taking turns,
a seed a round. Writes results/processes.csv and the table of docs/scale.md.
"""

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inference import processor
from record import RESULTS, put_into
from reelsense.training.measure import code_version

PAGE = RESULTS.parent / "docs" / "scale.md"
PROGRAM = [sys.executable, "-m", "reelsense"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
WAYS = {
    "1 process, 1 thread": [*PROGRAM, "train", "--threads", "1"],
    "1 process, 2 threads": [*PROGRAM, "train", "--threads", "2"],
    "2 processes, 1 thread each": [
        *TORCHRUN, "2", "-m", "--", "reelsense", "train", "--threads", "1",
    ],
}  # fmt: skip


def figures(run: Path) -> dict[str, object]:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    low, high = metrics["test"]["accuracy_interval"]
    return {
        "epoch_seconds": round(statistics.median(record["seconds"] for record in history), 1),
        "reviews_per_second": round(metrics["reviews_per_second"], 1),
        "train_loss": round(history[-1]["train"]["loss"], 5),
        "validation_loss": round(history[-1]["validation"]["loss"], 5),
        "validation_accuracy": round(metrics["validation"]["accuracy"], 5),
        "test_accuracy": round(metrics["test"]["accuracy"], 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "weights_sha256": metrics["weights_sha256"],
        "device": f"{environment['device']} {processor()}",
        "torch": environment["torch"],
    }


def measured(recipe: str, seeds: int) -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for way, command in WAYS.items():
                run = Path(folder, f"{way} {seed}")
                given = ["--recipe", recipe, "--seed", str(seed), "--run", str(run)]
                done = subprocess.run([*command, *given], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{way}: {done.stderr[-1000:]}")
                found = figures(run)
                print(way, seed, found["epoch_seconds"], found["test_accuracy"], flush=True)
                yield {"recipe": recipe, "seed": seed, "way": way, **found}


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    yield "| way | seconds an epoch | to one thread, same seed | test accuracy | weights |"
    yield "|---|---|---|---|---|"
    of = {(row["way"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    first, threads, _ = WAYS
    for way in WAYS:
        mine = [of[way, seed] for seed in seeds]
        faster = [
            of[first, seed]["epoch_seconds"] / of[way, seed]["epoch_seconds"] for seed in seeds
        ]
        same = [
            of[threads, seed]["weights_sha256"] == of[way, seed]["weights_sha256"] for seed in seeds
        ]
        accuracy = ", ".join(f"{row['test_accuracy']:.2%}" for row in mine)
        bits = "the bits of two threads" if all(same) and way != threads else ""
        yield (
            f"| {way} | {statistics.median(row['epoch_seconds'] for row in mine):.1f} | "
            f"{statistics.median(faster):.2f} | {accuracy} | {bits} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows = list(measured(arguments.recipe, arguments.seeds))
    birth = {"commit": code_version(), "command": shlex.join(["python", *sys.argv])}
    with (RESULTS / "processes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *birth], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | birth for row in rows)
    low, high = (rows[0][key] for key in ("low", "high"))
    text = (
        f"Recipe `{arguments.recipe}`, {arguments.seeds} seed(s); the 95% interval of one "
        f"accuracy is {low:.1%} to {high:.1%}.\n"
        f"{processor()}, torch {rows[0]['torch']}. Made by `python benchmarks/processes.py`.\n\n"
        + "\n".join(table(rows))
        + "\n"
    )
    put_into(PAGE, "processes", text, "benchmarks/processes.py")
    print(text)


if __name__ == "__main__":
    main()

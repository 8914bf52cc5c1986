"""Rows a second and memory of `reelsense score`, beside a plain loop over the rows.

    python benchmarks/scoring.py [--rounds 5] [--reviews 6000]
    python benchmarks/scoring.py --memory [ROWS ...]

Whole commands, their start included, on bundled reviews as a CSV, another draw each round; the ways
take turns, so that a change of the machine's speed hits all. "Two loops side by side" is what two
processes that share nothing reach together: the most that two workers could. For Ray the same rows
lie in eight files, and a cluster of as many CPUs is started beforehand. With --memory, files of the
reviews repeated are scored by two workers: 20,000, 200,000 and 2 million rows, or as many as named.
Writes results/scoring.csv, results/scoring_memory.csv and the tables of docs/scale.md.
"""

import argparse
import csv
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import reelsense
from inference import processor, versions
from record import RESULTS, put_into
from reelsense.cores import available_cores
from reelsense.text.reviews import read_reviews
from reelsense.training.measure import code_version

PAGE = RESULTS.parent / "docs" / "scale.md"
COMMAND = [str(Path(sys.executable).with_name("reelsense")), "score"]
FILES = 8  # of the folder for Ray

# The loop that everybody writes first.
LOOP = """
import csv, sys
import reelsense
model = reelsense.load(threads=1)
with open(sys.argv[1], newline="") as source, open(sys.argv[2], "w", newline="") as target:
    rows = csv.reader(source)
    answers = csv.writer(target)
    answers.writerow([*next(rows), "label", "probability"])
    for row in rows:
        said = model(row[1])
        answers.writerow([*row, said.label, said.probability])
"""


def write_csv(path: Path, texts: Sequence[str], rows: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        writer.writerows((row, texts[row % len(texts)]) for row in range(rows))


def seconds_of(*commands: Sequence[str]) -> float:
    """Return the wall time until all commands, started together, have ended."""
    begin = time.perf_counter()
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for command in commands
    ]
    for process in running:
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"{shlex.join(map(str, process.args))}: {said.decode()[-500:]}")
    return time.perf_counter() - begin


def ways(here: Path, cores: int) -> dict[str, Callable[[], float]]:
    """Return how to score the rows, each way with what it is called."""
    source, files = str(here / "in.csv"), str(here / "in")
    loop = [sys.executable, "-c", LOOP, source]
    score = [*COMMAND, source]

    def out(name: str) -> str:
        return str(here / f"{name}.csv")

    found: dict[str, Callable[[], float]] = {
        "the loop `for row: predict(row)`": lambda: seconds_of([*loop, out("loop")]),
        "two loops side by side": lambda: (
            seconds_of(*([*loop, out(f"loop{n}")] for n in range(2))) / 2
        ),
    }
    for workers in sorted({1, cores}):
        found[f"score --workers {workers}"] = lambda w=workers: seconds_of(
            [*score, out(f"score{w}"), "--workers", str(w), "--overwrite"]
        )
    if cores > 1:
        found["two score --workers 1 side by side"] = lambda: (
            seconds_of(*([*score, out(f"s{n}"), "--workers", "1", "--overwrite"] for n in range(2)))
            / 2
        )
    found["the first process alone"] = lambda: alone(here)
    if subprocess.run([sys.executable, "-c", "import ray"], stderr=subprocess.DEVNULL).returncode:
        return found
    ray = [*COMMAND, files, str(here / "ray"), "--workers", str(cores), "--overwrite", "--ray"]
    found[f"score --ray, {cores} actors"] = lambda: seconds_of([*ray, "auto"])
    return found


# Reads, sorts and writes with answers that cost nothing: what the first process does for others.
ALONE = """
import sys
from reelsense.inference import files
from reelsense.inference.request import Request
answer = {"label": "positive", "probability": 0.9123456789012345, "tokens": 266,
          "unknown": 0.0123456789012345, "truncated": False}
task = files.task_for(sys.argv[1], sys.argv[2])
for _ in files.score_file(task, Request(), lambda chunks: ([answer] * len(c) for c in chunks)):
    pass
"""


def alone(here: Path) -> float:
    """Return the seconds of the first process for the same rows twenty times over."""
    source, target = here / "twenty.csv", here / "twenty_out.csv"
    header, *lines = (here / "in.csv").read_bytes().splitlines(keepends=True)
    source.write_bytes(header + 20 * b"".join(lines))
    target.unlink(missing_ok=True)
    return seconds_of([sys.executable, "-c", ALONE, str(source), str(target)]) / 20


def speed(rounds: int, reviews: int) -> dict[str, list[float]]:
    """Return rows a second of each way, a figure a round."""
    texts = read_reviews().texts
    order = np.random.default_rng(0).permutation(len(texts))
    cores, figures = available_cores(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        known = ways(here, cores)
        if any("--ray" in name for name in known):
            start_ray(cores)
        try:
            for number in range(rounds):
                rows = [order[(number * reviews + n) % len(order)] for n in range(reviews)]
                mine = [texts[row] for row in rows]
                write_csv(here / "in.csv", mine, reviews)
                (here / "in").mkdir(exist_ok=True)
                for part in range(FILES):
                    some = mine[part::FILES]
                    write_csv(here / "in" / f"part-{part}.csv", some, len(some))
                for name, way in known.items():
                    figures.setdefault(name, []).append(reviews / way())
                    print(f"round {number + 1}: {name}: {figures[name][-1]:,.0f}", flush=True)
        finally:
            if any("--ray" in name for name in known):
                subprocess.run([ray_program(), "stop"], stdout=subprocess.DEVNULL, check=False)
    return figures


def ray_program() -> str:
    return str(Path(sys.executable).with_name("ray"))


def start_ray(cores: int) -> None:
    command = ["start", "--head", "--num-cpus", str(cores), "--include-dashboard=false"]
    subprocess.run([ray_program(), *command], check=True, stdout=subprocess.DEVNULL)


def birth() -> dict[str, str]:
    model = reelsense.load()
    return {
        "bundle": f"{model.about['name']} {model.about['variant']} {model.about['seal'][:12]}",
        "cores": str(available_cores()),
        "processor": processor(),
        "versions": " ".join(f"{name} {version}" for name, version in versions().items()),
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }


def write_speed(figures: dict[str, list[float]]) -> None:
    made = birth()
    with (RESULTS / "scoring.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["way", "rows_a_second", "lowest", "highest", *made])
        for name, values in figures.items():
            found = (statistics.median(values), min(values), max(values))
            writer.writerow([name, *(round(value, 1) for value in found), *made.values()])
    text = (
        f"{made['cores']} cores, {made['processor']}, bundle {made['bundle']}; rows a second.\n"
        "Made by `python benchmarks/scoring.py`.\n\n"
        + "\n".join([*speed_table(figures), "", *efficiency(figures)])
        + "\n"
    )
    put_into(PAGE, "speed", text, "benchmarks/scoring.py")
    print(text)


def speed_table(figures: dict[str, list[float]]) -> Iterator[str]:
    first = next(iter(figures))
    yield "| way | median | rounds from, to | to the loop, in the same round |"
    yield "|---|---|---|---|"
    for name, values in figures.items():
        ratios = [a / b for a, b in zip(values, figures[first], strict=True)]
        yield (
            f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} to "
            f"{max(values):,.0f} | {statistics.median(ratios):.2f} |"
        )


def efficiency(figures: dict[str, list[float]]) -> Iterator[str]:
    """Yield what two workers are worth, and what a billion reviews take."""
    cores = available_cores()
    one, all_of_them = figures["score --workers 1"], figures.get(f"score --workers {cores}")
    if cores == 1 or all_of_them is None:
        return
    shares = [b / (cores * a) for a, b in zip(one, all_of_them, strict=True)]
    yield (
        f"From 1 to {cores} workers the efficiency is {statistics.median(shares):.0%} (rounds from "
        f"{min(shares):.0%} to {max(shares):.0%})."
    )
    side = figures["two score --workers 1 side by side"]
    limits = [b / (2 * a) for a, b in zip(one, side, strict=True)]
    yield (
        f"Two commands that share nothing but the machine have {statistics.median(limits):.0%} "
        f"({min(limits):.0%} to {max(limits):.0%}): what is missing there is the machine's."
    )
    feeds = statistics.median(figures["the first process alone"]) / statistics.median(one)
    yield (
        f"The first process, which reads and writes for all, could feed {feeds:,.0f} such workers."
    )
    best = statistics.median(all_of_them)
    days = 1e9 / best / 86400
    yield (
        f"\nA billion reviews of this length are {days:,.1f} days of such a machine, "
        f"{days * cores * 24:,.0f} core hours."
    )


def memory(rows: int, texts: Sequence[str]) -> dict[str, float]:
    """Return the megabytes that a run over so many rows holds at most, and its pace."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.csv"), Path(folder, "out.csv")
        write_csv(source, texts, rows)
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, str(source), str(target), "--workers", "2"], stderr=subprocess.DEVNULL
        )
        whole = first = 0.0
        while process.poll() is None:
            held = {pid: resident(pid) for pid in (process.pid, *children(process.pid))}
            whole, first = max(whole, sum(held.values())), max(first, held[process.pid])
            time.sleep(0.2)
        if process.returncode:
            raise SystemExit(f"{rows:,} rows: exit code {process.returncode}")
        seconds = time.perf_counter() - begin
        size = source.stat().st_size / 1e6
    return {"file_mb": size, "peak_mb": whole, "first_process_mb": first, "seconds": seconds}


def children(pid: int) -> list[int]:
    try:
        said = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(child) for child in said.split()]


def resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_memory(found: dict[int, dict[str, float]]) -> None:
    made = birth()
    path = RESULTS / "scoring_memory.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rows", *next(iter(found.values())), *made])
        for rows, figures in found.items():
            values = (round(value, 1) for value in figures.values())
            writer.writerow([rows, *values, *made.values()])
    lines = [
        "Two workers; memory of all processes together, looked at five times a second.",
        "Made by `python benchmarks/scoring.py --memory`.",
        "",
        "| rows | file, MB | peak, MB | of it the first process | minutes |",
        "|---|---|---|---|---|",
    ]
    for rows, figures in found.items():
        lines.append(
            f"| {rows:,} | {figures['file_mb']:,.0f} | {figures['peak_mb']:.0f} | "
            f"{figures['first_process_mb']:.0f} | {figures['seconds'] / 60:.1f} |"
        )
    text = "\n".join(lines) + "\n"
    put_into(PAGE, "memory", text, "benchmarks/scoring.py")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reviews", type=int, default=6000)
    parser.add_argument("--memory", type=int, nargs="*", metavar="ROWS")
    arguments = parser.parse_args()
    if arguments.memory is None:
        write_speed(speed(arguments.rounds, arguments.reviews))
        return
    texts = read_reviews().texts
    found: dict[int, dict[str, float]] = {}
    for rows in arguments.memory or [20_000, 200_000, 2_000_000]:
        found[rows] = memory(rows, texts)
        print(rows, found[rows], flush=True)
    write_memory(found)


if __name__ == "__main__":
    main()

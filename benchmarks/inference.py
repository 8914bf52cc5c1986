"""Speed, memory and size of the shipped bundle, text to label, beside VADER and TextBlob.

    python benchmarks/inference.py [--rounds 5] [--reviews 4000] [--model NAME]

Whole bundled reviews in the order of their lengths' chance. Every round loads the model anew, so
that no word is remembered from the round before, and takes reviews that no round before took;
ours and the peers take turns, so that a change of the machine's speed hits all. The peers have no
threads. Start-up and memory are those of processes of their own. Writes results/inference.csv and
results/inference.md, and README's table.
"""

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

import reelsense
from record import put_into_readme
from reelsense.bundle.folder import in_the_package
from reelsense.cores import available_cores
from reelsense.text.reviews import read_reviews
from reelsense.training.measure import code_version

RESULTS = Path(__file__).parent.parent / "results"
PEER_REVIEWS = 400  # a round; enough for a second
SECOND_REVIEWS = 800
# As users have it: with bytecode kept from one start to the next.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

# Run by a process of its own: reads a review a line, prints the memory held at each fifth.
MEMORY = """
import json, resource, sys
import reelsense
path, times, folder = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
def texts():
    for _ in range(times):
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
seen = []
for number, prediction in enumerate(reelsense.load(folder).stream(texts()), 1):
    if number % 5000 == 0:
        seen.append(held())
# Not ru_maxrss, which a process takes over from the one that started it.
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
print(json.dumps({"seen": seen, "peak": peak}))
"""
START = """
import sys, time
begin = time.perf_counter()
import reelsense
imported = time.perf_counter()
model = reelsense.load(None if sys.argv[1] == "-" else sys.argv[1])
loaded = time.perf_counter()
print(imported - begin, loaded - imported)
"""


def per_second(answer: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    answer(texts)
    return len(texts) / (time.perf_counter() - begin)


def peers() -> dict[str, Callable[[Sequence[str]], object]]:
    from textblob import TextBlob
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader = SentimentIntensityAnalyzer()
    return {
        "VADER": lambda texts: [vader.polarity_scores(text)["compound"] >= 0 for text in texts],
        "TextBlob": lambda texts: [TextBlob(text).sentiment.polarity >= 0 for text in texts],
    }


def of_the_second(texts: Sequence[str], cores: int) -> dict[str, float]:
    """Reviews a second of `accurate`, alone and asked where `small` is uncertain."""
    if "accurate" not in in_the_package():
        return {}
    ways = {
        "accurate": reelsense.load("accurate", threads=cores),
        "small, and accurate where it is uncertain": reelsense.load(
            second="accurate", threads=cores
        ),
    }
    return {f"{way}, {cores} cores": per_second(model, texts) for way, model in ways.items()}


def throughput(folder: str | None, texts: list[str], rounds: int, reviews: int) -> dict[str, list]:
    """Return reviews a second of each way, a figure a round."""
    cores = available_cores()
    others = peers()
    figures: dict[str, list[float]] = {}
    for place in range(rounds):
        mine = [texts[(place * reviews + row) % len(texts)] for row in range(reviews)]
        for threads in sorted({1, cores}):
            model = reelsense.load(folder, threads=threads)
            name = f"reelsense, {threads} {'core' if threads == 1 else 'cores'}"
            figures.setdefault(name, []).append(per_second(model, mine))
        tokenizer = reelsense.load(folder).bundle.tokenizer
        encode = per_second(lambda some, t=tokenizer: [t.encode(text) for text in some], mine)
        figures.setdefault("tokenising alone, 1 core", []).append(encode)
        if folder is None:
            for name, speed in of_the_second(mine[:SECOND_REVIEWS], cores).items():
                figures.setdefault(name, []).append(speed)
        for name, answer in others.items():
            figures.setdefault(f"{name}, 1 core", []).append(
                per_second(answer, mine[:PEER_REVIEWS])
            )
        print(
            f"round {place + 1}:", {key: round(row[-1]) for key, row in figures.items()}, flush=True
        )
    return figures


def alone(folder: str | None, texts: list[str], times: int = 50) -> float:
    """Return the milliseconds of one review of 250 tokens, once loaded."""
    model = reelsense.load(folder)
    nearest = sorted(texts[:3000], key=lambda text: abs(len(text) - 1300))[:300]
    ours = min(nearest, key=lambda text: abs(model(text).tokens - 250))
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        model(ours)
        taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken)


def seconds_of(command: Sequence[str], times: int = 11) -> list[float]:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        taken.append(time.perf_counter() - begin)
    return taken


def startup(folder: str | None) -> dict[str, float]:
    """Return the median seconds of an import, a load and a whole command, files being cached."""
    pairs = []
    for _ in range(12):
        command = [sys.executable, "-c", START, str(folder or "-")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
        pairs.append([float(value) for value in done.stdout.split()])
    imported, loaded = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    script = Path(sys.executable).with_name("reelsense")
    model = ["--model", str(folder)] if folder else []
    command = seconds_of([str(script), "predict", *model, "A wonderful film, and never dull."])
    return {"import": imported, "load": loaded, "command": statistics.median(command)}


def memory(folder: str | None, texts: list[str]) -> dict[str, float]:
    """Return the megabytes held at most over 25,000 and over 100,000 reviews from a generator."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "reviews.jsonl")
        path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        found = {}
        for times in (1, 4):
            arguments = [str(path), str(times), json.dumps(None if folder is None else str(folder))]
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, *arguments],
                check=True,
                capture_output=True,
                text=True,
                env=ENVIRONMENT,
            )
            said = json.loads(done.stdout)
            found[f"peak over {times * len(texts):,} reviews"] = said["peak"]
        found["growth from the first quarter of them to the last"] = max(said["seen"][-5:]) - max(
            said["seen"][:5]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reviews", type=int, default=4000)
    parser.add_argument("--model", metavar="NAME")
    arguments = parser.parse_args()
    texts = list(read_reviews().texts)
    order = np.random.default_rng(0).permutation(len(texts))
    texts = [texts[row] for row in order]
    speeds = throughput(arguments.model, texts, arguments.rounds, arguments.reviews)
    cores = available_cores()
    ours = f"reelsense, {cores} {'core' if cores == 1 else 'cores'}"
    rows = [
        (f"{name}: reviews/s", statistics.median(values), min(values), max(values))
        for name, values in speeds.items()
    ]
    for peer in ("VADER", "TextBlob"):
        ratios = [a / b for a, b in zip(speeds[ours], speeds[f"{peer}, 1 core"], strict=True)]
        rows.append(
            (f"ratio {ours} to {peer}", statistics.median(ratios), min(ratios), max(ratios))
        )
    shares = [
        a / (cores * b)
        for a, b in zip(speeds[ours], speeds["tokenising alone, 1 core"], strict=True)
    ]
    rows.append(
        (
            "share of the time that tokenising takes",
            statistics.median(shares),
            min(shares),
            max(shares),
        )
    )
    rows.append(("one review of 250 tokens: ms", alone(arguments.model, texts), "", ""))
    for name, seconds in startup(arguments.model).items():
        rows.append((f"{name}: s", seconds, "", ""))
    for name, megabytes in memory(arguments.model, texts).items():
        rows.append((f"memory, {name}: MB", megabytes, "", ""))
    write(rows, reelsense.load(arguments.model))


def write(rows: Sequence[tuple], model: reelsense.Predictor) -> None:
    """Write the rows with what they were measured with."""
    birth = {
        "bundle": f"{model.about['name']} {model.about['variant']} {model.about['seal'][:12]}",
        "units": model.about["recipe"]["hidden"],
        "cores": available_cores(),
        "processor": processor(),
        "versions": " ".join(f"{k} {v}" for k, v in versions().items()),
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }
    lines = written("inference.csv", rows, birth)
    text = (
        f"Text to label, whole bundled reviews, {birth['cores']} cores, {birth['processor']}, "
        f"bundle {birth['bundle']}.\nMade by `python benchmarks/inference.py`.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    (RESULTS / "inference.md").write_text(text, encoding="utf-8")
    put_into_readme("inference", text, "benchmarks/inference.py")


def written(name: str, rows: Sequence[tuple], birth: Mapping[str, object]) -> list[str]:
    """Write the rows to a file of results, and return the lines of their table."""
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "median", "lowest", "highest", *birth])
        for what, *values in rows:
            writer.writerow([what, *(shown(value) for value in values), *birth.values()])
    lines = ["| what | median | rounds from, to |", "|---|---|---|"]
    for what, middle, low, high in rows:
        span = f"{shown(low)} to {shown(high)}" if low != "" else ""
        lines.append(f"| {what} | {shown(middle)} | {span} |")
    return lines


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def versions() -> dict[str, str]:
    python = sys.version.split()[0]
    return {"python": python, **{name: metadata.version(name) for name in ("numpy", "onnxruntime")}}


if __name__ == "__main__":
    main()

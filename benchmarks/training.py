"""Training speed of the loop against the plain way, side by side in one run.

    python benchmarks/training.py [--reviews 640] [--rounds 3]

The plain way is what the tutorials do: batches in random order, packed sequences, float32, torch's
own threads; same network, weights, reviews, optimiser and clipping. Both train on whole reviews of
the bundled training part. Rounds alternate, so that a change of the machine's speed hits both.
Writes a row to results/training_speed.csv.
"""

import argparse
import csv
import shlex
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reelsense.model.networks import build
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe, read_recipe
from reelsense.text.reviews import read_reviews
from reelsense.training.batches import Examples, pad
from reelsense.training.loop import Step, train
from reelsense.training.machine import Machine, find_machine
from reelsense.training.measure import code_version
from reelsense.training.prepare import prepare

RESULTS = Path(__file__).parent.parent / "results" / "training_speed.csv"


class PackedBiLSTM(nn.Module):
    """The recipe's network with torch's bidirectional LSTM on packed sequences."""

    def __init__(self, like: Network) -> None:
        super().__init__()
        dimensions, hidden = like.embedding.embedding_dim, like.recipe.hidden
        self.inner = like
        self.lstm = nn.LSTM(dimensions, hidden, batch_first=True, bidirectional=True)

    def forward(self, ids: Tensor, lengths: Tensor, noise: torch.Generator) -> Tensor:
        vectors = self.inner.embed(ids, noise)
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.inner.score(self.inner.pool(states, lengths), noise)


def plain_way(recipe: Recipe, network: Network, examples: Examples) -> float:
    """Train one epoch and return the reviews a second."""
    model = PackedBiLSTM(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    noise = torch.Generator().manual_seed(0)
    order = np.random.default_rng(0).permutation(len(examples))
    started = time.perf_counter()
    for first in range(0, len(order), recipe.batch_reviews):
        batch = pad(examples, order[first : first + recipe.batch_reviews])
        optimizer.zero_grad()
        logits = model(batch.ids, batch.lengths, noise)
        nn.functional.binary_cross_entropy_with_logits(logits, batch.labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    return len(examples) / (time.perf_counter() - started)


def our_loop(recipe: Recipe, network: Network, examples: Examples, machine: Machine) -> float:
    """Train one epoch with `reelsense.training.loop` and return the reviews a second."""
    speed = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for event in train(recipe, network, examples, examples, Path(folder), machine):
            if not isinstance(event, Step):
                break  # the epoch's measuring is not training
            speed = event.reviews_per_second
    return speed


def measure(way: str, reviews: int) -> float:
    """Prepare the reviews and train on them in one way; called in a process of its own."""
    recipe = read_recipe("default").changed(crop_tokens=0, max_tokens=0, epochs=1, whole_epochs=1)
    prepared = prepare(recipe, read_reviews())
    network = build(recipe, prepared.vectors.matrix, prepared.vectors.found)
    whole = prepared.examples(recipe, "train")
    rows = np.random.default_rng(0).permutation(len(whole))[:reviews]
    examples = Examples([whole.ids[row] for row in rows], whole.labels[rows])
    if way == "plain":
        return plain_way(recipe, network, examples)
    return our_loop(recipe, network, examples, find_machine("cpu", None, recipe.precision))


def measure_alone(way: str, reviews: int) -> float:
    """Call `measure` in a new process: how our loop sets up torch and malloc stays out of it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(measure, way, reviews).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    pairs = []
    for place in range(arguments.rounds):
        ours = measure_alone("ours", arguments.reviews)
        plain = measure_alone("plain", arguments.reviews)
        pairs.append((ours, plain))
        print(f"round {place + 1}, reviews/s: ours {ours:.0f}, plain {plain:.0f}", flush=True)
    recipe = read_recipe("default")
    machine = find_machine("cpu", None, recipe.precision)
    ratio = statistics.median(ours / plain for ours, plain in pairs)
    ours, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"median of {len(pairs)} rounds: ours {ours:.0f}, plain {plain:.0f}, ratio {ratio:.1f}x")
    row = {
        "ours_reviews_per_second": f"{ours:.1f}",
        "plain_reviews_per_second": f"{plain:.1f}",
        "ratio": f"{ratio:.2f}",
        "rounds": len(pairs),
        "reviews": arguments.reviews,
        "hidden": recipe.hidden,
        "machine": machine,
        "torch": torch.__version__,
        "commit": code_version(),
        "command": shlex.join(["python", *sys.argv]),
    }
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()

"""How fast a model answers on this machine, on made-up reviews of the lengths of real ones."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelsense.inference.predictor import Predictor, load
from reelsense.memory import peak_memory_mb

# Shares of the bundled reviews, and the tokens below which the lengths of so many lie.
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
LENGTHS = (11, 107, 138, 154, 170, 200, 236, 292, 381, 539, 680, 1038, 2742)


@dataclass(frozen=True, slots=True)
class Speed:
    """reviews_per_second over many, milliseconds for one of 250 tokens, tokens in the mean."""

    reviews_per_second: float
    milliseconds: float
    tokens: float


def measure(model: Predictor, reviews: int = 2000) -> Speed:
    """Return how fast a model answers, text to label; takes a second or two.

    The texts are words of its vocabulary by chance, many of them rare: no text is kept in the
    package, and cutting rare words takes a little longer than cutting real reviews.
    """
    chance = np.random.default_rng(0)
    words = np.array(model.bundle.tokenizer.vocabulary[2:])
    lengths = np.interp(chance.random(reviews), SHARES, LENGTHS)
    # Zipf: the word of rank r is seen in proportion to 1 / r.
    share = 1 / np.arange(1, len(words) + 1)
    drawn = chance.choice(words, int(lengths.sum()) + reviews, p=share / share.sum())
    ends = np.cumsum(lengths.astype(int))
    texts = [" ".join(row) for row in np.split(drawn[: ends[-1]], ends[:-1])]
    model(texts[:64])
    start = time.perf_counter()
    predictions = model(texts)
    many = time.perf_counter() - start
    one = " ".join(drawn[:250])
    alone = []
    for _ in range(20):
        start = time.perf_counter()
        model(one)
        alone.append(time.perf_counter() - start)
    mean = sum(prediction.tokens for prediction in predictions) / reviews
    return Speed(reviews / many, 1000 * float(np.median(alone)), mean)


def _main() -> None:
    """Print the speed of a bundle on texts, a JSON string a line, and the memory that it took."""
    folder, file = sys.argv[1:]
    texts = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    model = load(Path(folder), threads=1)
    model(texts[:20])
    start = time.perf_counter()
    model(texts)
    per_second = len(texts) / (time.perf_counter() - start)
    print(json.dumps({"reviews_per_second": per_second, "peak_mb": peak_memory_mb()}))


if __name__ == "__main__":
    _main()

"""Files of reviews, and what it takes to score them in this process with a tiny model."""

import random

import pytest

from reelsense.inference import files
from reelsense.inference.files import score_file, task_for
from reelsense.inference.request import Request
from reelsense.inference.workers import Model, answering

WORDS = """
    great superb awful dull the film is a story , . not but boring lovely
""".split()  # noqa: SIM905


def _texts(n, seed=0):
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 40))) for _ in range(n)]


@pytest.fixture(scope="session")
def made_up_texts():
    return _texts


@pytest.fixture
def request_for(tiny_bundle):
    """Return a request to the tiny model."""

    def make(explain=False, confidence=None, **options):
        return Request(Model(str(tiny_bundle), None, confidence, explain), **options)

    return make


@pytest.fixture
def score(request_for):
    """Score a file in this process; return what came of it."""

    def run(source, target, resume=False, workers=1, **options):
        request = request_for(**options)
        with answering(request.model, workers) as answered:
            running = score_file(task_for(str(source), str(target)), request, answered, resume)
            while True:
                try:
                    next(running)
                except StopIteration as ended:
                    return ended.value

    return run


@pytest.fixture
def small_parts(monkeypatch):
    """Chunks of three rows and parts of two chunks, so that a small file has many."""
    monkeypatch.setattr(files, "CHUNK", 3)
    monkeypatch.setattr(files, "EXPLAINED_CHUNK", 3)
    monkeypatch.setattr(files, "PART", 2)

"""The command line as a user meets it: a working folder, the program in it, and a tiny run."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reelsense import cli
from reelsense.bundle.export import export
from reelsense.text.reviews import read_reviews
from reelsense.training import loop

GOOD, BAD = "great superb lovely moving", "awful dull boring weak"
NEUTRAL = "the film is a story of man and woman in city with plot"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def _made_up(n, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(n):
        words = f"{GOOD if row % 2 else BAD} {NEUTRAL}".split()
        rows.append((f"{' '.join(rng.choice(words, 15))} n{row}", row % 2))
    return rows


def _write_csv(path, n=200, seed=0):
    rows = "".join(f"{text},{label}\n" for text, label in _made_up(n, seed))
    path.write_text("review,sentiment\n" + rows)
    return path


def _write_vectors(path, dimension=5):
    rng = np.random.default_rng(0)
    words = sorted({*GOOD.split(), *BAD.split(), *NEUTRAL.split()})
    rows = [[word, *(f"{x:.3f}" for x in rng.normal(size=dimension))] for word in words]
    path.write_text("".join(" ".join(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def made_up():
    """Made-up reviews with their labels, as many positive as negative."""
    return _made_up


@pytest.fixture(scope="session")
def write_csv():
    return _write_csv


@pytest.fixture(scope="session")
def write_vectors():
    return _write_vectors


@pytest.fixture(scope="session")
def tiny():
    """The arguments of a training that takes a second or two; of a flag twice, the last counts."""
    return [
        "train", "--recipe", "quick", "--embedding", "vectors.txt", "--hidden", "4",
        "--epochs", "2", "--crop-tokens", "0", "--max-tokens", "20", "--min-count", "1",
        "--threads", "1", "--run", "run", "--data", "reviews.csv",
    ]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with reviews and vectors; torch's threads are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    _write_csv(tmp_path / "reviews.csv")
    _write_vectors(tmp_path / "vectors.txt")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def reelsense(here, monkeypatch, capsys):
    """Call the program in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reelsense", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture(scope="session")
def refused():
    """Check that an outcome is one line on standard error, and the exit code."""

    def check(outcome, code, message):
        assert outcome.code == code, outcome.err
        assert outcome.err.startswith("reelsense: ")
        assert outcome.err.count("\n") == 1
        assert re.search(message, outcome.err), outcome.err

    return check


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """A folder with reviews, vectors and the finished run `run`, whose output is in `said`."""
    folder = tmp_path_factory.mktemp("finished")
    _write_csv(folder / "reviews.csv")
    _write_vectors(folder / "vectors.txt")
    # Colours that the environment forces are for terminals; this is none.
    done = subprocess.run(
        [sys.executable, "-m", "reelsense", *tiny],
        cwd=folder,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.fixture
def run(finished, here):
    """A copy of the finished run in the working folder."""
    shutil.copytree(finished / "run", here / "run")
    # The run remembers where its reviews were.
    assert (finished / "reviews.csv").read_bytes() == (here / "reviews.csv").read_bytes()
    return here / "run"


@pytest.fixture(scope="session")
def exported(finished):
    """The bundle of the finished run; nobody may change it."""
    reviews = read_reviews(str(finished / "reviews.csv"))
    export(finished / "run", finished / "bundle", reviews)
    return finished / "bundle"


@pytest.fixture
def stop_at(monkeypatch):
    """Let Ctrl-C come in a step of the training."""
    real = loop._progress

    def stop(step):
        def pressed(recipe, position, steps):
            if position.steps_done == step:
                signal.raise_signal(signal.SIGINT)
            return real(recipe, position, steps)

        monkeypatch.setattr(loop, "_progress", pressed)

    return stop

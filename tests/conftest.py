"""A bundle of random weights, for whoever needs one that answers; processes of programs."""

import subprocess
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from reelsense.bundle.folder import write_bundle
from reelsense.bundle.graph import build_graph
from reelsense.model.recipe import Recipe
from reelsense.text.tokenizer import SPECIAL, Tokenizer

# On a shared machine one call may take seconds for no reason of its own.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="module")
def one_core():
    """Cores that meet at every token of a small network only wait for each other."""
    import torch  # what predicts is tested without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WORDS = """
    a the film is was it not but and of in to great superb lovely moving awful dull boring weak
    story plot cast ending . , ! ? n't 's do does -- ... " ( ) 8 10 good bad very mr.
"""


def write_tiny_bundle(
    folder, longest=500, keep="head+tail", variant="fp32", figures=None, **settings
):
    """Write a bundle with random weights that are large enough for all of its three labels."""
    recipe = Recipe(**{"name": "tiny", "hidden": 6, **settings})
    chance = np.random.default_rng(7)
    words = list(dict.fromkeys((*SPECIAL, *WORDS.split())))
    hidden, features = recipe.hidden, 2 * recipe.hidden * (1 + ("+" in recipe.pooling))
    shapes = {"embedding.weight": (len(words), 5), "output.bias": (1,)}
    for lstm in ("forward_lstm.0", "backward_lstm.0"):
        shapes[f"{lstm}.weight_ih_l0"] = (4 * hidden, 5)
        shapes[f"{lstm}.weight_hh_l0"] = (4 * hidden, hidden)
        shapes[f"{lstm}.bias_ih_l0"] = shapes[f"{lstm}.bias_hh_l0"] = (4 * hidden,)
    if recipe.dense:
        shapes |= {"dense.weight": (recipe.dense, features), "dense.bias": (recipe.dense,)}
    shapes["output.weight"] = (1, recipe.dense or features)
    weights = {name: chance.normal(0, 1.5, shape).astype("f4") for name, shape in shapes.items()}
    evidence = not recipe.dense and recipe.pooling != "last"
    hashes = BytesIO()
    np.save(hashes, np.zeros(0, np.uint64))
    files = {
        "model.onnx": build_graph(recipe, weights, 1.3, variant),
        "tokenizer.json": Tokenizer(tuple(words)).to_json().encode(),
        "trained_on.npy": hashes.getvalue(),
        "README.md": b"# tiny\n",
    }
    about = {
        "format": 1, "name": "tiny", "made_with": {"reelsense": "0.1.0"}, "variant": variant,
        "recipe": asdict(recipe), "labels": ["negative", "positive"], "temperature": 1.3,
        "confidence": 0.6, "stated_error": 0.05, "evidence": evidence,
        "bias": float(weights["output.bias"][0] / np.float32(1.3)), "words": len(words),
        "longest": longest, "keep": keep, "figures": FIGURES if figures is None else figures,
        "trained_on": {"source": "made-up reviews", "reviews": 20_000},
    }  # fmt: skip
    write_bundle(folder, about, files)
    return folder


FIGURES = {
    "part": "test", "n": 2500, "accuracy": 0.9, "accuracy_interval": [0.88, 0.92],
    "calibration_error": 0.012, "roc": {"threshold": [float("inf"), 0.5, float("nan")]},
    "decided": {"confidence": 0.6, "coverage": 0.8, "error": 0.051, "n": 2500, "decided": 2000},
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """The folder of a bundle; nobody may change it."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def make_bundle(tmp_path):
    """Write a bundle with other settings; return its folder."""
    return lambda name="other", **settings: write_tiny_bundle(tmp_path / name, **settings)


@pytest.fixture(scope="session")
def children_of():
    """Return the processes that a process has started and that have not been waited for."""

    def of(pid):
        done = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True)
        pairs = (line.split() for line in done.stdout.splitlines())
        return [int(child) for child, parent in pairs if int(parent) == pid]

    return of


@pytest.fixture(scope="session")
def is_running():
    """Say whether there is such a process, and it has not ended."""

    def running(pid):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    return running

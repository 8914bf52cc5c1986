import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reelsense.bundle.graph import build_graph
from reelsense.model.recipe import Recipe

WORDS, DIMENSIONS = 30, 4
# What stands in for a long night of fuzzing: REELSENSE_FUZZ=200 makes 200 times as many mutants.
MUTANTS = 100 * int(os.environ.get("REELSENSE_FUZZ", "1"))

# Takes each model or bundle as far as a user would, and says first which one it is.
TRIAL = """
import sys
from pathlib import Path
import numpy as np
from reelsense.bundle import folder, onnx_file, session
from reelsense.errors import BadInput

def attempt(path):
    if path.is_dir():
        model = folder.read_bundle(path).model
        folder.trained_on(path)
    else:
        model = path.read_bytes()
        onnx_file.check_model(model, path.name)
    opened = session.open_session(model)
    outputs = [output.name for output in opened.get_outputs()]
    for lengths in ([3, 0, 5], [70], [0]):
        ids = [np.arange(length, dtype=np.int32) % 30 for length in lengths]
        session.run(opened, ids, outputs)

for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        attempt(path)
        print("works", flush=True)
    except BadInput as error:
        assert "\\n" not in str(error), error
        print("refused", flush=True)
    except Exception as error:
        known = type(error).__module__.startswith("onnxruntime")
        print("stopped" if known else f"raised {error!r}", flush=True)
"""


def model_of(variant="fp32", hidden=3, words=WORDS, **settings):
    """The bytes of a graph with random weights, of the recipe with these settings."""
    recipe = Recipe(hidden=hidden, **settings)
    chance = np.random.default_rng(0)

    def weight(*shape):
        return (chance.normal(size=shape) * 0.5).astype(np.float32)

    weights = {"embedding.weight": weight(words, DIMENSIONS)}
    for layer in range(recipe.layers):
        for side in ("forward", "backward"):
            lstm = f"{side}_lstm.{layer}"
            weights[f"{lstm}.weight_ih_l0"] = weight(
                4 * hidden, 2 * hidden if layer else DIMENSIONS
            )
            weights[f"{lstm}.weight_hh_l0"] = weight(4 * hidden, hidden)
            weights[f"{lstm}.bias_ih_l0"] = weight(4 * hidden)
            weights[f"{lstm}.bias_hh_l0"] = weight(4 * hidden)
    features = 2 * hidden * (1 + ("+" in recipe.pooling))
    if recipe.dense:
        weights["dense.weight"] = weight(recipe.dense, features)
        weights["dense.bias"] = weight(recipe.dense)
    weights["output.weight"] = weight(1, recipe.dense or features)
    weights["output.bias"] = weight(1)
    return build_graph(recipe, weights, 1.3, variant)


@pytest.fixture(scope="session")
def small_model():
    return model_of


@pytest.fixture(scope="session")
def mutants():
    """How many mutants a fuzz test makes."""
    return MUTANTS


@pytest.fixture
def outcomes(tmp_path_factory):
    """Run everything in a folder in a process of its own; return what became of each."""
    script = tmp_path_factory.mktemp("trial") / "trial.py"
    script.write_text(TRIAL)

    def run(folder: Path):
        done = subprocess.run(
            [sys.executable, str(script), str(folder)], capture_output=True, text=True
        )
        lines = done.stdout.splitlines()
        assert done.returncode == 0, f"{done.returncode} at {lines[-1:]}: {done.stderr[-500:]}"
        found = dict(line.split(" ", 1) for line in lines)
        assert set(found.values()) <= {"works", "refused", "stopped"}, found
        return found

    return run

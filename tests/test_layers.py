"""The floors of the house: who may import whom, and what the light half must do without."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import reelsense

SOURCE = Path(reelsense.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A room is a folder, or a file directly under the package.
# "__init__" is the version, which every room may know; it is also the door to `load`.
FOUNDATION = {"__init__", "errors", "atomic", "cache", "cores", "memory", "torchrun"}
GROUND = {"text", "vectors", "model", "evaluation"}
TRAINING = FOUNDATION | GROUND | {"training"}
MAY_IMPORT = {
    **dict.fromkeys(FOUNDATION - {"__init__"}, FOUNDATION),
    "__init__": {"inference"},
    **{room: FOUNDATION | {room} for room in GROUND},
    "training": TRAINING,
    "download": FOUNDATION,
    "bundle": TRAINING | {"bundle"},
    "inference": FOUNDATION | GROUND | {"bundle", "inference"},
    "experiments": TRAINING | {"bundle", "experiments"},
    "serving": FOUNDATION | GROUND | {"bundle", "inference", "serving"},
    "verbs": TRAINING | {"download", "bundle", "experiments", "inference", "serving", "verbs"},
    "cli": FOUNDATION | {"verbs"},
    "__main__": {"cli"},
}
# What makes bundles out of runs; the rest of the room reads them and knows no training.
FROM_RUNS = {"bundle/export.py", "bundle/held_out.py"}
HEAVY = [
    "torch", "matplotlib", "pyarrow", "sklearn", "scipy", "jinja2", "safetensors", "onnx",
    "rich", "pygments", "markdown_it", "optuna", "sqlalchemy", "ray", "pandas",
]  # fmt: skip
LIGHT = [
    "reelsense",
    "reelsense.cli",
    "reelsense.model.recipe",
    "reelsense.text.words",
    "reelsense.text.tokenizer",
    "reelsense.text.sentences",
    "reelsense.evaluation.metrics",
    "reelsense.evaluation.calibrate",
    "reelsense.experiments.ranges",
    "reelsense.bundle.protobuf",
    "reelsense.bundle.onnx_file",
    "reelsense.bundle.folder",
    "reelsense.bundle.session",
    "reelsense.inference.predictor",
    "reelsense.inference.speed",
    "reelsense.inference.files",
    "reelsense.inference.folders",
    "reelsense.verbs.scoring",
    "reelsense.verbs.prediction",
    "reelsense.verbs.explaining",
    "reelsense.verbs.serving",
    "reelsense.serving.server",
    "reelsense.download",
]


def room_of(parts):
    """The room of a path inside the package, given as its parts without `.py`."""
    return parts[0] if parts else "__init__"


def imports(path):
    """Every module that a file imports anywhere, functions included, by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports in full"
            # `from reelsense.training import linear` imports a module, not a name of one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    for name in imports(path):
        package, *parts = name.split(".")
        if package == "reelsense":
            is_room = parts and any(SOURCE.glob(f"{parts[0]}*"))
            yield room_of(parts if is_room else [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_floors_below(path):
    room = room_of(path.relative_to(SOURCE).with_suffix("").parts)
    assert room in MAY_IMPORT, f"give the room {room} a floor in this test"
    assert set(rooms_imported(path)) <= MAY_IMPORT[room]


def test_there_is_no_circle_within_a_room():
    known = {
        ".".join(("reelsense", *path.relative_to(SOURCE).with_suffix("").parts)): path
        for path in FILES
    }

    def below(name):
        for imported in imports(known[name]):
            for candidate in (imported, imported.rpartition(".")[0]):
                if candidate in known:
                    yield candidate

    def visit(name, above):
        assert name not in above, " -> ".join((*above, name))
        if name not in finished:
            for other in below(name):
                visit(other, (*above, name))
            finished.add(name)

    finished = set()
    for name in known:
        visit(name, ())
    assert finished == set(known)


def test_only_what_exports_runs_knows_the_training():
    users = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if room_of(path.relative_to(SOURCE).parts) == "bundle"
        and "training" in set(rooms_imported(path))
    }
    assert users == FROM_RUNS


def test_only_the_plots_import_matplotlib():
    users = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if any(name.split(".")[0] == "matplotlib" for name in imports(path))
    }
    assert users
    assert all(Path(user).match("evaluation/*plots.py") for user in users)


def test_networks_know_no_data_and_no_loss():
    used = {name.split(".")[0] for name in imports(SOURCE / "model" / "networks.py")}
    assert used <= {"typing", "numpy", "torch", "reelsense"}
    assert not any("functional" in name for name in imports(SOURCE / "model" / "networks.py"))


def test_nothing_is_pickled():
    for path in FILES:
        names = set(imports(path))
        assert not {"pickle", "joblib", "cloudpickle", "dill"} & {n.split(".")[0] for n in names}
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path
        assert "torch.save(" not in path.read_text(encoding="utf-8"), path


def test_no_file_has_a_name_that_says_nothing():
    empty = {"utils", "util", "common", "base", "helpers", "helper", "manager", "misc", "registry"}
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert not names & empty


def python(program):
    """Run a program in a Python of its own; return what it printed."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_the_light_half_does_without_torch_and_its_companions(module):
    blocked = f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\n"
    assert python(f"{blocked}import {module}\nprint({module}.__name__)") == f"{module}\n"


def test_importing_the_package_has_no_side_effects():
    program = (
        "import logging, sys, warnings\n"
        "before = set(sys.modules), list(warnings.filters)\n"
        "import reelsense\n"
        "print(logging.root.handlers, logging.getLogger('reelsense').handlers,\n"
        "      logging.root.level, logging.getLogger('reelsense').level,\n"
        "      warnings.filters == before[1],\n"
        "      sorted(set(sys.modules) - before[0]))"
    )
    assert python(program) == f"[] [] {logging.WARNING} 0 True ['reelsense']\n"

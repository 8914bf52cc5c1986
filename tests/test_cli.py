"""The root of the command line: the verbs, help, and how a program ends."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest

from reelsense import cli
from reelsense.model.recipe import Recipe
from reelsense.model.settings import flag
from reelsense.verbs import data

VERBS = [
    "predict", "score", "serve", "info", "doctor", "train", "distil", "pretrain", "tune",
    "evaluate", "export", "compare", "data", "augment", "download", "recipes",
]  # fmt: skip


@pytest.fixture
def reelsense(monkeypatch, capsys):
    """Call the program in this process; return its exit code and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reelsense", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return call


# --- help ---------------------------------------------------------------------------------


def test_help_lists_the_verbs_in_the_order_of_use(reelsense):
    code, out, err = reelsense("--help")
    assert (code, err) == (0, "")
    listed = out.partition("Commands:\n")[2].strip().split("\n")
    assert [line.split()[0] for line in listed] == VERBS
    assert all(line.endswith(".") and "..." not in line for line in listed), out
    assert reelsense() == (code, out, err)
    assert reelsense("-h") == (code, out, err)


@pytest.mark.parametrize("verb", ["train", "distil", "tune"])
def test_help_of_a_training_names_every_value_of_a_recipe(reelsense, verb):
    shown = reelsense(verb, "--help")[1].partition("Values of the recipe:")[2]
    for field in dataclasses.fields(Recipe):
        assert (f"  {flag(field.name)} " in shown) == (field.name not in ("name", "about"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(reelsense, verb):
    assert f"Usage: reelsense {verb} " in reelsense(verb, "--help")[1]


def test_help_is_quick():
    """0.1 s on an idle machine; three times the 0.25 s promised is for a busy one."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "reelsense", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - start)
    assert min(times) < 0.75
    code = "import sys, reelsense.cli; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "numpy", "rich", "onnxruntime", "sklearn", "matplotlib", "pyarrow"]
    command = [sys.executable, "-c", code, *heavy]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_predicting_loads_nothing_but_what_predicts(tiny_bundle, explain):
    code = (
        "import sys; from reelsense import cli\n"
        "try: cli.main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = 'torch', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'safetensors', 'onnx', "
        "'rich', 'jinja2', 'pandas'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    arguments = ["predict", "--model", str(tiny_bundle), "great film 好", *explain]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.stderr == ""
    assert "film" in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_version(reelsense):
    assert re.fullmatch(r"reelsense, version [0-9.]+\S*\n", reelsense("--version")[1])


# --- how it ends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory; try a smaller --batch-tokens or --hidden"),
        (RuntimeError("could not allocate memory"), 1, "out of memory; try"),
        (ModuleNotFoundError(name="onnx"), 1, 'the package onnx; install it with: pip install "re'),
        (
            ModuleNotFoundError(name="optuna"),
            1,
            'install it with: pip install "reelsense[train,tune]"',
        ),
        (PermissionError(13, "Permission denied", "x.csv"), 1, "x.csv: Permission denied"),
        (click.BadParameter("is odd."), 2, "is odd; see `reelsense"),
    ],
)
def test_an_error_is_one_line(reelsense, monkeypatch, error, code, said):
    def stop(**arguments):
        raise error

    monkeypatch.setattr(data.recipes, "callback", stop)
    ended, out, err = reelsense("recipes")
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("reelsense: ")
    assert said in err


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ZeroDivisionError()])
def test_a_defect_is_not_hidden(monkeypatch, error):
    def stop(**arguments):
        raise error

    monkeypatch.setattr(data.recipes, "callback", stop)
    monkeypatch.setattr(sys, "argv", ["reelsense", "recipes"])
    with pytest.raises(type(error)):
        cli.main()


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"], ["predict", "-"],
                                       ["predict", "--explain", "-"]])  # fmt: skip
def test_an_output_that_nobody_reads_ends_silently(tiny_bundle, arguments):
    """As in `| head -1`, whoever writes the line: click or Python."""
    model = ["--model", str(tiny_bundle)] if "predict" in arguments else []
    process = subprocess.Popen(
        [sys.executable, "-m", "reelsense", *arguments, *model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.write(b"a great film\n" * 10)
    process.stdin.close()
    said = process.stderr.read()
    assert (process.wait(timeout=60), said) == (128 + signal.SIGPIPE, b"")

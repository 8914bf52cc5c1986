"""`compare`: real runs in processes of their own, and everything that it refuses."""

import csv
import fcntl
import io
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from reelsense.experiments.compare import Measuring
from reelsense.experiments.cost import write_answering
from reelsense.experiments.plan import Cell
from reelsense.experiments.runs import Ended, Working
from reelsense.inference.predictor import load
from reelsense.text.reviews import read_reviews
from reelsense.training.checkpoint import load_weights, weights_hash
from reelsense.verbs import comparing
from reelsense.verbs.progress import Progress, draw_progress

RECIPE = """
embedding = "vectors.txt"
hidden = 4
epochs = 2
min_count = 1
max_tokens = 20
batch_reviews = 8
precision = "fp32"
"""
# What no two runs share: times, and memory.
TIMES = ("training_seconds", "training_peak_mb", "reviews_per_second", "peak_mb")
COMPARE = [
    "compare", "tiny.toml", "mean.toml", "--data", "reviews.csv", "--seeds", "1", "--fractions",
    "0.5", "--steps", "0", "--folder", "all",
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def write_recipes(folder):
    (folder / "tiny.toml").write_text('about = "small"' + RECIPE)
    (folder / "mean.toml").write_text('pooling = "mean"' + RECIPE)


def run(folder, arguments):
    return subprocess.run(
        [sys.executable, "-m", "reelsense", *arguments],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def rows_of(path, without=()):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in without}
                for row in csv.DictReader(file)]  # fmt: skip


@pytest.fixture(scope="session")
def compared(tmp_path_factory, write_csv, write_vectors):
    """A folder with the finished comparison `all`; nobody may change it."""
    folder = tmp_path_factory.mktemp("compared")
    write_csv(folder / "reviews.csv")
    write_vectors(folder / "vectors.txt")
    write_recipes(folder)
    done = run(folder, COMPARE)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.fixture
def recipes(here):
    write_recipes(here)


def test_a_comparison_is_runs_two_tables_pictures_and_a_page(compared):
    folder = compared / "all"
    rows = rows_of(folder / "runs.csv")
    assert [(row["recipe"], row["seed"], row["failed"]) for row in rows] == [
        (recipe, "0", "") for recipe in ("tiny", "mean", "linear baseline")
    ]
    for row in rows[:2]:
        name = f"{row['recipe']}-0.5-0"
        metrics = json.loads((folder / name / "metrics.json").read_text())
        assert float(row["accuracy"]) == pytest.approx(metrics["test"]["accuracy"], abs=1e-5)
        assert row["weights_sha256"] == weights_hash(load_weights(folder / name))
        assert int(row["labelled"]) == metrics["split"]["train"] == 80
        assert float(row["reviews_per_second"]) > 1
        assert 20 < float(row["peak_mb"]) < float(row["training_peak_mb"])
        assert row["command"].startswith("reelsense train --recipe ")
        assert row["split_seed"] == "0"
    assert float(rows[2]["reviews_per_second"]) > 1
    assert len(rows_of(folder / "recipes.csv")) == 3
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        ".lock", "comparison.json", "costs.json", "runs.csv", "recipes.csv", "report.html",
        "conclusion.txt", "accuracy.png", "costs.png", "curves-accuracy-0.5.png",
        "curves-loss-0.5.png",
    }  # fmt: skip
    assert "tiny-0.5-0" in (folder / "report.html").read_text()


def test_what_it_prints_is_plain_and_ends_with_what_can_be_concluded(compared):
    said = (compared / "said").read_text()
    assert "\x1b" not in said
    assert "\r" not in said
    assert "Runs      2: 1 x 50% of the labels; " in said
    assert "Measured  on the test part" in said
    assert len(re.findall(r"^  (?:tiny|mean)-0.5-0 +\d+:\d\d +\d+\.\d\d%$", said, re.M)) == 2
    head = r"^80 training reviews\n +seeds +accuracy .*points against tiny \(p\)$"
    assert re.search(head, said, re.M)
    assert re.search(r"^mean +1 +\d+\.\d\d% .* to .*%  +[+-]\d+\.\d\d \(.*; .*\)$", said, re.M)
    assert "With 50% of the labels, tiny has " in said
    assert said.endswith("Report    all/report.html\n")


def test_the_bundle_that_is_measured_answers_as_the_run_does(compared, tmp_path):
    made = compared / "all/mean-0.5-0"
    assert write_answering(made, tmp_path / "bundle") == "int8"
    rows = [row for row in rows_of(made / "predictions.csv") if row["part"] == "test"]
    reviews = read_reviews(str(compared / "reviews.csv"))
    texts = dict(zip(reviews.ids, reviews.texts, strict=True))
    said = load(tmp_path / "bundle").predict_proba([texts[row["id"]] for row in rows])[:, 1]
    expected = np.array([float(row["probability"]) for row in rows])
    assert np.abs(said - expected).max() < 0.01  # int8


def first_end(process):
    for line in process.stdout:
        if re.match(r"  (tiny|mean)-", line):
            return
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_interrupted_and_resumed_it_says_the_same(reelsense, here, compared, recipes, refused):
    process = subprocess.Popen(
        [sys.executable, "-m", "reelsense", *COMPARE, "--jobs", "1"],
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first_end(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"reelsense: interrupted and saved; go on with: reelsense compare .* --resume\n", err
    ), err
    assert not (here / "all/report.html").exists()
    before = (here / "all/tiny-0.5-0/metrics.json").read_bytes()  # finished, and kept

    refused(reelsense(*COMPARE), 2, "all: exists already; --resume goes on with it")
    assert run(here, [*COMPARE, "--resume"]).returncode == 0
    assert (here / "all/tiny-0.5-0/metrics.json").read_bytes() == before
    for name, without in (("runs.csv", (*TIMES, "command", "commit")), ("recipes.csv", TIMES)):
        again, once = (rows_of(folder / f"all/{name}", without) for folder in (here, compared))
        assert again == once


@pytest.mark.slow
def test_a_run_that_breaks_down_leaves_the_others(reelsense, here, recipes, refused):
    lines = (here / "vectors.txt").read_text().splitlines()
    (here / "huge.txt").write_text("\n".join(f"{line.split()[0]} {'1e38 ' * 5}" for line in lines))
    (here / "broken.toml").write_text(RECIPE.replace("vectors.txt", "huge.txt"))
    arguments = ["compare", "tiny.toml", "broken.toml", "--data", "reviews.csv", "--seeds", "1",
                 "--steps", "0", "--folder", "some", "--trial"]  # fmt: skip
    outcome = reelsense(*arguments)
    refused(outcome, 1, "1 of 2 runs failed; some/report.html says why, and --resume tries them")
    assert re.search(
        r"^  broken-1-0 +\d:\d\d  failed: the (loss|gradient) is not a number", outcome.out, re.M
    )
    rows = {row["recipe"]: row for row in rows_of(here / "some/runs.csv")}
    assert "is not a number" in rows["broken"]["failed"]
    assert rows["tiny"]["failed"] == rows["linear baseline"]["failed"] == ""
    assert float(rows["tiny"]["accuracy"]) > 0
    assert rows["tiny"]["part"] == "validation"
    assert "is not a number" in (here / "some/report.html").read_text()
    # A trial touches no test review.
    assert "test" not in json.loads((here / "some/tiny-1-0/metrics.json").read_text())


@pytest.mark.slow
def test_more_seeds_join_and_what_was_trained_stays(reelsense, here, compared, recipes):
    shutil.copytree(compared / "all", here / "all")
    before = (here / "all/tiny-0.5-0/metrics.json").read_bytes()
    outcome = reelsense(*COMPARE, "--seeds", "2", "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(re.findall(r"^  (?:tiny|mean)-0.5-1 ", outcome.out, re.M)) == 2
    assert "-0.5-0" not in outcome.out
    assert (here / "all/tiny-0.5-0/metrics.json").read_bytes() == before
    rows = rows_of(here / "all/runs.csv")
    assert [(row["recipe"], row["seed"]) for row in rows] == [
        (recipe, seed) for recipe in ("tiny", "mean", "linear baseline") for seed in ("0", "1")
    ]
    assert re.search(r"^mean +2 +", outcome.out, re.M)


REFUSED = [
    (["compare"], "Missing argument 'RECIPE...'; see `reelsense compare --help`"),
    (["compare", "nope"], "recipe nope: no such recipe or TOML file; the shipped ones are"),
    (["compare", "tiny.toml", "--seeds", "0"], "'--seeds': 0 is not in the range"),
    (["compare", "tiny.toml", "--jobs", "0"], "'--jobs': 0 is not in the range"),
    (["compare", "tiny.toml", "tiny.toml"], "recipe tiny.toml: is named twice; once is enough"),
    (["compare", "tiny.toml", "twin/tiny.toml"], "both called 'tiny'; give one of them another"),
    (["compare", "tiny.toml", "other.toml"], "recipe other: has --test 0.3 and tiny 0.1"),
    (["compare", "tiny.toml", "--fractions", "0"], "--fractions 0: is no share of the labels"),
    (["compare", "tiny.toml", "--fractions", "1.5"], "--fractions 1.5: is no share of the labels"),
    (["compare", "tiny.toml", "--fractions", "-1"], "--fractions -1: is no share of the labels"),
    (["compare", "tiny.toml", "--fractions", "nan"], "--fractions nan: is no share"),
    (["compare", "tiny.toml", "--fractions", "1,x"], "--fractions 1,x: 'x' is no number; give"),
    (["compare", "tiny.toml", "--fractions", ""], "--fractions : '' is no number"),
    (["compare", "tiny.toml", "--fractions", "0.001"], "label share of 0.001 leaves none of the"),
    (["compare", "tiny.toml", "--resume"], "--resume: there is no comparison at runs/compare-tiny"),
    (["compare", "tiny.toml", "--folder", "twin"], "twin: is not empty and no comparison"),
    (["compare", "tiny.toml", "--folder", "tiny.toml"], "tiny.toml is a file, not a folder"),
    (["compare", "tiny.toml", "--data", "x.csv"], "x.csv: there is no such file"),
    (["compare", "nothing.toml"], "recipe nothing: holds no validation review out, so there is"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_line_and_leaves_nothing(
    reelsense, here, recipes, refused, arguments, message
):
    (here / "twin").mkdir()
    shutil.copy(here / "tiny.toml", here / "twin/tiny.toml")
    (here / "other.toml").write_text("test = 0.3" + RECIPE)
    (here / "nothing.toml").write_text("test = 0\nvalidation = 0" + RECIPE)
    before = sorted(here.rglob("*"))
    given = (
        arguments
        if len(arguments) == 1 or "--data" in arguments
        else [*arguments, "--data", "reviews.csv"]
    )
    refused(reelsense(*given), 2, re.escape(message))
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--split-seed", "1"], "all was made with --split-seed 0"),
        (["--trial"], "all was made with figures of the part test, this has validation"),
        (["--steps", "500"], "all was made with --steps 0, this has 500"),
        (["--data", "other.csv"], "all was made with the reviews with SHA-256 .*; their figures"),
    ],
)  # fmt: skip
def test_a_folder_of_another_comparison_is_refused_and_stays(
    reelsense, here, compared, recipes, refused, write_csv, changes, message
):
    shutil.copytree(compared / "all", here / "all")
    write_csv(here / "other.csv", seed=3)
    before = {path: path.stat().st_mtime_ns for path in (here / "all").rglob("*")}
    refused(reelsense(*COMPARE, "--resume", *changes), 2, message)
    assert before == {path: path.stat().st_mtime_ns for path in (here / "all").rglob("*")}


def test_a_folder_of_another_version_is_refused(reelsense, here, compared, recipes, refused):
    shutil.copytree(compared / "all", here / "all")
    shared = json.loads((here / "all/comparison.json").read_text())
    saved = json.dumps({**shared, "reelsense": "0.0.9"})
    (here / "all/comparison.json").write_text(saved)
    outcome = reelsense(*COMPARE, "--resume")
    refused(outcome, 2, r"all was made with version 0\.0\.9, this has .*; name another|do not mix")
    assert (here / "all/comparison.json").read_text() == saved


def test_two_at_work_in_one_folder_are_refused(reelsense, here, compared, recipes, refused):
    shutil.copytree(compared / "all", here / "all")
    with (here / "all/.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(reelsense(*COMPARE, "--resume"), 2, "another `reelsense compare`, or a run of one")


def test_on_a_terminal_there_is_a_bar_with_the_runs_done_and_the_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")

    def running():
        yield Ended(Cell("tiny", 1.0, 0), 83.0, 0.8976, None)
        yield Ended(Cell("bad", 1.0, 0), 3.0, None, "the loss is not a number")
        yield Working(5, 12, ("tiny-1-1", "mean-1-1"), 0.4, 754.0)

    draw_progress(running(), comparing._shown, lambda: False)
    shown = terminal.getvalue()
    assert "5/12 runs ━" in shown
    assert "tiny-1-1, mean-1-1  12:34 left" in shown
    assert re.search(r"tiny-1-0 +1:23 +89\.76%", shown)
    assert re.search(r"bad-1-0 +0:03  failed: the loss is not a number", shown)


def test_before_a_run_has_ended_nobody_knows_what_is_left():
    first = comparing._shown(Working(0, 12, ("tiny-1-0",), 0.0, None))
    assert first == Progress("0/12 runs", 0.0, "tiny-1-0")
    assert comparing._shown(Measuring(2, 10)) == Progress(
        "Speed and memory", 0.2, "network 3 of 10"
    )

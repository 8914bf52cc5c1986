"""What `tune` prints, leaves behind, shares and survives."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from reelsense.experiments import tune as module
from reelsense.training import loop
from reelsense.training.checkpoint import load_state, read_history

# A study whose trials take a tenth of a second; of a flag twice, the last counts.
TINY = [
    "tune", "--recipe", "quick", "--embedding", "vectors.txt", "--hidden", "4", "--epochs", "2",
    "--crop-tokens", "0", "--max-tokens", "20", "--min-count", "1", "--batch-reviews", "16",
    "--precision", "fp32", "--threads", "1", "--data", "reviews.csv", "--study", "study",
]  # fmt: skip
SEARCHED = ["--range", "learning_rate=1e-3..1e-1", "--range", "pooling=max,max+mean"]
LEAVES = {
    ".lock", "trials", "study.db", "study.json", "environment.json", "trials.csv", "best.toml",
    "history.png",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Most of the time of a tiny study goes by drawing; those in their own process draw."""
    monkeypatch.setattr(module, "draw_study", lambda rows, importance, path: path.touch())


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "reelsense", *TINY, *SEARCHED, *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "40"},
    )  # fmt: skip


def rows(folder):
    with (folder / "study/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(folder):
    return [row["state"] for row in rows(folder)]


def until_it_trains(process):
    """Read the output of a process up to the row of its first trial."""
    for line in process.stdout:
        if line.lstrip().startswith("1/"):
            return
    raise AssertionError(process.communicate())


# --- A study --------------------------------------------------------------------------------------


def test_a_study_from_reviews_to_the_best_recipe(here):
    """As a program of its own, whose output no terminal shows."""
    process = start(here, "--trials", "3")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "\x1b" not in out
    study = here / "study"
    assert {path.name for path in study.iterdir()} == LEAVES
    assert not list((study / "trials").iterdir())
    assert (study / "history.png").read_bytes().startswith(b"\x89PNG")

    found = rows(here)
    assert [row["state"] for row in found] == ["complete"] * 3
    best = min(found, key=lambda row: float(row["validation_loss"]))
    said = "".join(line for line in out.splitlines(keepends=True) if " left" not in line)
    assert "160 to train on, 20 for validation, 20 for the test\n" in said
    assert (
        "\nSearch    learning_rate  0.001..0.1  (factors)\n"
        "          pooling        max,max+mean\nStudy     study\n"
    ) in said
    table = "".join(
        rf" +{n}/3 +{n - 1} +{float(row['validation_loss']):.4f} +"
        rf"{float(row['validation_accuracy']):.2%} +[\d.]+ +2 +0:0\d  learning_rate=\S+ "
        rf"pooling={re.escape(row['pooling'])}\n"
        for n, row in enumerate(found, 1)
    )
    assert re.search(r"ended  trial  log loss  accuracy  best loss  epochs    time\n" + table, said)
    assert "Trials    3 complete; 3 were asked for\n" in said
    assert (
        f"Best      trial {best['trial']}: validation log loss "
        f"{float(best['validation_loss']):.4f}, "
    ) in said
    assert "As it is  trial 0: " in said or best["trial"] == "0"
    assert "Train     reelsense train --recipe study/best.toml\n" in said

    about = json.loads((study / "study.json").read_text())
    assert about["ranges"] == {"learning_rate": "0.001..0.1", "pooling": "max,max+mean"}
    assert about["source"]["source"] == str(here / "reviews.csv")
    assert set(about["hashes"]) == {"reviews", "vectors"}
    environment = json.loads((study / "environment.json").read_text())
    assert environment["command"].startswith("reelsense tune --recipe quick")


def test_the_best_recipe_trains_to_what_the_study_says(reelsense, here):
    assert reelsense(*TINY, *SEARCHED, "--trials", "3").code == 0
    best = min(rows(here), key=lambda row: float(row["validation_loss"]))
    done = reelsense("train", "--recipe", "study/best.toml", "--data", "reviews.csv", "--run", "r",
                     "--threads", "1")  # fmt: skip
    assert done.code == 0, done.err
    history = [json.loads(line) for line in (here / "r/history.jsonl").open()]
    lowest = min(record["validation"]["loss"] for record in history)
    assert lowest == float(best["validation_loss"])


def test_without_ranges_the_usual_fields_are_searched_but_not_one_that_is_set(reelsense, here):
    done = reelsense(*TINY, "--dropout", "0.1", "--trials", "1")
    assert done.code == 0, done.err
    assert list(rows(here)[0])[8:] == ["learning_rate", "embedding_dropout", "word_dropout"]


def test_the_folder_is_named_for_the_recipe(reelsense, here):
    arguments = [word for word in TINY if word not in ("--study", "study")]
    assert reelsense(*arguments, *SEARCHED, "--trials", "1").code == 0
    assert (here / "runs/tune-quick/best.toml").exists()


def test_more_trials_go_on_with_the_study(reelsense, here):
    assert reelsense(*TINY, *SEARCHED, "--trials", "2").code == 0
    before = rows(here)
    again = reelsense(*TINY, *SEARCHED, "--trials", "2")
    assert (again.code, rows(here)) == (0, before)
    assert "Study     study: 2 trials have ended already" in again.out
    assert reelsense(*TINY, *SEARCHED, "--trials", "4").code == 0
    assert rows(here)[:2] == before
    assert states(here) == ["complete"] * 4
    assert len({row["learning_rate"] for row in rows(here)}) == 4


def test_reviews_without_labels_are_read_where_the_recipe_asks(reelsense, here, made_up):
    text = "text\n" + "".join(f"{text} more\n" for text, _ in made_up(40, seed=1))
    (here / "more.csv").write_text(text)
    arguments = [*TINY, *SEARCHED, "--trials", "1", "--unlabelled-share", "0.5", "--virtual", "1"]
    done = reelsense(*arguments, "--unlabelled", "more.csv")
    assert done.code == 0, done.err
    assert "unlabelled 1" in json.loads((here / "study/study.json").read_text())["hashes"]
    (here / "more.csv").write_text(text + "another film\n")
    done = reelsense(*arguments, "--unlabelled", "more.csv")
    assert "--study study: began with other unlabelled 1; give the same" in done.err


# --- Several processes, and what ends them --------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_a_study(here):
    both = [start(here, "--trials", "8"), start(here, "--trials", "8")]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    states = [row["state"] for row in rows(here)]
    assert len(states) == 8
    assert set(states) <= {"complete", "pruned"}
    assert len({row["learning_rate"] for row in rows(here)}) == 8
    shown = [set(re.findall(r"^ +\d/8 +(\d)  ", out, re.M)) for out, _ in said]
    assert shown[0] | shown[1] == set("01234567")
    assert not shown[0] & shown[1]
    assert not list((here / "study/trials").iterdir())


@pytest.mark.slow
def test_after_kill_9_the_trial_goes_on_from_its_last_epoch(here):
    process = start(here, "--trials", "1", "--epochs", "12", "--batch-reviews", "2")
    deadline = time.monotonic() + 300
    while not list(here.glob("study/trials/*/checkpoint/state.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (run,) = here.glob("study/trials/0-*")
    epochs = load_state(run)[1].epoch - 1
    assert 1 <= epochs < 12
    before = sum(record["seconds"] for record in read_history(run)[:epochs])

    again = start(here, "--trials", "1", "--epochs", "12", "--batch-reviews", "2")
    out, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, "")
    assert states(here) == ["cut off", "complete"]
    killed, tried_again = rows(here)
    assert killed["learning_rate"] == tried_again["learning_rate"]
    assert float(tried_again["seconds"]) > before
    assert re.search(r"^ +1/1 +1  ", out, re.MULTILINE)


def test_ctrl_c_saves_and_the_same_command_goes_on(reelsense, here, refused, monkeypatch):
    real, steps = loop._progress, []

    def pressed(recipe, position, n):
        steps.append(position)
        if len(steps) == 25:  # in the second trial, of twenty steps each
            signal.raise_signal(signal.SIGINT)
        return real(recipe, position, n)

    monkeypatch.setattr(loop, "_progress", pressed)
    stopped = reelsense(*TINY, *SEARCHED, "--trials", "3")
    refused(stopped, 130, "interrupted and saved; go on with: reelsense tune .*--trials 3\n")
    assert "--resume" not in stopped.err
    assert states(here) == ["complete", "cut off", "waiting"]
    assert "Best      trial 0" in stopped.out  # what is known is written and said
    assert (here / "study/best.toml").exists()
    assert len(list((here / "study/trials").iterdir())) == 1

    assert reelsense(*TINY, *SEARCHED, "--trials", "3").code == 0
    assert states(here) == ["complete", "cut off", "complete", "complete"]
    assert len(steps) == 60  # none was trained twice


@pytest.mark.slow
def test_output_that_nobody_reads_ends_quietly_and_saves(here):
    process = start(here, "--trials", "50")
    until_it_trains(process)
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 141)
    assert process.stderr.read() == ""
    out, _ = start(here, "--trials", "1").communicate(timeout=60)
    assert re.search(r"\d+ trials? ha(s|ve) ended already", out)


def test_a_study_in_which_every_trial_fails_says_so(reelsense, here, refused):
    place = TINY.index("--min-count")
    tiny = [*TINY[:place], *TINY[place + 2 :]]
    done = reelsense(*tiny, "--range", "min_count=900,901", "--trials", "2")
    refused(done, 1, "study: every trial failed; trials.csv says why; begin another study")
    assert states(here) == ["failed", "failed"]
    assert "no word is left to train on; lower --min-count 90" in rows(here)[0]["reason"]
    assert "0:00  failed  min_count=90" in done.out
    assert not (here / "study/best.toml").exists()


# --- What is refused ------------------------------------------------------------------------------


def test_without_optuna_the_line_that_installs_it(reelsense, here, refused, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("reelsense.experiments")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("reelsense.text.reviews.read_reviews", None)  # before anything is read
    refused(
        reelsense(*TINY, *SEARCHED), 1,
        r'this needs the package optuna; install it with: pip install "reelsense\[train,tune\]"',
    )  # fmt: skip
    assert not (here / "study").exists()


REFUSED = [
    (["--trials", "0"], "'--trials': 0 is not in the range"),
    (["--recipe", "nope"], "recipe nope: no such recipe or TOML file"),
    (["--range", "hidden"], "--range hidden: write FIELD=LOW..HIGH"),
    (["--range", "hiden=1..2"], "a recipe has no field 'hiden'"),
    (["--range", "hidden=4..8"], "--range hidden=4..8: --hidden sets that field already"),
    (["--range", "layers=1..9"], "--range layers=1..9: --layers must be from 1 to 8, not 9"),
    (["--validation", "0"], "--validation 0 leaves no review to compare trials on"),
    (["--study", "reviews.csv"], "reviews.csv is a file, not a folder"),
    (["--study", "full"], "--study full: exists already and holds no study; name another folder"),
    (["--storage", "nowhere"], "--storage: not the URL of a database"),
    (["--data", "missing.csv"], "missing.csv: there is no such file"),
    (["--unlabelled", "missing.csv"], "--unlabelled missing.csv: there is no such file or folder"),
    (["--embedding", "missing.vec"], "missing.vec: no such file of word vectors"),
    (["--labels", "bad"], "--labels bad: give two different labels"),
    (["--min-count", "900"], "no word is left to train on; lower --min-count 900"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[row[0][1] for row in REFUSED])
def test_bad_input_is_one_line_and_leaves_nothing(reelsense, refused, here, arguments, message):
    (here / "full").mkdir()
    (here / "full/recipe.toml").touch()
    before = sorted(here.rglob("*"))
    refused(reelsense(*TINY, *arguments), 2, message)
    assert sorted(here.rglob("*")) == before


def test_another_study_in_the_folder_is_refused(reelsense, refused, here, write_csv, monkeypatch):
    assert reelsense(*TINY, *SEARCHED, "--trials", "1").code == 0
    before = {path: path.read_bytes() for path in (here / "study").rglob("*") if path.is_file()}
    write_csv(here / "other.csv", seed=5)
    for arguments, message in (
        ([*SEARCHED, "--epochs", "3"], "another recipe: --epochs was 2, is 3; give the same as t"),
        ([*SEARCHED, "--split-seed", "1"], "another recipe: --split-seed was 0, is 1"),
        (SEARCHED[:2], "began with other ranges: --range pooling was max,max.mean, is not there"),
        ([*SEARCHED, "--data", "other.csv"], "--study study: began with other reviews.*; give "),
    ):
        refused(reelsense(*TINY, *arguments), 2, message)
    after = {path: path.read_bytes() for path in (here / "study").rglob("*") if path.is_file()}
    assert after == before
    monkeypatch.setattr("reelsense.text.reviews.read_reviews", None)  # refused before it is read
    refused(reelsense(*TINY, *SEARCHED, "--epochs", "3"), 2, "--epochs was 2, is 3")


def test_a_storage_elsewhere_is_named_by_a_variable_too(reelsense, here, monkeypatch):
    monkeypatch.setenv("REELSENSE_STORAGE", f"sqlite:///{here / 'shared.db'}")
    assert reelsense(*TINY, *SEARCHED, "--trials", "1", "--study", "a/one").code == 0
    assert (here / "shared.db").exists()
    assert not (here / "a/one/study.db").exists()
    # As on another machine: another folder of the same name.
    done = reelsense(*TINY, *SEARCHED, "--trials", "2", "--study", "b/one")
    assert "1 trial has ended already" in done.out
    assert "sqlite" not in (here / "a/one/environment.json").read_text()

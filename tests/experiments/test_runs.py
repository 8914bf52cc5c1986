"""Processes that stand in for trainings: what they do, their names say."""

import json
import os
import signal
import sys
import time

import pytest

from reelsense.errors import BadInput
from reelsense.experiments import runs
from reelsense.experiments.plan import locked, open_folder
from reelsense.experiments.runs import Ended, Working, command_of, train_all, why_it_failed
from reelsense.model.recipe import Recipe

TRAINING = """#!{python} -SE
import json, os, signal, sys, time
arguments = sys.argv[1:]
run = arguments[arguments.index("--run") + 1]
name = os.path.basename(run)
os.makedirs(run, exist_ok=True)
with open(os.path.join(run, "started"), "a") as file:
    file.write(json.dumps([time.time(), arguments]) + chr(10))
def saved(*_):
    open(os.path.join(run, "data.json"), "w").write("saved")
    print("reelsense: interrupted and saved", file=sys.stderr)
    sys.exit(130)
signal.signal(signal.SIGINT, saved)
if name.startswith("long") and "--resume" not in arguments:
    open(os.path.join(run, "ready"), "w").close()
    time.sleep(60)
if name.startswith("killed"):
    os.kill(os.getpid(), signal.SIGKILL)
if name.startswith("bad"):
    print("a warning" + chr(10) + "reelsense: the loss is not a number", file=sys.stderr)
    sys.exit(1)
time.sleep(0.15)
metrics = {{"test": {{"accuracy": 0.75}}, "run_seconds": 7}}
open(os.path.join(run, "metrics.json"), "w").write(json.dumps(metrics))
open(os.path.join(run, "report.html"), "w").close()
with open(os.path.join(run, "ended"), "w") as file:
    file.write(str(time.time()))
"""


@pytest.fixture(autouse=True)
def trainings(tmp_path, monkeypatch):
    """`python -m reelsense train` is the program above; looks come often."""
    program = tmp_path / "training"
    program.write_text(TRAINING.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(runs.sys, "executable", str(program))
    monkeypatch.setattr(runs, "LOOK", 0.02)


def run_all(plan, at_once=2, flags=()):
    open_folder(plan)
    with locked(plan.folder) as lock:
        return list(train_all(plan, flags, at_once, lock))


def starts(plan, cell):
    lines = (plan.run(cell) / "started").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_run_is_trained_once_with_its_own_recipe(plan_of):
    plan = plan_of("a", "b", shares=[0.5, 1], seeds=2)
    events = run_all(plan, flags=["--threads", "1"])
    ended = [event for event in events if isinstance(event, Ended)]
    assert {event.cell for event in ended} == set(plan.cells())
    assert {(event.accuracy, event.reason) for event in ended} == {(0.75, None)}
    for cell in plan.cells():
        ((_, arguments),) = starts(plan, cell)
        assert arguments[:2] == ["-m", "reelsense"]
        assert arguments[2:] == command_of(plan, cell, ["--threads", "1"])
        assert arguments[arguments.index("--seed") + 1] == str(cell.seed)
        assert float(arguments[arguments.index("--label-share") + 1]) == cell.share
        recipe = arguments[arguments.index("--recipe") + 1]
        assert recipe == str(plan.folder / "recipes" / f"{cell.recipe}.toml")
        assert why_it_failed(plan, cell) is None


def test_reviews_without_a_label_are_for_those_who_read_some(plan_of):
    recipes = [Recipe(name="few"), Recipe(name="more", unlabelled_share=1.0)]
    plan = plan_of(recipes=recipes, unlabelled=["x.csv", "y.csv"], seeds=1)
    few, more = (command_of(plan, cell, []) for cell in plan.cells())
    assert "--unlabelled" not in few
    assert [more[place + 1] for place, word in enumerate(more) if word == "--unlabelled"] == [
        "x.csv", "y.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_at_a_time_and_no_more(plan_of, at_once):
    plan = plan_of("a", "b", "c", seeds=2)
    events = run_all(plan, at_once)
    assert max(len(event.at_work) for event in events if isinstance(event, Working)) == at_once
    spans = [
        (starts(plan, cell)[0][0], float((plan.run(cell) / "ended").read_text()))
        for cell in plan.cells()
    ]
    most = max(sum(a <= start < b for a, b in spans) for start, _ in spans)
    assert most <= at_once
    assert at_once == 1 or most > 1


def test_it_says_how_far_it_is(plan_of):
    plan = plan_of("a", seeds=4)
    working = [event for event in run_all(plan, 1) if isinstance(event, Working)]
    assert [event.done for event in working] == sorted(event.done for event in working)
    assert (working[0].done, working[0].of, working[0].seconds_left) == (0, 4, None)
    assert working[0].at_work == ("a-1-0",)
    later = [event for event in working if event.done == 2]
    assert all(0.3 < event.share_done < 0.95 for event in later)
    assert all(0.05 < event.seconds_left < 5 for event in later)


def test_what_is_left_is_told_from_runs_of_the_same_recipe(plan_of):
    plan = plan_of("fast", "slow", shares=[0.5, 1], seeds=1)
    half_fast, half_slow, whole_fast, whole_slow = plan.cells()
    took = {half_fast: 10.0, half_slow: 50.0}
    assert runs._expected(plan, whole_fast, took) == pytest.approx(20, rel=0.02)
    assert runs._expected(plan, whole_slow, took) == pytest.approx(100, rel=0.02)
    assert runs._expected(plan, whole_slow, {**took, whole_slow: 70.0}) == 70
    assert runs._expected(plan, whole_slow, {half_fast: 10.0}) == pytest.approx(20, rel=0.02)


def test_a_run_that_fails_leaves_the_others_going_on(plan_of):
    plan = plan_of("a", "bad", "killed", seeds=2)
    ended = {event.cell: event for event in run_all(plan) if isinstance(event, Ended)}
    assert len(ended) == 6
    for cell, event in ended.items():
        assert (
            event.reason
            == {
                "a": None,
                "bad": "the loss is not a number",
                "killed": "killed by signal 9; is there too little memory for so many at once?",
            }[cell.recipe]
        )
        assert (event.accuracy is None) == (cell.recipe != "a")
        assert why_it_failed(plan, cell) == event.reason
    # And is tried again the next time, alone.
    again = [event.cell for event in run_all(plan) if isinstance(event, Ended)]
    assert {cell.recipe for cell in again} == {"bad", "killed"}
    assert len(starts(plan, plan.cells()[0])) == 1


def wait_for(path):
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(path)


def test_closing_it_has_the_runs_save_themselves_and_they_go_on_later(plan_of):
    plan = plan_of("long", "longer", "a", seeds=1)
    open_folder(plan)
    long, longer, a = plan.cells()
    with locked(plan.folder) as lock:
        events = train_all(plan, [], 2, lock)
        next(events)
        for cell in (long, longer):
            wait_for(plan.run(cell) / "ready")
        before = time.monotonic()
        events.close()
        assert time.monotonic() - before < 5
    for cell in (long, longer):
        assert (plan.run(cell) / "data.json").read_text() == "saved"
        assert why_it_failed(plan, cell) == "interrupted and saved"
    assert not plan.run(a).exists()
    assert why_it_failed(plan, a) == "ended without a word"

    with locked(plan.folder) as lock:
        assert sum(isinstance(event, Ended) for event in train_all(plan, [], 2, lock)) == 3
    assert [("--resume" in arguments) for _, arguments in starts(plan, long)] == [False, True]
    assert "--resume" not in starts(plan, a)[0][1]


def test_a_second_ctrl_c_ends_the_runs_as_they_are(plan_of, monkeypatch):
    plan = plan_of("long", seeds=1)
    open_folder(plan)
    (cell,) = plan.cells()

    def pressed(self):
        raise KeyboardInterrupt

    with locked(plan.folder) as lock:
        events = train_all(plan, [], 1, lock)
        next(events)
        wait_for(plan.run(cell) / "ready")
        real = runs.subprocess.Popen.wait
        calls = []

        def wait(self, *arguments, **named):
            calls.append(self)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return real(self, *arguments, **named)

        monkeypatch.setattr(runs.subprocess.Popen, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            events.close()
    assert calls[-1].returncode is not None


def test_a_run_killed_before_it_had_begun_begins_anew(plan_of):
    plan = plan_of("a", seeds=1)
    (cell,) = plan.cells()
    plan.run(cell).mkdir(parents=True)
    (plan.run(cell) / ".recipe.toml.part").write_text("half")
    (plan.folder / "comparison.json").unlink(missing_ok=True)
    run_all(plan)
    assert not (plan.run(cell) / ".recipe.toml.part").exists()
    assert "--resume" not in starts(plan, cell)[0][1]


def test_a_run_that_outlives_its_comparison_keeps_the_folder(plan_of):
    plan = plan_of("long", seeds=1)
    open_folder(plan)
    (cell,) = plan.cells()
    with locked(plan.folder) as lock:
        one = runs._start(plan, cell, [], lock)
        wait_for(plan.run(cell) / "ready")
    with pytest.raises(BadInput, match="or a run of one, is at work there"), locked(plan.folder):
        pass
    os.kill(one.process.pid, signal.SIGINT)
    one.process.wait()
    with locked(plan.folder):
        pass

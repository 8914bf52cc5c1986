"""Who tries what: claims, locks, processes that were killed, studies that are another."""

import json
import sqlite3
import sys
import threading
import time
from contextlib import ExitStack, suppress

import optuna
import pytest
import sqlalchemy

from reelsense.errors import BadInput, Failure
from reelsense.experiments import storage, study
from reelsense.experiments.ranges import Range
from reelsense.experiments.study import (
    TRIES,
    best_of,
    claim,
    fail,
    finish,
    folder_of,
    give_back,
    importance,
    joined,
    refuse_another,
    rows_of,
)

RANGES = (Range("learning_rate", 1e-3, 1e-1), Range("hidden", 4, 8), Range("pooling",
          choices=("max", "mean")))  # fmt: skip
STATED = {
    "recipe": {"learning_rate": 0.5, "hidden": 6, "pooling": "max", "seed": 3},
    "ranges": {"hidden": "4..8"},
    "hashes": {"reviews": "abc"},
}


def changed(part, **values):
    return STATED | {part: STATED[part] | values}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a study"


@pytest.fixture
def open_study(folder):
    """Join the study; all are left at the end of the test."""
    with ExitStack() as stack:
        yield lambda stated=STATED, ranges=RANGES, at=folder, url=None: stack.enter_context(
            joined(at, url, stated, ranges)
        )


class Killed(BaseException):
    """In place of kill -9: nothing is told, and the locks are gone."""


def kill_in_a_trial(folder, stated=STATED, wanted=99):
    """Begin a trial and leave it; return its number and values."""
    with suppress(Killed), joined(folder, None, stated, RANGES) as here:
        trial = claim(here, wanted)
        folder_of(here, trial).mkdir(parents=True, exist_ok=True)
        raise Killed
    return trial.number, trial.params


def end(here, trial, loss=0.5, pruned=False):
    trial.report(loss, 400)
    figures = {"loss": loss, "accuracy": 0.8, "epoch": 1, "epochs": 2, "seconds": 1.5}
    finish(here, trial, figures, pruned)


def states(here):
    return [row["state"] for row in rows_of(here)]


# --- Claims ---------------------------------------------------------------------------------------


def test_as_many_trials_as_wanted_are_claimed_by_all_processes_together(open_study):
    one, other = open_study(), open_study()
    first, second = claim(one, 3), claim(other, 3)
    end(one, first)
    third = claim(one, 3)
    assert claim(other, 3) is None  # one has ended, two are being tried
    end(other, second, pruned=True)
    fail(one, third, "of\nmany lines")
    assert claim(one, 3) is None
    assert states(one) == ["complete", "pruned", "failed"]
    assert rows_of(one)[2]["reason"] == "of many lines"
    # Of those that Optuna calls failed, TPE would learn nothing.
    assert one.study.get_trials()[2].state == optuna.trial.TrialState.PRUNED
    assert claim(one, 4) is not None


def test_every_trial_has_values_of_the_ranges_and_a_folder_of_its_own(open_study):
    here = open_study()
    found = [claim(here, 20) for _ in range(20)]
    for trial in found:
        assert set(trial.params) == {"learning_rate", "hidden", "pooling"}
        assert all(each.holds(trial.params[each.name]) for each in RANGES)
    assert {trial.params["hidden"] for trial in found} == {4, 5, 6, 7, 8}
    assert len({folder_of(here, trial) for trial in found}) == 20
    rates = sorted(trial.params["learning_rate"] for trial in found)
    assert rates[6] < 0.02 < rates[-4]  # by factors: half of them below 0.01


def test_a_decade_is_searched_by_factors_whole_numbers_too(open_study):
    ranges = [Range("hidden", 4, 40), Range("layers", 1, 9), Range("learning_rate", 0.1, 1.0)]
    recipe = changed("recipe", layers=1)
    here = open_study(recipe, ranges)
    claim(here, 1)
    (trial,) = here.study.get_trials()
    assert {name: each.log for name, each in trial.distributions.items()} == {
        "hidden": True, "layers": False, "learning_rate": True,
    }  # fmt: skip


def test_the_first_trial_is_the_recipe_as_it_is_where_the_ranges_hold_it(open_study, tmp_path):
    recipe = {"learning_rate": 0.01, "hidden": 6, "pooling": "mean"}
    here = open_study(changed("recipe", **recipe))
    assert claim(here, 9).params == recipe
    assert claim(here, 9).params != recipe
    assert [row["as_it_is"] for row in rows_of(here)] == [True, False]
    outside = open_study(changed("recipe", **recipe | {"hidden": 9}), at=tmp_path / "b")
    assert claim(outside, 9).params["hidden"] != 9
    assert not rows_of(outside)[0]["as_it_is"]


def values(here, n=14):
    """The values of the next trials, each of a worth that they decide."""
    found = []
    for _ in range(n):
        trial = claim(here, 99)
        found.append(trial.params)
        end(here, trial, trial.params["learning_rate"] * trial.params["hidden"])
    return found


def test_the_same_seed_proposes_the_same_also_after_an_interruption(tmp_path):
    with joined(tmp_path / "whole", None, STATED, RANGES) as here:
        whole = values(here)
    parts = []
    for n in (5, 9):  # with its own generator, the second process would begin as the first did
        with joined(tmp_path / "parts", None, STATED, RANGES) as here:
            parts += values(here, n)
    assert parts == whole
    assert len({tuple(each.values()) for each in whole}) == len(whole)
    with joined(tmp_path / "other", None, changed("recipe", seed=4), RANGES) as here:
        assert values(here, 3) != whole[:3]


def test_after_random_ones_good_values_are_proposed(open_study):
    found = values(open_study(), 40)
    worth = [each["learning_rate"] * each["hidden"] for each in found]
    assert sum(worth[20:]) < 0.5 * sum(worth[:20])


# --- What was cut off -----------------------------------------------------------------------------


def test_the_trial_of_a_killed_process_is_tried_again_at_once_in_its_folder(folder, open_study):
    number, params = kill_in_a_trial(folder)
    here = open_study()
    again = claim(here, 1)
    assert (again.number, again.params) == (number + 1, params)
    assert folder_of(here, again).is_dir()
    assert states(here) == ["cut off", "running"]
    end(here, again)
    assert claim(here, 1) is None
    assert not folder_of(here, again).exists()
    assert len(list(folder.glob("trials/*"))) == 1  # the lock of this process alone


def test_a_trial_that_kills_its_process_each_time_has_failed(folder, open_study):
    tried = [kill_in_a_trial(folder, wanted=2) for _ in range(TRIES)]
    assert [number for number, _ in tried] == list(range(TRIES))
    assert all(params == tried[0][1] for _, params in tried)
    here = open_study()
    other = claim(here, 2)
    assert other.params != tried[0][1]
    assert states(here) == ["cut off"] * (TRIES - 1) + ["failed", "running"]
    assert rows_of(here)[TRIES - 1]["reason"] == f"its process was killed {TRIES} times"
    assert claim(here, 2) is None  # the failed one counts
    assert not list(folder.glob("trials/0-*"))


def test_a_trial_that_is_given_back_is_tried_again_however_often(open_study):
    here = open_study()
    first = claim(here, 1)
    for number in range(TRIES + 2):
        trial = first if not number else claim(here, 1)
        assert (trial.number, trial.params) == (number, first.params)
        assert folder_of(here, trial) == folder_of(here, first)
        give_back(here, trial)
    assert states(here) == ["cut off"] * (TRIES + 2) + ["waiting"]


def test_a_trial_on_its_last_try_may_be_given_back(folder, open_study):
    for _ in range(TRIES - 1):
        kill_in_a_trial(folder)
    here = open_study()
    trial = claim(here, 1)
    give_back(here, trial)
    assert states(here) == ["cut off"] * TRIES + ["waiting"]
    assert claim(here, 1).params == trial.params


def test_a_living_process_keeps_its_trial_however_long_it_is_silent(open_study, monkeypatch):
    one, other = open_study(), open_study()
    claim(one, 9)
    monkeypatch.setattr(study, "GIVEN_UP", -1)
    claim(other, 9)
    assert states(one) == ["running", "running"]


def test_on_another_machine_a_trial_is_given_up_after_a_long_silence(
    open_study, tmp_path, monkeypatch
):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    here = open_study(at=tmp_path / "here" / "name", url=url)
    there = open_study(at=tmp_path / "there" / "name", url=url)
    silent = claim(there, 9)
    claim(here, 9)
    assert states(here) == ["running", "running"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + study.GIVEN_UP + 1)
    study.show_life(claim(here, 9))
    assert states(here)[0] == "cut off"
    assert rows_of(here)[2]["values"] == silent.params
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study.show_life(silent)  # awake again, it learns of it


def test_the_recipe_as_it_is_stays_that_when_it_is_tried_again(folder, open_study):
    as_it_is = changed("recipe", learning_rate=0.01)
    kill_in_a_trial(folder, as_it_is)
    here = open_study(as_it_is)
    give_back(here, claim(here, 9))
    claim(here, 9)
    assert [row["as_it_is"] for row in rows_of(here)] == [True] * 3


# --- What came of them ----------------------------------------------------------------------------


def test_the_best_is_the_lowest_of_the_whole_trials_the_first_of_equals(open_study):
    here = open_study()
    assert best_of(rows_of(here)) is None
    for loss, pruned in ((0.5, False), (0.1, True), (0.3, False), (0.3, False)):
        end(here, claim(here, 9), loss, pruned)
    fail(here, claim(here, 9), "no")
    best = best_of(rows_of(here))
    assert (best["trial"], best["loss"], best["accuracy"], best["epochs"]) == (2, 0.3, 0.8, 2)
    assert set(best["values"]) == {each.name for each in RANGES}


def test_what_mattered_is_said_of_enough_trials_alone(open_study):
    here = open_study()
    for _ in range(study.ENOUGH):
        assert importance(here) == {}
        trial = claim(here, 99)
        end(here, trial, trial.params["hidden"] + 0.01 * trial.params["learning_rate"])
    found = importance(here)
    assert max(found, key=found.get) == "hidden"
    assert found["hidden"] > 0.5
    assert 0 < sum(found.values()) <= 1.0001
    assert found == importance(here)


def test_equal_losses_say_nothing_of_what_mattered(open_study):
    here = open_study()
    for _ in range(study.ENOUGH):
        end(here, claim(here, 99), 0.5)
    assert importance(here) == {}


def test_a_trial_far_behind_is_pruned_but_not_before_the_rate_falls(open_study):
    here = open_study()
    for _ in range(6):
        trial = claim(here, 99)
        trial.report(0.5, 200)
        end(here, trial, 0.4)
    trial = claim(here, 99)
    trial.report(0.9, 200)
    assert not trial.should_prune()
    trial.report(0.9, 400)
    assert trial.should_prune()


# --- Studies that are another ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("recipe", {"hidden": 7}, "study: began with another recipe: --hidden was 6, is 7; give "),
        ("recipe", {"new": 1}, "began with another recipe: --new was not there, is 1"),
        ("ranges", {"hidden": "4..9"}, "began with other ranges: --range hidden was 4..8, is 4..9"),
        ("hashes", {"reviews": "abd"}, "began with other reviews; give the same as then, or begin"),
        ("hashes", {"unlabelled 1": "x"}, "began with other unlabelled 1; "),
    ],
)
def test_another_study_is_refused_not_mixed(folder, part, values, message):
    kill_in_a_trial(folder)
    now = changed(part, **values)
    with pytest.raises(BadInput, match=f"--study {folder.parent}.*{message}"):
        joined(folder, None, now, RANGES).__enter__()
    early = {key: value for key, value in now.items() if key != "hashes"}  # not read yet
    if part == "hashes":
        refuse_another(folder, None, early)
    else:
        with pytest.raises(BadInput, match=message):
            refuse_another(folder, None, early)
    with joined(folder, None, STATED, RANGES) as here:
        assert states(here) == ["running"]


def test_nothing_is_made_where_there_is_no_study_to_refuse(folder):
    refuse_another(folder, None, STATED)
    assert not folder.exists()


def test_a_study_of_another_program_is_left_alone(folder, open_study):
    folder.mkdir()
    foreign = optuna.create_study(storage=storage.open_storage(folder, None), study_name="a study")
    foreign.tell(foreign.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    message = "a study of that name that is not of this program"
    with pytest.raises(BadInput, match=message):
        open_study()
    with pytest.raises(BadInput, match=message):
        refuse_another(folder, None, STATED)
    assert len(foreign.trials) == 1


def test_studies_of_other_names_share_a_database(open_study, tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for name in ("one", "two"):
        here = open_study(changed("recipe", hidden=len(name)), at=tmp_path / name, url=url)
        end(here, claim(here, 1))
        assert claim(here, 1) is None
    refuse_another(tmp_path / "three", url, STATED)


def test_a_path_may_hold_letters_that_mean_something_in_a_url(open_study, tmp_path):
    path = tmp_path / "50% {x}?#"
    here = open_study(at=path)
    end(here, claim(here, 1))
    assert (path / "study.db").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("nowhere", BadInput, "--storage: not the URL of a database, such as postgresql://user@m"),
        ("{x}://", BadInput, "--storage: not the URL of a database"),
        ("nope://user:secret@machine/name", BadInput, "--storage: not the URL of a database"),
        ("missing://user:secret@machine/name", BadInput, "--storage: the Python driver of this k"),
        ("sqlite:////nowhere/at/all.db", Failure, "--storage: the database failed .unable to ope"),
    ],
)
def test_what_is_no_storage_is_refused_without_its_password(
    open_study, monkeypatch, url, kind, message
):
    if url.startswith("missing"):
        monkeypatch.setitem(sys.modules, "psycopg2", None)
        url = url.replace("missing", "postgresql+psycopg2")
    with pytest.raises(kind, match=message) as refused:
        open_study(url=url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(folder, open_study):
    folder.mkdir()
    (folder / "study.db").write_bytes(b"hello" * 1000)
    for act in (open_study, lambda: refuse_another(folder, None, STATED)):
        with pytest.raises(BadInput, match=r"study\.db: not a database; move it away"):
            act()


def test_a_database_of_another_version_is_refused(folder, open_study):
    kill_in_a_trial(folder)
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        database.execute("UPDATE version_info SET schema_version = 99")
    with pytest.raises(BadInput, match=r"study\.db: written by another version of Optuna"):
        open_study()


def test_a_database_that_fails_later_is_a_failure_in_one_line(folder):
    def break_it():
        with joined(folder, None, STATED, RANGES) as here:
            trial = claim(here, 9)
            with sqlite3.connect(folder / "study.db") as database:
                database.execute("DROP TABLE trial_user_attributes")
            study.show_life(trial)

    message = r"study\.db: the database failed \(.*; .* are kept, run the same command again"
    with pytest.raises(Failure, match=message) as refused:
        break_it()
    assert "\n" not in str(refused.value)


def test_tables_that_another_machine_makes_at_the_same_moment_are_no_error(
    open_study, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    calls = []

    class Late(optuna.storages.RDBStorage):
        def __init__(self, *arguments):
            calls.append(arguments)
            if len(calls) == 1:
                made = sqlite3.OperationalError("table studies already exists")
                raise sqlalchemy.exc.OperationalError("CREATE TABLE studies", None, made)
            super().__init__(*arguments)

    monkeypatch.setattr(optuna.storages, "RDBStorage", Late)
    assert claim(open_study(url=f"sqlite:///{tmp_path / 'shared.db'}"), 1)
    assert len(calls) == 2


def test_a_study_that_is_being_made_is_waited_for(folder, open_study):
    open_study()
    found = []
    with storage.locked(folder / storage.LOCK):
        waiting = threading.Thread(
            target=lambda: found.append(refuse_another(folder, None, STATED))
        )
        waiting.start()
        waiting.join(0.2)
        assert found == []
    waiting.join(60)
    assert found == [None]


def test_what_a_study_is_survives_as_json(open_study):
    here = open_study(changed("recipe", odd=1e-05, more=True, text="ü"))
    assert here.study.user_attrs[storage.STATED] == json.loads(
        json.dumps(changed("recipe", odd=1e-05, more=True, text="ü"))
    )

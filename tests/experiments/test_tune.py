"""A search from trial to trial: what is trained, pruned, failed, interrupted and written."""

import csv
import json
import tomllib
from contextlib import closing

import numpy as np
import optuna
import pytest
import torch

from reelsense.errors import Failure
from reelsense.experiments import tune as module
from reelsense.experiments.ranges import read_ranges
from reelsense.experiments.study import joined, rows_of
from reelsense.experiments.tune import (
    Given,
    TrialEnd,
    TrialStep,
    preparing,
    stated,
    tune,
    write_results,
)
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe, read_recipe
from reelsense.text.reviews import Reviews
from reelsense.training.checkpoint import read_history, write_history
from reelsense.training.loop import EpochEnd, Step, train
from reelsense.training.machine import Machine
from reelsense.training.prepare import Prepared, prepare

MACHINE = Machine(torch.device("cpu"), 1, bf16=False)
RANGES = read_ranges(["learning_rate=1e-3..1e-1", "hidden=2..6", "pooling=max,mean"], ())


pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def base(tmp_path):
    random = np.random.default_rng(3)
    rows = [
        " ".join([word, *(f"{x:.3f}" for x in random.normal(0, 0.4, 5))])
        for word in ("great", "fine", "awful", "dull", "the", "film", "was", "plot")
    ]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Recipe(
        name="toy", embedding=str(path), hidden=4, pooling="max", min_count=1, epochs=3,
        learning_rate=0.02, batch_reviews=16, validation=0.2, test=0.2, precision="fp32",
    )  # fmt: skip


def toy_reviews(n=100):
    random = np.random.default_rng(0)
    labels = (np.arange(n) % 2).astype(np.int8)
    texts = [
        " ".join([*random.choice(["the", "film", "was", "plot"], 6),
                  random.choice(["great", "fine"] if label else ["awful", "dull"]), f"w{row}"])
        for row, label in enumerate(labels)
    ]  # fmt: skip
    return Reviews(
        ids=tuple(str(row) for row in range(n)), texts=tuple(texts), labels=labels,
        films=np.arange(n) // 4, parts=("",) * n, source="toy",
    )  # fmt: skip


@pytest.fixture
def given():
    return Given(preparing(toy_reviews()), [], MACHINE)


@pytest.fixture
def opened(tmp_path, base):
    """Join a study of the toy recipe."""

    def at(name="study", ranges=RANGES, recipe=base):
        return joined(tmp_path / name, None, stated(recipe, ranges, {}), ranges)

    return at


class Fake:
    """In place of a training: epochs of losses that the recipe decides, and what it is asked."""

    def __init__(self, monkeypatch, losses):
        self.losses, self.closed, self.recipes = losses, [], []
        monkeypatch.setattr(module, "train", self.train)

    def train(self, recipe, network, training, validation, run, machine, pools, alike, guards):
        self.recipes.append(recipe)
        history = []
        try:
            for epoch, loss in enumerate(self.losses(recipe, len(self.recipes)), 1):
                yield Step(epoch, 0.5, 0.5, 10.0, (epoch - 0.5) / recipe.epochs, 1.0)
                if isinstance(loss, BaseException):
                    raise loss
                figures = {"loss": loss, "accuracy": 1 - loss}
                history.append({"epoch": epoch, "seconds": 2.0, "validation": figures})
                write_history(run, history)
                yield EpochEnd(history[-1])
        except GeneratorExit:
            self.closed.append(len(self.recipes))
            raise


@pytest.fixture
def fake(monkeypatch):
    return lambda losses: Fake(monkeypatch, losses)


def run(here, base, given, wanted):
    return list(tune(here, base, given, wanted))


def figures(here):
    """The rows without what the clock says."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows_of(here)]


# --- A search -------------------------------------------------------------------------------------


def test_a_trial_is_the_training_of_its_recipe(opened, base, given, tmp_path):
    """And its worth the loss of the epoch whose weights that keeps."""
    with opened() as here:
        run(here, base, given, 3)
        found = rows_of(here)
    assert [row["state"] for row in found] == ["complete"] * 3
    assert found[0]["values"] == {"learning_rate": 0.02, "hidden": 4, "pooling": "max"}
    for row in found:
        recipe, again = base.changed(**row["values"]), tmp_path / f"run {row['trial']}"
        prepared = prepare(recipe, toy_reviews())
        parts = [prepared.examples(recipe, part) for part in ("train", "validation")]
        network = build(recipe, prepared.vectors.matrix, prepared.vectors.found)
        list(train(recipe, network, *parts, again, MACHINE))
        history = read_history(again)
        best = min(history, key=lambda record: record["validation"]["loss"])
        assert row["loss"] == best["validation"]["loss"]
        assert row["accuracy"] == best["validation"]["accuracy"]
        assert (row["epoch"], row["epochs"]) == (best["epoch"], 3)
        assert row["seconds"] > 0
    assert len({row["loss"] for row in found}) == 3


def test_the_same_seed_finds_the_same(opened, base, given):
    rows = []
    for name in ("one", "two"):
        with opened(name) as here:
            run(here, base, given, 4)
            rows.append(figures(here))
    assert rows[0] == rows[1]
    other = base.changed(seed=1)
    with opened("three", recipe=other) as here:
        run(here, other, given, 2)
        assert figures(here)[1]["values"] != rows[0][1]["values"]


def test_the_test_part_is_never_looked_at(opened, base, given, fake, monkeypatch):
    asked, examples = [], Prepared.examples

    def spied(self, recipe, part):
        asked.append(part)
        return examples(self, recipe, part)

    monkeypatch.setattr(Prepared, "examples", spied)
    fake(lambda recipe, n: [0.5])
    with opened() as here:
        run(here, base, given, 2)
        write_results(here, base, {})
    assert asked == ["train", "validation"] * 2


def test_the_worth_is_that_of_the_best_epoch(opened, base, given, fake):
    fake(lambda recipe, n: [0.5, 0.25, 0.75])
    with opened() as here:
        run(here, base, given, 1)
        (row,) = rows_of(here)
        assert here.study.best_value == row["loss"] == 0.25
    assert (row["epoch"], row["epochs"], row["accuracy"], row["seconds"]) == (2, 3, 0.75, 6.0)


def test_progress_goes_from_nothing_to_all_and_says_how_long(opened, base, given, fake):
    fake(lambda recipe, n: [0.5, 0.5, 0.5])
    with opened() as here:
        events = run(here, base, given, 4)
    steps = [event for event in events if isinstance(event, TrialStep)]
    shares = [step.share_done for step in steps]
    assert shares == sorted(shares)
    assert (len(steps), shares[0], shares[-1]) == (12, 0.5 / 12, 11.5 / 12)
    assert all(0 < step.seconds_left < 600 for step in steps)
    ends = [event for event in events if isinstance(event, TrialEnd)]
    assert [end.ended for end in ends] == [1, 2, 3, 4]
    assert [end.row["trial"] for end in ends] == [0, 1, 2, 3]
    assert all(end.best["loss"] == 0.5 for end in ends)


def test_data_are_prepared_again_only_where_a_recipe_needs_others(base, monkeypatch):
    calls = []
    monkeypatch.setattr(
        module, "prepare", lambda recipe, reviews: calls.append(recipe) or prepare(recipe, reviews)
    )
    prepared = preparing(toy_reviews())
    first = prepared(base)
    assert prepared(base.changed(hidden=6, max_tokens=5, epochs=9)) is first
    assert len(calls) == 1
    other = prepared(base.changed(max_words=3))
    assert len(other.tokenizer.vocabulary) == 5
    assert len(calls) == 2
    assert len(prepared(base).tokenizer.vocabulary) > 5


def test_data_that_a_trial_asks_for_are_those_that_it_gets(opened, base, given, fake):
    seen = {}
    ranges = read_ranges(["max_words=2,4"], ())
    with opened(ranges=ranges) as here:
        faked = fake(lambda recipe, n: [0.5])
        inner = faked.train

        def spied(recipe, network, *rest):
            seen[recipe.max_words] = network.embedding.weight.shape[0]
            return inner(recipe, network, *rest)

        module.train = spied  # put back with the fake
        run(here, base, given, 8)
    assert seen == {2: 4, 4: 6}


def test_the_same_values_are_trained_once(opened, base, given, fake):
    faked = fake(lambda recipe, n: [0.6, 0.1 * len(recipe.pooling)])
    with opened(ranges=read_ranges(["pooling=max,mean"], ())) as here:
        run(here, base, given, 12)
        rows = rows_of(here)
        values = [trial.intermediate_values for trial in here.study.get_trials()]
    assert sorted(recipe.pooling for recipe in faked.recipes) == ["max", "mean"]
    assert {row["state"] for row in rows} == {"complete"}
    first = {row["values"]["pooling"]: row for row in reversed(rows)}
    for row, reported in zip(rows, values, strict=True):
        original = first[row["values"]["pooling"]]
        changed = {} if row is original else {"trial": row["trial"], "seconds": 0.0,
                                              "as_it_is": row["as_it_is"]}  # fmt: skip
        assert row == original | changed
        assert reported == {333: 0.6, 667: row["loss"]}


# --- Pruned and failed trials ---------------------------------------------------------------------


def test_a_trial_that_is_behind_is_closed_and_marked(opened, base, given, fake):
    bad = 8
    faked = fake(lambda recipe, n: [0.9, 0.8, 0.7] if n == bad else [0.5, 0.4, 0.3 + n / 100])
    with opened() as here:
        run(here, base, given, 9)
        rows = rows_of(here)
    assert [row["state"] for row in rows] == [
        "pruned" if n == bad else "complete" for n in range(1, 10)
    ]
    assert (rows[bad - 1]["epochs"], rows[bad - 1]["loss"]) == (2, 0.8)
    assert faked.closed == [bad]
    assert not list(here.folder.glob("trials/*"))


def test_a_trial_that_is_behind_after_its_last_epoch_is_whole(opened, base, given, fake):
    faked = fake(lambda recipe, n: [0.5, 0.4, 0.9 if n == 9 else 0.3])
    with opened() as here:
        run(here, base, given, 9)
        assert rows_of(here)[-1]["state"] == "complete"
    assert faked.closed == []


def test_trials_of_more_epochs_are_compared_after_the_same_share_of_them(opened, base, given, fake):
    """In its third epoch of six a trial has not fallen behind those that have ended after three."""
    ranges = read_ranges(["epochs=3,6", "dropout=0..0.5"], ())
    fake(lambda recipe, n: [0.9 - 0.5 * epoch / recipe.epochs for epoch in
                            range(1, recipe.epochs + 1)])  # fmt: skip
    with opened(ranges=ranges) as here:
        run(here, base, given, 16)
        rows = rows_of(here)
    assert {row["epochs"] for row in rows} == {3, 6}
    assert {row["state"] for row in rows} == {"complete"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Failure("the loss is not a number in epoch 2"), "the loss is not a number in epoch 2"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
    ],
)
def test_a_trial_that_cannot_be_trained_has_failed_and_the_next_begins(
    opened, base, given, fake, error, reason
):
    fake(lambda recipe, n: [0.5, error] if n == 2 else [0.5, 0.4])
    with opened() as here:
        events = run(here, base, given, 3)
        rows = rows_of(here)
        assert not list(here.folder.glob("trials/*-*"))
    assert [row["state"] for row in rows] == ["complete", "failed", "complete"]
    assert (rows[1]["reason"], rows[1]["loss"]) == (reason, None)
    assert [event.row["state"] for event in events if isinstance(event, TrialEnd)][1] == "failed"


def test_values_that_do_not_go_together_fail_in_their_trial(opened, base, given, fake):
    ranges = read_ranges(["max_tokens=5,9", "crop_tokens=3,8"], ())
    fake(lambda recipe, n: [0.5])
    with opened(ranges=ranges) as here:
        run(here, base, given, 12)
        rows = rows_of(here)
    assert {row["state"] for row in rows} == {"complete", "failed"}
    for row in rows:
        impossible = row["values"]["crop_tokens"] > row["values"]["max_tokens"]
        assert (row["state"] == "failed") == impossible
        assert not impossible or "--crop-tokens 8 is longer than --max-tokens 5" in row["reason"]


def full_disk():
    error = Failure("the disk is full")
    error.__cause__ = OSError(28, "No space left on device")
    return error


@pytest.mark.parametrize(
    "error", [full_disk(), OSError(5, "gone"), RuntimeError("a defect"), KeyboardInterrupt()]
)
def test_what_no_other_values_would_change_ends_the_search_and_the_trial_is_kept(
    opened, base, given, fake, error
):
    fake(lambda recipe, n: [0.5, error] if n == 2 else [0.5, 0.4])
    with opened() as here:
        with pytest.raises(type(error)):
            run(here, base, given, 3)
        assert [row["state"] for row in rows_of(here)] == ["complete", "cut off", "waiting"]
        run(here, base, given, 3)
        rows = rows_of(here)
    assert [row["state"] for row in rows] == ["complete", "cut off", "complete", "complete"]
    assert rows[1]["values"] == rows[2]["values"]


def test_a_trial_that_another_machine_took_over_is_left_to_it(opened, base, given, fake):
    """After a sleep, say: it ends without a word, and the next trial begins."""
    with opened() as here:

        def losses(recipe, n):
            yield 0.5
            if n == 1:
                trial = here.study.get_trials()[0]
                here.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            yield 0.4

        fake(losses)
        run(here, base, given, 1)
        assert [row["state"] for row in rows_of(here)] == ["cut off", "complete"]


# --- Interrupted ----------------------------------------------------------------------------------


def test_an_interrupted_trial_goes_on_where_it_stopped(opened, base, given):
    with opened("whole") as here:
        run(here, base, given, 3)
        whole = figures(here)
    with opened("parts") as here:
        trial = 1
        with closing(tune(here, base, given, 3)) as running:
            for event in running:
                if isinstance(event, TrialStep) and (event.trial, event.step.epoch) == (trial, 2):
                    break
        assert [row["state"] for row in rows_of(here)] == ["complete", "cut off", "waiting"]
    with opened("parts") as here:
        events = run(here, base, given, 3)
        parts = figures(here)
    first = next(event for event in events if isinstance(event, TrialStep))
    assert (first.trial, first.step.epoch) == (2, 2)  # not the first epoch again
    assert parts[2]["state"] == "complete"
    assert {**parts[2], "trial": trial} == whole[trial]
    assert parts[0] == whole[0]


def interrupt_in_the_third_epoch(here, base, given):
    with closing(tune(here, base, given, 1)) as running:
        for event in running:
            if isinstance(event, TrialStep) and event.step.epoch == 3:
                break


def test_a_trial_that_goes_on_reports_what_it_had_reached_too(opened, base, given):
    """To be pruned by it, as any other."""
    with opened() as here:
        interrupt_in_the_third_epoch(here, base, given)
        run(here, base, given, 1)
        before, after = (trial.intermediate_values for trial in here.study.get_trials())
    assert list(before) == [333, 667]
    assert list(after) == [333, 667, 1000]
    assert {step: after[step] for step in before} == before


def test_an_epoch_that_is_trained_again_is_reported_once(opened, base, given, fake, recwarn):
    """Killed between the line of its history and its state, it is; Optuna warns of the second."""
    fake(lambda recipe, n: [0.5, 0.4, 0.3])  # which begins at the first epoch again
    with opened() as here:
        interrupt_in_the_third_epoch(here, base, given)
        run(here, base, given, 1)
        assert here.study.get_trials()[1].intermediate_values == {333: 0.5, 667: 0.4, 1000: 0.3}
    assert not list(recwarn)


def test_a_long_trial_shows_that_it_lives(opened, base, given, fake, monkeypatch):
    signs = []
    monkeypatch.setattr(module, "show_life", signs.append)
    fake(lambda recipe, n: [0.5, 0.5, 0.5])
    with opened() as here:
        run(here, base, given, 1)
        assert signs == []
        monkeypatch.setattr(module, "SIGN_OF_LIFE", -1)
        run(here, base, given, 2)
    assert len(signs) == 3


# --- What it leaves behind ------------------------------------------------------------------------


def test_results_are_a_table_a_recipe_a_picture_and_what_the_study_is(opened, base, given, fake):
    fake(lambda recipe, n: [0.5, Failure("no, a comma")] if n == 3 else [0.5, 0.4 - n / 100])
    with opened() as here:
        run(here, base, given, 4)
        result = write_results(here, base, {"recipe": {"hidden": 4}})
    with (here.folder / "trials.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "trial", "state", "validation_loss", "validation_accuracy", "best_epoch", "epochs",
        "seconds", "reason", "learning_rate", "hidden", "pooling",
    ]  # fmt: skip
    assert [row["state"] for row in table] == ["complete", "complete", "failed", "complete"]
    assert (table[2]["validation_loss"], table[2]["reason"]) == ("", "no, a comma")
    assert float(table[3]["validation_loss"]) == pytest.approx(0.36)
    assert (here.folder / "history.png").read_bytes().startswith(b"\x89PNG")

    best = read_recipe(str(here.folder / "best.toml"))
    assert best.name == "toy-tuned"
    assert best.about == (
        "toy with the best values of 4 trials of `reelsense tune`, validation log loss 0.3600"
    )
    assert {key: str(getattr(best, key)) for key in ("learning_rate", "hidden", "pooling")} == {
        key: table[3][key] for key in ("learning_rate", "hidden", "pooling")
    }
    assert best.embedding == base.embedding

    written = json.loads((here.folder / "study.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert written["recipe"] == {"hidden": 4}
    assert written["trials"] == {"complete": 3, "failed": 1}
    assert (written["best"]["trial"], written["usual"]["trial"]) == (3, 0)
    assert written["importance"] == {}
    assert {path.name for path in here.folder.iterdir()} == {
        ".lock", "trials", "study.db", "trials.csv", "best.toml", "history.png", "study.json",
    }  # fmt: skip


def test_without_a_whole_trial_there_is_a_table_and_no_best(opened, base, given, fake):
    fake(lambda recipe, n: [Failure("no")])
    with opened() as here:
        assert write_results(here, base, {})["trials"] == {"waiting": 1}
        run(here, base, given, 2)
        result = write_results(here, base, {})
    assert (result["best"], result["usual"], result["trials"]) == (None, None, {"failed": 2})
    assert not (here.folder / "best.toml").exists()
    assert not (here.folder / "history.png").exists()
    assert (here.folder / "trials.csv").read_text().count("failed") == 2


def test_a_recipe_is_the_same_whatever_it_is_called(base):
    assert stated(base, RANGES, {}) == stated(base.changed(name="b", about="c"), RANGES, {})
    assert stated(base, RANGES, {}) != stated(base.changed(seed=9), RANGES, {})
    assert "hashes" not in stated(base, RANGES, None)
    assert stated(base, RANGES, {"a": "b"})["hashes"] == {"a": "b"}


def test_best_toml_is_toml_with_every_field(opened, base, given, fake):
    fake(lambda recipe, n: [0.5])
    with opened() as here:
        run(here, base, given, 1)
        write_results(here, base, {})
        held = tomllib.loads((here.folder / "best.toml").read_text())
    assert held["test"] == 0.2
    assert held["hidden"] == 4

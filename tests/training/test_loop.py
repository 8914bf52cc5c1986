import inspect
import json
import math
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from reelsense.errors import Failure
from reelsense.model import networks
from reelsense.model.networks import BiLSTM
from reelsense.model.recipe import Recipe
from reelsense.training import loop
from reelsense.training.batches import Examples
from reelsense.training.checkpoint import (
    epoch_path,
    load_state,
    load_tensors,
    read_history,
    state_path,
    weights_hash,
)
from reelsense.training.loop import EpochEnd, Step, learning_rate, train
from reelsense.training.machine import Machine, find_machine
from reelsense.training.measure import logits, loss_and_accuracy

WORDS, DIMENSIONS = 60, 6
GOOD, BAD = range(2, 6), range(6, 10)  # the words that tell the toy's classes apart
TOY = Recipe(
    name="toy",
    hidden=4,
    layers=1,
    pooling="max+mean",
    dense=0,
    train_embedding=True,
    embedding_dropout=0.1,
    word_dropout=0.1,
    dropout=0.1,
    max_tokens=0,
    crop_tokens=0,
    epochs=3,
    batch_reviews=16,
    batch_tokens=2000,
    learning_rate=0.02,
    schedule="one-cycle",
    clip=1.0,
    average=0.9,
    patience=0,
    precision="fp32",
    seed=5,
)


def toy(n=96, seed=0, meaning=True):
    """Reviews of 3 to 25 tokens; one good or bad word decides, or nothing does."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 2).astype(np.int8)
    ids = []
    for label in labels:
        row = random.integers(10, WORDS, random.integers(3, 25)).astype(np.int32)
        if meaning:
            row[random.integers(len(row))] = random.choice(GOOD if label else BAD)
        ids.append(row)
    return Examples(ids, labels)


TRAINING, VALIDATION = toy(), toy(40, seed=1)


def build(recipe, words=WORDS):
    vectors = np.random.default_rng(2).normal(0, 0.4, (words, DIMENSIONS)).astype(np.float32)
    vectors[:2] = 0
    return networks.build(recipe, vectors, np.arange(words) > 1)


def machine(threads=2, bf16=False):
    return Machine(torch.device("cpu"), threads, bf16)


def start(run, recipe=TOY, threads=2, training=TRAINING, validation=VALIDATION, bf16=False):
    return train(recipe, build(recipe), training, validation, run, machine(threads, bf16))


def steps_of(recipe=TOY, training=TRAINING):
    return len(loop._plan_epoch(recipe, training, (), 1)[1])


def hashes(run, epochs=TOY.epochs):
    """The weights of every epoch, and all that the run ended with."""
    saved = [weights_hash(load_tensors(epoch_path(run, n))[0]) for n in range(1, epochs + 1)]
    return [*saved, weights_hash(load_state(run)[0])]


def figures(run):
    """The history without what the clock says."""
    return [
        {key: value for key, value in row.items() if "second" not in key}
        for row in read_history(run)
    ]


@pytest.fixture(autouse=True)
def one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption: its folder and its events."""
    run = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    return run, list(start(run))


# --- The same seed, the same weights --------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_figures(whole, tmp_path):
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])
    assert figures(tmp_path) == figures(whole[0])


def test_another_seed_gives_others(whole, tmp_path):
    list(start(tmp_path, TOY.changed(seed=6)))
    assert not set(hashes(tmp_path)) & set(hashes(whole[0]))


def test_torchs_own_chance_plays_no_part(whole, tmp_path):
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])


def test_every_step_and_shard_has_noise_of_its_own(tmp_path, monkeypatch):
    seeds, score = [], BiLSTM.forward

    def spied(self, ids, lengths, noise=None):
        if noise is not None:
            seeds.append(noise.initial_seed())
        return score(self, ids, lengths, noise)

    monkeypatch.setattr(BiLSTM, "forward", spied)
    list(start(tmp_path, TOY.changed(epochs=2), threads=2))
    assert len(seeds) == 2 * 2 * steps_of()
    assert len(set(seeds)) == len(seeds)


VARIANTS = {
    "frozen": {"train_embedding": False},
    "last": {"pooling": "last", "dense": 3},
    "cropped": {"crop_tokens": 5, "whole_epochs": 1},
    "two layers": {"layers": 2},
    "no average": {"average": 0.0},
}


def interrupted(run, recipe, after, **how):
    """Train until `after` steps are done, and close the loop there."""
    running = start(run, recipe, **how)
    done = 0
    for event in running:
        done += isinstance(event, Step)
        if done == after:
            break
    running.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_goes_on_as_if_never_interrupted(tmp_path, variant):
    recipe = TOY.changed(epochs=2, **VARIANTS[variant])
    list(start(tmp_path / "whole", recipe))
    interrupted(tmp_path / "cut", recipe, after=steps_of(recipe) + 2)
    list(start(tmp_path / "cut", recipe))
    assert hashes(tmp_path / "cut", 2) == hashes(tmp_path / "whole", 2)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")


def test_an_interruption_after_any_step_changes_nothing(whole, tmp_path):
    per_epoch = steps_of()
    for after in (1, per_epoch - 1, per_epoch, per_epoch + 1, 3 * per_epoch):
        run = tmp_path / str(after)
        interrupted(run, TOY, after)
        assert load_state(run)[1].steps_done == after
        list(start(run))
        assert hashes(run) == hashes(whole[0]), after
        assert figures(run) == figures(whole[0]), after


def test_a_run_interrupted_at_every_third_step_gets_to_the_same_end(whole, tmp_path):
    for _ in range(3 * steps_of() // 3 + 1):
        interrupted(tmp_path, TOY, after=3)
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])
    assert figures(tmp_path) == figures(whole[0])


def test_closing_after_an_epoch_changes_nothing(whole, tmp_path):
    running = start(tmp_path)
    next(event for event in running if isinstance(event, EpochEnd))
    running.close()
    assert load_state(tmp_path)[1].epoch == 2
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])


def test_a_finished_run_has_nothing_left_to_do(whole, tmp_path):
    list(start(tmp_path))
    assert list(start(tmp_path)) == []
    assert hashes(tmp_path) == hashes(whole[0])


def test_resuming_with_other_threads_gives_the_same_weights(whole, tmp_path):
    for threads in (1, 3):
        run = tmp_path / str(threads)
        interrupted(run, TOY, after=2, threads=2)
        torch.set_num_threads(threads)
        list(start(run, threads=threads))
        torch.set_num_threads(1)
        assert hashes(run) == hashes(whole[0])


def test_the_threads_of_torch_itself_do_not_matter_with_a_large_table(tmp_path):
    # Above 32,768 values torch sums with several threads; clipping needs such a sum.
    recipe = TOY.changed(epochs=1, clip=1e-3)
    found = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run = tmp_path / str(threads)
        network = build(recipe, words=9000)
        list(train(recipe, network, TRAINING, VALIDATION, run, machine(2)))
        found.add(tuple(hashes(run, 1)))
    assert len(found) == 1


KILLED = """
import os, signal, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import torch

spec = spec_from_file_location("toys", sys.argv[1])
toys = module_from_spec(spec)
spec.loader.exec_module(toys)
torch.set_num_threads(1)
done = 0
for event in toys.start(Path(sys.argv[2])):
    done += isinstance(event, toys.Step)
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights(whole, tmp_path):
    steps = steps_of()
    command = [sys.executable, "-c", KILLED, __file__, str(tmp_path), str(steps + steps // 2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_state(tmp_path)[1].steps_done == steps  # the end of the first epoch
    assert len(read_history(tmp_path)) == 1
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])
    assert figures(tmp_path) == figures(whole[0])


@pytest.mark.parametrize("save", ["save_tensors", "write_history", "save_state"])
@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_dies_while_an_epoch_is_saved_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch, save, late
):
    """Between any two files of the second epoch's end, or just before one."""
    original, calls = getattr(loop, save), []

    def dying(*args):
        calls.append(args)
        if len(calls) == 2 and not late:
            raise KeyboardInterrupt
        original(*args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, save, dying)
    with pytest.raises(KeyboardInterrupt):
        list(start(tmp_path))
    monkeypatch.undo()
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])
    assert figures(tmp_path) == figures(whole[0])


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the processor has no bfloat16"
)
def test_bfloat16_is_reproducible_too_and_keeps_its_weights_in_float32(tmp_path):
    recipe = TOY.changed(epochs=1)
    for name in ("a", "b"):
        list(start(tmp_path / name, recipe, bf16=True))
    assert hashes(tmp_path / "a", 1) == hashes(tmp_path / "b", 1)
    tensors = load_tensors(epoch_path(tmp_path / "a", 1))[0]
    assert {weight.dtype for weight in tensors.values()} == {torch.float32}


# --- Learning -------------------------------------------------------------------------------------


def test_a_toy_task_is_learnt(tmp_path):
    recipe = TOY.changed(epochs=8, hidden=8, learning_rate=0.03)
    list(start(tmp_path, recipe, training=toy(200), validation=toy(100, seed=1)))
    history = read_history(tmp_path)
    assert history[-1]["train"]["accuracy"] > 0.95
    assert history[-1]["validation"]["accuracy"] > 0.95
    losses = [row["train"]["loss"] for row in history]
    assert losses[-1] < 0.2 < losses[0]


def test_a_batch_is_learnt_the_same_in_one_shard_or_in_many(tmp_path):
    """Shards change the rounding and the noise, not the gradient."""
    recipe = TOY.changed(
        epochs=1, embedding_dropout=0.0, word_dropout=0.0, dropout=0.0, schedule="constant"
    )
    weights = []
    for threads in (1, 4):
        list(start(tmp_path / str(threads), recipe, threads=threads))
        weights.append(load_tensors(epoch_path(tmp_path / str(threads), 1))[0])
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-4, msg=name)


def test_the_gradient_is_that_of_the_mean_loss_of_the_batch():
    network = build(TOY)
    weights = dict(network.named_parameters())
    quiet = TOY.changed(embedding_dropout=0.0, word_dropout=0.0, dropout=0.0)
    network.recipe = quiet
    batch = loop.pad(TRAINING, np.arange(13))
    with machine(3).workers() as workers:
        loss, correct = loop._set_gradients(
            network, weights, batch.shards(3), 0, loop.Position(), machine(3), workers
        )
    scores = network(batch.ids, batch.lengths)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.labels)
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    assert correct == int(((scores > 0) == (batch.labels > 0.5)).sum())
    gradients = torch.autograd.grad(expected, list(weights.values()))
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_frozen_vectors_stay_as_they_were_and_trained_ones_move(tmp_path):
    for frozen in (True, False):
        recipe = TOY.changed(train_embedding=not frozen, epochs=1)
        run = tmp_path / str(frozen)
        list(start(run, recipe))
        table = load_tensors(epoch_path(run, 1))[0]["embedding.weight"]
        assert torch.equal(table, build(recipe).embedding.weight) == frozen
        assert not table[0].any()
        assert ("weights.embedding.weight" in load_state(run)[0]) != frozen


# --- What a run leaves and says -------------------------------------------------------------------


def test_events_are_the_steps_and_the_ends_of_epochs_in_order(whole):
    run, events = whole
    kinds = [type(event) for event in events]
    assert kinds == ([Step] * steps_of() + [EpochEnd]) * TOY.epochs
    assert [event.record for event in events if isinstance(event, EpochEnd)] == read_history(run)
    steps = [event for event in events if isinstance(event, Step)]
    shares = [step.share_done for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert steps[-1].seconds_left == 0
    assert all(step.seconds_left > 0 for step in steps[:-1])
    assert all(step.reviews_per_second > 0 and 0 <= step.accuracy <= 1 for step in steps)
    assert [step.epoch for step in steps] == sorted(step.epoch for step in steps)


def test_a_line_of_history_holds_what_the_design_says(whole):
    history = read_history(whole[0])
    assert [row["epoch"] for row in history] == [1, 2, 3]
    for row in history:
        assert {"loss", "accuracy"} == set(row["train"]) == set(row["validation"])
        assert row["seconds"] > 0
        assert row["reviews_per_second"] > 0
        assert "test" not in row


def test_the_files_of_an_epoch_hold_the_averaged_weights_that_it_was_measured_with(whole):
    run, _ = whole
    state, position = load_state(run)
    assert (position.epoch, position.step) == (TOY.epochs + 1, 0)
    assert position.steps_done == TOY.epochs * steps_of()
    last = load_tensors(epoch_path(run, TOY.epochs))[0]
    for name, weight in last.items():
        assert torch.equal(weight, state[f"average.{name}"])
        assert not torch.equal(weight, state[f"weights.{name}"]), name
    network = build(TOY)
    with machine().workers() as workers:
        for epoch, row in enumerate(read_history(run), 1):
            network.load_state_dict(load_tensors(epoch_path(run, epoch))[0])
            scores = logits(network, VALIDATION, machine(), workers)
            assert row["validation"] == loss_and_accuracy(scores, VALIDATION.labels)
            scores = logits(network, TRAINING, machine(), workers)
            mean = loss_and_accuracy(scores, TRAINING.labels)  # in another order: to rounding
            assert row["train"] == pytest.approx(mean, abs=1e-9)


def test_without_averaging_an_epoch_holds_its_last_weights(tmp_path):
    recipe = TOY.changed(epochs=1, average=0.0)
    list(start(tmp_path, recipe))
    state = load_state(tmp_path)[0]
    for name, weight in load_tensors(epoch_path(tmp_path, 1))[0].items():
        assert torch.equal(weight, state[f"weights.{name}"])


def test_the_average_is_the_one_written_out():
    weights = {"w": torch.tensor([0.0])}
    state = loop._State(weights, {"w": torch.tensor([0.0])}, None)
    expected = 0.0
    for step in range(40):
        weights["w"].fill_(float(step % 7))
        keep = min(0.8, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * (step % 7)
        loop._move_average(state, 0.8, step)
        assert float(state.average["w"]) == pytest.approx(expected, abs=1e-5)


def test_the_average_counts_the_steps_of_all_epochs(tmp_path, monkeypatch):
    counted, move = [], loop._move_average

    def spied(state, decay, steps):
        counted.append(steps)
        move(state, decay, steps)

    monkeypatch.setattr(loop, "_move_average", spied)
    interrupted(tmp_path, TOY, after=steps_of() + 2)
    list(start(tmp_path))
    assert counted == list(range(TOY.epochs * steps_of()))


def test_early_stopping_stops_after_epochs_without_a_lower_validation_loss(tmp_path):
    # Nothing can be learnt here, so the validation loss rises as the training part is memorised.
    recipe = TOY.changed(epochs=40, patience=2, learning_rate=0.05, schedule="constant")
    how = {"training": toy(40, meaning=False), "validation": toy(40, seed=1, meaning=False)}
    list(start(tmp_path, recipe, **how))
    losses = [row["validation"]["loss"] for row in read_history(tmp_path)]
    assert len(losses) < 40
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    assert list(start(tmp_path, recipe, **how)) == []  # a stopped run stays stopped


def test_without_patience_every_epoch_is_run():
    history = [{"epoch": n, "validation": {"loss": float(n)}} for n in range(1, 6)]
    assert not loop._has_stalled(history, TOY.changed(patience=0))
    assert not loop._has_stalled(history, TOY.changed(patience=5))
    assert loop._has_stalled(history, TOY.changed(patience=4))
    assert not loop._has_stalled([], TOY.changed(patience=1))


def test_without_validation_the_training_is_the_same_and_its_figures_are_left_out(whole, tmp_path):
    nothing = Examples([], np.zeros(0, np.int8))
    interrupted(tmp_path, TOY.changed(validation=0.0), steps_of() + 2, validation=nothing)
    list(start(tmp_path, TOY.changed(validation=0.0), validation=nothing))
    assert hashes(tmp_path) == hashes(whole[0])
    without = [{k: v for k, v in row.items() if k != "validation"} for row in figures(whole[0])]
    assert figures(tmp_path) == without


def test_the_training_never_receives_the_test_part():
    names = list(inspect.signature(train).parameters)
    assert names == ["recipe", "network", "training", "validation", "run", "machine"]
    # Nor could it find it: the loop imports no reader, no split and nothing that prepares data.
    known = {getattr(value, "__module__", "") for value in vars(loop).values()}
    assert not {name for name in known if name.startswith(("reelsense.text", "reelsense.vectors"))}
    assert "reelsense.training.prepare" not in known


def test_the_training_curve_is_measured_on_the_same_reviews_each_time():
    many = Examples([np.array([n], np.int32) for n in range(4000)], np.zeros(4000, np.int8))
    first, again = (loop._sample(many, seed=3) for _ in range(2))
    assert len(first) == loop.SAMPLE
    rows = [int(row[0]) for row in first.ids]
    assert rows == [int(row[0]) for row in again.ids]
    assert len(set(rows)) == loop.SAMPLE


def test_only_the_last_epochs_are_read_whole():
    recipe = TOY.changed(crop_tokens=5, epochs=3, whole_epochs=1)
    longest = [
        max(len(ids) for ids in loop._plan_epoch(recipe, TRAINING, epoch)[0].ids)
        for epoch in (1, 2, 3)
    ]
    assert longest == [5, 5, max(map(len, TRAINING.ids))]


# --- What goes wrong ------------------------------------------------------------------------------


class Broken(BiLSTM):
    """A network whose score, or only its gradient, is not a number after `good` calls."""

    calls, good, loss_too = 0, 2, True

    def forward(self, ids, lengths, noise=None):
        self.calls += 1
        score = super().forward(ids, lengths, noise)
        if self.calls <= self.good:
            return score
        if self.loss_too:
            return score * math.nan
        return score + (0 * self.output.bias).sqrt()  # 0, and its slope is infinite times 0


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_a_number_stops_the_run_and_says_what_to_try(tmp_path, what):
    recipe = TOY.changed(epochs=1)
    network = build(recipe)
    network.__class__ = Broken
    network.loss_too = what == "loss"
    network.good = steps_of(recipe) - 1  # a gradient of the last step would reach the weights
    with pytest.raises(Failure) as caught:
        list(train(recipe, network, TRAINING, VALIDATION, tmp_path, machine(threads=1)))
    message = str(caught.value)
    assert f"the {what} is not a number in epoch 1, step {steps_of(recipe)};" in message
    assert "lower --learning-rate than 0.02" in message
    assert "--clip" in message
    assert "--precision fp32" in message
    assert not (tmp_path / "history.jsonl").exists()
    assert not state_path(tmp_path).exists()  # a later --resume starts from sound weights


def test_a_disk_that_fills_up_leaves_the_last_epoch_to_go_on_from(whole, tmp_path, monkeypatch):
    running = start(tmp_path)
    next(event for event in running if isinstance(event, EpochEnd))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failure, match="the disk is full"):
        list(running)
    monkeypatch.undo()
    parts = [path.name for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert parts == []
    list(start(tmp_path))
    assert hashes(tmp_path) == hashes(whole[0])


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    interrupted(tmp_path, TOY, after=1)
    assert threading.active_count() == before


# --- Learning rate and machine --------------------------------------------------------------------


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    rates = [learning_rate(TOY, done) for done in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(TOY.learning_rate)
    assert int(np.argmax(rates)) == round(100 * loop.WARM_UP)
    assert rates[0] == rates[-1] == pytest.approx(TOY.learning_rate / 100)
    assert (np.diff(rates[:31]) > 0).all()
    assert (np.diff(rates[30:]) <= 0).all()
    constant = TOY.changed(schedule="constant")
    assert {learning_rate(constant, done) for done in (0, 0.3, 1)} == {TOY.learning_rate}


def test_the_machine_is_what_was_asked_for():
    found = find_machine("cpu", 3, "fp32")
    assert (found.device.type, found.threads, found.bf16) == ("cpu", 3, False)
    assert str(found) == "cpu, 3 cores, fp32"
    assert str(find_machine("cpu", 1, "bf16")) == "cpu, 1 core, bf16"
    assert find_machine("cpu", None, "auto").threads >= 1


def test_history_is_strict_json(whole):
    for line in (whole[0] / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))

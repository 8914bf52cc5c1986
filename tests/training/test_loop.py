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
from reelsense.model.recipe import Recipe
from reelsense.model.recurrent import BiLSTM
from reelsense.training import loop
from reelsense.training.batches import Examples, Pool
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


def start(
    run,
    recipe=TOY,
    threads=2,
    training=TRAINING,
    validation=VALIDATION,
    bf16=False,
    pools=(),
    alike=(),
):
    network = build(recipe)
    return train(recipe, network, training, validation, run, machine(threads, bf16), pools, alike)


def steps_of(recipe=TOY, training=TRAINING, pools=()):
    return len(loop._plan_epoch(recipe, training, pools, 1)[1])


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


pytestmark = pytest.mark.usefixtures("one_core")


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
    seeds, embed = [], BiLSTM.embed

    def spied(self, ids, noise=None):
        if noise is not None:
            seeds.append(noise.initial_seed())
        return embed(self, ids, noise)

    monkeypatch.setattr(BiLSTM, "embed", spied)
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
        step = loop._set_gradients(
            network, weights, batch.shards(3), quiet, loop.Position(), machine(3), workers
        )
    scores = network(batch.ids, batch.lengths)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.labels)
    assert step.loss == pytest.approx(13 * float(expected.detach()), abs=1e-5)
    assert step.correct == int(((scores > 0) == (batch.labels > 0.5)).sum())
    assert step.labelled == 13
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


# --- Reviews from pools, noise and rates of one's own ---------------------------------------------

SEMI = TOY.changed(
    epochs=2, adversarial=0.5, virtual=1.0, entropy=0.3, encoder_rate=0.5, embedding_rate=0.3
)


def unlabelled(n=70, seed=3):
    examples = toy(n, seed)
    return Examples(examples.ids, np.full(n, -1, np.int8))


def softly(n=30, seed=4):
    examples = toy(n, seed)
    return Examples(examples.ids, (0.1 + 0.8 * examples.labels).astype(np.float32))


POOLS = (Pool(unlabelled(), 50), Pool(softly(), 20))


def test_an_epoch_holds_all_training_reviews_and_its_share_of_each_pool():
    for epoch in (1, 2):
        examples, batches = loop._plan_epoch(SEMI, TRAINING, POOLS, epoch)
        rows = np.concatenate(batches)
        assert sorted(rows) == list(range(len(TRAINING) + 50 + 20))
        parts = [TRAINING, *(pool.draw(SEMI.seed, epoch) for pool in POOLS)]
        for ids, expected in zip(
            examples.ids, [ids for part in parts for ids in part.ids], strict=True
        ):
            assert ids is expected
        labels = np.concatenate([part.labels for part in parts]).astype(np.float32)
        assert (examples.labels == labels).all()
        # They come mixed, not pool after pool.
        mixed = [len(set(np.sign(examples.labels[batch]).tolist())) for batch in batches]
        assert np.mean(np.array(mixed) > 1) > 0.5


def test_an_epoch_of_several_passes_goes_through_all_reviews_that_often_one_pass_after_another():
    recipe = SEMI.changed(passes=3, crop_tokens=4, epochs=2, whole_epochs=1)
    a_pass = len(TRAINING) + 50 + 20
    for epoch in (1, 2):
        examples, batches = loop._plan_epoch(recipe, TRAINING, POOLS, epoch)
        rows = np.concatenate(batches).reshape(3, a_pass)
        for number in range(3):
            assert sorted(rows[number]) == list(range(number * a_pass, (number + 1) * a_pass))
            drawn = POOLS[0].draw(recipe.seed, (epoch - 1) * 3 + number + 1)
            assert np.array_equal(
                examples.labels[number * a_pass :][len(TRAINING) :][:50], drawn.labels
            )
        assert not np.array_equal(rows[0], rows[1] - a_pass)  # each in an order of its own
        assert (max(map(len, examples.ids)) > 4) == (epoch == 2)
    cropped = loop._plan_epoch(recipe, TRAINING, (), 1)[0].ids
    first, second = cropped[: len(TRAINING)], cropped[len(TRAINING) : 2 * len(TRAINING)]
    assert not all(map(np.array_equal, first, second))  # and with stretches of its own


def test_crops_are_of_the_pools_too():
    recipe = SEMI.changed(crop_tokens=5, epochs=2, whole_epochs=1)
    longest = [
        [len(ids) for ids in loop._plan_epoch(recipe, TRAINING, POOLS, epoch)[0].ids]
        for epoch in (1, 2)
    ]
    assert max(longest[0]) == 5
    assert max(longest[1][len(TRAINING) :]) > 5


@pytest.mark.parametrize("cropped", [0, 6])
def test_a_run_with_pools_and_noise_goes_on_as_if_never_interrupted(tmp_path, cropped):
    recipe, run = SEMI.changed(crop_tokens=cropped), tmp_path / "cut"
    list(start(tmp_path / "whole", recipe, pools=POOLS))
    steps = steps_of(recipe, pools=POOLS)
    for after in (2, steps + 1, 1):  # in the first epoch, in the second, and there again
        interrupted(run, recipe, after, pools=POOLS)
    assert load_state(run)[1].steps_done == steps + 4
    list(start(run, recipe, pools=POOLS))
    assert hashes(run, 2) == hashes(tmp_path / "whole", 2)
    assert figures(run) == figures(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["pools", "adversarial", "virtual", "entropy"])
def test_each_of_them_changes_what_is_learnt(tmp_path, kind):
    recipe = SEMI.changed(epochs=1)
    list(start(tmp_path / "with", recipe, pools=POOLS))
    other = {"pools": ()} if kind == "pools" else {"recipe": recipe.changed(**{kind: 0.0})}
    list(start(tmp_path / "without", **({"recipe": recipe, "pools": POOLS} | other)))
    assert hashes(tmp_path / "with", 1)[0] != hashes(tmp_path / "without", 1)[0]


def test_the_loss_and_the_accuracy_that_are_shown_are_those_of_labelled_reviews(tmp_path):
    """With a rate that moves nothing they can be measured afterwards."""
    quiet = {"embedding_dropout": 0.0, "word_dropout": 0.0, "dropout": 0.0}
    recipe = SEMI.changed(epochs=1, batch_reviews=3, learning_rate=1e-8, **quiet)
    events = list(start(tmp_path, recipe, pools=POOLS))
    labelled = TRAINING.with_more([POOLS[1].draw(recipe.seed, 1)])
    with machine().workers() as workers:
        scores = logits(build(recipe), labelled, machine(), workers)
    loss = np.mean(np.logaddexp(0, scores) - labelled.labels * scores)
    last = events[-2]
    assert last.loss == pytest.approx(loss, abs=1e-5)
    assert last.accuracy == np.mean((scores > 0) == (labelled.labels > 0.5))
    assert events[-1].record["batch_loss"] == last.loss
    assert all(math.isfinite(step.loss) for step in events[:-1])
    # The curve is of the training part alone.
    assert events[-1].record["train"]["accuracy"] == np.mean(
        (scores[: len(TRAINING)] > 0) == TRAINING.labels
    )


def test_what_is_seen_counts_all_reviews_and_what_is_labelled_those_with_a_label(tmp_path):
    interrupted(tmp_path, SEMI, after=3, pools=POOLS)
    examples, batches = loop._plan_epoch(SEMI, TRAINING, POOLS, 1)
    rows, position = np.concatenate(batches[:3]), load_state(tmp_path)[1]
    assert (position.seen, position.labelled) == (len(rows), sum(examples.labels[rows] >= 0))
    assert 0 < position.labelled < position.seen


def test_a_run_whose_first_steps_have_no_label_shows_nothing_of_them(tmp_path):
    only = Examples(TRAINING.ids[:1], TRAINING.labels[:1])
    steps = list(start(tmp_path, SEMI.changed(batch_reviews=4), training=only, pools=POOLS[:1]))
    first = [step for step in steps if isinstance(step, Step) and step.epoch == 1]
    assert (first[0].loss, first[0].accuracy) == (0, 0)
    assert first[0].reviews_per_second > 0
    assert first[-1].loss > 0


GROUPS = {"embedding": "embedding_rate", "lstm": "encoder_rate"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_rate_of_nothing_leaves_its_weights_where_they_were(tmp_path, group):
    recipe = TOY.changed(epochs=1, **{GROUPS[group]: 0.0})
    list(start(tmp_path, recipe))
    before = build(recipe).state_dict()
    for name, weight in load_tensors(epoch_path(tmp_path, 1))[0].items():
        assert torch.equal(weight, before[name]) == (group in name), name


def test_every_weight_moves_by_its_own_rate(tmp_path):
    """The first step of Adam is the rate, whatever the gradient."""
    recipe = TOY.changed(
        schedule="constant", embedding_rate=0.25, encoder_rate=0.5, dense=3, learning_rate=0.01
    )
    interrupted(tmp_path, recipe, after=1)
    before, state = build(recipe).state_dict(), load_state(tmp_path)[0]
    for name, weight in before.items():
        moved = float((state[f"weights.{name}"] - weight).abs().max())
        share = next((share for group, share in (("embedding", 0.25), ("lstm", 0.5))
                      if group in name), 1.0)  # fmt: skip
        assert moved == pytest.approx(0.01 * share, rel=1e-2), name


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
    assert names[:4] == ["recipe", "network", "training", "validation"]
    assert names[4:] == ["run", "machine", "pools", "alike", "guards", "team"]
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
        max(len(ids) for ids in loop._plan_epoch(recipe, TRAINING, (), epoch)[0].ids)
        for epoch in (1, 2, 3)
    ]
    assert longest == [5, 5, max(map(len, TRAINING.ids))]


# --- What goes wrong ------------------------------------------------------------------------------


class Broken(BiLSTM):
    """A network whose score, or only its gradient, is not a number after `good` calls."""

    calls, good, loss_too = 0, 2, True

    def classify(self, vectors, lengths, noise=None):
        self.calls += 1
        score = super().classify(vectors, lengths, noise)
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
    assert int(np.argmax(rates)) == round(100 * TOY.warm_up)
    assert rates[0] == rates[-1] == pytest.approx(TOY.learning_rate / 100)
    assert (np.diff(rates[:31]) > 0).all()
    assert (np.diff(rates[30:]) <= 0).all()
    constant = TOY.changed(schedule="constant")
    assert {learning_rate(constant, done) for done in (0, 0.3, 1)} == {TOY.learning_rate}


def test_the_machine_is_what_was_asked_for(monkeypatch):
    monkeypatch.setattr("reelsense.training.machine._has_kernels_for_bf16", lambda: True)
    found = find_machine("cpu", 3, "fp32")
    assert (found.device.type, found.threads, found.bf16) == ("cpu", 3, False)
    assert str(found) == "cpu, 3 cores, fp32"
    assert str(find_machine("cpu", 1, "bf16")) == "cpu, 1 core, bf16"
    assert find_machine("cpu", None, "auto").threads >= 1


def test_history_is_strict_json(whole):
    for line in (whole[0] / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


# --- Words that share a vector --------------------------------------------------------------------

ALIKE = (np.array([1, 12, 13, 40]), np.array([15, 20]))
UNTIED = sorted(set(range(WORDS)) - {1, 12, 13, 40, 15, 20})


def tables(run, epoch=TOY.epochs):
    """The word vectors that an epoch ended with, averaged, and those that the run goes on with."""
    state = load_state(run)[0]
    averaged = load_tensors(epoch_path(run, epoch))[0]["embedding.weight"]
    return averaged, state["average.embedding.weight"], state["weights.embedding.weight"]


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A run with words alike, without interruption."""
    run = tmp_path_factory.mktemp("tied")
    torch.set_num_threads(1)
    list(start(run, alike=ALIKE))
    return run


def test_words_alike_have_the_same_vector_and_another_group_has_another(tied):
    for table in tables(tied):
        for group in ALIKE:
            assert (table[group] == table[group[0]]).all()
        assert not torch.equal(table[1], table[15])
        assert len({tuple(row.tolist()) for row in table[UNTIED]}) == len(UNTIED)


def test_words_alike_go_on_learning(tied):
    before = build(TOY).embedding.weight.detach()
    for group in ALIKE:
        moved = tables(tied)[2][group[0]] - before[group].mean(dim=0)
        assert moved.abs().max() > 1e-3


def test_words_alike_are_the_same_after_every_epoch(tied):
    for epoch in range(1, TOY.epochs + 1):
        table = load_tensors(epoch_path(tied, epoch))[0]["embedding.weight"]
        for group in ALIKE:
            assert (table[group] == table[group[0]]).all()


@pytest.mark.parametrize("after", [1, steps_of() + 2])
def test_a_run_with_words_alike_goes_on_as_if_never_interrupted(tied, tmp_path, after):
    interrupted(tmp_path, TOY, after, alike=ALIKE)
    for group in ALIKE:
        table = load_state(tmp_path)[0]["weights.embedding.weight"]
        assert (table[group] == table[group[0]]).all()
    list(start(tmp_path, alike=ALIKE))
    assert hashes(tmp_path) == hashes(tied)
    assert figures(tmp_path) == figures(tied)


def test_pools_noise_and_rates_of_ones_own_keep_words_alike(tmp_path):
    list(start(tmp_path, SEMI, pools=POOLS, alike=ALIKE))
    for table in tables(tmp_path, SEMI.epochs):
        for group in ALIKE:
            assert (table[group] == table[group[0]]).all()


def test_frozen_vectors_are_shared_too(tmp_path):
    recipe = TOY.changed(train_embedding=False, epochs=1)
    list(start(tmp_path, recipe, alike=ALIKE))
    table = load_tensors(epoch_path(tmp_path, 1))[0]["embedding.weight"]
    before = build(recipe).embedding.weight
    for group in ALIKE:
        assert torch.equal(table[group], before[group].mean(dim=0).expand(len(group), -1))
    assert torch.equal(table[UNTIED], before[UNTIED])


def test_rows_that_share_get_their_mean_and_no_other_row_is_touched():
    table = torch.randn(WORDS, 3, generator=torch.Generator().manual_seed(0))
    shared = table.clone()
    loop._share_rows(shared, ALIKE)
    for group in ALIKE:
        assert torch.equal(shared[group], table[group].mean(dim=0).expand(len(group), -1))
    assert torch.equal(shared[UNTIED], table[UNTIED])
    loop._share_rows(table, ())
    assert not torch.equal(shared, table)


def test_what_one_word_of_a_group_meets_moves_them_all_and_no_word_that_was_not_met(tmp_path):
    """Without a decay, a word without a gradient stays where it was."""
    ids = [np.array([12, 5], np.int32), np.array([15, 7], np.int32)] * 8
    training = Examples(ids, (np.arange(16) % 2 == 0).astype(np.int8))
    recipe = TOY.changed(epochs=1, embedding_dropout=0.0, word_dropout=0.0)
    list(start(tmp_path, recipe, training=training, alike=ALIKE))
    table, before = tables(tmp_path, 1)[2], build(recipe).embedding.weight.detach().clone()
    loop._share_rows(before, ALIKE)
    moved = (table != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [1, 5, 7, 12, 13, 15, 20, 40]

import json
import math
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from reelsense.errors import Failure
from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.model.recurrent import BiLSTM
from reelsense.text.tokenizer import SPECIAL, Tokenizer
from reelsense.training import pretrain as module
from reelsense.training import windows
from reelsense.training.checkpoint import (
    load_state,
    load_tensors,
    read_history,
    state_path,
    weights_hash,
)
from reelsense.training.corpus import END, Corpus, streams
from reelsense.training.machine import Machine
from reelsense.training.pretrain import (
    Measured,
    PretrainingStep,
    build_language_model,
    finish,
    learning_rate,
    pretrain,
)
from reelsense.vectors.glove import WordVectors

WORDS, KNOWN, WITHOUT = 24, 4, 5  # words, dimensions of their vectors, words without a vector
TOY = Pretraining(
    name="toy", dimensions=6, hidden=8, dropout=0.1, epochs=2, rows=4, window=8, negatives=12,
    learning_rate=0.02, measure=3, precision="fp32", seed=5,
)  # fmt: skip


def chain(reviews, seed):
    """Reviews in which four words of five follow from the word before; the others are chance."""
    random = np.random.default_rng(seed)
    texts = []
    for length in random.integers(5, 25, reviews):
        text = [int(random.integers(2, WORDS))]
        while len(text) < length:
            follows = 2 + (5 * text[-1] + 1) % (WORDS - 2)
            text.append(follows if random.random() < 0.8 else int(random.integers(2, WORDS)))
        texts.append(np.array(text, np.int32))
    return tuple(texts)


def toy(reviews=24, seed=0):
    training = chain(reviews, seed)
    counts = np.bincount(np.concatenate(training), minlength=WORDS)
    counts[END] = len(training)
    matrix = np.random.default_rng(3).normal(0, 0.4, (WORDS, KNOWN)).astype(np.float32)
    found = (np.arange(WORDS) > 1) & (np.arange(WORDS) < WORDS - WITHOUT)
    matrix[~found] = 0
    tokenizer = Tokenizer((*SPECIAL, *(f"w{number}" for number in range(2, WORDS))))
    vectors = WordVectors(matrix, found, "toy")
    return Corpus(tokenizer, vectors, counts, training, chain(8, seed + 1), {})


CORPUS = toy()


def machine(threads=4, bf16=False):
    """Of four cores, so that a direction has two shards."""
    return Machine(torch.device("cpu"), threads, bf16)


def start(run, recipe=TOY, corpus=CORPUS, **how):
    return pretrain(recipe, build_language_model(recipe, corpus), corpus, run, machine(**how))


def steps_of(recipe=TOY, corpus=CORPUS):
    return ((corpus.tokens() + 1) // recipe.rows - 1) // recipe.window


def ended(run):
    """All that a run ended with: weights, states, and the figures but for the clock's."""
    figures = [
        {key: value for key, value in row.items() if "second" not in key}
        for row in read_history(run)
    ]
    return weights_hash(load_state(run)[0]), figures


pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption: its folder, its events and the network at its end."""
    run = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    network = build_language_model(TOY, CORPUS)
    return run, list(pretrain(TOY, network, CORPUS, run, machine())), network


# --- The first weights ----------------------------------------------------------------------------


def test_the_first_dimensions_are_the_vectors_and_the_others_begin_near_zero():
    corpus = toy()
    table = build_language_model(TOY, corpus).embedding.weight.detach().numpy()
    found = corpus.vectors.found
    assert (table[found, :KNOWN] == corpus.vectors.matrix[found]).all()
    assert not table[END].any()
    wide = build_language_model(TOY.changed(dimensions=200), corpus).embedding.weight.detach()
    assert float(wide[1:, KNOWN:].std()) == pytest.approx(0.1, rel=0.05)
    assert float(wide[1:, KNOWN:].mean()) == pytest.approx(0.0, abs=0.01)


def test_words_without_a_vector_begin_as_spread_as_the_others():
    corpus = toy()
    matrix = np.random.default_rng(0).normal(0, 0.7, (WORDS, 300)).astype(np.float32)
    corpus = replace(corpus, vectors=WordVectors(matrix, corpus.vectors.found, "wide"))
    table = build_language_model(TOY.changed(dimensions=300), corpus).embedding.weight.detach()
    missing = ~torch.from_numpy(corpus.vectors.found)
    missing[END] = False
    assert float(table[missing].std()) == pytest.approx(0.7, rel=0.05)


def test_a_word_begins_as_likely_as_it_is_frequent():
    network = build_language_model(TOY, CORPUS)
    for backwards in (False, True):
        chances = network.direction(backwards)[1].bias.detach().exp().numpy()
        assert chances.sum() == pytest.approx(1, abs=1e-5)
        assert np.allclose(chances, (CORPUS.counts + 1) / (CORPUS.counts + 1).sum(), atol=1e-6)


def test_first_weights_are_those_of_the_seed_and_the_directions_differ():
    a, b, other = (
        dict(build_language_model(TOY.changed(seed=seed), CORPUS).named_parameters())
        for seed in (1, 1, 2)
    )
    assert weights_hash(a) == weights_hash(b) != weights_hash(other)
    for kind in ("weight_ih_l0", "weight_hh_l0"):
        assert not torch.equal(a[f"forward_lstm.0.{kind}"], a[f"backward_lstm.0.{kind}"])
    gates = a["forward_lstm.0.bias_ih_l0"] + a["forward_lstm.0.bias_hh_l0"]
    assert gates.tolist() == [0] * 8 + [1] * 8 + [0] * 16  # in, forget, cell, out


# --- A step ---------------------------------------------------------------------------------------


def a_window(step=0, recipe=TOY):
    texts = [
        streams(CORPUS.training, recipe.rows, np.random.default_rng(0), turned)
        for turned in (False, True)
    ]
    position = module.Position(step=step, shards=2)
    return texts, windows.draw_window(recipe, texts, position, windows.chances_of(CORPUS.counts))


def test_windows_follow_each_other_and_the_last_token_of_one_is_the_first_of_the_next():
    read = []
    for step in range(steps_of()):
        texts, window = a_window(step)
        tokens = window.words[window.ids].numpy()
        assert tokens.shape == (2, TOY.rows, TOY.window + 1)
        read.append(tokens[..., :-1])
        for backwards in (0, 1):
            first = step * TOY.window
            expected = texts[backwards][:, first : first + TOY.window + 1]
            assert (tokens[backwards] == expected).all()
    seen = np.concatenate(read, axis=2)
    assert (seen[0] == texts[0][:, : seen.shape[2]]).all()
    assert texts[0].shape[1] - 1 - seen.shape[2] < TOY.window


def test_the_words_of_a_step_are_its_negatives_and_then_what_else_it_reads():
    recipe = TOY.changed(negatives=6)
    for step in range(4):
        _, window = a_window(step, recipe)
        words = window.words.tolist()
        assert len(set(words)) == len(words)
        assert set(window.ids.unique().tolist()) >= set(range(window.negatives, len(words)))
        assert 1 <= window.negatives <= 6
        assert len(window.log_expected) == len(words)


def test_steps_and_epochs_and_seeds_draw_negatives_of_their_own():
    texts, _ = a_window()
    chances = windows.chances_of(np.full(5000, 3))
    places = [module.Position(epoch, step) for epoch in (1, 2) for step in (0, 1)]
    drawn = [
        tuple(window.words[: window.negatives].tolist())
        for recipe in (TOY, TOY.changed(seed=6))
        for place in places
        for window in [windows.draw_window(recipe, texts, place, chances)]
    ]
    assert len(set(drawn)) == 8
    assert len(drawn[0]) > 10


def test_the_chance_to_be_a_negative_is_the_one_stated():
    counts = np.array([50, 400, 100, 30, 9, 3, 1, 0])
    chances = windows.chances_of(counts)
    assert chances.sum() == pytest.approx(1)
    assert chances[1] / chances[2] == pytest.approx(4**0.75)
    texts = [np.arange(8, dtype=np.int32)[None]] * 2  # so that every word is in every window
    recipe = TOY.changed(negatives=5, window=7)
    times, draws = np.zeros(8), 4000
    for epoch in range(draws):
        window = windows.draw_window(recipe, texts, module.Position(epoch), chances)
        times[window.words[: window.negatives].numpy()] += 1
    expected = np.zeros(8)
    expected[window.words.numpy()] = window.log_expected.exp().numpy()
    spread = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(times / draws - expected) <= 4 * spread + 1e-9).all()
    assert times[7] == 0
    assert window.log_expected.isfinite().all()


def gradients_of(recipe, network, shards, states, step=1):
    """The losses and the states after a step, whose gradients it has set."""
    _, window = a_window(step, recipe)
    weights = dict(network.named_parameters())
    position = module.Position(step=step, shards=shards)
    with machine().workers() as workers:
        return windows.set_gradients(
            network, weights, window, states, recipe, position, machine(), workers
        )


def some_states(network):
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(torch.randn(part.shape, generator=generator) for part in network.zero_state(4))
        for _ in range(2)
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_the_gradient_is_that_of_the_mean_loss_of_a_token_in_both_directions(monkeypatch, shards):
    """Written out over the whole table by autograd, without shards and without places."""
    monkeypatch.setattr(windows, "FRESH", 0.0)
    recipe = TOY.changed(dropout=0.0, negatives=6)
    network = build_language_model(recipe, CORPUS)
    states = some_states(network)
    losses, after = gradients_of(recipe, network, shards, states)

    texts, window = a_window(1, recipe)
    sampled = window.words[: window.negatives]
    log_expected = torch.zeros(WORDS)
    log_expected[window.words] = window.log_expected
    total = 0.0
    for backwards in (False, True):
        ids = torch.from_numpy(texts[backwards][:, 8:17]).long()
        vectors = network.embedding(ids[:, :-1])
        predicted, state = network.read(backwards, vectors, states[backwards])
        bias = network.direction(backwards)[1].bias
        scores = predicted @ network.embedding.weight.T + bias - log_expected
        targets = ids[:, 1:]
        compared = torch.zeros(*targets.shape, WORDS, dtype=torch.bool)
        compared[..., sampled] = True
        compared.scatter_(2, targets[..., None], True)
        right = scores.gather(2, targets[..., None]).squeeze(2)
        nats = scores.masked_fill(~compared, -torch.inf).logsumexp(2) - right
        assert losses[backwards] == pytest.approx(float(nats.mean().detach()), rel=1e-5)
        for mine, written_out in zip(after[backwards], state, strict=True):
            torch.testing.assert_close(mine, written_out.detach(), rtol=0, atol=1e-6)
            assert not mine.requires_grad
        total = total + nats.mean()
    names, weights = zip(*network.named_parameters(), strict=True)
    for name, weight, expected in zip(
        names, weights, torch.autograd.grad(total, weights), strict=True
    ):
        if name == "embedding.weight":
            expected[END] = 0  # as an output END has a gradient, and does not learn
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_every_weight_gets_a_gradient_and_words_that_no_step_uses_get_none():
    recipe = TOY.changed(negatives=2, rows=1, window=3)
    network = build_language_model(recipe, CORPUS)
    gradients_of(recipe, network, 1, [network.zero_state(1) for _ in range(2)], step=4)
    _, window = a_window(4, recipe)
    used = torch.zeros(WORDS, dtype=torch.bool)
    used[window.words] = True
    assert not used.all()
    for name, weight in network.named_parameters():
        gradient = weight.grad.abs()
        assert gradient.sum() > 0, name
        if name == "embedding.weight":
            moved = gradient.sum(1) > 0
            used[END] = False
            assert torch.equal(moved, used)
        elif name.endswith("head.bias"):
            assert not gradient[~used][1:].any()
        elif "hh" not in name:  # of a state of zeros some gates have none
            assert (gradient.flatten(1).sum(1) > 0).all() if gradient.dim() > 1 else True, name


def test_gradients_are_not_added_to_those_of_the_step_before():
    network = build_language_model(TOY, CORPUS)
    states = some_states(network)
    gradients_of(TOY, network, 2, states)
    first = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    gradients_of(TOY, network, 2, states)
    for name, weight in network.named_parameters():
        assert torch.equal(weight.grad, first[name]), name


def test_some_rows_begin_a_window_as_if_a_review_began_there():
    state = (torch.ones(1, 4000, 3), torch.full((1, 4000, 3), 2.0))
    rows = torch.arange(1000, 4000)
    hidden, cell = windows._refreshed(state, rows, torch.Generator().manual_seed(0))
    assert hidden.shape == cell.shape == (1, 3000, 3)
    fresh = hidden[0, :, 0] == 0
    assert 0.03 < fresh.float().mean() < 0.07
    assert torch.equal(hidden, (~fresh).float()[None, :, None].expand(1, 3000, 3))
    assert torch.equal(cell, 2 * hidden)


def test_every_step_direction_and_shard_has_noise_of_its_own(tmp_path, monkeypatch):
    seeds, read = [], module.LanguageModel.read

    def spied(self, backwards, vectors, state, noise=None):
        if noise is not None:
            seeds.append(noise.initial_seed())
        return read(self, backwards, vectors, state, noise)

    monkeypatch.setattr(module.LanguageModel, "read", spied)
    list(start(tmp_path, TOY.changed(epochs=2, window=20)))
    assert len(seeds) == 2 * steps_of(TOY.changed(window=20)) * 2 * 2
    assert len(set(seeds)) == len(seeds)


def test_the_learning_rate_rises_stays_and_falls_in_a_line():
    recipe = TOY.changed(cooling=0.4)
    rates = np.array([learning_rate(recipe, done) for done in np.linspace(0, 1, 101)])
    assert rates[0] == rates[-1] == pytest.approx(0.02 / 100)
    assert rates[1] == pytest.approx(0.01)
    assert rates[2:61] == pytest.approx(0.02)
    assert np.diff(rates[60:100]) == pytest.approx(-0.02 / 40)
    assert learning_rate(recipe.changed(cooling=0.0), 1.0) == 0.02


# --- Learning -------------------------------------------------------------------------------------


def test_a_text_with_structure_is_learnt_in_both_directions(tmp_path):
    corpus = toy(reviews=200)
    recipe = TOY.changed(
        epochs=4, rows=8, window=16, dropout=0.0, hidden=24, dimensions=12, learning_rate=0.05
    )
    events = list(start(tmp_path, recipe, corpus, threads=1))
    losses = {e.epoch: e.loss for e in events if isinstance(e, PretrainingStep)}
    assert losses[4] < losses[1] - 0.5
    history = read_history(tmp_path)
    text = np.concatenate([[*ids, END] for ids in corpus.validation]).astype(int)
    unigrams = math.exp(-np.log(corpus.counts[text] / corpus.counts.sum()).mean())
    assert 15 < unigrams < WORDS
    for direction in ("forward", "backward"):
        curve = [row["perplexity"][direction] for row in history]
        assert curve[-1] < 0.5 * unigrams  # four words of five follow from the one before
        assert curve[-1] < curve[0]


def test_the_end_of_a_review_stays_the_zero_vector_and_every_other_word_moves(whole):
    table = whole[2].embedding.weight.detach()
    first = build_language_model(TOY, CORPUS).embedding.weight.detach()
    assert not table[END].any()
    moved = (table != first).any(1)
    assert moved[2:].all()


def test_dropout_changes_the_training(whole, tmp_path):
    list(start(tmp_path, TOY.changed(dropout=0.3)))
    assert ended(tmp_path)[0] != ended(whole[0])[0]


# --- The same seed, the same weights --------------------------------------------------------------


def interrupted(run, after, **how):
    """Train until `after` steps are done, and close the generator there."""
    running = start(run, **how)
    done = 0
    for event in running:
        done += isinstance(event, PretrainingStep)
        if done == after:
            break
    running.close()


def test_the_same_seed_gives_the_same_weights_and_figures_whatever_torchs_own_chance(
    whole, tmp_path
):
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])


def test_another_seed_gives_others(whole, tmp_path):
    list(start(tmp_path, TOY.changed(seed=6)))
    assert ended(tmp_path)[0] != ended(whole[0])[0]


def test_an_interruption_after_any_step_changes_nothing(whole, tmp_path):
    per_epoch = steps_of()
    assert per_epoch > 9
    for after in (1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch):
        run = tmp_path / str(after)
        interrupted(run, after)
        assert load_state(run)[1].steps_done == after
        list(start(run))
        assert ended(run) == ended(whole[0]), after


def test_a_run_interrupted_at_every_third_step_gets_to_the_same_end(whole, tmp_path):
    for _ in range(2 * steps_of() // 3 + 1):
        interrupted(tmp_path, after=3)
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])


def test_an_interruption_at_a_measurement_is_saved_there(whole, tmp_path):
    """Or all work since the last save would be lost, and the user told that it is not."""
    running = start(tmp_path)
    measured = next(event for event in running if isinstance(event, Measured))
    running.close()
    assert load_state(tmp_path)[1].steps_done == measured.record["step"]
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])


def killed(run, after, monkeypatch, seconds):
    """Die after so many steps without a chance to save, as by kill -9."""
    monkeypatch.setattr(module, "SAVE_SECONDS", seconds)
    running, done = start(run), 0
    for event in running:
        done += isinstance(event, PretrainingStep)
        if done == after:
            with pytest.raises(ZeroDivisionError):
                running.throw(ZeroDivisionError)
            break
    monkeypatch.undo()


def test_a_run_killed_between_two_saved_states_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch
):
    per_epoch = steps_of()
    for after, saved in ((per_epoch // 2, None), (per_epoch + per_epoch // 2, per_epoch)):
        run = tmp_path / str(after)
        killed(run, after, monkeypatch, seconds=math.inf)
        if saved is None:
            assert load_state(run) is None
        else:
            assert load_state(run)[1].steps_done == saved
        assert len(read_history(run)) > (saved is not None) * TOY.measure  # and more to be redone
        list(start(run))
        assert ended(run) == ended(whole[0])


def test_the_state_is_saved_every_few_minutes(whole, tmp_path, monkeypatch):
    after = steps_of() // 2
    killed(tmp_path, after, monkeypatch, seconds=-1)
    assert load_state(tmp_path)[1].steps_done == after - 1
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])


@pytest.mark.parametrize("save", ["write_history", "save_state"])
@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_dies_while_it_saves_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch, save, late
):
    original, calls = getattr(module, save), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 2 and not late:
            raise KeyboardInterrupt
        original(*arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, save, dying)
    with pytest.raises(KeyboardInterrupt):
        list(start(tmp_path))
    monkeypatch.undo()
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])


def test_resuming_with_other_threads_gives_the_same_weights(whole, tmp_path):
    for threads in (1, 6):
        run = tmp_path / str(threads)
        interrupted(run, after=2)
        list(start(run, threads=threads))
        assert ended(run) == ended(whole[0])


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    list(start(tmp_path))
    before = ended(tmp_path)
    assert list(start(tmp_path)) == []
    assert ended(tmp_path) == before


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the processor has no bfloat16"
)
def test_bfloat16_is_reproducible_and_resumed_too_and_keeps_its_weights_in_float32(tmp_path):
    recipe = TOY.changed(epochs=1)
    list(start(tmp_path / "a", recipe, bf16=True))
    interrupted(tmp_path / "b", 5, recipe=recipe, bf16=True)
    list(start(tmp_path / "b", recipe, bf16=True))
    assert ended(tmp_path / "a") == ended(tmp_path / "b")
    saved = load_state(tmp_path / "a")[0]
    assert {weight.dtype for weight in saved.values()} == {torch.float32}


# --- What a run says and leaves -------------------------------------------------------------------


def test_events_are_the_steps_and_the_measurements_in_order(whole):
    run, events, _ = whole
    steps = [event for event in events if isinstance(event, PretrainingStep)]
    assert len(steps) == TOY.epochs * steps_of()
    shares = [step.share_done for step in steps]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    assert steps[-1].seconds_left == 0
    assert all(step.seconds_left > 0 for step in steps[:-1])
    assert all(step.reviews_per_second > 0 and step.loss > 0 for step in steps)
    assert [event.record for event in events if isinstance(event, Measured)] == read_history(run)
    # A measurement comes before the step that it belongs to is reported.
    for place, event in enumerate(events):
        if isinstance(event, Measured):
            assert events[place + 1].share_done == pytest.approx(event.record["epochs"] / 2)


def test_a_line_of_history_is_strict_json_and_holds_a_perplexity_a_direction(whole):
    lines = (whole[0] / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]
    per_epoch = steps_of()
    expected = [e * per_epoch + per_epoch * k // 3 for e in (0, 1) for k in (1, 2, 3)]
    assert [row["step"] for row in rows] == expected
    assert [row["epochs"] for row in rows] == [
        pytest.approx(step / per_epoch, abs=1e-9) for step in expected
    ]
    for row in rows:
        assert row["perplexity"].keys() == {"forward", "backward"}
        assert all(1 < value < 2 * WORDS for value in row["perplexity"].values())
        assert row["seconds"] > 0
        assert row["tokens_per_second"] > 0
        assert 0 < row["learning_rate"] <= TOY.learning_rate


def test_the_last_line_is_of_the_weights_that_are_kept(whole):
    with machine().workers() as workers:
        values = module.perplexity(whole[2], CORPUS.validation, TOY.seed, machine(), workers)
    assert tuple(read_history(whole[0])[-1]["perplexity"].values()) == values


def test_fewer_steps_than_measurements_are_all_measured(tmp_path):
    recipe = TOY.changed(epochs=1, window=60, measure=50)
    assert 1 <= steps_of(recipe) < 50
    list(start(tmp_path, recipe))
    assert [row["step"] for row in read_history(tmp_path)] == list(range(1, steps_of(recipe) + 1))


def test_a_finished_run_keeps_its_weights_and_a_picture(tmp_path):
    network = build_language_model(TOY, CORPUS)
    list(pretrain(TOY, network, CORPUS, tmp_path, machine()))
    digest = finish(tmp_path, network)
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.jsonl", "perplexity.png", "weights.safetensors",
    }  # fmt: skip
    weights, header = load_tensors(tmp_path / "weights.safetensors")
    assert header["sha256"] == digest == weights_hash(weights)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, weights[name])
    classifier = BiLSTM(Recipe(hidden=TOY.hidden), WORDS, TOY.dimensions)
    left = classifier.load_state_dict(weights, strict=False)
    assert sorted(left.missing_keys) == ["output.bias", "output.weight"]
    assert not [name for name in left.unexpected_keys if "head" not in name]


def test_without_held_out_reviews_the_training_is_the_same_and_nothing_is_measured(whole, tmp_path):
    corpus = replace(CORPUS, validation=())
    interrupted(tmp_path, after=steps_of() + 2, corpus=corpus)
    network = build_language_model(TOY, corpus)
    list(pretrain(TOY, network, corpus, tmp_path, machine()))
    weights, figures = ended(tmp_path)
    assert weights == ended(whole[0])[0]
    assert figures == [
        {key: value for key, value in row.items() if key != "perplexity"}
        for row in ended(whole[0])[1]
    ]
    finish(tmp_path, network)
    assert (tmp_path / "weights.safetensors").exists()
    assert not (tmp_path / "perplexity.png").exists()


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    interrupted(tmp_path, after=1)
    assert threading.active_count() == before


# --- What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_a_number_stops_the_run_and_says_what_to_try(
    tmp_path, monkeypatch, what
):
    calls, real, good = [], windows.sampled_loss, steps_of() + 2

    def broken(predicted, table, *rest):
        calls.append(1)
        loss = real(predicted, table, *rest)
        if len(calls) <= 2 * good:  # two directions, one shard each
            return loss
        return loss * math.nan if what == "loss" else loss + (0 * table.sum()).sqrt()

    monkeypatch.setattr(windows, "sampled_loss", broken)
    with pytest.raises(Failure) as caught:
        list(start(tmp_path, threads=1))
    assert str(caught.value) == (
        "the loss or its gradient is not a number in epoch 2, step 3; try a lower --learning-rate "
        "than 0.02, a lower --clip or --precision fp32"
    )
    saved, position = load_state(tmp_path)
    assert position.steps_done == steps_of()  # sound weights, to go on from
    assert all(tensor.isfinite().all() for tensor in saved.values())
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert len(read_history(tmp_path)) == TOY.measure


def test_a_perplexity_that_cannot_be_written_stops_the_run_and_is_not_written(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "perplexity", lambda *_: (3.0, math.inf))
    with pytest.raises(Failure, match=r"^the perplexity is not a number in epoch 1, step \d+; try"):
        list(start(tmp_path))
    assert not state_path(tmp_path).exists()
    assert not (tmp_path / "history.jsonl").exists()


def test_a_disk_that_fills_up_leaves_the_last_state_to_go_on_from(whole, tmp_path, monkeypatch):
    interrupted(tmp_path, after=3)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failure, match="the disk is full"):
        list(start(tmp_path))
    monkeypatch.undo()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert load_state(tmp_path)[1].steps_done == 3
    list(start(tmp_path))
    assert ended(tmp_path) == ended(whole[0])

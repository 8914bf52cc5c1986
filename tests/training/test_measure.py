import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from reelsense.errors import BadInput
from reelsense.evaluation.metrics import evaluate, sigmoid
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews
from reelsense.training import measure
from reelsense.training.batches import Examples
from reelsense.training.checkpoint import (
    clear_checkpoints,
    epoch_path,
    load_tensors,
    load_weights,
    open_run,
    read_history,
    weights_hash,
    write_history,
)
from reelsense.training.loop import train
from reelsense.training.machine import Machine
from reelsense.training.measure import (
    evaluate_run,
    logits,
    loss_and_accuracy,
    measure_run,
    predictions_csv,
    write_environment,
    write_json,
)
from reelsense.training.prepare import prepare

MACHINE = Machine(torch.device("cpu"), 2, False)
GOOD, BAD = ["great", "fine", "loved", "superb"], ["awful", "dull", "hated", "waste"]
PLAIN = ["the", "film", "was", "a", "plot", "and", "not", "with", "actors", "music"]
PICTURES = {"accuracy", "loss", "confusion", "roc", "calibration", "data"}


def toy_reviews(n=160, seed=0, name="row", noise=0.1):
    """Reviews of films of four, in which some words say the class and sometimes the wrong one."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 2).astype(np.int8)
    texts = []
    for label in labels:
        words = [str(word) for word in random.choice(PLAIN, random.integers(4, 30))]
        for _ in range(2):
            wrong = random.random() < noise
            words.append(str(random.choice(GOOD if (label == 1) != wrong else BAD)))
        random.shuffle(words)
        texts.append(" ".join(words))
    return Reviews(
        ids=tuple(f"{name} {row + 1}" for row in range(n)),
        texts=tuple(texts),
        labels=labels,
        films=(np.arange(n) // 4).astype(np.int64),
        parts=("",) * n,
        source="toy reviews",
    )


def toy_recipe(folder):
    path = folder / "glove.toy.txt"
    random = np.random.default_rng(3)
    lines = [
        " ".join([word, *(f"{x:.4f}" for x in random.normal(0, 0.4, 6))])
        for word in [*PLAIN, *GOOD, *BAD]
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Recipe(
        name="toy", embedding=str(path), hidden=8, layers=1, pooling="max+mean", dense=0,
        train_embedding=True, min_count=1, max_tokens=0, crop_tokens=0, epochs=6,
        batch_reviews=16, batch_tokens=2000, learning_rate=0.05, average=0.8, patience=0,
        precision="fp32", validation=0.2, test=0.2, seed=1,
    )  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_core")


class Toy:
    """A run from its reviews to its figures."""

    def __init__(self, folder, wanted=("validation", "test"), **changes):
        self.run, self.reviews = folder / "run", toy_reviews()
        self.recipe = toy_recipe(folder).changed(**changes)
        self.prepared = prepare(self.recipe, self.reviews)
        hashes = self.prepared.hashes()
        open_run(self.run, self.recipe, {"source": "toy"}, hashes, resume=False)
        self.prepared.tokenizer.save(self.run / "tokenizer.json")
        write_environment(self.run, self.recipe.seed, MACHINE, hashes)
        self.network = build(self.recipe, self.prepared.vectors.matrix, self.prepared.vectors.found)
        training, validation = (
            self.prepared.examples(self.recipe, part) for part in ("train", "validation")
        )
        list(train(self.recipe, self.network, training, validation, self.run, MACHINE))
        history = read_history(self.run)
        if "validation" in history[3]:
            history[3]["validation"]["loss"] = 0.0  # so that the best epoch is not the last
        write_history(self.run, history)
        self.before = read_history(self.run)
        epochs = range(1, self.recipe.epochs + 1)
        self.epochs = {n: load_tensors(epoch_path(self.run, n))[0] for n in epochs}
        self.result = measure_run(
            self.run, self.recipe, self.prepared, self.network, MACHINE, wanted
        )
        self.checkpoints_left = sorted(path.name for path in (self.run / "checkpoint").iterdir())
        clear_checkpoints(self.run)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def strict(path):
    """Read JSON as any other language would: no NaN, no Infinity."""
    return json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))


def table(folder, part=None):
    """The rows of predictions.csv, all or those of a part."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if part in (None, row["part"])]


def predictions(folder, part=None):
    rows = table(folder, part)
    chances = np.array([float(row["probability"]) for row in rows])
    return [row["id"] for row in rows], np.array([int(row["label"]) for row in rows]), chances


def scores_of(network, examples):
    with MACHINE.workers() as workers:
        return logits(network, examples, MACHINE, workers)


# --- A finished run -------------------------------------------------------------------------------


def test_metrics_json_is_strict_json_of_what_was_returned_and_holds_the_contract(toy):
    saved = strict(toy.run / "metrics.json")
    assert saved == json.loads(json.dumps(toy.result))
    assert {
        "recipe", "test", "validation", "baseline", "mcnemar", "best_epoch", "parameters",
        "seconds", "reviews_per_second", "peak_memory_mb", "weights_sha256", "split", "data",
        "coverage",
    } <= set(saved)  # fmt: skip
    assert {"name", "seconds", "test", "validation"} <= set(saved["baseline"])
    assert saved["recipe"] == "toy"
    sizes = {part: len(getattr(toy.prepared.split, part)) for part in ("train", "test")}
    assert saved["test"]["n"] == saved["baseline"]["test"]["n"] == sizes["test"]
    assert saved["split"]["train"] == sizes["train"]
    assert saved["parameters"] == sum(weight.numel() for weight in toy.epochs[1].values())
    assert saved["peak_memory_mb"] > 50


def test_measuring_leaves_what_a_killed_run_needs_to_be_measured_again(toy):
    assert "state.safetensors" in toy.checkpoints_left
    assert len(toy.checkpoints_left) == 1 + toy.recipe.epochs


def test_the_run_folder_is_complete_and_holds_no_checkpoint(toy):
    files = {path.name for path in toy.run.iterdir()}
    assert files == {
        "recipe.toml", "data.json", "tokenizer.json", "environment.json", "history.jsonl",
        "metrics.json", "predictions.csv", "weights.safetensors",
    } | {f"{name}.png" for name in PICTURES}  # fmt: skip


def test_the_weights_are_those_of_the_best_epoch_by_validation(toy):
    losses = {row["epoch"]: row["validation"]["loss"] for row in read_history(toy.run)}
    best = min(losses, key=losses.get)
    assert best < toy.recipe.epochs
    assert toy.result["best_epoch"] == best
    weights = load_weights(toy.run)
    assert weights_hash(weights) == weights_hash(toy.epochs[best]) == toy.result["weights_sha256"]
    network = measure.load_network(toy.run, toy.recipe)
    assert weights_hash(network.state_dict()) == toy.result["weights_sha256"]


def test_the_test_curve_is_added_after_training_from_the_weights_of_each_epoch(toy):
    assert all("test" not in row for row in toy.before)
    after = read_history(toy.run)
    examples = toy.prepared.examples(toy.recipe, "test")
    network = build(toy.recipe, toy.prepared.vectors.matrix, toy.prepared.vectors.found)
    for row, before in zip(after, toy.before, strict=True):
        network.load_state_dict(toy.epochs[row["epoch"]])
        measured = loss_and_accuracy(scores_of(network, examples), examples.labels)
        assert row["test"] == measured
        assert {key: value for key, value in row.items() if key != "test"} == before
    best = after[toy.result["best_epoch"] - 1]
    assert best["test"]["accuracy"] == toy.result["test"]["accuracy"]
    assert best["validation"]["accuracy"] == toy.result["validation"]["accuracy"]
    assert best["test"]["loss"] == pytest.approx(toy.result["test"]["log_loss"], abs=1e-6)


def test_predictions_csv_agrees_with_the_metrics(toy):
    assert [row["part"] for row in table(toy.run)] == (
        ["validation"] * len(toy.prepared.split.validation)
        + ["test"] * len(toy.prepared.split.test)
    )
    of_validation = predictions(toy.run, "validation")
    assert (
        np.mean((of_validation[2] >= 0.5) == of_validation[1])
        == (toy.result["validation"]["accuracy"])
    )
    ids, labels, chances = predictions(toy.run, "test")
    test = toy.reviews.take(toy.prepared.split.test)
    assert tuple(ids) == test.ids
    assert labels.tolist() == test.labels.tolist()
    assert np.mean((chances >= 0.5) == labels) == toy.result["test"]["accuracy"]
    lengths = [len(row) for row in toy.prepared.examples(toy.recipe, "test").ids]
    again = evaluate(labels, chances, lengths, ids)
    assert again["confusion"] == toy.result["test"]["confusion"]
    assert again["by_length"] == toy.result["test"]["by_length"]
    assert again["log_loss"] == pytest.approx(toy.result["test"]["log_loss"], abs=1e-6)
    of_linear = [float(row["linear"]) for row in table(toy.run, "test")]
    again = evaluate(labels, of_linear, lengths, ids)
    assert again["confusion"] == toy.result["baseline"]["test"]["confusion"]
    assert again["log_loss"] == pytest.approx(toy.result["baseline"]["test"]["log_loss"], abs=1e-6)


def test_the_logits_of_the_predictions_are_the_networks_to_the_last_bit(toy):
    network = measure.load_network(toy.run, toy.recipe)
    for part in ("validation", "test"):
        scores = scores_of(network, toy.prepared.examples(toy.recipe, part))
        read = np.array([float(row["logit"]) for row in table(toy.run, part)])
        assert read.astype(np.float32).tolist() == scores.tolist()
        assert predictions(toy.run, part)[2] == pytest.approx(sigmoid(read), rel=1e-6)


def test_the_network_and_the_baseline_have_learnt_the_toy(toy):
    assert toy.result["test"]["accuracy"] > 0.75
    assert toy.result["baseline"]["test"]["accuracy"] > 0.75
    difference = toy.result["test"]["accuracy"] - toy.result["baseline"]["test"]["accuracy"]
    assert toy.result["mcnemar"]["difference"] == pytest.approx(difference)


def test_the_environment_says_what_the_figures_were_made_with(toy):
    saved = strict(toy.run / "environment.json")
    assert saved["seed"] == "1"
    assert saved["device"] == "cpu, 2 cores, fp32"
    assert saved["torch"] == torch.__version__
    assert saved["sha256 of reviews"] == toy.reviews.sha256
    assert saved["started"].endswith("+00:00")
    assert saved["command"].startswith("reelsense")
    assert saved["commit"]


# --- Reviews that were not held out ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A run that has no test part."""
    return Toy(tmp_path_factory.mktemp("trial"), test=0.0, epochs=4)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A run that learned from every review."""
    return Toy(tmp_path_factory.mktemp("everything"), validation=0.0, test=0.0, epochs=4)


def test_a_trial_shows_the_validation_part_beside_the_baseline_and_no_figure_of_a_test(trial):
    saved = strict(trial.run / "metrics.json")
    assert "test" not in saved
    assert set(saved["baseline"]) == {"name", "seconds", "validation"}
    difference = saved["validation"]["accuracy"] - saved["baseline"]["validation"]["accuracy"]
    assert saved["mcnemar"]["difference"] == pytest.approx(difference)
    assert saved["mcnemar"]["n"] == saved["validation"]["n"] == len(table(trial.run))
    assert saved["split"]["test"] == 0
    assert saved["best_epoch"] == 4  # its loss was set to 0, as above
    assert all("test" not in row for row in read_history(trial.run))
    assert {row["part"] for row in table(trial.run)} == {"validation"}
    assert {path.stem for path in trial.run.glob("*.png")} == PICTURES


def test_a_test_part_that_is_not_wanted_is_left_for_later(tmp_path):
    toy = Toy(tmp_path, wanted=("validation",), epochs=4)
    saved = strict(toy.run / "metrics.json")
    assert "test" not in saved
    assert set(saved["baseline"]) == {"name", "seconds", "validation"}
    assert saved["mcnemar"]["n"] == saved["validation"]["n"]
    assert saved["split"]["test"] == len(toy.prepared.split.test) > 0
    assert read_history(toy.run) == toy.before
    assert {row["part"] for row in table(toy.run)} == {"validation"}
    later = evaluate_run(toy.run, toy.recipe, toy.reviews, None, None, tmp_path / "later", MACHINE)
    assert (later["part"], later["test"]["n"]) == ("test", saved["split"]["test"])


def test_a_run_on_everything_keeps_its_last_epoch_and_has_no_figures(everything):
    saved = strict(everything.run / "metrics.json")
    assert not {"test", "validation", "baseline", "mcnemar"} & set(saved)
    assert saved["split"]["train"] == len(everything.reviews) == saved["data"]["n"]
    assert saved["best_epoch"] == 4
    assert saved["weights_sha256"] == weights_hash(everything.epochs[4])
    assert all(not {"validation", "test"} & set(row) for row in read_history(everything.run))
    header = (everything.run / "predictions.csv").read_text("utf-8")
    assert header == "id,part,label,logit,probability,linear\n"
    assert {path.stem for path in everything.run.glob("*.png")} == {"accuracy", "loss", "data"}


def test_with_few_labels_the_baseline_learns_from_the_same_few(tmp_path, monkeypatch):
    seen = []
    real = measure.linear.fit_linear

    def fit(texts_words, labels):
        seen.append([" ".join(words) for words in texts_words])
        return real(texts_words, labels)

    monkeypatch.setattr(measure.linear, "fit_linear", fit)
    few = Toy(tmp_path, label_share=0.5, epochs=4)
    learned = [few.reviews.texts[row] for row in few.prepared.split.train]
    assert seen == [learned]
    assert few.result["split"]["train"] == len(learned)
    assert few.result["split"]["unused"] == pytest.approx(len(learned), abs=1)
    checked = evaluate_run(
        few.run, few.recipe, few.reviews, None, "train", tmp_path / "evaluation", MACHINE
    )
    assert seen == [learned, learned]
    assert checked["seen"] == checked["test"]["n"] == len(learned)


def test_only_the_last_epoch_is_tested_where_no_validation_can_choose(tmp_path):
    only_test = Toy(tmp_path, validation=0.0, epochs=4)
    assert only_test.result["best_epoch"] == 4
    assert set(only_test.result["baseline"]) == {"name", "seconds", "test"}
    assert {row["part"] for row in table(only_test.run)} == {"test"}
    assert all("test" in row for row in read_history(only_test.run))


def test_a_part_that_was_not_held_out_cannot_be_measured_later(everything, tmp_path):
    for part in (None, "test", "validation"):
        with pytest.raises(BadInput, match=f"--part {part or 'test'}: .*run held out no review"):
            evaluate_run(
                everything.run, everything.recipe, everything.reviews, None, part, tmp_path, MACHINE
            )
    other = toy_reviews(20, seed=9, name="other")
    measured = evaluate_run(
        everything.run, everything.recipe, everything.reviews, other, None, tmp_path, MACHINE
    )
    assert (measured["test"]["n"], measured["seen"]) == (20, 0)


# --- Measuring it again ---------------------------------------------------------------------------


def test_evaluating_the_run_gives_the_same_figures_and_predictions(toy, tmp_path):
    measured = evaluate_run(toy.run, toy.recipe, toy.reviews, None, None, tmp_path, MACHINE)
    assert measured["test"] == toy.result["test"]
    assert measured["baseline"]["test"] == toy.result["baseline"]["test"]
    assert measured["mcnemar"] == toy.result["mcnemar"]
    assert (measured["part"], measured["seen"]) == ("test", 0)
    assert table(tmp_path) == table(toy.run, "test")
    assert strict(tmp_path / "metrics.json") == json.loads(json.dumps(measured))
    assert {path.stem for path in tmp_path.glob("*.png")} == {"confusion", "roc", "calibration"}


def test_any_part_can_be_measured_and_training_reviews_are_counted_as_seen(toy, tmp_path):
    sizes = {}
    for part in ("train", "validation", "test", "all"):
        folder = tmp_path / part
        measured = evaluate_run(toy.run, toy.recipe, toy.reviews, None, part, folder, MACHINE)
        sizes[part] = measured["test"]["n"]
        assert measured["part"] == part
        assert measured["seen"] == (sizes["train"] if part in ("train", "all") else 0)
        assert len(table(folder)) == sizes[part]
        named = {row["part"] for row in table(folder)}
        assert named == ({"train", "validation", "test"} if part == "all" else {part})
    assert sizes["all"] == sum(sizes[part] for part in ("train", "validation", "test"))
    assert sizes["test"] == toy.result["test"]["n"]


def test_other_reviews_are_measured_whole_without_those_that_have_no_label(toy, tmp_path):
    other = toy_reviews(20, seed=9, name="other")
    labels = other.labels.copy()
    labels[:4] = -1
    texts = (*other.texts[:19], toy.reviews.texts[int(toy.prepared.split.train[0])])
    parts = ("train",) * 10 + ("test",) * 10
    other = Reviews(other.ids, texts, labels, other.films, parts, "others")
    measured = evaluate_run(toy.run, toy.recipe, toy.reviews, other, None, tmp_path, MACHINE)
    assert measured["test"]["n"] == 16
    assert measured["reviews"] == "others"
    assert measured["part"] == "all"
    assert measured["seen"] == 1
    assert predictions(tmp_path)[0] == list(other.ids[4:])
    assert [row["part"] for row in table(tmp_path)] == list(parts[4:])
    half = evaluate_run(toy.run, toy.recipe, toy.reviews, other, "test", tmp_path, MACHINE)
    assert half["test"]["n"] == 10


def test_a_single_review_can_be_measured(toy, tmp_path):
    one = toy_reviews(1, seed=9, name="other")
    measured = evaluate_run(toy.run, toy.recipe, toy.reviews, one, None, tmp_path, MACHINE)
    assert measured["test"]["n"] == 1
    strict(tmp_path / "metrics.json")


def test_a_review_scores_the_same_alone_and_among_others(toy, tmp_path):
    other = toy_reviews(20, seed=9, name="other")
    evaluate_run(toy.run, toy.recipe, toy.reviews, other, None, tmp_path / "all", MACHINE)
    evaluate_run(toy.run, toy.recipe, toy.reviews, other.take([7]), None, tmp_path / "one", MACHINE)
    assert predictions(tmp_path / "one")[2] == pytest.approx(
        predictions(tmp_path / "all")[2][[7]], abs=1e-6
    )


def test_reviews_that_have_changed_since_are_refused(toy, tmp_path):
    with pytest.raises(
        BadInput, match=r"not the reviews that .* was trained on; they have changed"
    ):
        evaluate_run(toy.run, toy.recipe, toy_reviews(seed=1), None, None, tmp_path, MACHINE)
    assert not any(tmp_path.iterdir())


def test_nothing_to_measure_is_refused(toy, tmp_path):
    other = toy_reviews(8, seed=9)
    unlabelled = Reviews(
        other.ids, other.texts, np.full(8, -1, np.int8), other.films, other.parts, "others"
    )
    for reviews, part in ((unlabelled, "all"), (other, "validation")):
        with pytest.raises(BadInput, match=f"--part {part}: .* has no labelled reviews"):
            evaluate_run(toy.run, toy.recipe, toy.reviews, reviews, part, tmp_path, MACHINE)
    assert not any(tmp_path.iterdir())


def test_weights_of_another_shape_are_refused(toy):
    with pytest.raises(BadInput, match=r"weights do not fit its recipe\.toml"):
        measure.load_network(toy.run, toy.recipe.changed(hidden=5))


# --- The small parts ------------------------------------------------------------------------------


def test_probabilities_are_the_sigmoid_without_overflow():
    scores = np.array([-1e4, -3.0, 0.0, 2.0, 1e4])
    expected = [0.0, 1 / (1 + math.exp(3)), 0.5, 1 / (1 + math.exp(-2)), 1.0]
    assert sigmoid(scores) == pytest.approx(expected, abs=1e-15)


def test_loss_and_accuracy_are_those_of_the_metrics():
    random = np.random.default_rng(0)
    scores, labels = random.normal(0, 2, 300), random.integers(0, 2, 300).astype(np.int8)
    scores[0] = 0.0  # called positive, as by the metrics
    chances = sigmoid(scores)
    full = evaluate(labels, chances, [1] * 300, ["x"] * 300)
    found = loss_and_accuracy(scores, labels)
    assert found["loss"] == pytest.approx(full["log_loss"])
    for label in (0, 1):
        labels[0] = label
        full = evaluate(labels, chances, [1] * 300, ["x"] * 300)
        assert loss_and_accuracy(scores, labels)["accuracy"] == full["accuracy"]


def test_the_loss_of_a_sure_mistake_is_exact():
    assert loss_and_accuracy(np.array([5000.0]), np.array([0], np.int8))["loss"] == 5000
    assert loss_and_accuracy(np.array([5000.0]), np.array([1], np.int8))["loss"] == 0


def test_the_paired_test_counts_a_review_as_right_when_the_metrics_do(toy):
    train_part, test = (toy.reviews.take(rows) for rows in (range(100), range(100, 160)))
    scores = np.where(test.labels == 1, 0.0, -1.4)  # all right, from a logit of 0 upwards
    compared, _ = measure.compare_with_linear(train_part, {"test": test}, {"test": scores})
    own = evaluate(test.labels, sigmoid(scores), [1] * 60, test.ids)["accuracy"]
    difference = own - compared["baseline"]["test"]["accuracy"]
    assert compared["mcnemar"]["difference"] == pytest.approx(difference)


def test_logits_come_in_the_order_of_the_examples_whatever_the_workers(toy):
    examples = toy.prepared.examples(toy.recipe, "train")
    backwards = Examples(examples.ids[::-1], examples.labels[::-1])
    scores = scores_of(toy.network, examples)
    assert scores[::-1] == pytest.approx(scores_of(toy.network, backwards), abs=1e-6)
    one = Machine(torch.device("cpu"), 1, False)
    with one.workers() as workers:
        assert (logits(toy.network, examples, one, workers) == scores).all()


def test_predictions_are_quoted_where_an_id_needs_it():
    two = replace(toy_reviews(2), ids=('a,"b"', "c"), labels=np.array([1, 0], np.int8))
    written = predictions_csv(
        two, ["test", ""], np.array([0.0, -20.123456789]), np.array([0.25, 1])
    )
    assert written == (
        "id,part,label,logit,probability,linear\n"
        '"a,""b""",test,1,0,0.5,0.25\nc,,0,-20.1234568,1.821771e-09,1\n'
    )


def test_json_files_refuse_what_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": math.nan})
    assert not any(tmp_path.iterdir())

"""Accuracy by length asks every model the same whole sentences, and scores them as `evaluate`."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lengths
import short_texts
from reelsense.errors import BadInput
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts
from reelsense.text.reviews import read_reviews
from reelsense.text.sentences import sentences
from reelsense.text.splits import normalised, split
from reelsense.training.checkpoint import open_run, read_run, save_tensors, weights_hash
from reelsense.training.machine import Machine
from reelsense.training.measure import evaluate_run, write_environment, write_json
from reelsense.training.prepare import prepare

MACHINE = Machine(torch.device("cpu"), 1, False)
GOOD, BAD = ["great", "fine", "loved", "superb"], ["awful", "dull", "hated", "waste"]
PLAIN = ["film", "plot", "actors", "music", "was", "with"]
SNIPPETS = (["A great film.", "So dull!", "Fine music."], np.array([1, 0, 1]))


def write_reviews(path, n=150):
    """Reviews of 1 to 20 sentences, of which a third says the verdict, some of them wrongly."""
    chance = np.random.default_rng(0)
    lines = ["review,sentiment"]
    for number in range(n):
        label = number % 2
        said = []
        for _ in range(int(chance.integers(1, 21))):
            words = [str(word) for word in chance.choice(PLAIN, chance.integers(2, 6))]
            if chance.random() < 0.3:
                wrong = chance.random() < 0.3
                words.append(str(chance.choice(GOOD if (label == 1) != wrong else BAD)))
            said.append(f"The {' '.join(words)}.")
        lines.append(f"{' '.join(said)},{label}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_vectors(path):
    chance = np.random.default_rng(1)
    lines = [
        " ".join([word, *(f"{x:.3f}" for x in chance.normal(0, 0.5, 4))])
        for word in ["the", ".", *PLAIN, *GOOD, *BAD]
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_run(folder, name, **changes):
    """A run of random weights, as far as the benchmark reads it."""
    run, source = folder / name, str(folder / "reviews.csv")
    recipe = Recipe(
        name="toy", embedding=str(folder / "glove.toy.txt"), hidden=4, min_count=1,
        precision="fp32", validation=0.2, test=0.3,
    ).changed(**changes)  # fmt: skip
    prepared = prepare(recipe, read_reviews(source))
    open_run(run, recipe, {"source": source}, prepared.hashes(), resume=False)
    prepared.tokenizer.save(run / "tokenizer.json")
    write_environment(run, recipe.seed, MACHINE, prepared.hashes())
    network = build(recipe, prepared.vectors.matrix, prepared.vectors.found)
    weights = network.state_dict()
    digest = weights_hash(weights)
    save_tensors(run / "weights.safetensors", weights, {"epoch": "1", "sha256": digest})
    write_json(run / "metrics.json", {"weights_sha256": digest})
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reviews and two runs of one split, of different seeds; nobody may change it."""
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("lengths")
    write_reviews(folder / "reviews.csv")
    write_vectors(folder / "glove.toy.txt")
    write_run(folder, "a-0", seed=0)
    write_run(folder, "b-1", seed=1, hidden=3)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def snippets(monkeypatch):
    """Three snippets instead of the package's 8,530, and one core."""
    monkeypatch.setattr(short_texts, "snippets", lambda: SNIPPETS)
    monkeypatch.setattr(lengths, "find_machine", lambda *_: MACHINE)


@pytest.fixture
def change(folder, tmp_path):
    """A copy of the first run, of which a file may be changed."""

    def copy(name=None, to=None):
        run = tmp_path / "copy"
        shutil.copytree(folder / "a-0", run)
        if name:
            (run / name).write_text(to((run / name).read_text()))
        return run

    return copy


@pytest.fixture(scope="module")
def held(folder):
    recipe, _ = read_run(folder / "a-0")
    reviews = read_reviews(str(folder / "reviews.csv"))
    parts = split(reviews, validation=recipe.validation, test=recipe.test, seed=recipe.split_seed)
    return reviews.take(parts.test)


def bounds_of(texts):
    return [sentences(text).tolist() for text in texts]


def test_a_stretch_is_so_many_whole_sentences_of_each_review_that_has_them(held):
    bounds = bounds_of(held.texts)
    for size in lengths.STRETCHES.values():
        pieces, owners = lengths.stretches(held.texts, bounds, size)
        assert owners.tolist() == [row for row, ends in enumerate(bounds) if len(ends) >= size]
        assert 0 < len(owners) <= len(held)
        for piece, owner in zip(pieces, owners, strict=True):
            text, ends = held.texts[owner], bounds[owner]
            all_of_them = [
                text[ends[at][0] : ends[at + size - 1][1]] for at in range(len(ends) - size + 1)
            ]
            assert piece in all_of_them


def test_stretches_come_from_anywhere_and_are_the_same_every_time():
    text = " ".join(f"Sentence {letter}." for letter in "abcdefghij")
    texts, bounds = [text] * 300, bounds_of([text] * 300)
    pieces, _ = lengths.stretches(texts, bounds, 2)
    assert lengths.stretches(texts, bounds, 2)[0] == pieces
    counts = {piece: pieces.count(piece) for piece in set(pieces)}
    assert len(counts) == 9  # as many as there are, the last two sentences among them
    assert min(counts.values()) > 10
    assert lengths.stretches(texts[:50], bounds[:50], 2)[0] == pieces[:50]


def test_lengths_that_no_review_has_are_left_out(held):
    short = [row for row, ends in enumerate(bounds_of(held.texts)) if len(ends) < 8]
    names = [length.name for length in lengths.lengths_of(held.take(short))]
    assert names == [
        "1 sentence", "2 sentences", "4 sentences", *lengths.THIRDS, "whole reviews",
        "Rotten Tomatoes",
    ]  # fmt: skip


def test_thirds_are_the_reviews_by_length_and_keep_their_labels(held):
    by_name = {length.name: length for length in lengths.lengths_of(held)}
    label_of = dict(zip(held.texts, held.labels.tolist(), strict=True))
    thirds = [by_name[name] for name in lengths.THIRDS]
    assert sorted(text for third in thirds for text in third.texts) == sorted(held.texts)
    sizes = [[len(text.split()) for text in third.texts] for third in thirds]
    assert max(sizes[0]) <= min(sizes[1])
    assert max(sizes[1]) <= min(sizes[2])
    for length in [*thirds, by_name["whole reviews"]]:
        assert length.labels.tolist() == [label_of[text] for text in length.texts]
    of_one = by_name["1 sentence"]
    for text, label in zip(of_one.texts, of_one.labels, strict=True):
        assert label in {label_of[review] for review in held.texts if text in review}


@pytest.fixture(scope="module")
def measured(folder):
    """`measure` of the two runs on their test part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short_texts, "snippets", lambda: SNIPPETS)
        patch.setattr(lengths, "find_machine", lambda *_: MACHINE)
        return lengths.measure({"a": folder / "a-0", "b": folder / "b-1"}, "test")


def test_whole_reviews_have_the_figures_of_evaluate(measured, folder, held, tmp_path, monkeypatch):
    monkeypatch.setattr("reelsense.evaluation.plots.draw_run", lambda *_: None)
    whole = {row.model: row for row in measured[0] if row.length == "whole reviews"}
    reviews = read_reviews(str(folder / "reviews.csv"))
    figures = {}
    for name, run in (("a", folder / "a-0"), ("b", folder / "b-1")):
        recipe, _ = read_run(run)
        result = evaluate_run(run, recipe, reviews, None, "test", tmp_path / name, MACHINE)
        figures |= {name: result["test"], "linear": result["baseline"]["test"]}
    assert set(whole) == {"linear", "a", "b"}
    assert len({row.log_loss for row in whole.values()}) == 3
    for name, row in whole.items():
        assert row.n == figures[name]["n"] == len(held)
        assert row.accuracy == figures[name]["accuracy"]
        assert [row.low, row.high] == figures[name]["accuracy_interval"]
        assert row.log_loss == pytest.approx(figures[name]["log_loss"], abs=1e-6)
    assert whole["linear"].accuracy > 0.6


def test_all_models_answer_the_same_texts_and_stretches_get_longer(measured):
    rows, origins = measured
    shapes = {
        name: [(row.length, row.n, row.mean_tokens) for row in rows if row.model == name]
        for name in ("linear", "a", "b")
    }
    assert shapes["linear"] == shapes["a"] == shapes["b"]
    names, counts, tokens = zip(*shapes["a"], strict=True)
    assert names[:5] == ("1 sentence", "2 sentences", "4 sentences", "8 sentences", "16 sentences")
    assert names[5:] == (*lengths.THIRDS, "whole reviews", "Rotten Tomatoes")
    assert list(counts[:5]) == sorted(counts[:5], reverse=True)
    assert list(tokens[:8]) == [*sorted(tokens[:5]), *sorted(tokens[5:8])]
    assert shapes["a"][-1] == ("Rotten Tomatoes", 3, pytest.approx((4 + 3 + 3) / 3))
    assert len(origins) == len(rows) == 30


def test_validation_is_another_part_and_leaves_the_test_part_alone(folder, held, monkeypatch):
    asked = []
    real = lengths.answers

    def answers(run, texts):
        asked.extend(texts)
        return real(run, texts)

    monkeypatch.setattr(lengths, "answers", answers)
    rows, origins = lengths.measure({"a": folder / "a-0"}, "validation")
    assert {origin["part"] for origin in origins} == {"validation"}
    assert next(row.n for row in rows if row.length == "whole reviews") == 30
    assert not set(asked) & set(held.texts)


def test_the_csv_says_where_each_figure_comes_from(measured):
    lines = list(csv.DictReader(lengths.as_csv(*measured).splitlines()))
    assert len(lines) == 30
    baseline, run = lines[0], lines[-1]
    assert (baseline["model"], baseline["run"], baseline["seed"]) == ("linear", "", "")
    assert (run["model"], run["run"], run["seed"], run["length"]) == (
        "b", "b-1", "1", "Rotten Tomatoes"
    )  # fmt: skip
    assert (run["n"], run["mean_tokens"], run["device"]) == ("3", "3.3", str(MACHINE))
    assert f"torch {torch.__version__}" in run["versions"]
    assert (baseline["split_seed"], baseline["part"]) == ("0", "test")
    assert run["commit"]
    assert run["run_commit"]
    assert len(run["weights_sha256"]) == 64
    for line in lines:
        assert 0 <= float(line["low"]) <= float(line["accuracy"]) <= float(line["high"]) <= 1
        assert float(line["log_loss"]) > 0


def test_the_table_has_a_line_a_length_and_a_column_a_model():
    def row(model, share):
        return lengths.Row(model, "1 sentence", 3764, 23.4, share, share - 0.01, share + 0.01, 0.5)

    table = lengths.as_table([row("linear", 0.62), row("small", 0.7)], "test")
    assert "| accuracy | texts | mean tokens | linear | small |" in table
    assert "| 1 sentence | 3,764 | 23 | 62.0% (61.0 to 63.0) | 70.0% (69.0 to 71.0) |" in table
    assert "| 1 sentence | 3,764 | 23 | 0.500 | 0.500 |" in table
    assert "held-out reviews (test part)" in table


def test_main_writes_figures_table_and_picture(folder, tmp_path, monkeypatch, capsys):
    command = ["lengths.py", f"a={folder / 'a-0'}", "--part", "validation", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    lengths.main()
    table = (tmp_path / "lengths.md").read_text()
    assert table in capsys.readouterr().out
    assert "held-out reviews (validation part)" in table
    assert (tmp_path / "lengths.csv").read_text().count("\n") == 1 + 20
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_says_that_all_is_not_to_be_had(measured, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(lengths.plain, "save", lambda figure, path: kept.append(figure))
    lengths.draw(measured[0], tmp_path / "lengths.png")
    (axes,) = kept[0].axes
    words = [text.get_text() for text in axes.texts]
    assert any(text.endswith("100% is not to be had") for text in words)  # not cut off
    assert {"linear", "a", "b"} <= set(words)
    assert axes.get_xscale() == "log"
    one = next(row for row in measured[0] if (row.model, row.length) == ("b", "1 sentence"))
    drawn = [(drawn.get_xdata()[0], drawn.get_ydata()[0]) for drawn in axes.lines]
    assert (one.mean_tokens, 100 * one.accuracy) in drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/a"], "runs/a: name the model and its run, as in small=runs/small-0"),
        (["a="], "a=: name the model and its run"),
        (["=runs/a"], "=runs/a: name the model and its run"),
        (["a=runs/a", "a=runs/b"], "a=runs/b: there is another model named a; give another name"),
        (["linear=runs/a"], "linear=runs/a: there is another model named linear"),
        ([f"{name}=runs/a" for name in "abcde"], "5 models: the picture has colours for 4"),
    ],
)
def test_models_that_cannot_be_told_apart_are_refused(arguments, message):
    with pytest.raises(BadInput) as refused:
        lengths.models_of(arguments)
    assert str(refused.value).startswith(message)


def test_a_model_has_the_folder_after_the_last_equals_sign():
    assert lengths.models_of(["a=b=runs/a"]) == {"a=b": Path("runs/a")}


def refused(run, folder, message, part="test"):
    with pytest.raises(BadInput, match=message):
        lengths.held_out([folder / "a-0", run] if run != folder / "a-0" else [run], part)


def test_runs_of_another_split_or_of_other_reviews_are_refused(folder, change, tmp_path):
    run = change("recipe.toml", lambda old: old.replace("split_seed = 0", "split_seed = 1"))
    refused(run, folder, "copy: not of the same reviews and split as .*a-0; leave it out")
    shutil.rmtree(run)
    digest = json.loads((folder / "a-0" / "data.json").read_text())["hashes"]["reviews"]
    run = change("data.json", lambda old: old.replace(digest, "0" * 64))
    refused(run, folder, "copy: not of the same reviews and split as .*a-0; leave it out")
    with pytest.raises(BadInput, match=r"reviews.csv: not the reviews that .*copy was trained on"):
        lengths.held_out([run], "test")


def test_a_run_that_held_nothing_out_is_refused(change):
    run = change("recipe.toml", lambda old: old.replace("validation = 0.2", "validation = 0.0"))
    with pytest.raises(BadInput, match=r"--part validation: .*copy held out no review for it"):
        lengths.held_out([run], "validation")


def test_a_run_whose_start_knows_held_out_reviews_is_refused(folder, change, held):
    run = change(
        "data.json", lambda old: old.replace('"hashes": {', '"hashes": {"starting weights": "0",')
    )
    np.save(run / "started_from.npy", np.sort(hash_texts(map(normalised, held.texts[:2]))))
    refused(run, folder, "copy: its start has learned from 2 of the held-out reviews")


def test_main_says_what_is_wrong_in_a_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lengths.py", f"a={folder / 'gone'}"])
    with pytest.raises(SystemExit) as stopped:
        lengths.main()
    assert stopped.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("gone: not the folder of a run; `reelsense train` makes one")
    )

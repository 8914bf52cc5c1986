"""`train --from` a run of `pretrain`, and `train --trial`."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.splits import normalised
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import open_run, read_run
from reelsense.training.corpus import Corpus
from reelsense.training.pretrain import build_language_model, finish
from reelsense.training.start import READ as READ_HASHES
from reelsense.training.start import learned_before
from reelsense.vectors.glove import WordVectors

READ = Pretraining(name="read", hidden=4, dimensions=6, embedding="toy.vec", min_count=1)
FROM = ["train", "--from", "lm", "--data", "plain.csv", "--run", "run", "--threads", "1"]
QUICK = ["--recipe", "quick", "--epochs", "2", "--precision", "fp32"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Half the time of a run goes by drawing."""
    monkeypatch.setattr("reelsense.evaluation.plots.draw_run", lambda *given: None)


def write_language_model(folder, texts, seed=0):
    """Write the run of a pre-training that has learned nothing yet."""
    recipe = READ.changed(seed=seed)
    tokenizer = Tokenizer.fit(texts, min_count=1)
    words = len(tokenizer.vocabulary)
    vectors = np.random.default_rng(seed).normal(size=(words, 5)).astype(np.float32)
    known = WordVectors(vectors, np.arange(words) > 1, "toy")
    corpus = Corpus(tokenizer, known, np.ones(words, np.int64), (), (), {})
    open_run(folder, recipe, {}, {"reviews": "x"}, resume=False)
    tokenizer.save(folder / "tokenizer.json")
    finish(folder, build_language_model(recipe, corpus))


@pytest.fixture
def lm(here, made_up):
    """The run of a pre-training in the working folder, and reviews of plain sentences."""
    texts = [
        f"The film was {'superb' if label else 'dull'}. It is {text}."
        for text, label in made_up(200)
    ]
    rows = "".join(f"{text},{row % 2}\n" for row, text in enumerate(texts))
    (here / "plain.csv").write_text("review,sentiment\n" + rows)
    write_language_model(here / "lm", texts[:150])
    return here / "lm"


def digest(run):
    return json.loads((run / "metrics.json").read_text())["weights_sha256"]


def parts(file):
    with file.open(newline="") as rows:
        return {row["part"] for row in csv.DictReader(rows)}


# --- From a language model ------------------------------------------------------------------------


def test_a_run_starts_from_the_words_and_weights_of_the_language_model(reelsense, here, lm):
    outcome = reelsense(*FROM, "--learning-rate", "1e-8", "--precision", "fp32", "--epochs", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Recipe    teacher: " in outcome.out
    assert "Vectors   those of lm\n" in outcome.out
    assert re.search(
        r"^Steps     3: with so few reviews .* --passes, 17 or more$", outcome.out, re.MULTILINE
    )
    assert (here / "run/tokenizer.json").read_bytes() == (lm / "tokenizer.json").read_bytes()
    before, after = (load_file(path / "weights.safetensors") for path in (lm, here / "run"))
    assert set(after) - set(before) == {"output.weight", "output.bias"}
    assert all("head" in name for name in set(before) - set(after))
    for name in set(before) & set(after) - {"embedding.weight"}:  # of which names share one vector
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-5, msg=name)
    recipe = read_run(here / "run")[0]
    assert (recipe.hidden, recipe.embedding, recipe.max_words) == (4, "toy.vec", READ.max_words)
    assert learned_before(here / "run").tolist() == []
    evaluated = reelsense("evaluate", "run")
    assert (evaluated.code, evaluated.err) == (0, "")  # no review was seen
    assert reelsense("export", "run", "bundle").code == 0
    assert "It began as language models" in (here / "bundle/README.md").read_text()


def test_a_run_says_how_many_held_out_reviews_the_language_model_has_read(reelsense, here, lm):
    quick = [*FROM, *QUICK, "--trial"]
    with (here / "plain.csv").open(newline="") as rows:
        texts = [normalised(row["review"]) for row in csv.DictReader(rows)]
    (lm / READ_HASHES).write_bytes(to_npy(hash_texts(texts[:0])))
    assert reelsense(*quick, "--run", "apart").err == ""
    (lm / READ_HASHES).write_bytes(to_npy(hash_texts(texts)))
    outcome = reelsense(*quick)
    assert outcome.code == 0
    assert outcome.err == (
        "40 of the 40 held-out reviews are among those that --from lm has read (without their "
        "labels); figures on them may flatter; pretrain with the same --validation, --test and "
        "--split-seed\n"
    )
    assert learned_before(here / "run").tolist() == []
    assert digest(here / "run") == digest(here / "apart")


def test_pretrained_is_the_language_model_of_the_package(
    reelsense, here, lm, refused, monkeypatch, tmp_path_factory
):
    package = tmp_path_factory.mktemp("package")
    monkeypatch.setattr("reelsense.bundle.folder.PACKAGE", package)
    named = [*FROM, *QUICK, "--trial", "--from", "pretrained"]
    (here / "pretrained").mkdir()
    refused(reelsense(*named), 2, "^reelsense: pretrained: did not come with this package")
    lm.rename(package / "language")
    outcome = reelsense(*named)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Vectors   those of pretrained\n" in outcome.out
    refused(reelsense("predict", "--model", "pretrained", "x"), 2, "language: not a bundle, it has")
    (package / "language").rename(here / "pretrained" / "lm")
    assert reelsense(*named, "--from", "./pretrained/lm", "--run", "again").code == 0
    assert digest(here / "run") == digest(here / "again")


def test_a_recipe_is_allowed_and_its_own_words_and_units_give_way(reelsense, here, lm):
    (here / "mine.toml").write_text(
        'name = "mine"\nhidden = 9\nlayers = 2\nembedding = "vectors.txt"\nmin_films = 3\n'
        "max_words = 5\nepochs = 1\ndense = 3\n"
    )
    outcome = reelsense(*FROM, "--recipe", "mine.toml")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Changed" not in outcome.out
    recipe = read_run(here / "run")[0]
    assert (recipe.hidden, recipe.layers, recipe.embedding) == (4, 1, "toy.vec")
    assert (recipe.min_films, recipe.max_words) == (READ.min_films, READ.max_words)
    assert (recipe.name, recipe.dense) == ("mine", 3)


REFUSED = [
    (["--hidden", "8"], "--hidden cannot be changed with --from: lm was made with 4; leave"),
    (["--layers", "2"], "--layers cannot be changed with --from: lm was made with 1"),
    (["--embedding", "x"], r"--embedding cannot be changed with --from: lm was made with toy\.vec"),
    (["--min-films", "2"], "--min-films cannot be changed with --from: lm was made with 5"),
    (["--max-words", "9"], "--max-words cannot be changed with --from: lm was made with 30000"),
    (["--min-count", "2"], "--min-count cannot be changed with --from: lm was made with 1"),
    (["--recipe", "nope"], "recipe nope: no such recipe"),
    (["--from", "unfinished"], "unfinished: has no weights yet; finish it with `reelsense pret"),
    (["--from", "damaged"], r"damaged/weights\.safetensors: damaged"),
    (["--from", "mixed"], "mixed: 4 words in its tokenizer.json, [0-9]+ in its weights"),
    (["--from", "trained"], "unknown key .*; --from takes a run of `reelsense pretrain`, or a"),
    (["--unlabelled", "missing.csv"], r"--unlabelled missing\.csv: there is no such file"),
    (["--unlabelled-share", "1"], "--unlabelled-share 1 needs reviews without labels"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED]
)
def test_bad_input_is_one_line_and_leaves_nothing(reelsense, refused, here, lm, arguments, message):
    for name in ("unfinished", "damaged", "mixed"):
        write_language_model(here / name, ["a film of any kind"])
    (here / "unfinished/weights.safetensors").unlink()
    (here / "damaged/weights.safetensors").write_bytes(b"half of it")
    Tokenizer.fit(["two words"], min_count=1).save(here / "mixed/tokenizer.json")
    open_run(here / "trained", Recipe(), {}, {"reviews": "x"}, resume=False)
    before = sorted(here.rglob("*"))
    refused(reelsense(*FROM, *arguments), 2, message)
    assert sorted(here.rglob("*")) == before


def test_a_run_that_was_interrupted_goes_on_from_the_same_language_model_only(
    reelsense, here, lm, refused, stop_at
):
    stop_at(1)
    refused(reelsense(*FROM, *QUICK), 130, "and saved; go on with: .*--from lm .* --resume")
    stop_at(None)
    plain = [part for part in FROM if part not in ("--from", "lm")]
    refused(reelsense(*plain, *QUICK, "--resume"), 2, "was started with --from; give the same")
    write_language_model(here / "other", ["a film of any kind"], seed=1)
    outcome = reelsense(*FROM, *QUICK, "--from", "other", "--resume")
    refused(outcome, 2, "run was started with other starting weights")
    assert reelsense(*FROM, *QUICK, "--resume").code == 0
    assert reelsense(*FROM, *QUICK, "--run", "whole").code == 0
    assert digest(here / "run") == digest(here / "whole")


# --- A trial --------------------------------------------------------------------------------------


def test_a_trial_leaves_the_test_part_for_later(reelsense, here, lm):
    outcome = reelsense(*FROM, *QUICK, "--trial")
    assert (outcome.code, outcome.err) == (0, "")
    assert "20 for validation, 20 for the test\n" in outcome.out
    assert "Measured on the validation part: 20 reviews\n" in outcome.out
    assert "No test review was measured." in outcome.out
    metrics = json.loads((here / "run/metrics.json").read_text())
    assert "test" not in metrics
    assert "test" not in metrics["baseline"]
    history = [json.loads(line) for line in (here / "run/history.jsonl").open()]
    assert not [row for row in history if "test" in row]
    assert parts(here / "run/predictions.csv") == {"validation"}
    assert "No test review was measured." in (here / "run/report.html").read_text()
    later = reelsense("evaluate", "run", "--part", "test")
    assert (later.code, later.err) == (0, "")
    assert "Measured on the test part: 20 reviews\n" in later.out
    assert parts(here / "run/evaluation/predictions.csv") == {"test"}
    exported = reelsense("export", "run", "bundle")  # the end of all trials
    assert "on 20 held-out test reviews" in exported.out

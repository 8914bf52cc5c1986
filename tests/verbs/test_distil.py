"""What `distil` prints, leaves behind and survives."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import normalised, split
from reelsense.text.tokenizer import Tokenizer
from reelsense.training import distil
from reelsense.training.checkpoint import STARTING_WEIGHTS, open_run, save_tensors, weights_hash
from reelsense.training.start import STARTED_FROM

# A student of a second; of a flag twice, the last counts.
TINY = [
    "distil", "one", "two", "--data", "plain.csv", "--unlabelled", "more.csv", "--run", "run",
    "--embedding", "vectors.txt", "--hidden", "4", "--min-films", "1", "--min-count", "1",
    "--epochs", "2", "--unlabelled-share", "0.5", "--sentence-share", "0.5", "--precision", "fp32",
    "--threads", "1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Half the time of a run goes by drawing."""
    monkeypatch.setattr("reelsense.evaluation.plots.draw_run", lambda *given: None)


def write_teacher(run, words, hashes, seed, **changes):
    """Write a finished run with random weights."""
    recipe = Recipe(name="teacher", hidden=3, seed=seed, **changes)
    tokenizer = Tokenizer.fit([words], min_count=1)
    size = len(tokenizer.vocabulary)
    vectors = np.random.default_rng(seed).normal(size=(size, 6)).astype(np.float32)
    weights = build(recipe, vectors, np.arange(size) > 1).state_dict()
    open_run(run, recipe, {}, hashes, resume=False)
    tokenizer.save(run / "tokenizer.json")
    save_tensors(run / "weights.safetensors", weights, {"sha256": weights_hash(weights)})


@pytest.fixture(autouse=True)
def teachers(here, made_up):
    """Two teachers with other words than each other, their reviews, and some without labels."""
    rows = [
        (f"The film was {'superb' if label else 'dull'}. It is {text}.", label)
        for text, label in made_up(200)
    ]
    (here / "plain.csv").write_text("review,sentiment\n" + "".join(f"{t},{n}\n" for t, n in rows))
    more = "".join(f"{text} more\n" for text, _ in made_up(60, seed=1))
    (here / "more.csv").write_text("text\n" + more)
    hashes = {"reviews": read_reviews(str(here / "plain.csv")).sha256}
    write_teacher(here / "one", "great superb lovely film and story", hashes, 1)
    write_teacher(here / "two", "awful dull boring weak of man", hashes, 2, max_tokens=9)
    return hashes


def digest(run):
    return json.loads((run / "metrics.json").read_text())["weights_sha256"]


# --- A run ----------------------------------------------------------------------------------------


def test_a_student_is_a_run_as_any_other(reelsense, here):
    outcome = reelsense(*TINY)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Recipe    small: the student" in outcome.out
    for number, name in ((1, "one"), (2, "two")):
        assert f"Teacher {number} of 2 reads 220 reviews ...\n" in outcome.out
        assert (here / name / "recipe.toml").exists()
    assert "The linear baseline reads them too" in outcome.out
    assert "Measured on the test part: 20 reviews\n" in outcome.out
    assert {path.name for path in (here / "run").iterdir()} == {
        "recipe.toml", "data.json", "environment.json", "tokenizer.json", "history.jsonl",
        "metrics.json", "predictions.csv", "weights.safetensors", "report.html", distil.FILE,
    }  # fmt: skip
    hashes = json.loads((here / "run/data.json").read_text())["hashes"]
    assert set(hashes) == {"reviews", "vectors", "unlabelled 1", "teacher 1", "teacher 2"}
    for place, name in enumerate(("one", "two"), 1):
        assert hashes[f"teacher {place}"] == weights_hash(
            load_file(here / name / "weights.safetensors")
        )
    assert reelsense(*TINY, "--resume").out.startswith("run has finished already")

    evaluated = reelsense("evaluate", "run")
    assert (evaluated.code, evaluated.err) == (0, "")
    measured = json.loads((here / "run/evaluation/metrics.json").read_text())
    metrics = json.loads((here / "run/metrics.json").read_text())
    assert measured["test"] == metrics["test"]
    exported = reelsense("export", "run", "bundle", "--variant", "int8")
    assert (exported.code, exported.err) == (0, "")
    assert json.loads((here / "bundle/bundle.json").read_text())["variant"] == "int8"
    card = " ".join((here / "bundle/README.md").read_text().split())
    assert "reviews without a label too: more.csv, and what 2 larger networks and a linear" in card
    assert "language model" not in card
    assert reelsense("predict", "--model", "bundle", "a superb film").code == 0


def test_a_student_may_start_from_a_bundle(reelsense, refused, here):
    """The recipe that a student has if none is given is no recipe that was given."""
    refused(reelsense(*TINY, "--from", "nowhere"), 2, "nowhere: ")
    refused(reelsense("distil", "one", "--from", "small"), 2, "--from needs --data")
    outcome = reelsense("distil", "one", "--from", "small", "--recipe", "small")
    refused(outcome, 2, "--recipe small cannot go with --from")
    assert not (here / "run").exists()


# --- Interrupted, resumed -------------------------------------------------------------------------


def test_a_student_goes_on_without_asking_the_teachers_again(
    reelsense, here, refused, stop_at, monkeypatch
):
    stop_at(1)
    refused(reelsense(*TINY), 130, "interrupted and saved; go on with: reelsense distil one two")
    stop_at(None)
    said = (here / "run" / distil.FILE).read_bytes()
    refused(reelsense(*TINY, "--resume", "--soft-share", "0.9"), 2, "--soft-share was 0.5, is 0.9")
    turned = ["distil", "two", "one", *TINY[3:], "--resume"]
    refused(reelsense(*turned), 2, "run was started with other teacher 1")

    save_file({"whole": torch.zeros(3), "pieces": torch.zeros(2)}, here / "run" / distil.FILE)
    refused(reelsense(*TINY, "--resume"), 2, f"run/{distil.FILE}: is of other reviews; delete the")
    (here / "run" / distil.FILE).write_bytes(said)

    with monkeypatch.context() as patched:
        patched.setattr(distil, "answers_of", None)
        outcome = reelsense(*TINY, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Teacher" not in outcome.out
    assert reelsense(*TINY, "--run", "whole").code == 0
    assert digest(here / "run") == digest(here / "whole")
    assert (here / "whole" / distil.FILE).read_bytes() == said


def test_ctrl_c_while_a_teacher_reads(reelsense, here, refused, monkeypatch):
    def pressed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(distil, "answers_of", pressed)
        refused(reelsense(*TINY), 130, "interrupted; go on with: reelsense distil .* --resume")
    assert not (here / "run" / distil.FILE).exists()
    outcome = reelsense(*TINY, "--epochs", "2", "--resume")
    assert outcome.code == 0
    assert "Teacher 1 of 2 reads" in outcome.out


# --- Refused --------------------------------------------------------------------------------------

REFUSED = [
    (["distil"], r"Missing argument 'TEACHERS\.\.\.'; see `reelsense distil --help`"),
    (["other split"], "other split: was trained with --split-seed 7, the student is with 0"),
    (["other reviews"], r"other reviews: was trained on other reviews than .*plain\.csv"),
    (["unfinished"], "unfinished: has no weights yet; finish it"),
    (["knows"], "knows: started from weights that had learned from 20 of the 40 reviews"),
    (["missing"], "missing: not the folder of a run"),
    (["."], "not the folder of a run"),
    (["more.csv"], r"more\.csv: not the folder of a run"),
    (["--test", "0.2"], "one: was trained with --test 0.1, the student is with 0.2"),
    (["--data", "reviews.csv"], "one: was trained on other reviews"),
    (["--unlabelled", "missing.csv"], r"--unlabelled missing\.csv: there is no such file"),
    (["--counterfactual-share", "nan"], "--counterfactual-share must be"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED]
)
def test_bad_input_is_one_line_and_leaves_nothing(
    reelsense, refused, here, teachers, arguments, message
):
    if arguments[0] in ("other split", "other reviews", "unfinished", "knows"):
        run, changes, hashes = here / arguments[0], {}, dict(teachers)
        if arguments == ["other split"]:
            changes["split_seed"] = 7
        if arguments == ["other reviews"]:
            hashes["reviews"] = "of another"
        if arguments == ["knows"]:
            hashes[STARTING_WEIGHTS] = "of a bundle"
        write_teacher(run, "some words", hashes, 3, **changes)
        if arguments == ["unfinished"]:
            (run / "weights.safetensors").unlink()
        if arguments == ["knows"]:
            reviews = read_reviews(str(here / "plain.csv"))
            rows = split(reviews, validation=0.1, test=0.1, seed=0).test
            known = hash_texts(normalised(reviews.texts[row]) for row in rows)
            (run / STARTED_FROM).write_bytes(to_npy(known))
    given = arguments if arguments == ["distil"] else [*TINY, *arguments]
    before = sorted(here.rglob("*"))
    refused(reelsense(*given), 2, message)
    assert sorted(here.rglob("*")) == before


def test_what_the_recipe_needs_must_be_there_before_anything_is_made(reelsense, refused, here):
    none = [part for part in TINY if part not in ("--unlabelled", "more.csv")]
    before = sorted(here.rglob("*"))
    refused(reelsense(*none), 2, r"--unlabelled-share 0\.5 needs reviews without labels")
    assert sorted(here.rglob("*")) == before
    rows = "".join(f"story of woman n{row},{row % 2}\n" for row in range(100))
    (here / "verdicts.csv").write_text("review,sentiment\n" + rows)  # none is in their words
    hashes = {"reviews": read_reviews(str(here / "verdicts.csv")).sha256}
    write_teacher(here / "three", "some words", hashes, 3)
    before = sorted(here.rglob("*"))
    outcome = reelsense("distil", "three", *TINY[3:], "--data", "verdicts.csv")
    refused(outcome, 2, r"--counterfactual-share 1: no sentence of the training reviews")
    assert sorted(here.rglob("*")) == before

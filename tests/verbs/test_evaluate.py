"""`evaluate` on runs and on bundles."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from reelsense.inference import predictor
from reelsense.inference.predictor import load


def test_evaluate(reelsense, finished, run):
    outcome = reelsense("evaluate", "run", "--threads", "1")
    assert (outcome.code, outcome.err) == (0, "")
    measured = json.loads((run / "evaluation/metrics.json").read_text())
    at_the_end = json.loads((run / "metrics.json").read_text())
    assert measured["test"] == at_the_end["test"]
    assert measured["baseline"]["test"] == at_the_end["baseline"]["test"]
    assert "Measured on the test part: 20 reviews\n" in outcome.out
    assert outcome.out.endswith("Figures   run/evaluation/metrics.json\n")
    of_test = (run / "evaluation/predictions.csv").read_text().splitlines()
    of_run = (run / "predictions.csv").read_text().splitlines()
    assert len(of_run) == 1 + 20 + 20
    assert of_test == [of_run[0], *of_run[21:]]


def test_evaluate_a_part_and_other_reviews(reelsense, here, run, refused, write_csv):
    outcome = reelsense("evaluate", "run", "--part", "train", "--out", "figures")
    assert "Measured on the train part: 160 reviews\n" in outcome.out
    assert outcome.err == (
        "100% of these reviews were in the training data (160 of 160); the figures flatter\n"
    )
    assert (here / "figures/roc.png").exists()
    write_csv(here / "other.csv", 50, seed=5)
    outcome = reelsense("evaluate", "run", "--data", "other.csv")
    assert "Measured on all reviews: 50 reviews\n" in outcome.out
    assert outcome.err == ""
    refused(
        reelsense("evaluate", "run", "--data", "other.csv", "--part", "test"),
        2,
        "--part test: .*other.csv has no labelled reviews in that part",
    )


BROKEN_RUNS = [
    ("recipe.toml", lambda old: old.replace(b"hidden = 4", b"hidden = 5"), "do not fit"),
    ("recipe.toml", lambda old: b"x", "recipe.toml: not valid TOML"),
    ("recipe.toml", None, "not the folder of a run"),
    ("data.json", lambda old: b"{}", "not the folder of a run"),
    ("data.json", lambda old: b'{"source": {}, "hashes": {}}', "not the reviews that run"),
    ("tokenizer.json", lambda old: old[:100], "tokenizer.json: not JSON"),
    ("tokenizer.json", None, "tokenizer.json: cannot be read"),
    ("weights.safetensors", lambda old: old[:500], "weights.safetensors: damaged"),
    ("weights.safetensors", lambda old: old[:-4] + b"1234", "not those that were saved"),
    ("weights.safetensors", None, "has no weights yet"),
]


@pytest.mark.parametrize(("name", "change", "message"), BROKEN_RUNS)
def test_evaluate_a_broken_run(reelsense, run, name, change, message, refused):
    path = run / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    refused(reelsense("evaluate", "run"), 2, message)
    assert not (run / "evaluation").exists()


def test_evaluate_without_the_reviews_of_the_run(reelsense, here, run, refused, write_csv):
    saved = json.loads((run / "data.json").read_text())
    saved["source"]["source"] = str(here / "gone.csv")
    (run / "data.json").write_text(json.dumps(saved))
    refused(reelsense("evaluate", "run"), 2, "run: needs the reviews .*gone.csv: there is no")
    write_csv(here / "gone.csv", seed=9)
    refused(reelsense("evaluate", "run"), 2, "gone.csv: not the reviews that run was trained on")


# --- bundles ------------------------------------------------------------------------------


@pytest.fixture
def bundle(exported, here):
    """A copy of the bundle of the finished run, without anything else of it."""
    shutil.copytree(exported, here / "bundle")
    return here / "bundle"


def test_a_bundle_gets_the_figures_of_its_card_on_the_same_reviews(
    reelsense, finished, here, bundle
):
    lines = (here / "reviews.csv").read_text().splitlines()
    with (finished / "run/predictions.csv").open() as file:
        rows = [int(line["id"].split()[1]) for line in csv.DictReader(file)
                if line["part"] == "test"]  # fmt: skip
    (here / "test.csv").write_text("\n".join([lines[0], *(lines[row] for row in rows)]))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    outcome = reelsense("evaluate", "bundle", "--data", "test.csv", "--threads", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Measured on all reviews: 20 reviews\n" in outcome.out
    assert "Linear" not in outcome.out
    assert re.search(r"^Decided   \d+% of the reviews get a label", outcome.out, re.MULTILINE)
    measured = json.loads((here / "evaluation/metrics.json").read_text())
    figures = json.loads((bundle / "bundle.json").read_text())["figures"]
    for name in ("n", "accuracy", "confusion", "by_length"):
        assert measured["test"][name] == figures[name], name
    for name in ("roc_auc", "log_loss"):
        assert measured["test"][name] == pytest.approx(figures[name], abs=1e-5), name
    assert measured["decided"]["confidence"] == figures["decided"]["confidence"]
    assert measured["decided"]["n"] == 20 < figures["decided"]["n"] == 40  # validation too
    assert {path.name for path in (here / "evaluation").iterdir()} == {
        "metrics.json", "predictions.csv", "confusion.png", "roc.png", "calibration.png",
    }  # fmt: skip
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_a_bundle_is_measured_by_what_it_answers(reelsense, here, bundle, write_csv):
    write_csv(here / "other.csv", 30, seed=5)
    assert reelsense("evaluate", "bundle", "--data", "other.csv", "--out", "figures").code == 0
    with (here / "figures/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (here / "other.csv").open() as file:
        texts = [line["review"] for line in csv.DictReader(file)]
    answers = load(bundle)(texts)
    assert [row["prediction"] for row in rows] == [answer.label for answer in answers]
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        [answer.probability for answer in answers], rel=1e-6
    )
    assert rows[4]["id"] == "row 5"


def test_a_bundle_says_which_share_of_the_reviews_it_was_trained_on(
    reelsense, finished, here, bundle, write_csv
):
    outcome = reelsense("evaluate", "bundle", "--data", "reviews.csv")
    assert outcome.err == (
        "80% of these reviews were in the training data (160 of 200); the figures flatter\n"
    )
    shouted = (here / "reviews.csv").read_text().upper().replace("REVIEW,SENTIMENT", "text,label")
    (here / "shouted.csv").write_text(shouted)  # the same texts for `normalised`
    assert reelsense("evaluate", "bundle", "--data", "shouted.csv").err == outcome.err
    write_csv(here / "other.csv", 50, seed=5)
    assert reelsense("evaluate", "bundle", "--data", "other.csv").err == ""


def test_a_bundle_needs_labelled_reviews_and_a_place_of_its_own(
    reelsense, here, bundle, refused, write_csv, monkeypatch
):
    evaluate = ["evaluate", "bundle", "--data", "reviews.csv"]
    refused(reelsense("evaluate", "bundle"), 2, "bundle: a bundle brings no reviews; .*--data")
    refused(reelsense(*evaluate, "--part", "test"), 2, "has no labelled reviews in that part")
    refused(reelsense(*evaluate, "--device", "cuda"), 2, "computes on the processor; leave it out")
    for inside in ("bundle", "bundle/figures", "figures/../bundle"):
        refused(reelsense(*evaluate, "--out", inside), 2, "lies in the bundle; name another")
    package = str(Path(predictor.__file__).parent / "figures")
    refused(reelsense(*evaluate, "--out", package), 2, "lies in the package; name another")
    (bundle / "model.onnx").write_bytes(b"x")
    refused(reelsense(*evaluate), 2, "model.onnx: cut short")
    monkeypatch.chdir(bundle)
    write_csv(here / "other.csv", 50, seed=5)
    refused(reelsense("evaluate", ".", "--data", "../other.csv"), 2, "--out evaluation: lies in")
    assert not (here / "evaluation").exists()

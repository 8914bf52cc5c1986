"""`train --from`: a run that starts from a bundle."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save

from reelsense.bundle.folder import write_bundle
from reelsense.bundle.graph import build_graph
from reelsense.bundle.int8 import to_levels
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.splits import normalised
from reelsense.training.checkpoint import load_weights, read_run, weights_hash


def write_bundle_of(run, folder, trained_on, variant="fp32"):
    """Write the bundle of a run, with figures that mean nothing."""
    recipe = read_run(run)[0]
    weights = {name: weight.numpy() for name, weight in load_weights(run).items()}
    about = {
        "format": 1, "name": "toy", "made_with": {}, "variant": variant,
        "recipe": dataclasses.asdict(recipe), "labels": ["negative", "positive"],
        "temperature": 1.5, "confidence": 0.6, "stated_error": 0.05, "evidence": True,
        "bias": float(weights["output.bias"][0]), "words": len(weights["embedding.weight"]),
        "longest": 20, "keep": recipe.keep, "figures": {},
    }  # fmt: skip
    if variant == "int8":
        about["spread"] = to_levels(weights["embedding.weight"])[1].tolist()
    files = {
        "model.onnx": build_graph(recipe, weights, 1.5, variant),
        "tokenizer.json": (run / "tokenizer.json").read_bytes(),
        "trained_on.npy": to_npy(hash_texts(trained_on)),
        "README.md": b"toy\n",
    }
    write_bundle(folder, about, files)


TUNE = ["train", "--from", "bundle", "--data", "mine.csv", "--run", "tuned", "--threads", "1"]


@pytest.fixture
def bundle(run, here, write_csv):
    """The bundle of the finished run in the working folder, and reviews that it has not seen."""
    write_csv(here / "mine.csv", 100, seed=7)
    write_bundle_of(run, here / "bundle", [])
    (here / "vectors.txt").unlink()  # nothing but the bundle is needed
    return here / "bundle"


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_fine_tuning_starts_from_the_weights_and_words_of_the_bundle(
    reelsense, here, run, bundle, refused, variant
):
    shutil.rmtree(bundle)
    write_bundle_of(run, bundle, [], variant)
    outcome = reelsense(*TUNE, "--learning-rate", "1e-8")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Recipe    fine-tuned: a few gentle epochs from the weights of toy\n" in outcome.out
    assert "Changed   --learning-rate 1e-08\n" in outcome.out
    assert "Vectors   those of toy\n" in outcome.out
    words = [(path / "tokenizer.json").read_bytes() for path in (here / "tuned", run)]
    assert words[0] == words[1]
    before, after = (load_file(path / "weights.safetensors") for path in (run, here / "tuned"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if "bias" in name and "lstm" in name:  # of torch's two, which are one
            other = name.replace("ih", "xx").replace("hh", "ih").replace("xx", "hh")
            torch.testing.assert_close(
                after[name] + after[other], weight + before[other], rtol=0, atol=1e-5, msg=name
            )
        else:
            step = 0 if variant == "fp32" or "output" in name else weight.abs().max() / 50
            torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-5 + step, msg=name)
    metrics = json.loads((here / "tuned/metrics.json").read_text())
    assert (metrics["recipe"], metrics["test"]["n"]) == ("fine-tuned", 10)
    assert reelsense("evaluate", "tuned").code == 0
    refused(reelsense(*TUNE), 2, "tuned: exists already")


def test_fine_tuning_learns(reelsense, here, bundle, made_up):
    opposite = "".join(f"{text},{1 - label}\n" for text, label in made_up(100, seed=7))
    (here / "mine.csv").write_text("review,sentiment\n" + opposite)
    assert reelsense(*TUNE, "--learning-rate", "0.05", "--epochs", "8").code == 0
    of = [json.loads(line) for line in (here / "tuned/history.jsonl").open()]
    assert of[-1]["train"]["accuracy"] > 0.9 > 0.6 > of[0]["train"]["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "8"], "--hidden cannot be changed with --from: toy was made with 4"),
        (["--embedding", "x"], "--embedding cannot be changed with --from"),
        (["--patience", "2", "--validation", "0"], "--patience 2 watches"),
        (["--recipe", "quick"], "--recipe quick cannot go with --from"),
    ],
)
def test_fine_tuning_refuses_another_network(reelsense, here, bundle, arguments, message, refused):
    refused(reelsense(*TUNE, *arguments), 2, message)
    assert not (here / "tuned").exists()


def test_fine_tuning_goes_on_from_the_same_bundle_only(
    reelsense, here, run, bundle, monkeypatch, refused
):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("reelsense.training.measure.measure_run", stop)
        refused(reelsense(*TUNE), 130, "go on with: .*--from bundle .*--resume")
    plain = ["train", "--data", "mine.csv", "--run", "tuned", "--resume"]
    refused(reelsense(*plain), 2, "--resume: tuned was started with --from; give the same again")
    shutil.copytree(run, here / "other")
    moved = {name: 2 * w for name, w in load_file(run / "weights.safetensors").items()}
    header = {"epoch": "1", "sha256": weights_hash(moved)}
    (here / "other/weights.safetensors").write_bytes(save(moved, header))
    write_bundle_of(here / "other", here / "bundle2", [])
    other = [*TUNE[:2], "bundle2", *TUNE[3:], "--resume"]
    refused(reelsense(*other), 2, "tuned was started with other starting weights")
    (run / "report.html").unlink()
    refused(reelsense(*TUNE[:5], "--run", "run", "--resume"), 2, "run was started without --from")
    assert reelsense(*TUNE, "--resume").code == 0


def test_fine_tuning_says_when_the_bundle_knows_the_reviews_held_out(
    reelsense, here, run, write_csv, made_up
):
    write_csv(here / "mine.csv", 100, seed=7)
    known = [normalised(text) for text, _ in made_up(100, seed=7)]
    write_bundle_of(run, here / "bundle", known)
    outcome = reelsense(*TUNE)
    assert outcome.code == 0
    assert outcome.err == (
        "20 of the 20 held-out reviews are among those that --from bundle learned from; "
        "figures on them flatter\n"
    )

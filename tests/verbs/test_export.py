"""`export`, and the road of a model from reviews to answers and on."""

import json
import math
import re
import shutil

import pytest
import torch

from reelsense.bundle.folder import read_bundle, trained_on
from reelsense.bundle.weights import weights_of_bundle
from reelsense.text.tokenizer import Tokenizer
from reelsense.training.checkpoint import load_weights, read_run
from reelsense.training.measure import load_network

TEXTS = ["a great superb film", "an awful dull film"]


def logits(run, texts, bundle):
    """The calibrated logits of texts by the weights of a run, in torch."""
    tokenizer, network = Tokenizer.load(run / "tokenizer.json"), load_network(run, read_run(run)[0])
    about = read_bundle(bundle).about
    for text in texts:
        ids = torch.from_numpy(tokenizer.encode(text))[None].long()
        with torch.inference_mode():
            logit = float(network(ids, torch.tensor([ids.shape[1]]))[0])
        yield (logit + about["shift"]) / about["temperature"]


def test_a_bundle_and_what_it_is_worth(reelsense, here, run):
    outcome = reelsense("export", "run", "bundle")
    assert (outcome.code, outcome.err) == (0, "")
    about = read_bundle(here / "bundle").about
    figures = about["figures"]
    size = sum(path.stat().st_size for path in (here / "bundle").iterdir()) / 1e6
    before, after = figures["before"]["calibration_error"], figures["calibration_error"]
    for line in (
        f"Bundle      bundle ({about['variant']}, {size:.1f} MB)",
        rf"Accuracy    {figures['accuracy']:.2%} \(.* to .*\) on 20 held-out test reviews",
        f"Calibrated  off by {before:.1%} before, {after:.1%} after",
        f"Decided     {figures['decided']['coverage']:.0%} of the reviews get a label",
        "Int8        .* of 20 validation reviews right in fp32, .* in int8; [0-9]+ change side",
        r"Parity      fp32 logits within [0-9.]+e-\d\d of the network's",
    ):
        pattern = line if "\\" in line or ".*" in line else re.escape(line)
        assert re.search(f"^{pattern}", outcome.out, re.MULTILINE), (line, outcome.out)
    assert sorted(path.name for path in here.iterdir()) == [
        "bundle", "reviews.csv", "run", "vectors.txt"
    ]  # fmt: skip


def test_a_variant_may_be_chosen(reelsense, here, run):
    assert reelsense("export", "run", "bundle", "--variant", "fp32").code == 0
    about = read_bundle(here / "bundle").about
    assert about["variant"] == "fp32"
    assert "spread" not in about  # the graph has the vectors as they are


def test_the_weights_are_in_the_graph_alone_and_come_out_of_it(here, run, exported):
    bundle, expected = read_bundle(exported), load_weights(run)
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md", "bundle.json", "model.onnx", "reliability.png", "risk_coverage.png",
        "tokenizer.json", "trained_on.npy",
    ]  # fmt: skip
    assert bundle.about["variant"] == "int8"
    assert len(bundle.about["spread"]) == expected["embedding.weight"].shape[1]
    found = weights_of_bundle(bundle)
    for name in ("embedding.weight", "forward_lstm.0.weight_ih_l0", "output.weight"):
        weight = expected[name].numpy()
        assert abs(found[name] - weight).max() <= abs(weight).max() / 50, name


def test_a_bundle_that_is_there_stays_unless_told(reelsense, here, run, exported, refused):
    shutil.copytree(exported, here / "bundle")
    about = (here / "bundle/bundle.json").read_bytes()
    (here / "reviews.csv").unlink()  # the place is looked at first
    saved = json.loads((run / "data.json").read_text())
    saved["source"]["source"] = str(here / "reviews.csv")
    (run / "data.json").write_text(json.dumps(saved))
    refused(reelsense("export", "run", "bundle"), 2, "bundle: is not empty; .*--overwrite")
    refused(reelsense("export", "run", "bundle", "--overwrite"), 2, "needs the reviews that")
    assert (here / "bundle/bundle.json").read_bytes() == about
    (here / "bundle/notes.txt").write_text("mine")
    refused(reelsense("export", "run", "bundle", "--overwrite"), 2, "holds notes.txt, which is no")
    refused(reelsense("export", "run", "run", "--overwrite"), 2, "run: is not a bundle and stays")


def test_overwrite(reelsense, here, run, exported):
    shutil.copytree(exported, here / "bundle")
    (here / "bundle/model.onnx").write_bytes(b"broken")
    assert reelsense("export", "run", "bundle", "--overwrite").code == 0
    assert read_bundle(here / "bundle").path.name == "bundle"


@pytest.mark.parametrize("place", ["reelsense.bundle.export.read_held_out",
                                   "reelsense.bundle.folder._swap"])  # fmt: skip
def test_ctrl_c_leaves_nothing_behind(reelsense, here, run, refused, monkeypatch, place):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    before = sorted(here.rglob("*"))
    monkeypatch.setattr(place, stop)
    refused(reelsense("export", "run", "bundle"), 130, "interrupted\n")
    assert sorted(here.rglob("*")) == before


def test_a_run_that_has_not_finished(reelsense, here, run, refused):
    (run / "weights.safetensors").unlink()
    refused(reelsense("export", "run", "bundle"), 2, "has no weights yet; finish it with")
    assert not (here / "bundle").exists()


def test_a_run_of_every_review_is_worth_what_others_say(reelsense, here, run, tiny, refused):
    every = ["--run", "every", "--validation", "0", "--test", "0", "--embedding", "vectors.txt"]
    assert reelsense(*tiny, *every).code == 0
    refused(
        reelsense("export", "every", "bundle"), 2, "every: held out no reviews, .*--held-out RUN"
    )
    outcome = reelsense("export", "every", "bundle", "--held-out", "run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "on 20 held-out test reviews" in outcome.out
    assert len(trained_on(here / "bundle")) == 200
    refused(
        reelsense("export", "every", "other", "--held-out", "every", "--held-out", "nope"),
        2,
        "nope: not the folder of a run",
    )


def test_the_whole_road(reelsense, here, run, exported, write_csv, refused):
    """Train, export, predict, evaluate, fine-tune, and export what came of that."""
    shutil.copytree(exported, here / "bundle")
    said = reelsense("predict", "--model", "bundle", "--json", *TEXTS)
    answers = [json.loads(line)["probability"] for line in said.out.splitlines()]
    of_weights = [0.5 + 0.5 * math.tanh(logit / 2) for logit in logits(run, TEXTS, exported)]
    assert answers == pytest.approx(of_weights, abs=0.02)  # int8 rounds
    write_csv(here / "mine.csv", 60, seed=7)
    tune = ["train", "--from", "bundle", "--data", "mine.csv", "--run", "tuned", "--threads", "1"]
    assert reelsense(*tune).code == 0
    assert reelsense("export", "tuned", "tuned bundle").code == 0
    assert (here / "tuned/started_from.npy").read_bytes() == (
        here / "bundle/trained_on.npy"
    ).read_bytes()

    # What the weights have learned from is known: 48 of these 60, and 160 of the first 200.
    assert len(trained_on(here / "tuned bundle")) == 48 + 160
    about = read_bundle(here / "tuned bundle").about
    assert about["trained_on"]["texts_before"] == 160
    card = (here / "tuned bundle/README.md").read_text()
    assert "had learned from 160 texts before" in card
    assert "Nothing else" not in card
    assert "Nothing else" in (here / "bundle/README.md").read_text()
    for model in ("tuned bundle", "tuned"):
        for source, counts in (("mine.csv", "48 of 60"), ("reviews.csv", "160 of 200")):
            outcome = reelsense("evaluate", model, "--data", source, "--out", "figures")
            assert outcome.code == 0
            assert outcome.err.startswith("80% of these reviews were in the training data")
            assert f"({counts})" in outcome.err

    (here / "tuned/started_from.npy").write_bytes(b"x")
    refused(reelsense("export", "tuned", "again"), 2, "started_from.npy: not the hashes of texts")
    (here / "tuned/started_from.npy").unlink()
    refused(reelsense("export", "tuned", "again"), 2, "started_from.npy: cannot be read")
    refused(reelsense("evaluate", "tuned"), 2, "started_from.npy: cannot be read")


def test_a_bundle_has_the_curves_of_its_training(run, exported):
    curves = read_bundle(exported).about["figures"]["curves"]
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [point["epoch"] for point in curves] == [record["epoch"] for record in history]
    for point, record in zip(curves, history, strict=True):
        assert point.keys() == {"epoch", "train", "validation", "test"}
        assert point == {key: record[key] for key in point}


def test_another_network_than_the_graph_is_not_exported(reelsense, here, run, refused, monkeypatch):
    from reelsense.bundle import export

    real = export.build_graph
    monkeypatch.setattr(export, "build_graph", lambda recipe, w, t, v: real(recipe, w, 2.0, v))
    refused(reelsense("export", "run", "bundle"), 1, "the graph is off by .*nothing is written")
    assert not (here / "bundle").exists()

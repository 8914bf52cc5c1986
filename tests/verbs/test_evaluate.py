"""`evaluate` on runs and on bundles."""

import json

import pytest


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
    assert "Seen      160 of these reviews were trained on\n" in outcome.out
    assert (here / "figures/roc.png").exists()
    write_csv(here / "other.csv", 50, seed=5)
    outcome = reelsense("evaluate", "run", "--data", "other.csv")
    assert "Measured on all reviews: 50 reviews\n" in outcome.out
    assert "Seen" not in outcome.out
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

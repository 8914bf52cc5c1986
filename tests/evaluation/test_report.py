import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from reelsense.errors import BadInput
from reelsense.evaluation import metrics
from reelsense.evaluation.report import write_report

PNG = b"\x89PNG\r\n\x1a\n not really"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class WellFormed(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.loads, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def evaluation(n=200, seed=0, skill=1.5, only=None):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2 if only is None else np.full(n, only)
    p = 1 / (1 + np.exp(-random.normal(skill * (2 * labels - 1), 1.0)))
    return metrics.evaluate(labels, p, random.integers(1, 900, n), [f"row {i}" for i in range(n)])


def history(test=True):
    losses = [0.5, 0.4, 0.45]
    rows = []
    for epoch, loss in enumerate(losses, 1):
        row = {"epoch": epoch, "seconds": 61.0}
        row["train"] = {"loss": 0.5 / epoch, "accuracy": 0.8 + 0.05 * epoch}
        row["validation"] = {"loss": loss, "accuracy": 0.85}
        if test:
            row["test"] = {"loss": loss, "accuracy": 0.84}
        rows.append(row)
    return rows


def linear_and_test(only_network, only_linear):
    a = [True] * only_network + [False] * only_linear + [True] * 100
    b = [False] * only_network + [True] * only_linear + [True] * 100
    base = evaluation(seed=1)
    base["accuracy"] = 0.9
    found = evaluation()
    test = metrics.mcnemar(a, b)
    found["accuracy"] = 0.9 + test["difference"]
    linear = {"name": "NB-weighted", "seconds": 8.0, "test": base}
    return {"test": found, "baseline": linear, "mcnemar": test}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    whole = {
        "recipe": "default",
        **linear_and_test(40, 10),
        "best_epoch": 2,
        "parameters": 123456,
        "seconds": 3725.0,
        "reviews_per_second": 345.6,
        "peak_memory_mb": 900.0,
        "weights_sha256": "ab" * 32,
        "split": {"method": "cut by film", "seed": 7, "train": 800, "validation": 100,
                  "test": 200, "duplicates": 3},
        "data": {"source": "bundled", "n": 1100, "empty": 2,
                 "leaks": {"shared_films": {"train_test": 0}, "dropped": 3}},
        "coverage": {"types": 0.6, "tokens": 0.993, "misses": [["<b>", 12], ["$5", 3]]},
    }  # fmt: skip
    save(folder, whole)
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history()))
    (folder / "recipe.toml").write_text('arch = "bilstm"\nhidden = 128\nbf16 = true\n')
    (folder / "environment.json").write_text(json.dumps({"torch": "2.13.0", "git_commit": "<x>"}))
    (folder / "predictions.csv").write_text("id,label,probability\n")
    for name in ("accuracy", "loss", "confusion", "roc", "calibration", "data"):
        (folder / f"{name}.png").write_bytes(PNG)
    return folder


def save(folder, content):
    (folder / "metrics.json").write_text(json.dumps(content, allow_nan=False))


def change(folder, **changes):
    save(folder, json.loads((folder / "metrics.json").read_text()) | changes)


def read(run, **kwargs):
    page = WellFormed()
    page.feed(write_report(run, **kwargs).read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page, re.sub(r"\s+", " ", "".join(page.text))


def test_the_page_is_well_formed_and_self_contained(run):
    page, _ = read(run)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == 6
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html


def test_the_headline_and_the_figures_are_those_of_the_run(run):
    _, text = read(run)
    for expected in (
        "of 200 test reviews judged correctly",
        "(95% interval)",
        "123,456",
        "1 h 2 min",
        "346",
        "cut by film, seed 7: 800 reviews",
        "3 duplicate texts were dropped",
        "2 more had no text",
        "train test: 0",
        "99.30% of the running words",
        "hidden",
        "128",
        "git commit",
        "predictions.csv",
        "ab" * 32,
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("network", "linear", "verdict", "mark"),
    [
        (40, 10, "The network beats the linear baseline by 20.0 points", "won"),
        (10, 40, "The network loses to the linear baseline by 20.0 points", "lost"),
        (20, 18, "This test cannot tell the network from the linear baseline", ""),
        (18, 20, "This test cannot tell the network from the linear baseline", ""),
        (0, 0, "This test cannot tell the network from the linear baseline", ""),
    ],
)
def test_the_verdict_is_honest(run, network, linear, verdict, mark):
    change(run, **linear_and_test(network, linear))
    _, text = read(run)
    assert verdict in text
    assert f"the network alone is right on {network}, the linear model alone on {linear}" in text
    html = (run / "report.html").read_text(encoding="utf-8")
    assert f'class="verdict{" " + mark if mark else ""}"' in html


def test_without_a_test_of_the_difference_none_is_claimed(run):
    change(run, mcnemar=None)
    _, text = read(run)
    assert "Whether that is more than chance was not tested" in text
    assert "McNemar" not in text


def test_the_curves_are_put_into_words(run):
    _, text = read(run)
    assert "Validation loss is lowest after epoch 2 (0.400) and 0.450 at the end" in text
    assert "overfitting." in text
    assert "The weights of epoch 2 were kept" in text
    assert "computed after training was over" in text
    (run / "history.jsonl").write_text("\n".join(json.dumps(r) for r in history(test=False)[:2]))
    _, text = read(run)
    assert "lowest in the last epoch (2)" in text
    assert "computed after training was over" not in text


def test_a_flat_validation_curve_is_not_called_overfitting(run):
    rows = history()
    rows[-1]["validation"]["loss"] = 0.401
    (run / "history.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "lowest after epoch 2 (0.400) and has hardly moved since (0.401" in read(run)[1]


def without(folder, *parts):
    """Make the run one that held out none of these parts."""
    whole = json.loads((folder / "metrics.json").read_text())
    for part in parts:
        whole.pop(part, None)
        whole["split"][part] = 0
    rows = [{k: v for k, v in row.items() if k not in parts} for row in history()]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return whole


def test_without_a_test_the_validation_part_is_shown_and_called_that(run):
    whole = without(run, "test")
    found = linear_and_test(10, 40)
    whole["validation"] = found["test"]
    whole["baseline"] = {"name": "NB-weighted", "validation": found["baseline"]["test"]}
    save(run, whole | {"mcnemar": found["mcnemar"]})
    page, text = read(run)
    assert "of 200 validation reviews judged correctly" in text
    assert "No test review was measured." in text
    assert "so the figure flatters" in text
    assert "no epoch was chosen by them" not in text
    assert "The network loses to the linear baseline by 20.0 points" in text
    assert "100 to choose by, none to measure on" in text
    assert "test accuracy" not in text
    assert "validation accuracy" in text
    assert page.tags.count("img") == 6
    assert "on validation · Reelsense" in text


def test_a_run_that_learned_from_every_review_says_so_instead_of_figures(run):
    whole = without(run, "test", "validation")
    for name in ("baseline", "mcnemar"):
        del whole[name]
    save(run, whole)
    for name in ("confusion", "roc", "calibration"):
        (run / f"{name}.png").unlink()
    page, text = read(run)
    assert "Not measured no review was held out" in text
    assert "The network learned from all 800 reviews." in text
    assert "the weights of the last epoch were kept" in text
    assert "none to choose by, none to measure on" in text
    for absent in (
        "judged correctly",
        "Right and wrong",
        "confident mistakes",
        "linear",
        "Short and long",
    ):
        assert absent not in text
    assert page.tags.count("img") == 3


def test_metrics_alone_are_enough(tmp_path):
    save(tmp_path, {"test": evaluation()})
    page, text = read(tmp_path)
    assert "img" not in page.tags
    for absent in ("linear", "How it learned", "how it was split", "Words without a vector"):
        assert absent not in text
    assert "Short and long reviews" in text


def test_one_class_only(tmp_path):
    save(tmp_path, {"test": evaluation(only=1)})
    _, text = read(tmp_path)
    assert "nan" not in text.lower()
    assert "the test reviews have only one" in text


def test_no_mistake_at_all(tmp_path):
    perfect = metrics.evaluate([0, 1], [0.0, 1.0], [5, 5], ["a", "b"])
    save(tmp_path, {"test": perfect})
    assert "look for a leak" in read(tmp_path)[1]


def test_nothing_from_outside_becomes_html(run):
    evil = "<script>alert(1)</script> & <br /><br />\"'"
    worst = evaluation()["mistakes"][0]["id"]
    change(run, recipe=evil)
    (run / "environment.json").write_text(
        json.dumps({"command": evil, "versions": {"a": [1, evil]}})
    )
    page, text = read(run, excerpts={worst: evil + " tail" * 300})
    assert "script" not in page.tags
    assert "<script>alert(1)</script> &" in text
    assert "tail..." in text
    assert "<b> (12)" in text.replace("\xa0", " ")


def test_excerpts_are_shown_beside_their_mistake_only_if_given(run):
    worst = evaluation()["mistakes"][0]["id"]
    assert "a film about nothing" not in read(run)[1]
    assert "a film about nothing" in read(run, excerpts={worst: "a film about nothing"})[1]


def test_writing_again_gives_the_same_page(run):
    one = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == one
    assert not list(run.glob(".*"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, r"metrics\.json: not found"),
        ("metrics.json", "{", r"metrics\.json: line 1 is not JSON"),
        ("metrics.json", "{}", r"metrics\.json: no test evaluation"),
        ("metrics.json", "[1]", r"metrics\.json: no test evaluation"),
        ("metrics.json", '{"split": {"validation": 0, "test": 9}}', "no test evaluation"),
        ("metrics.json", '{"test": {"accuracy": 1}}', r"lacks what this version writes"),
        ("history.jsonl", '{"train": {"a": 1}, "validation": {"a": 1}}', "KeyError: 'loss'"),
        ("history.jsonl", '{"epoch": 1}\n{"ep', r"history\.jsonl: line 2 is not JSON"),
        ("recipe.toml", "a = ", r"recipe\.toml: not TOML"),
        ("environment.json", "[]", r"environment\.json: must be a JSON object"),
    ],
)
def test_bad_input_names_the_file_and_writes_nothing(run, name, content, message):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    with pytest.raises(BadInput, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_file_that_is_not_text_is_named(run):
    (run / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"recipe\.toml: cannot be read"):
        write_report(run)

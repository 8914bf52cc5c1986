"""What `train` prints, leaves behind and survives."""

import errno
import json
import os
import re
import sys

import torch


def test_no_gpu(reelsense, here, monkeypatch, refused, tiny):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(reelsense(*tiny, "--device", "cuda"), 2, "use --device cpu")
    assert not (here / "run").exists()


def test_a_network_too_large_for_the_memory(reelsense, here, refused, tiny):
    outcome = reelsense(*tiny, "--hidden", "100000000")
    refused(outcome, 1, "out of memory; try a smaller")
    assert not (here / "run").exists()


def test_a_missing_package_names_the_install_line(reelsense, monkeypatch, refused, tiny):
    monkeypatch.setitem(sys.modules, "reelsense.training", None)
    refused(reelsense(*tiny), 1, r'pip install "reelsense\[train\]"')


def test_full_disk(reelsense, here, monkeypatch, refused, tiny):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(reelsense(*tiny), 1, "recipe.toml: the disk is full")
    refused(reelsense("data", "--data", "reviews.csv", "--out", "d"), 1, "the disk is full")
    assert [path for name in ("run", "d") for path in (here / name).rglob("*")] == []


def test_disk_that_fills_up_while_training(reelsense, here, monkeypatch, refused, tiny):
    real, left = os.fsync, [5]  # recipe, data, tokenizer, environment, weights of an epoch

    def filling(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    refused(reelsense(*tiny), 1, "the disk is full; free some space")
    assert not list(here.rglob("*.part"))
    monkeypatch.setattr(os, "fsync", real)
    assert reelsense(*tiny, "--resume").code == 0


def test_loss_that_is_not_a_number(reelsense, monkeypatch, refused, tiny):
    from reelsense.training import regularise

    real = regularise.cross_entropy
    monkeypatch.setattr(regularise, real.__name__, lambda *a: real(*a) * float("nan"))
    refused(reelsense(*tiny), 1, "not a number in epoch 1, .*lower --learning-rate")


# --- a run ---


def test_run_folder_is_complete(finished):
    assert {path.name for path in (finished / "run").iterdir()} == {
        "recipe.toml", "data.json", "environment.json", "tokenizer.json", "history.jsonl",
        "metrics.json", "predictions.csv", "weights.safetensors", "report.html",
        "accuracy.png", "loss.png", "confusion.png", "roc.png", "calibration.png", "data.png",
    }  # fmt: skip
    history = [json.loads(line) for line in (finished / "run/history.jsonl").open()]
    assert [record["epoch"] for record in history] == [1, 2]
    assert all({"train", "validation", "test"} <= record.keys() for record in history)
    saved = json.loads((finished / "run/data.json").read_text())
    assert saved["source"]["source"] == str(finished / "reviews.csv")


def test_report_is_one_file(finished):
    page = (finished / "run/report.html").read_text()
    sources = re.findall(r'<(?:img|script|link|iframe)[^>]*?(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page


def test_output_is_plain_and_not_folded(finished):
    said = (finished / "said").read_text()
    assert "\x1b" not in said
    assert "\r" not in said
    assert "Changed   --embedding vectors.txt" in said
    assert re.search(
        r"^ +Epoch +loss +accuracy +loss +accuracy +reviews/s +time\n"
        r" +1/2 +\d\.\d{3} +\d+\.\d\d% +\d\.\d{3} +\d+\.\d\d% +[\d,]+ +\d+:\d\d\n"
        r" +2/2 +\d\.\d{3} +\d+\.\d\d% +\d\.\d{3} +\d+\.\d\d% +[\d,]+ +\d+:\d\d\n",
        said,
        re.MULTILINE,
    ), said
    digest = json.loads((finished / "run/metrics.json").read_text())["weights_sha256"]
    assert f"sha256 {digest}\n" in said
    assert said.endswith("Report    run/report.html\n")


def test_figures_on_the_screen_are_those_of_the_file(finished):
    metrics = json.loads((finished / "run/metrics.json").read_text())
    said = (finished / "said").read_text()
    for name, figures in (("Network", metrics["test"]), ("Linear", metrics["baseline"]["test"])):
        assert re.search(rf"^{name} +{figures['accuracy']:.2%}  ", said, re.MULTILINE)
    assert f"{100 * metrics['mcnemar']['difference']:+.2f} points" in said


def test_folder_that_exists(reelsense, run, refused, tiny):
    before = sorted((path, path.stat().st_mtime_ns) for path in run.iterdir())
    refused(reelsense(*tiny), 2, "run: exists already; --resume goes on with it")
    assert sorted((path, path.stat().st_mtime_ns) for path in run.iterdir()) == before


def test_empty_folder_may_become_a_run(reelsense, here, tiny):
    (here / "run").mkdir()
    assert reelsense(*tiny, "--epochs", "1").code == 0


def test_resume_of_a_finished_run(reelsense, run, tiny):
    outcome = reelsense(*tiny, "--resume")
    assert outcome.out == "run has finished already: run/report.html\n"
    assert (outcome.code, outcome.err) == (0, "")


def test_resume_with_something_else(reelsense, here, run, refused, write_csv, write_vectors, tiny):
    (run / "report.html").unlink()  # as if it had not finished
    resume = [*tiny, "--resume"]
    refused(reelsense(*resume, "--epochs", "3"), 2, "another recipe: --epochs was 2, is 3")
    write_csv(here / "reviews.csv", seed=1)
    refused(reelsense(*resume), 2, "--resume: run was started with other reviews")
    write_csv(here / "reviews.csv")
    write_vectors(here / "vectors.txt", dimension=6)
    refused(reelsense(*resume), 2, "--resume: run was started with other vectors")


# --- not held out ---


def test_train_without_a_test_part(reelsense, here, refused, tiny):
    outcome = reelsense(*tiny, "--test", "0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "180 to train on, 20 for validation, none for the test\n" in outcome.out
    assert "Measuring on the validation part, beside the linear baseline" in outcome.out
    assert "Measured on the validation part: 20 reviews\n" in outcome.out
    assert re.search(r"^Linear +\d+\.\d\d%  ", outcome.out, re.MULTILINE)
    assert "No test review was measured." in outcome.out
    page = (here / "run/report.html").read_text()
    assert "No test review was measured." in page
    refused(reelsense("evaluate", "run"), 2, "--part test: run held out no review for it")
    assert reelsense("evaluate", "run", "--part", "validation").code == 0


def test_train_on_every_review(reelsense, here, tiny):
    everything = [*tiny, "--validation", "0", "--test", "0"]
    outcome = reelsense(*everything)
    assert (outcome.code, outcome.err) == (0, "")
    assert "200 to train on, none for validation, none for the test\n" in outcome.out
    assert re.search(
        r"^ +train\n +Epoch +loss +accuracy +reviews/s +time\n"
        r" +1/2 +\d\.\d{3} +\d+\.\d\d% +[\d,]+ +\d+:\d\d\n",
        outcome.out,
        re.MULTILINE,
    ), outcome.out
    assert "Weights of epoch 2, the last\n" in outcome.out
    assert "No review was held out: nothing says how good this network is.\n" in outcome.out
    assert "Measured" not in outcome.out
    assert "Linear" not in outcome.out
    assert not (here / "run/roc.png").exists()
    assert "no review was held out" in (here / "run/report.html").read_text()
    assert reelsense(*everything, "--resume").out.startswith("run has finished already")
    assert reelsense("evaluate", "run", "--data", "reviews.csv").code == 0


def test_bfloat16_that_the_processor_lacks_is_refused_before_any_run(
    reelsense, refused, tiny, here, monkeypatch
):
    monkeypatch.setattr("reelsense.training.machine._has_kernels_for_bf16", lambda: False)
    refused(reelsense(*tiny, "--precision", "bf16", "--device", "cpu"), 2, "--precision bf16: this")
    assert not (here / "run").exists()

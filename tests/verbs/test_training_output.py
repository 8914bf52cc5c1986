import io
import re
import sys

import pytest

from reelsense.model.recipe import Recipe
from reelsense.training.loop import EpochEnd, Step
from reelsense.verbs.training_output import draw_training, what_was_seen


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [80, 120])
def test_bar_shows_loss_accuracy_pace_and_time_left(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    part = {"loss": 0.5, "accuracy": 0.8}

    def running():
        yield EpochEnd(
            {"epoch": 1, "train": part, "validation": part, "seconds": 61,
             "reviews_per_second": 1234.0}
        )  # fmt: skip
        yield Step(2, 0.4321, 0.8765, 1234.0, 0.75, 83.0)

    draw_training(running(), Recipe(epochs=2), lambda: False)
    shown = terminal.getvalue()
    assert "loss 0.432  accuracy 87.6%  1,234 reviews/s  1:23 left" in shown
    assert "Epoch 2/2 ━" in shown
    assert "    1/2   0.500    80.00%   0.500    80.00%       1,234   1:01" in shown
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", shown)  # no colour


@pytest.mark.parametrize(
    ("seen", "n", "percent"),
    [(37, 100, 37), (1, 25_000, 1), (24_999, 25_000, 99), (5, 5, 100), (1, 3, 33)],
)
def test_a_share_that_was_seen_is_never_rounded_to_none_or_all(seen, n, percent):
    said = what_was_seen(seen, n)
    assert said.startswith(f"{percent}% of these reviews were in the training data ({seen:,} of ")


def test_nothing_seen_is_nothing_said():
    assert what_was_seen(0, 5) == ""


def test_few_labels_are_said_before_a_run_and_in_its_report(reelsense, here, tiny, refused):
    said = reelsense(*tiny, "--label-share", "0.5", "--epochs", "1").out
    assert "80 to train on of 160 whose labels are known, 20 for validation, 20 for the" in said
    page = " ".join((here / "run/report.html").read_text().split())
    assert "80 reviews to learn from (of 160 whose labels are known, drawn by" in page
    outcome = reelsense(*tiny, "--label-share", "0.001", "--run", "other")
    refused(outcome, 2, "a label share of 0.001 leaves none of the 80 negative training reviews of")
    assert not (here / "other").exists()
    refused(reelsense("train", "--label-share", "0"), 2, "--label-share must be from 1e-06 to 1")

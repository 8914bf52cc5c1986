import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from reelsense.evaluation import plain_plots
from reelsense.evaluation.comparison_plots import (
    draw_accuracies,
    draw_costs,
    draw_curves,
    draw_learning_curves,
)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(plain_plots, "DPI", 40)


@pytest.fixture(autouse=True)
def no_warnings():
    """A missing glyph or a squeezed layout shows itself as a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figure that was drawn last, and all that is written in it."""
    kept = {}

    def save(self, *args, **kwargs):
        kept["figure"] = self
        kept["texts"] = [text.get_text() for axes in self.axes for text in axes.texts]
        kept["titles"] = [axes.get_title(loc="left") for axes in self.axes]
        return original(self, *args, **kwargs)

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", save)
    return kept


def row(recipe, share=1.0, accuracy=0.9, **more):
    return {
        "recipe": recipe, "share": share, "accuracy": accuracy, "low": accuracy - 0.02,
        "high": accuracy + 0.01, "runs": [accuracy - 0.005, accuracy + 0.005],
        "is_baseline": recipe == "linear baseline", "labelled": round(20_000 * share),
        "training_seconds": 100.0, "milliseconds": 2.0, **more,
    }  # fmt: skip


NAMES = ["bilstm", "a name that is longer than any that was thought of", "映画", "cnn",
         "linear baseline"]  # fmt: skip


def test_accuracies_have_a_column_a_share_and_a_line_a_recipe(tmp_path, drawn):
    rows = [row(name, share, 0.7 + 0.02 * place + 0.1 * share)
            for share in (0.01, 1.0) for place, name in enumerate(NAMES)]  # fmt: skip
    assert draw_accuracies(rows, tmp_path / "a.png").stat().st_size > 1000
    assert drawn["titles"] == ["1% of the labels", "All labels"]
    ticks = [label.get_text() for label in drawn["figure"].axes[0].get_yticklabels()]
    assert ticks[0] == "bilstm"
    assert len(ticks[1]) == 24
    assert "□□" in ticks
    assert f"{0.8:.2%}" in drawn["texts"]
    points = [line.get_xdata().tolist() for line in drawn["figure"].axes[1].lines]
    assert [pytest.approx(0.78), pytest.approx(0.81)] in points  # the first one's interval


def test_a_recipe_that_failed_with_one_share_keeps_its_line(tmp_path, drawn):
    rows = [row("a", 0.5), row("b", 0.5), row("b", 1.0, 0.95)]
    draw_accuracies(rows, tmp_path / "a.png")
    heights = {line.get_ydata()[0] for line in drawn["figure"].axes[1].lines}
    assert heights == {1}


def test_learning_curves_go_over_the_labels_on_a_log_scale(tmp_path, drawn):
    rows = [row(name, share, 0.6 + 0.1 * place * share)
            for place, name in enumerate(NAMES) for share in (1.0, 0.01, 0.1)]  # fmt: skip
    draw_learning_curves(rows, tmp_path / "l.png")
    (axes,) = drawn["figure"].axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["200", "2,000", "20,000"]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(curves) == 5
    assert all((np.diff(line.get_xdata()) > 0).all() for line in curves)
    assert "cnn 90.0%" in drawn["texts"]


def test_costs_leave_out_what_was_not_measured(tmp_path, drawn):
    rows = [row("a"), row("b", milliseconds=None, training_seconds=900.0),
            row("linear baseline", training_seconds=8.0, milliseconds=0.5)]  # fmt: skip
    draw_costs(rows, tmp_path / "c.png")
    training, answering = drawn["figure"].axes
    assert [text.get_text() for text in training.texts if text.get_text() in "ab"] == ["a", "b"]
    assert [text.get_text() for text in answering.texts if text.get_text() in "ab"] == ["a"]


def test_costs_of_nothing_are_still_a_picture(tmp_path):
    rows = [row("a", milliseconds=None, training_seconds=None)]
    assert draw_costs(rows, tmp_path / "c.png").exists()


def history(epochs):
    parts = {name: {"loss": 0.5, "accuracy": 0.8} for name in ("train", "validation")}
    return [{"epoch": epoch, **parts} for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("recipes", [1, 5, 11])
def test_curves_of_all_stand_beside_each_other_on_one_scale(tmp_path, drawn, recipes):
    histories = {f"recipe {n}": [history(3), history(40)] for n in range(recipes)}
    draw_curves(histories, "loss", 0.1, tmp_path / "c.png")
    figure = drawn["figure"]
    assert drawn["titles"] == list(histories)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert all(len(axes.lines) == 4 for axes in figure.axes)
    assert figure.get_suptitle().startswith("Loss by epoch, 10% of the labels")


def test_curves_without_validation_are_those_of_train(tmp_path, drawn):
    rows = [{"epoch": 1, "train": {"accuracy": 0.8}}]
    draw_curves({"a": [rows]}, "accuracy", 1.0, tmp_path / "c.png")
    assert len(drawn["figure"].axes[0].lines) == 1

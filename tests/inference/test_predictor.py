"""The predictor: any kind of texts in, the same answers whatever stands beside them."""

import importlib.metadata
import itertools
import json
import math
import os
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import numpy as np
import pytest

import reelsense
from reelsense.errors import BadInput
from reelsense.inference import predictor
from reelsense.text.words import tokenize_with_offsets

VOCABULARY = "a the film is was not but great superb awful dull story plot . , ! zorblax".split()  # noqa: SIM905
ODD = {
    "empty": "",
    "white space": " \t\n\x0b\x0c\u2003 ",
    "emoji": "a great film 😀👍🏽👩\u200d👩\u200d👧 !",
    "Chinese": "这部电影非常好看。 great",
    "right to left": "فيلم رائع great \u202eliftright",
    "control characters": "a\x00great\x1b[31m film\x07\x7f",
    "lone surrogates": "a \ud800great\udfff film \udcff",
    "combining": "gre\u0301at fi\u0308lm",
    "tags": "a great film.<br /><br />The plot is awful<br>!",
    "entities": "a&nbsp;great &amp; lovely film",
    "long word": "q" * 100_000,
    "long run of marks": "!" * 100_000,
}


def review(words, seed=0):
    return " ".join(np.random.default_rng(seed).choice(VOCABULARY, words))


@pytest.fixture(scope="module")
def texts():
    """Reviews of all lengths up to above the model's longest, the odd ones among them."""
    lengths = [0, 1, 2, 1023, 1025, *np.random.default_rng(7).integers(1, 700, 60)]
    return [*(review(length, seed) for seed, length in enumerate(lengths)), *ODD.values()]


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return reelsense.load(tiny_bundle, threads=2)


@pytest.fixture(scope="module")
def alone(model, texts):
    """What the model says of each text by itself."""
    return [model(text) for text in texts]


# --- what goes in -------------------------------------------------------------------------------


def test_a_text_gives_a_prediction_and_texts_a_list(model):
    one = model("a great film")
    assert isinstance(one, reelsense.Prediction)
    assert model(["a great film"]) == [one]
    assert model([]) == []
    assert (one.tokens, one.unknown, one.truncated) == (3, 0.0, False)
    with pytest.raises(FrozenInstanceError):
        one.label = "positive"


def test_it_takes_whatever_holds_texts(model):
    texts = ["a great film", "awful !", "", "the plot"]
    expected = model(texts)
    assert model(tuple(texts)) == expected
    assert model(text for text in texts) == expected
    assert model(np.array(texts)) == expected
    assert model(np.array(texts, object)) == expected
    assert model(dict.fromkeys(texts).keys()) == expected
    assert list(model.stream(iter(texts))) == expected
    assert model(np.str_("awful !")) == expected[1]


def test_it_takes_a_column_of_pandas(model):
    pandas = pytest.importorskip("pandas")
    texts = ["a great film", None, "awful !", float("nan"), "the plot"]
    expected = model(["a great film", "", "awful !", "", "the plot"])
    assert model(pandas.Series(texts, index=[5, 3, 3, 1, 0])) == expected
    assert model(pandas.Series(texts, dtype="string")) == expected
    assert model([*texts[:1], pandas.NA, *texts[2:]]) == expected
    with pytest.raises(BadInput, match="one column of a table"):
        model(pandas.DataFrame({"text": texts}))


def test_what_is_missing_is_answered_as_an_empty_text(model):
    class NAType:  # as pandas names its own
        pass

    empty = model("")
    assert (empty.label, empty.tokens, empty.unknown) == ("uncertain", 0, 0.0)
    assert 0 < empty.probability < 1
    missing = [None, float("nan"), np.float32("nan"), NAType(), " \n\t"]
    assert model(missing) == [empty] * len(missing)
    sure = reelsense.load(model.bundle.path, confidence=0.5)
    assert sure("").label == "uncertain"


REFUSED = [
    (3, r"3 \(int\)"),
    (2.5, r"2\.5 \(float\)"),
    (True, r"True \(bool\)"),
    (b"great", r"b'great' \(bytes\)"),
    ({"text": "great"}, r"\{'text': 'great'\} \(dict\)"),
    (["great"], r"\['great'\] \(list\)"),
    (np.zeros((2, 2)), r"array\(\[\[0\., 0\.\], \[0\., 0\.\]\]\) \(ndarray\)"),
    (b"x" * 10**6, r"b'x{38}\.\.\. \(bytes\)"),
]


@pytest.mark.parametrize(("item", "named"), REFUSED, ids=lambda value: str(value)[:12])
def test_an_item_that_is_no_text_is_refused_with_its_place(model, item, named):
    for place in (0, 2, 3000):
        given = ["a great film"] * place + [item, "the plot"]
        with pytest.raises(BadInput, match=rf"^texts\[{place}\]: {named} is not a text$"):
            model(given)
        answered = []
        with pytest.raises(BadInput, match=rf"^texts\[{place}\]"):
            answered.extend(model.stream(iter(given)))
        # list.extend keeps what it got before the error
        assert answered == model(given[:place])
        with pytest.raises(BadInput):  # a list is looked at before any work
            next(model.stream(given))


@pytest.mark.parametrize(
    "given",
    [3, None, b"great", bytearray(b"great"), {"text": "great"}, np.array("great"), 2.5,
     np.array([["great", "awful"]])],
    ids=repr,
)  # fmt: skip
def test_what_holds_no_texts_is_refused(model, given):
    for verb in (model, model.predict, model.predict_proba, lambda texts: [*model.stream(texts)]):
        with pytest.raises(BadInput) as found:
            verb(given)
        assert "\n" not in str(found.value)
    if not isinstance(given, bytearray):  # its items are numbers, and said so
        assert "give a list of texts" in str(found.value)


def test_a_text_by_itself_is_not_taken_for_a_list_of_letters(model):
    for verb in (model.predict, model.predict_proba, lambda text: [*model.stream(text)]):
        with pytest.raises(BadInput, match="give a list of texts"):
            verb("a great film")


# --- the same answers, whatever stands beside ----------------------------------------------------


def test_order_batch_and_threads_change_nothing(tiny_bundle, texts, alone):
    mixed = np.random.default_rng(1).permutation(len(texts))
    for threads in (1, 2, 5):
        model = reelsense.load(tiny_bundle, threads=threads)
        assert model(texts) == alone  # to the last bit
        assert model([texts[row] for row in mixed]) == [alone[row] for row in mixed]
        assert model(texts[::-1] * 2) == alone[::-1] * 2
    assert len({answer.probability for answer in alone}) > len(alone) // 2


def test_chunks_change_nothing(model, texts, alone, monkeypatch):
    for chunk, task in ((1, 16), (7, 3), (4096, 1)):
        monkeypatch.setattr(predictor, "CHUNK", chunk)
        monkeypatch.setattr(predictor, "TASK", task)
        assert model(texts) == alone


def test_int8_gives_the_same_whatever_stands_beside(make_bundle, texts):
    model = reelsense.load(make_bundle(variant="int8", hidden=14), threads=2)
    assert model(texts) == [model(text) for text in texts]


def test_many_threads_share_a_predictor(model, texts, alone):
    at_once = threading.Barrier(6)

    def ask(shift):
        at_once.wait()
        rows = [*range(shift, len(texts)), *range(shift)]
        return dict(zip(rows, model([texts[row] for row in rows]), strict=True))

    with ThreadPoolExecutor(6) as pool:
        for answers in pool.map(ask, range(0, 60, 10)):
            assert [answers[row] for row in range(len(texts))] == alone


def test_first_explanations_at_once_agree(tiny_bundle):
    model = reelsense.load(tiny_bundle)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(model.explain, ["a great film . not dull !"] * 12))
    assert all(explanation == found[0] for explanation in found)


def test_it_pickles_as_its_path(tiny_bundle, texts, alone):
    model = reelsense.load(tiny_bundle, threads=3, confidence=0.9)
    model.explain("a great film")
    pickled = pickle.dumps(model)
    assert len(pickled) < 1000
    copy = pickle.loads(pickled)
    assert (copy.threads, copy.confidence) == (3, 0.9)
    assert copy(texts) == model(texts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_answers_too(model, texts, alone):
    model.explain(texts[5])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            os.write(write, json.dumps([answer.probability for answer in model(texts)]).encode())
            os.write(write, b"\n" + str(len(model.explain(texts[3]).words)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found, words = pipe.read().splitlines()
    os.waitpid(child, 0)
    assert json.loads(found) == [answer.probability for answer in alone]
    assert int(words) == 500


def test_a_generator_is_read_a_chunk_at_a_time(model, monkeypatch):
    monkeypatch.setattr(predictor, "CHUNK", 10)
    asked = []

    def reviews():
        for _ in range(100):
            asked.append(1)
            yield "a great film"

    stream = model.stream(reviews())
    assert not asked
    for _ in range(10):
        next(stream)
        assert len(asked) == 10
    next(stream)
    assert len(asked) == 20


def test_memory_stays_flat_over_a_long_generator(model, monkeypatch):
    monkeypatch.setattr(predictor, "CHUNK", 64)

    def peak(count):
        tracemalloc.start()
        # The same fifty words again and again: what is remembered of words has its own bound.
        for _ in model.stream(f"a film {row % 50} {'very ' * (row % 50)}" for row in range(count)):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(200)
    assert peak(6000) < peak(1500) + 50_000


# --- what comes out -----------------------------------------------------------------------------


def test_labels_follow_the_probability_and_the_confidence(tiny_bundle, texts, alone):
    assert {answer.label for answer in alone} == {"positive", "negative", "uncertain"}
    for confidence in (0.5, 0.8, 1.0):
        model = reelsense.load(tiny_bundle, confidence=confidence)
        for answer, usual in zip(model(texts), alone, strict=True):
            assert answer.probability == usual.probability
            sure = max(answer.probability, 1 - answer.probability) >= confidence
            likelier = "positive" if answer.probability >= 0.5 else "negative"
            assert answer.label == (likelier if sure and answer.tokens else "uncertain")


def test_tokens_unknown_and_truncated(model):
    answer = model("a zorblax film , quuxly 中文")
    assert (answer.tokens, answer.truncated) == (6, False)
    assert answer.unknown == 3 / 6
    assert not model("film " * 500).truncated
    long = model("film " * 501)
    assert long.truncated
    assert long.tokens == 501


@pytest.mark.parametrize(("keep", "read"), [("head", "good"), ("tail", "bad")])
def test_a_capped_model_reads_the_part_that_it_says(make_bundle, keep, read):
    model = reelsense.load(make_bundle(longest=20, keep=keep))
    long = "good " * 20 + "film " * 50 + "bad " * 20
    assert model(long).truncated
    assert model(long).probability == model(f"{read} " * 20).probability
    explanation = model.explain(long)
    assert {word.text for word in explanation.words} == {read}
    assert explanation.words[0].start == (0 if keep == "head" else long.index("bad"))


def test_a_megabyte_is_read_as_far_as_the_model_reads(model):
    text = review(180_000)
    assert len(text) > 700_000
    answer = model(text + " great" * 60_000)
    assert (answer.tokens, answer.truncated) == (240_000, True)


def test_the_kinds_of_values_are_plain(model):
    answer = model(np.array(["a great film"]))[0]
    assert json.loads(json.dumps(asdict(answer))) == asdict(answer)
    explanation = asdict(model.explain("a great film"))
    assert json.loads(json.dumps(explanation))["words"][0] == {
        "text": "a", "start": 0, "end": 1, "evidence": explanation["words"][0]["evidence"],
    }  # fmt: skip


# --- explanations -------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"variant": "int8", "hidden": 14}], ids=str)
def test_an_explanation_adds_up_and_says_where(make_bundle, texts, settings):
    model = reelsense.load(make_bundle(**settings))
    for text in texts:
        found = model.explain(text)
        assert found.prediction == model(text)
        for parts in (found.words, found.sentences):
            total = math.fsum(part.evidence for part in parts) + found.bias
            # Of 14 units with weights this large evidence is of thousands, and nearly all of it
            # cancels; float32 has seven digits.
            size = math.fsum(abs(word.evidence) for word in found.words)
            assert total == pytest.approx(found.logit, abs=max(1e-4, 3e-8 * size))
            assert all(text[part.start : part.end] == part.text for part in parts)
            assert all(a.end <= b.start for a, b in itertools.pairwise(parts)) or (
                "&" in text  # an entity may stand for several words
            )
        chance = 1 / (1 + math.exp(-found.logit))
        assert chance == pytest.approx(found.prediction.probability, abs=1e-6)
        if not found.prediction.truncated:
            _, offsets = tokenize_with_offsets(text)
            assert [[word.start, word.end] for word in found.words] == offsets.tolist()


def test_each_word_is_counted_in_its_own_sentence(model):
    text = "A great film. The plot is awful!<br /><br />Not dull (but weak)."
    found = model.explain(text)
    assert [sentence.text for sentence in found.sentences] == [
        "A great film.", "The plot is awful!", "Not dull (but weak).",
    ]  # fmt: skip
    for sentence in found.sentences:
        inside = [w.evidence for w in found.words if sentence.start <= w.start < sentence.end]
        assert math.fsum(inside) == pytest.approx(sentence.evidence, abs=1e-9)


def test_an_empty_text_has_the_bias_for_a_logit(model):
    found = model.explain(" ")
    assert (found.words, found.sentences) == ((), ())
    assert found.logit == pytest.approx(found.bias, abs=1e-6)


@pytest.mark.parametrize("item", [None, 3, b"great", ["great"], float("nan")], ids=repr)
def test_only_a_text_is_explained(model, item):
    with pytest.raises(BadInput, match=r"^explain takes one text, not "):
        model.explain(item)


@pytest.mark.parametrize("settings", [{"dense": 3}, {"pooling": "last"}], ids=str)
def test_a_network_that_cannot_be_split_says_so(make_bundle, settings):
    model = reelsense.load(make_bundle(**settings))
    assert model("a great film").tokens == 3
    with pytest.raises(BadInput, match="has no exact evidence"):
        model.explain("a great film")


# --- scikit-learn's verbs -----------------------------------------------------------------------


def test_predict_proba_has_a_column_a_class(model, texts, alone):
    chances = model.predict_proba(texts)
    assert chances.shape == (len(texts), 2)
    assert chances.dtype == np.float64
    assert model.classes_.tolist() == ["negative", "positive"]
    assert chances[:, 1].tolist() == [answer.probability for answer in alone]
    np.testing.assert_allclose(chances.sum(1), 1, rtol=0, atol=1e-15)
    assert model.predict_proba([]).shape == (0, 2)


def test_predict_gives_the_likelier_class_and_is_never_uncertain(model, texts):
    labels = model.predict(texts)
    chances = model.predict_proba(texts)
    assert labels.shape == (len(texts),)
    assert labels.tolist() == model.classes_[(chances[:, 1] >= 0.5).astype(int)].tolist()
    assert set(labels) == {"negative", "positive"}
    assert model.predict([]).shape == (0,)


def test_the_measures_of_scikit_learn_take_it(model, texts):
    metrics = pytest.importorskip("sklearn.metrics")
    truth = np.array(["positive", "negative"])[np.random.default_rng(2).integers(0, 2, len(texts))]
    labels, chances = model.predict(texts), model.predict_proba(texts)
    assert metrics.accuracy_score(truth, labels) == np.mean(truth == labels)
    assert metrics.accuracy_score(labels, labels) == 1
    assert metrics.log_loss(truth, chances, labels=model.classes_) == pytest.approx(
        -np.mean(np.log(np.where(truth == "positive", chances[:, 1], chances[:, 0])))
    )
    assert metrics.roc_auc_score(labels == "positive", chances[:, 1]) == 1
    assert metrics.confusion_matrix(truth, labels, labels=model.classes_).sum() == len(texts)


# --- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads 0: must be at least 1"),
        ({"confidence": 0.4}, "confidence 0.4: must lie between 0.5 and 1"),
        ({"confidence": float("nan")}, "confidence nan: must lie between"),
    ],
    ids=str,
)
def test_nonsense_options_are_refused(tiny_bundle, options, message):
    with pytest.raises(BadInput, match=message):
        reelsense.load(tiny_bundle, **options)


def test_no_bundle_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="there is no such bundle"):
        reelsense.load(tmp_path / "nothing")
    with pytest.raises(BadInput, match="not a bundle"):
        reelsense.load(str(tmp_path))


def test_a_name_is_a_bundle_of_the_package_and_a_path_is_a_folder(
    tiny_bundle, tmp_path, monkeypatch
):
    (tmp_path / "accurate").symlink_to(tiny_bundle, target_is_directory=True)
    monkeypatch.setattr("reelsense.bundle.folder.PACKAGE", tmp_path)
    model = reelsense.load("accurate")
    assert model.bundle.path == tmp_path / "accurate"
    assert pickle.loads(pickle.dumps(model)).bundle.path == model.bundle.path
    for name in (None, "small", "shipped"):
        with pytest.raises(BadInput, match="did not come with this package, which holds accurate"):
            reelsense.load(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reelsense.bundle.folder.PACKAGE", tmp_path / "nowhere")
    assert reelsense.load(Path("accurate")).about == model.about


def test_it_says_what_it_is(model):
    assert repr(model) == "Predictor(tiny, fp32, threads=2)"
    assert model.about["name"] == "tiny"
    assert reelsense.__version__ == importlib.metadata.version("reelsense")

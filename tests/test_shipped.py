"""The models in the package: whole, small, calibrated, and each card no older than its figures."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import record
import reelsense
from reelsense.bundle.card import model_card
from reelsense.bundle.folder import PACKAGE, folder_of, in_the_package, read_bundle
from reelsense.bundle.weights import weights_of_bundle
from reelsense.text.fingerprints import hash_texts, seen
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import normalised
from reelsense.training.start import read_language_model

ROOT = Path(__file__).parent.parent
BUNDLES = [name for name in in_the_package() if name != "pretrained"]
LARGEST = {"small": 6e6, "accurate": 16e6}  # bytes


# What each bundle said of some texts: {name: {text: probability}}.
GOLDEN = {
    name: json.loads((ROOT / "tests/golden" / f"{name}.json").read_text("utf-8"))
    for name in BUNDLES
}
load = functools.cache(reelsense.load)


@pytest.fixture(scope="module", params=BUNDLES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return load(name)


def test_the_default_is_the_small_one():
    assert "small" in BUNDLES
    assert reelsense.load().bundle.path == reelsense.load("shipped").bundle.path
    assert reelsense.load().bundle.path == folder_of("small")


def test_nothing_else_is_in_the_package():
    assert {path.name for path in PACKAGE.iterdir()} <= {"small", "accurate", "language"}
    for name in BUNDLES:
        listed = read_bundle(folder_of(name)).about["files"]
        assert {path.name for path in folder_of(name).iterdir()} == {*listed, "bundle.json"}
        assert "weights.safetensors" not in listed  # they are in the graph


def test_it_is_small_and_keeps_its_promises(name, model):
    about = model.about
    assert sum(path.stat().st_size for path in folder_of(name).iterdir()) <= LARGEST[name]
    figures = about["figures"]
    assert figures["part"] == "test"
    assert not about["held_out"]["own"]  # it learned from every review
    assert figures["calibration_error"] <= 0.015
    assert figures["int8"]["fall"] < 0.001
    assert figures["parity"] <= 1e-5
    low, high = figures["decided"]["error_interval"]
    assert low <= about["stated_error"] + 0.005
    assert high <= 0.07


def test_its_card_says_what_its_figures_say(name):
    bundle = read_bundle(folder_of(name))
    about = {key: value for key, value in bundle.about.items() if key not in ("files", "seal")}
    card = (folder_of(name) / "README.md").read_text(encoding="utf-8")
    assert card == model_card(about, bundle.model, bundle.tokenizer)


def test_the_table_in_the_readme_says_what_the_figures_say():
    assert record.shipped_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_knows_which_reviews_it_learned_from(name):
    hashes = np.load(folder_of(name) / "trained_on.npy", allow_pickle=False)
    reviews = read_reviews()
    assert seen((normalised(text) for text in reviews.texts), hashes).all()
    assert not seen([normalised("a review that nobody wrote")], hashes).any()
    assert len(hashes) == len(np.unique(hash_texts(normalised(text) for text in reviews.texts)))


def test_it_can_be_fine_tuned_at_the_scale_that_it_was_trained_at(name):
    bundle = read_bundle(folder_of(name))
    vectors = weights_of_bundle(bundle)["embedding.weight"]
    if bundle.about["variant"] == "int8":
        largest = np.abs(vectors).max(axis=0)
        assert (largest >= 0.99 * np.array(bundle.about["spread"])).all()


# Golden: what users got once they get again. int8 rounds alike everywhere; the float parts of a
# processor may differ in the last digits, and a state on the border of two levels may then flip.
@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in GOLDEN.items() for text in texts]
)
def test_golden_answers(name, text):
    assert load(name)(text).probability == pytest.approx(GOLDEN[name][text], abs=0.01)


def test_most_of_what_it_learned_is_right(model):
    reviews = read_reviews()
    rows = np.random.default_rng(0).permutation(len(reviews))[:300]
    said = model.predict([reviews.texts[row] for row in rows]) == "positive"
    assert np.mean(said == (reviews.labels[rows] == 1)) > 0.9


@pytest.mark.skipif("pretrained" not in in_the_package(), reason="the package came without it")
def test_the_language_model_is_whole_and_says_what_it_has_read():
    start = read_language_model(folder_of("pretrained"), "pretrained")
    assert start.is_language_model
    assert len(start.read)
    assert not len(start.learned)

"""The bundle in the package: whole, small, calibrated, and its card no older than its figures."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import reelsense
from reelsense.bundle.card import model_card
from reelsense.bundle.folder import SHIPPED, read_bundle
from reelsense.text.fingerprints import hash_texts, seen
from reelsense.text.reviews import read_reviews
from reelsense.text.splits import normalised

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    return reelsense.load()


def test_it_is_small_and_keeps_its_promises(model):
    about = model.about
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 16e6
    figures = about["figures"]
    assert figures["part"] == "test"
    assert not about["held_out"]["own"]  # it learned from every review
    assert figures["calibration_error"] <= 0.015
    assert figures["int8"]["fall"] < 0.001
    assert figures["parity"] <= 1e-5
    low, high = figures["decided"]["error_interval"]
    assert low <= about["stated_error"] + 0.005
    assert high <= 0.07


def test_its_card_and_the_table_in_the_readme_say_what_its_figures_say():
    bundle = read_bundle(SHIPPED)
    about = {key: value for key, value in bundle.about.items() if key not in ("files", "seal")}
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert card == model_card(about, bundle.model, bundle.tokenizer)
    place = ROOT / "benchmarks" / "record.py"
    spec = importlib.util.spec_from_file_location("record", place)
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    assert record.shipped_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_knows_which_reviews_it_learned_from():
    hashes = np.load(SHIPPED / "trained_on.npy", allow_pickle=False)
    reviews = read_reviews()
    assert seen((normalised(text) for text in reviews.texts), hashes).all()
    assert not seen([normalised("a review that nobody wrote")], hashes).any()
    assert len(hashes) == len(np.unique(hash_texts(normalised(text) for text in reviews.texts)))


# Golden: what users got once they get again. int8 rounds alike everywhere; the float parts of a
# processor may differ in the last digits, and a state on the border of two levels may then flip.
GOLDEN = json.loads((Path(__file__).parent / "golden" / "shipped.json").read_text("utf-8"))


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_answers(model, text):
    assert model(text).probability == pytest.approx(GOLDEN[text], abs=0.01)


def test_most_of_what_it_learned_is_right(model):
    reviews = read_reviews()
    rows = np.random.default_rng(0).permutation(len(reviews))[:300]
    said = model.predict([reviews.texts[row] for row in rows]) == "positive"
    assert np.mean(said == (reviews.labels[rows] == 1)) > 0.9

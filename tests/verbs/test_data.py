"""data, download, recipes."""

import hashlib
import json
import os
import re

from reelsense import download
from reelsense.model.recipe import Recipe, shipped_recipes


def test_recipes_lists_and_prints(reelsense):
    lines = reelsense("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    printed = reelsense("recipes", "classic").out
    assert Recipe.from_toml(printed, "printed") == shipped_recipes()["classic"]


def test_a_recipe_file_without_a_name_is_called_like_the_file(reelsense, here):
    (here / "mine.toml").write_text("hidden = 7\n")
    assert 'name = "mine"' in reelsense("recipes", "mine.toml").out


def test_data(reelsense, here):
    with (here / "reviews.csv").open("a") as file:
        file.write(" ,1\n" + "great film,1\n" * 2)
    outcome = reelsense("data", "--data", "reviews.csv", "--out", "figures")
    assert outcome.code == 0
    assert outcome.err == f"{here / 'reviews.csv'}: left out 1 row without text\n"
    described = json.loads((here / "figures/data.json").read_text())
    assert (described["n"], described["empty"]) == (202, 1)
    assert (here / "figures/data.png").read_bytes().startswith(b"\x89PNG")
    assert "Reviews   202; rows without text left out: 1\n" in outcome.out
    assert re.search(r"^train +161 +81 +80 +-$", outcome.out, re.MULTILINE), outcome.out
    assert "copies left out: 1" in outcome.out
    assert "great" in re.findall(r"^positive  (.*)", outcome.out, re.MULTILINE)[1]
    assert "{" not in outcome.out


def test_odd_texts_and_names_go_through(reelsense, here, tiny, made_up):
    """Lone surrogates (JSON may hold them), control characters, a name that is not UTF-8."""
    path = here / os.fsdecode(b"caf\xe9.jsonl")
    rows = [
        json.dumps({"text": f"{text} \ud800x \x07 <b>&", "label": label})
        for text, label in made_up(200)
    ]
    path.write_text("\n".join(rows))
    assert reelsense("data", "--data", path.name, "--out", "figures").code == 0
    assert reelsense(*tiny, "--data", path.name, "--epochs", "1").code == 0
    assert reelsense("evaluate", "run").code == 0


def test_download_from_a_file(reelsense, here, monkeypatch):
    content = b"vectors"
    digest = hashlib.sha256(content).hexdigest()
    small = download.Official("glove.6B.zip", "https://x.invalid/a.zip", 7, "sha256", digest)
    defaults = {**(download.download.__kwdefaults__ or {}), "files": {"glove": small}}
    monkeypatch.setattr(download.download, "__kwdefaults__", defaults)
    (here / "mine.zip").write_bytes(content)
    outcome = reelsense("download", "glove", "--from", "mine.zip", "--to", "to")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("to/glove.6B.zip\nUse it with: reelsense train --embedding ")
    assert (here / "to/glove.6B.zip").read_bytes() == content

"""Sentences that models get wrong, for the card and the page: hard_sentences.toml."""

import tomllib
from importlib import resources


def hard_sentences() -> list[dict[str, str]]:
    """Return the text of each, the label that it should have, and what is hard about it."""
    text = (resources.files("reelsense.bundle") / "hard_sentences.toml").read_text("utf-8")
    sentences: list[dict[str, str]] = tomllib.loads(text)["sentence"]
    return sentences

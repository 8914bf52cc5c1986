"""The model card of a bundle: README.md out of bundle.json, so that no figure is typed by hand."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from reelsense.bundle import session
from reelsense.bundle.hard_sentences import hard_sentences
from reelsense.text.tokenizer import Tokenizer


def model_card(about: Mapping[str, Any], model: bytes, tokenizer: Tokenizer) -> str:
    """Return the card of a bundle with this bundle.json, graph and tokenizer, as Markdown."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_read("card.md.j2")).render(
        about=about,
        figures=about["figures"],
        network=_network(about["recipe"]),
        protocol=protocol(about),
        imdb="IMDB" in about["trained_on"]["source"] or "aclImdb" in about["trained_on"]["source"],
        hard=answers_to_hard(about, model, tokenizer),
        percent=lambda share, digits=1: "none" if share is None else f"{share:.{digits}%}",
    )


def _network(recipe: Mapping[str, Any]) -> str:
    """Return in words what kind of network it is, and its size."""
    layers = f"{recipe['layers']} x " if recipe["layers"] > 1 else ""
    hidden = recipe["hidden"]
    return {
        "bilstm": f"{layers}{hidden} LSTM units a direction",
        "bigru": f"{layers}{hidden} GRU units a direction",
        "cnn": f"{hidden} filters over three, four and five words each",
        "dpcnn": f"a pyramid of {hidden} filters, halved {recipe['layers']} times",
        "cnn-lstm": f"{hidden} filters over three words, {layers}{hidden} LSTM units a direction",
        "mean": "word vectors without order",
    }[recipe["arch"]]


def protocol(about: Mapping[str, Any]) -> str:
    """Return in words on which reviews, and with which weights, the figures were measured."""
    held_out, figures = about["held_out"], about["figures"]
    apart = "no film in two parts" if held_out["films"] else "the parts are contiguous blocks"
    fitted = (
        f"Accuracy, AUC and loss are those of {figures['n']:,} {figures['part']} reviews ({apart})."
        f" Shift, temperature and confidence were fitted on {figures['fitted_on']:,} held-out"
        " reviews; how good they are is said of the same reviews, each after constants fitted"
        " without its film (five-fold)."
    )
    if figures["part"] == "validation":
        fitted += " Validation reviews chose the epoch too, which flatters."
    if held_out["own"]:
        return f"{fitted} The weights are those of this bundle."
    runs = "another run of the same recipe, that did not learn from them"
    if held_out["runs"] > 1:
        runs = (
            f"{held_out['runs']} other runs of the same recipe, each with its own split, of reviews"
            " that they did not learn from (one run's test film may be another's validation film)"
        )
    return f"The figures are not those of these very weights: they come from {runs}. {fitted}"


def answers_to_hard(
    about: Mapping[str, Any], model: bytes, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Return the hard sentences with what the bundle says of each, and whether that is right."""
    sentences = hard_sentences()
    ids = [tokenizer.encode(sentence["text"]) for sentence in sentences]
    opened = session.open_session(session.without_evidence(model))
    (chances,) = session.run(opened, ids, ["probability"])
    rows = []
    for sentence, chance in zip(sentences, chances.tolist(), strict=True):
        says = about["labels"][int(chance >= 0.5)]
        right = says == sentence["label"]
        if max(chance, 1 - chance) < about["confidence"]:
            says = f"uncertain, leaning {says}"
        rows.append(
            {
                **sentence,
                "probability": chance,
                "says": says,
                "verdict": "right" if right else "wrong",
            }
        )
    return rows


def _read(name: str) -> str:
    return (resources.files("reelsense.bundle") / name).read_text(encoding="utf-8")

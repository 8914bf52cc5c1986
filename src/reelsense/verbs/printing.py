"""What predict, info and doctor print. Computes nothing."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import util
from typing import TYPE_CHECKING, Final

import click

from reelsense import __version__
from reelsense.errors import installing
from reelsense.verbs.columns import cut, is_coloured

if TYPE_CHECKING:
    from reelsense.inference.answers import Prediction
    from reelsense.inference.predictor import Predictor
    from reelsense.inference.speed import Speed

# From the 256 of most terminals; both are told apart by every eye, and read on black and white.
COLOURS: Final = {"positive": 33, "negative": 166}
# package: the verbs that need it
NEEDS: Final = {
    "torch": "train, compare, tune, augment, evaluate, export",
    "safetensors": "train, compare, tune, augment, evaluate, export",
    "sklearn": "train, compare, evaluate",
    "scipy": "train, compare, evaluate",
    "matplotlib": "train, compare, tune, evaluate, data, export",
    "jinja2": "train, compare, export",
    "onnx": "compare, export, train --from",
    "rich": "train, compare, tune",
    "pyarrow": "train, augment (GloVe in the package), reviews in Parquet, score to .zst or s3://",
    "optuna": "tune",
    "ray": "score --ray",
    "starlette": "serve",
    "uvicorn": "serve",
    "httptools": "serve",
    "prometheus_client": "serve",
}


def print_predictions(texts: Sequence[str], predictions: Sequence["Prediction"]) -> None:
    """Print label, P(positive) and the beginning of each text, and what to know of the answer."""
    columns = shutil.get_terminal_size((100, 24)).columns
    coloured, lines = is_coloured(), []
    for text, prediction in zip(texts, predictions, strict=True):
        label = f"{prediction.label:<9}"
        if prediction.label in COLOURS and coloured:
            label = click.style(label, fg=COLOURS[prediction.label])
        figure, notes = f"{prediction.probability:6.1%} positive", notes_on(prediction)
        shown = shortened(text, max(columns - 9 - len(figure) - len(notes) - 5, 20))
        lines.append(f"{label}  {figure}  {shown}{notes}".rstrip())
    click.echo("\n".join(lines))


def notes_on(prediction: "Prediction") -> str:
    """Return what makes an answer weaker than it looks."""
    if not prediction.tokens:
        return "  (no words)"
    notes = []
    if prediction.truncated:
        notes.append("only a part was read")
    if prediction.unknown >= 0.3:
        notes.append(f"{prediction.unknown:.0%} of the words unknown")
    return f"  ({'; '.join(notes)})" if notes else ""


def shortened(text: str, columns: int) -> str:
    """Return the beginning of a text on one line of that many columns."""
    return cut(" ".join(printable(text[: 4 * columns + 40]).split()), columns)


def printable(text: str) -> str:
    """Return a text without what a terminal would obey; line breaks stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def versions() -> dict[str, str]:
    """Return the versions of what predicts."""
    from importlib import metadata  # it reads half of the email package: 40 ms

    packages = {name: metadata.version(name) for name in ("numpy", "onnxruntime")}
    return {"reelsense": __version__, "python": platform.python_version(), **packages}


def print_info(model: "Predictor", versions: Mapping[str, str]) -> None:
    """Print what a model is, what it is worth and on what it runs."""
    about, figures = model.about, model.about["figures"]
    low, high = figures["accuracy_interval"]
    size = sum(file["bytes"] for file in about["files"].values()) / 1e6
    recipe, decided = about["recipe"], figures["decided"]
    layers = f"{recipe['layers']} layers of " if recipe["layers"] > 1 else ""
    wrong = "none" if decided["error"] is None else f"{decided['error']:.1%}"
    click.echo(
        f"Model       {about['name']}, {about['variant']}, {layers}{recipe['hidden']} "
        f"units a direction, {about['words'] - 2:,} words\n"
        f"Folder      {model.bundle.path} ({size:.1f} MB)\n"
        f"Trained on  {about['trained_on']['reviews']:,} reviews: {about['trained_on']['source']}\n"
        f"Accuracy    {figures['accuracy']:.1%} on {figures['n']:,} held-out reviews "
        f"(95% interval {low:.1%} to {high:.1%})\n"
        f"Calibrated  probabilities are off by {figures['calibration_error']:.1%} on average\n"
        f"Uncertain   below {about['confidence']:.1%}: {1 - decided['coverage']:.0%} of the "
        f"held-out reviews; of the other labels {wrong} are wrong\n"
        f"Explains    {'every word, exactly' if about['evidence'] else 'no'}\n"
        f"Reads       up to {about['longest']:,} words and marks of a text\n"
        f"Threads     {model.threads}\n"
        f"Versions    {_listed(versions)}\n"
        f"Card        {model.bundle.path / 'README.md'}"
    )


def print_installation() -> None:
    """Print the versions and what is not installed, with the verbs that it is for."""
    click.echo(f"Versions    {_listed(versions())}")
    missing = {name: verbs for name, verbs in NEEDS.items() if util.find_spec(name) is None}
    if not missing:
        click.echo("Missing     nothing; every verb works")
        return
    width = max(map(len, missing))
    for place, (name, verbs) in enumerate(missing.items()):
        click.echo(f"{'' if place else 'Missing':<10}  {name:<{width}}  for {verbs}")
    install = installing(missing)
    click.echo(f"            predict, info and doctor need none; install all: {install}")


def print_bundle(model: "Predictor") -> None:
    """Print that the files of a bundle, which has been read, are whole."""
    files = len(model.about["files"]) + 1  # and bundle.json itself
    click.echo(f"Bundle      {model.bundle.path}: all {files} files are as they were written")


def print_speed(model: "Predictor", speed: "Speed") -> None:
    """Print how fast this machine answers."""
    cores = "core" if model.threads == 1 else "cores"
    click.echo(
        f"Speed       {speed.reviews_per_second:,.0f} reviews/s on {model.threads} {cores}, "
        f"{speed.milliseconds:.1f} ms for one alone\n"
        f"            (made-up reviews of {speed.tokens:,.0f} words and marks on average; 250 in "
        "the one)"
    )


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())

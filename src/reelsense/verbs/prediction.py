"""predict, info, doctor: what the base install can do."""

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from reelsense.errors import BadInput
from reelsense.verbs import printing
from reelsense.verbs.options import THREADS

if TYPE_CHECKING:
    from reelsense.inference.predictor import Predictor

LINES: Final = 2048  # of standard input that are read before their answers are printed
NOT_UTF_8: Final = re.compile("[\ud800-\udfff]")  # what Python reads odd bytes as

MODEL = click.option(
    "--model", "name", metavar="NAME",
    help="A bundle in the package, 'small' (the default) or 'accurate', or the folder of one that "
         "`reelsense export` made; a folder of such a name is ./small.",
)  # fmt: skip
SECOND = click.option(
    "--second", metavar="NAME",
    help="Another bundle, which reads again what the first is uncertain of, such as 'accurate': "
         "nearly as good as that one, and faster.",
)  # fmt: skip
THRESHOLD = click.option(
    "--threshold", type=click.FloatRange(0.5, 1), metavar="P",
    help="Say 'uncertain' below this probability of the likelier label (0.5: never). By default "
         "the model's own, chosen to leave few labels wrong: see `reelsense info`.",
)  # fmt: skip


@click.command()
@click.argument("texts", nargs=-1, metavar="TEXT...")
@MODEL
@SECOND
@THREADS
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each text.")
@click.option(
    "--explain", is_flag=True, help="Show what each word, where it stands, and each sentence adds."
)
@THRESHOLD
def predict(
    texts: tuple[str, ...],
    name: str | None,
    second: str | None,
    threads: int | None,
    as_json: bool,
    explain: bool,
    threshold: float | None,
) -> None:
    """Say whether film reviews are positive or negative.

    Each TEXT is a review; - reads reviews from standard input, one a line. The figure is the
    probability that the review is positive. Write -- before a text that begins with a dash.
    """
    if not texts:
        raise BadInput(
            'give a text, as in: reelsense predict "A fine film." (or - for standard input, '
            "a review a line)"
        )
    if threshold is not None and math.isnan(threshold):
        raise BadInput("--threshold nan: must lie between 0.5 and 1")
    if "-" in texts and sys.stdin is None:
        raise BadInput("standard input is closed; as in: reelsense predict - < reviews.txt")
    model = _load(name, threads, threshold, second)
    given = _read(texts)
    # Whoever types reviews wants each answer before the next one.
    size = 1 if explain or ("-" in texts and sys.stdin.isatty()) else LINES
    while chunk := list(islice(given, size)):
        if as_json:
            answers = [model.explain(text) for text in chunk] if explain else model(chunk)
            click.echo("\n".join(_json(asdict(answer)) for answer in answers))
        elif explain:
            from reelsense.verbs.explaining import print_explanation

            for text in chunk:
                print_explanation(text, model.explain(text))
        else:
            printing.print_predictions(chunk, model(chunk))


@click.command()
@MODEL
@THREADS
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json and the versions.")
def info(name: str | None, threads: int | None, as_json: bool) -> None:
    """Show the model: what it is, what it is worth, on what it runs."""
    from reelsense.bundle.folder import in_the_package

    model = _load(name, threads)
    versions = printing.versions()
    if as_json:
        content = {"path": str(model.bundle.path), "threads": model.threads, "versions": versions}
        content |= {"package": in_the_package(), "bundle": model.about}
        click.echo(_json(content, indent=2))
        return
    try:
        printing.print_info(model, versions)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{model.bundle.path}: its bundle.json lacks figures; see what is there "
                       "with --json, or export it again") from None  # fmt: skip
    _print_the_package()


@click.command()
@MODEL
@THREADS
def doctor(name: str | None, threads: int | None) -> None:
    """Check the installation: files, speed, what is missing."""
    printing.print_installation()  # whatever is wrong with the bundle
    _print_the_package()

    from reelsense.inference.speed import measure

    model = _load(name, threads)  # checks the hash of every file
    printing.print_bundle(model)
    printing.print_speed(model, measure(model))


def _load(
    name: str | None, threads: int | None, threshold: float | None = None, second: str | None = None
) -> "Predictor":
    from reelsense.inference.predictor import load

    return load(name, threads, threshold, second)


def _print_the_package() -> None:
    """Print which models came with the package."""
    from reelsense.bundle.folder import in_the_package

    click.echo(f"Package     holds {', '.join(in_the_package()) or 'no model'}")


def _read(texts: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts of the command line, and for each - the lines of standard input."""
    for number, text in enumerate(texts, 1):
        if text == "-":
            yield from _lines()
        else:
            with suppress(OSError):  # too long for the name of a file
                if Path(text).is_file():
                    _warn(f"{text} is taken for a text; to read its lines: "
                          f"reelsense predict - < {text}")  # fmt: skip
            yield _readable(text, f"text {number}")


def _lines() -> Iterator[str]:
    """Yield the lines of standard input. An empty one is an empty text: it keeps its place."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise BadInput("standard input is UTF-16; make it UTF-8: iconv -f UTF-16 -t UTF-8")
        data = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        data = data.rstrip(b"\r\n")
        yield _readable(data.decode("utf-8", "surrogateescape"), f"standard input, line {number}")


def _readable(text: str, where: str) -> str:
    """Return a text with a mark in place of each byte that is not UTF-8, and say so."""
    if not NOT_UTF_8.search(text):
        return text
    _warn(f"{where}: not UTF-8; each odd byte is read as \ufffd")
    return NOT_UTF_8.sub("\ufffd", text)


def _warn(message: str) -> None:
    click.echo(f"reelsense: {message}", err=True)


def _json(content: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes: Python's own would say NaN and Infinity."""
    from reelsense.inference.answers import finite

    return json.dumps(finite(content), indent=indent, allow_nan=False)

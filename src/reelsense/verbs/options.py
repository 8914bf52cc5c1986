"""The flags that several verbs share, and what they stand for."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput
from reelsense.model.settings import Settings, flag

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews

Command = Callable[..., Any]


def data_options(command: Command) -> Command:
    """Add the flags that say where reviews come from."""
    options = [
        click.option("--data", metavar="SOURCE", help="Reviews: 'bundled' (the default), an "
                     "aclImdb folder or .tar.gz, a .csv, .tsv, .jsonl or .parquet file."),
        click.option("--text-column", metavar="NAME", help="Column of the texts, if not found."),
        click.option("--label-column", metavar="NAME", help="Column of the labels, if not found."),
        click.option("--labels", metavar="NEGATIVE,POSITIVE",
                     help="The file's own two labels, such as 'bad,good'."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


UNLABELLED = click.option(
    "--unlabelled", multiple=True, metavar="SOURCE",
    help="Reviews whose labels nobody looks at: a file, or an aclImdb folder or .tar.gz, of which "
         "the unlabelled part is read; may come several times.",
)  # fmt: skip


THREADS = click.option(
    "--threads", type=click.IntRange(1, 256), metavar="N",
    help="Processor cores to use; by default all that this process may use.",
)  # fmt: skip


DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to compute; auto takes a GPU when there is one.",
)  # fmt: skip


def machine_options(command: Command) -> Command:
    """Add the flags that say on what to compute; they are not part of a recipe."""
    return DEVICE(THREADS(command))


def values_of(kind: type[Settings]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a recipe that are flags: all but those that say what it is."""
    return [field for field in dataclasses.fields(kind) if field.name not in ("name", "about")]


def recipe_options(kind: type[Settings], names: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Add a flag for every field of a kind of recipe, or those of these names, with its help."""

    def add(command: Command) -> Command:
        for setting in reversed(values_of(kind)):
            if not names or setting.name in names:
                command = _option(setting)(command)
        return command

    return add


def _option(setting: dataclasses.Field[Any]) -> Callable[[Command], Command]:
    """Return the flag of a field."""
    metavars = {int: "N", float: "X", str: "NAME"}
    choices, kind = setting.metadata["choices"], type(setting.default)
    option, about = flag(setting.name), setting.metadata["help"]
    if kind is bool:
        option += f"/--no-{setting.name.replace('_', '-')}"
    return click.option(
        option,
        setting.name,
        type=click.Choice(choices) if choices else kind,
        metavar=None if choices else metavars.get(kind),
        default=None,
        help=about[0].upper() + about[1:] + ".",
    )


class RecipeCommand(click.Command):
    """A verb whose help lists the values of its recipe by themselves."""

    recipe: type[Settings]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the flags in two sections."""
        of_recipe = {field.name for field in values_of(self.recipe)}
        for title, wanted in (("Options", False), ("Values of the recipe", True)):
            chosen = [p for p in self.get_params(ctx) if (p.name in of_recipe) == wanted]
            with formatter.section(title):
                formatter.write_dl([row for p in chosen if (row := p.get_help_record(ctx))])


def source_of(
    data: str | None, text_column: str | None, label_column: str | None, labels: str | None
) -> dict[str, Any]:
    """Return how to read the reviews: the arguments of `read_reviews`, as JSON holds them."""
    values = None
    if labels is not None:
        values = [label.strip() for label in labels.split(",")]
        if len(values) != 2 or not all(values) or values[0] == values[1]:
            raise BadInput(f"--labels {labels}: give two different labels, as in --labels bad,good")
    source = "bundled" if data is None else data
    if not source:
        raise BadInput("--data is empty; name a file or a folder, or leave it out")
    if source != "bundled":
        source = str(Path(source).resolve())
    return {"source": source, "text_column": text_column, "label_column": label_column,
            "label_values": values}  # fmt: skip


def read(source: dict[str, Any]) -> "Reviews":
    """Read the reviews and say what was left out."""
    from reelsense.text.reviews import read_reviews

    values = source.get("label_values")
    reviews = read_reviews(
        source.get("source", "bundled"),
        text_column=source.get("text_column"),
        label_column=source.get("label_column"),
        label_values=tuple(values) if values else None,
    )
    _say_what_was_left_out(reviews)
    return reviews


def _say_what_was_left_out(reviews: "Reviews") -> None:
    if reviews.empty:
        rows = "row" if reviews.empty == 1 else "rows"
        click.echo(f"{reviews.source}: left out {reviews.empty:,} {rows} without text", err=True)


def place_of_unlabelled(source: str) -> str:
    """Return where unlabelled reviews are, as `source_of` does."""
    if source == "bundled":
        return source
    if not source or not Path(source).exists():
        raise BadInput(f"--unlabelled {source}: there is no such file or folder; check it")
    return str(Path(source).resolve())


def read_unlabelled(sources: Sequence[str], text_column: str | None) -> "list[Reviews]":
    """Read reviews without looking at a label, and say what was left out.

    A file's texts are in `text_column`, as those of --data, if it names one.
    """
    from reelsense.text.reviews import read_reviews

    found = []
    for source in sources:
        is_table = Path(source).is_file() and not source.lower().endswith((".tar.gz", ".tgz"))
        column = text_column if is_table else None
        found.append(read_reviews(source, text_column=column, labelled=False, parts=("unsup",)))
        _say_what_was_left_out(found[-1])
    return found


def need_folder(path: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written."""
    try:
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise BadInput(f"{path}: cannot be a folder ({error.strerror}); choose another") from None
    if not there.is_dir():
        raise BadInput(f"{path}: {there} is a file, not a folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{path}: {there} cannot be written; choose another")

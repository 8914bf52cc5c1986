"""The command line: one function a verb that parses, calls and prints. Heavy imports inside."""

import contextlib
import dataclasses
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense import __version__, console
from reelsense.errors import INSTALL, BadInput, Failure
from reelsense.model.recipe import Recipe, flag, read_recipe, shipped_recipes

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews

Command = Callable[..., Any]
VALUES = [field for field in dataclasses.fields(Recipe) if field.name not in ("name", "about")]


class Interrupted(Exception):
    """A signal stopped the work; the exit code is 128 and the signal's number."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.code = 128 + number


def main() -> None:
    """Run the command line; every error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for a word that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli(sys.argv[1:] or ["--help"], prog_name="reelsense", standalone_mode=False)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "reelsense"
        code = _refuse(f"{error.format_message().rstrip('.')}; see `{verb} --help`", 2)
    except BadInput as error:
        code = _refuse(str(error), 2)
    except Failure as error:
        code = _refuse(str(error), 1)
    except Interrupted as error:
        code = _refuse(str(error), error.code)
    except ModuleNotFoundError as error:
        code = _refuse(f"this needs the package {error.name}; install it with: {INSTALL}", 1)
    except OSError as error:
        code = _refuse(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        code = _refuse("out of memory; try a smaller --batch-tokens or --hidden", 1)
    sys.exit(code)


def _refuse(message: str, code: int) -> int:
    """Print an error as one line and return the exit code."""
    click.echo("reelsense: " + " ".join(message.split()), err=True)
    return code


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether memory was short; torch says so with a RuntimeError."""
    said = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said


class _Verbs(click.Group):
    """The verbs in the order of this file; a Ctrl-C is ours to word."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line first
            raise Interrupted("interrupted") from None


class _Train(click.Command):
    """A verb whose help lists the values of a recipe by themselves."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        of_recipe = {field.name for field in VALUES}
        for title, wanted in (("Options", False), ("Values of the recipe", True)):
            chosen = [p for p in self.get_params(ctx) if (p.name in of_recipe) == wanted]
            with formatter.section(title):
                formatter.write_dl([row for p in chosen if (row := p.get_help_record(ctx))])


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="reelsense")
def cli() -> None:
    """Film-review sentiment with a bidirectional LSTM on GloVe word vectors."""


def _data_options(command: Command) -> Command:
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


def _machine_options(command: Command) -> Command:
    """Add the flags that say on what to compute; they are not part of a recipe."""
    device = click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="Where to compute; auto takes a GPU when there is one.",
    )  # fmt: skip
    threads = click.option(
        "--threads", type=click.IntRange(1, 256), metavar="N",
        help="Processor cores to use; all by default.",
    )  # fmt: skip
    return device(threads(command))


def _recipe_options(command: Command) -> Command:
    """Add a flag for every field of a recipe, with its help."""
    metavars = {int: "N", float: "X", str: "NAME"}
    for setting in reversed(VALUES):
        choices, kind = setting.metadata["choices"], type(setting.default)
        option, about = flag(setting.name), setting.metadata["help"]
        if kind is bool:
            option += f"/--no-{setting.name.replace('_', '-')}"
        command = click.option(
            option,
            setting.name,
            type=click.Choice(choices) if choices else kind,
            metavar=None if choices else metavars.get(kind),
            default=None,
            help=about[0].upper() + about[1:] + ".",
        )(command)
    return command


@cli.command(cls=_Train)
@click.option("--recipe", default="default", show_default=True, metavar="NAME",
              help="A recipe that `reelsense recipes` lists, or a TOML file.")  # fmt: skip
@click.option("--run", "run_name", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the run goes; runs/RECIPE by default.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
@_data_options
@_machine_options
@_recipe_options
def train(
    recipe: str,
    run_name: Path | None,
    resume: bool,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
    device: str,
    threads: int | None,
    **changes: Any,
) -> None:
    """Train a network, measure it, draw every curve, write a report.

    It is measured on the test part, which nothing before has seen, beside a linear baseline that
    is trained on the same reviews. Ctrl-C saves the run; the same command with --resume goes on.
    """
    chosen = {key: value for key, value in changes.items() if value is not None}
    started_from = read_recipe(recipe)
    plan = started_from.changed(**chosen)
    run = run_name or Path("runs") / plan.name
    source = _source(data, text_column, label_column, labels)
    _need_folder(run)

    from reelsense.training import checkpoint

    there = checkpoint.check_run(run, plan, resume)  # before a minute of reading, not after
    if there and (run / "report.html").exists() and not checkpoint.state_path(run).exists():
        click.echo(f"{run} has finished already: {run / 'report.html'}")
        return
    reviews = _read(source)

    from reelsense.evaluation.report import write_report
    from reelsense.model.networks import build
    from reelsense.training.loop import train as steps
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import measure_run, write_environment
    from reelsense.training.prepare import prepare

    machine = find_machine(device, threads, plan.precision)
    prepared = prepare(plan, reviews)
    network = build(plan, prepared.vectors.matrix, prepared.vectors.found)
    hashes = prepared.hashes()
    checkpoint.open_run(run, plan, source, hashes, resume)  # from here on the input is good
    prepared.tokenizer.save(run / "tokenizer.json")
    write_environment(run, plan, machine, hashes)
    click.echo(console.what_it_trains_on(started_from, plan, prepared, machine))

    training, validation = (prepared.examples(plan, part) for part in ("train", "validation"))
    running = steps(plan, network, training, validation, run, machine)
    with _interruptible() as interrupted:
        console.draw_progress(running, plan, interrupted)
    click.echo("\nMeasuring on the test part, beside the linear baseline ...")
    try:
        measured = measure_run(run, plan, prepared, network, machine)
        report = write_report(run, dict(zip(reviews.ids, reviews.texts, strict=True)))
        checkpoint.clear_checkpoints(run)  # only now is nothing left to go on with
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {_how_to_go_on()}") from None
    click.echo(f"Weights of epoch {measured['best_epoch']}, with the lowest validation loss\n")
    console.print_figures(measured, "test")
    click.echo(f"Weights   {run / 'weights.safetensors'}  sha256 {measured['weights_sha256']}")
    click.echo(f"Report    {report}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(["train", "validation", "test", "all"]), default=None,
              help="Part of the run's own data (test by default), or of SOURCE (all).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the figures go; RUN/evaluation by default.")  # fmt: skip
@_data_options
@_machine_options
def evaluate(
    run: Path,
    part: str | None,
    out: Path | None,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a run on its test part or on other labelled reviews.

    The linear baseline, trained on the same reviews as the run, is measured beside it.
    """
    if data is None and (text_column or label_column or labels):
        raise BadInput("--text-column, --label-column and --labels go with --data; add it")

    from reelsense.training.checkpoint import read_run
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import evaluate_run

    folder = out or run / "evaluation"
    recipe, saved = read_run(run)
    _need_folder(folder)
    try:
        own = _read(saved["source"])
    except BadInput as error:
        raise BadInput(f"{run}: needs the reviews that it was trained on, but {error}") from None
    other = None if data is None else _read(_source(data, text_column, label_column, labels))
    machine = find_machine(device, threads, recipe.precision)
    measured = evaluate_run(run, recipe, own, other, part, folder, machine)
    console.print_figures(measured, measured["part"])
    if measured["seen"]:
        click.echo(f"Seen      {measured['seen']:,} of these reviews were trained on")
    click.echo(f"Figures   {folder / 'metrics.json'}")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/data"), metavar="FOLDER",
              show_default=True, help="Where data.json and data.png go.")  # fmt: skip
@click.option("--split-seed", type=click.IntRange(0, 2**31), default=0, metavar="N",
              help="Seed of the split.")  # fmt: skip
@_data_options
def data(
    out: Path,
    split_seed: int,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
) -> None:
    """Show the reviews: counts, lengths, leaks, telling words."""
    _need_folder(out)
    reviews = _read(_source(data, text_column, label_column, labels))

    from reelsense.atomic import write_atomically
    from reelsense.evaluation.plots import draw_data
    from reelsense.text.describe import describe
    from reelsense.text.splits import split

    described = describe(reviews, split(reviews, seed=split_seed))
    write_atomically(out / "data.json", json.dumps(described, indent=2) + "\n")
    picture = draw_data(described, out / "data.png")
    console.print_data(described)
    click.echo(f"Picture   {picture}")


@cli.command()
@click.argument("name", type=click.Choice(["imdb", "glove"]))
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the file goes; the user's cache folder by default.")  # fmt: skip
@click.option("--from", "from_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Take and check a file that you have already, without network.")  # fmt: skip
def download(name: str, folder: Path | None, from_file: Path | None) -> None:
    """Fetch the official IMDB reviews or GloVe vectors, checked.

    The reviews have 84 MB, the vectors 862 MB. A download that broke off goes on where it stopped.
    """
    if folder:
        _need_folder(folder)

    from reelsense.download import download as fetch

    path = fetch(name, folder=folder, from_file=from_file)
    use = {"imdb": f"reelsense train --data {path}",
           "glove": "reelsense train --embedding glove.6B.100d"}[name]  # fmt: skip
    click.echo(f"{path}\nUse it with: {use}")


@cli.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print one as TOML."""
    if name:
        click.echo(read_recipe(name).to_toml(), nl=False)
        return
    listed = shipped_recipes()
    width = max(map(len, listed))
    for shipped, recipe in listed.items():
        click.echo(f"{shipped:<{width}}  {recipe.about}")


def _source(
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


def _read(source: dict[str, Any]) -> "Reviews":
    """Read the reviews and say what was left out."""
    from reelsense.text.reviews import read_reviews

    values = source.get("label_values")
    reviews = read_reviews(
        source.get("source", "bundled"),
        text_column=source.get("text_column"),
        label_column=source.get("label_column"),
        label_values=tuple(values) if values else None,
    )
    if reviews.empty:
        rows = "row" if reviews.empty == 1 else "rows"
        click.echo(f"{reviews.source}: left out {reviews.empty:,} {rows} without text", err=True)
    return reviews


def _need_folder(path: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written."""
    try:
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise BadInput(f"{path}: cannot be a folder ({error.strerror}); choose another") from None
    if not there.is_dir():
        raise BadInput(f"{path}: {there} is a file, not a folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{path}: {there} cannot be written; choose another")


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C (or SIGTERM) end the step in hand, and the second end the program."""
    asked: list[int] = []

    def remember(number: int, _: object) -> None:
        if asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Interrupted(f"interrupted and saved; {_how_to_go_on()}", asked[0])


def _how_to_go_on() -> str:
    """Return the command that goes on with this run."""
    arguments = [*sys.argv[1:], *([] if "--resume" in sys.argv else ["--resume"])]
    return f"go on with: {shlex.join(['reelsense', *arguments])}"

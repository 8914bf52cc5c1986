"""The command line: one function a verb that parses, calls and prints. Heavy imports inside."""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense import __version__
from reelsense.errors import BadInput, Failure
from reelsense.model.recipe import Recipe, flag, read_recipe, shipped_recipes

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews
    from reelsense.training.loop import EpochEnd, Step
    from reelsense.training.machine import Machine
    from reelsense.training.prepare import Prepared

Command = Callable[..., Any]
NEEDS_TRAIN = 'pip install "reelsense[train]"'


def main() -> None:
    """Run the command line; every error is one line on standard error."""
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        code = _refuse(error.format_message(), 2)
    except BadInput as error:
        code = _refuse(str(error), 2)
    except Failure as error:
        code = _refuse(str(error), 1)
    except ModuleNotFoundError as error:
        code = _refuse(f"this needs the package {error.name}; install it with: {NEEDS_TRAIN}", 1)
    except (click.Abort, KeyboardInterrupt):
        code = _refuse("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        sys.stderr.close()
        code = 0
    except OSError as error:
        code = _refuse(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    sys.exit(code)


def _refuse(message: str, code: int) -> int:
    """Print an error as one line and return the exit code."""
    click.echo("reelsense: " + " ".join(message.split()), err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
        "--threads", type=click.IntRange(1, 256), help="Processor cores to use; all by default."
    )
    return device(threads(command))


def _recipe_options(command: Command) -> Command:
    """Add a flag for every field of a recipe, with its help."""
    for setting in reversed(dataclasses.fields(Recipe)):
        if setting.name in ("name", "about"):
            continue
        choices, kind = setting.metadata["choices"], type(setting.default)
        option = flag(setting.name)
        if kind is bool:
            option += f"/--no-{setting.name.replace('_', '-')}"
        command = click.option(
            option,
            setting.name,
            type=click.Choice(choices) if choices else kind,
            default=None,
            help=setting.metadata["help"][0].upper() + setting.metadata["help"][1:] + ".",
        )(command)
    return command


@cli.command()
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
    """Train a network, measure it on the test part, draw every curve, write a report.

    The flags below --threads change single values of the recipe.
    """
    chosen = {key: value for key, value in changes.items() if value is not None}
    plan = read_recipe(recipe).changed(**chosen)
    run = run_name or Path("runs") / plan.name
    source = _source(data, text_column, label_column, labels)

    from reelsense.training import checkpoint

    if run.exists() and not resume:  # before a minute of reading, not after
        checkpoint.open_run(run, plan, {}, {}, resume)
    if resume and (run / "report.html").exists() and not checkpoint.state_path(run).exists():
        checkpoint.open_run(run, plan, {}, {}, resume)
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
    hashes = prepared.hashes()
    checkpoint.open_run(run, plan, source, hashes, resume)
    prepared.tokenizer.save(run / "tokenizer.json")
    write_environment(run, plan, machine, hashes)
    click.echo(_what_it_trains_on(plan, prepared, machine))

    network = build(plan, prepared.vectors.matrix, prepared.vectors.found)
    training, validation = (prepared.examples(plan, part) for part in ("train", "validation"))
    with _interruptible(run) as interrupted:
        running = steps(plan, network, training, validation, run, machine)
        _draw_progress(running, plan, interrupted)
    click.echo("Measuring on the test part, and training the linear baseline beside it ...")
    measured = measure_run(run, plan, prepared, network, machine)
    excerpts = dict(zip(reviews.ids, reviews.texts, strict=True))
    report = write_report(run, excerpts)
    _print_figures(measured, "test")
    click.echo(f"Weights  {run / 'weights.safetensors'}  sha256 {measured['weights_sha256']}")
    click.echo(f"Report   {report}")


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
    """Measure a finished run on its test part, or on other labelled reviews.

    The linear baseline, trained on the same reviews as the run, is measured beside it.
    """
    from reelsense.training.checkpoint import read_run
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import evaluate_run

    recipe, saved = read_run(run)
    own = _read(saved["source"])
    other = None if data is None else _read(_source(data, text_column, label_column, labels))
    machine = find_machine(device, threads, recipe.precision)
    folder = out or run / "evaluation"
    measured = evaluate_run(run, recipe, own, other, part, folder, machine)
    _print_figures(measured, "test")
    if measured["seen"]:
        click.echo(f"{measured['seen']} of these reviews were in the training part of the run.")
    click.echo(f"Figures  {folder / 'metrics.json'}")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/data"),
              show_default=True, help="Folder for data.json and data.png.")  # fmt: skip
@click.option("--split-seed", type=click.IntRange(0), default=0, help="Seed of the split.")
@_data_options
def data(
    out: Path,
    split_seed: int,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
) -> None:
    """Show what reviews there are: counts, lengths, leaks, the words of each class."""
    reviews = _read(_source(data, text_column, label_column, labels))

    from reelsense.evaluation.plots import draw_data
    from reelsense.text.describe import describe
    from reelsense.text.splits import split
    from reelsense.training.measure import write_json

    described = describe(reviews, split(reviews, seed=split_seed))
    write_json(out / "data.json", described)
    picture = draw_data(described, out / "data.png")
    _print_data(described)
    click.echo(f"Picture  {picture}")


@cli.command()
@click.argument("name", type=click.Choice(["imdb", "glove"]))
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the file goes; the user's cache folder by default.")  # fmt: skip
@click.option("--from", "from_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Take and check a file that you have already, without network.")  # fmt: skip
def download(name: str, folder: Path | None, from_file: Path | None) -> None:
    """Fetch the official IMDB reviews (84 MB) or GloVe vectors (862 MB), checked by hash."""
    from reelsense.download import download as fetch

    path = fetch(name, folder=folder, from_file=from_file)
    use = {"imdb": f"reelsense train --data {path}",
           "glove": "reelsense train --embedding glove.6B.100d"}[name]  # fmt: skip
    click.echo(f"{path}\nUse it with: {use}")


@cli.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME as TOML."""
    if name:
        click.echo(read_recipe(name).to_toml(), nl=False)
        return
    for shipped, recipe in shipped_recipes().items():
        click.echo(f"{shipped:<10} {recipe.about}")


def _source(
    data: str | None, text_column: str | None, label_column: str | None, labels: str | None
) -> dict[str, Any]:
    """Return how to read the reviews: the arguments of `read_reviews`, as JSON holds them."""
    values = None
    if labels is not None:
        values = [label.strip() for label in labels.split(",")]
        if len(values) != 2 or not all(values) or values[0] == values[1]:
            raise BadInput(f"--labels {labels}: give two different labels, as in --labels bad,good")
    source = data or "bundled"
    if source != "bundled":
        source = str(Path(source).resolve())
    return {"source": source, "text_column": text_column, "label_column": label_column,
            "label_values": values}  # fmt: skip


def _read(source: dict[str, Any]) -> "Reviews":
    """Read the reviews and say what was left out."""
    from reelsense.text.reviews import read_reviews

    values = source["label_values"]
    reviews = read_reviews(**{**source, "label_values": tuple(values) if values else None})
    if reviews.empty:
        click.echo(f"{source['source']}: {reviews.empty} rows without text left out.", err=True)
    return reviews


@contextlib.contextmanager
def _interruptible(run: Path) -> Iterator[Callable[[], bool]]:
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
        raise click.ClickException(
            f"interrupted and saved; the same command with --resume goes on in {run}"
        )


def _draw_progress(
    running: "Iterator[Step | EpochEnd]", recipe: Recipe, interrupted: Callable[[], bool]
) -> None:
    """Show the steps of a training as they come: a bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from reelsense.training.loop import EpochEnd

    console = Console(highlight=False)
    columns = (
        TextColumn("Epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.fields[now]}"),
    )
    last_line = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=1.0, epoch=f"1/{recipe.epochs}", now="")
        for event in running:
            if isinstance(event, EpochEnd):
                bar.console.print(_epoch_line(event.record, recipe))
            else:
                now = (
                    f"loss {event.loss:.3f}  accuracy {event.accuracy:.1%}  "
                    f"{event.reviews_per_second:.0f} reviews/s  {_clock(event.seconds_left)} left"
                )
                epoch = f"{event.epoch}/{recipe.epochs}"
                bar.update(task, completed=event.share_done, epoch=epoch, now=now)
                if not console.is_terminal and time.monotonic() - last_line > 10:
                    last_line = time.monotonic()
                    click.echo(f"epoch {epoch}  {event.share_done:4.0%}  {now}")
            if interrupted():
                running.close()  # type: ignore[attr-defined]
                break


def _epoch_line(record: dict[str, Any], recipe: Recipe) -> str:
    """Return an epoch's figures as a line."""
    train, validation = record["train"], record["validation"]
    return (
        f"Epoch {record['epoch']:>2}/{recipe.epochs}   "
        f"train loss {train['loss']:.3f} accuracy {train['accuracy']:.2%}   "
        f"validation loss {validation['loss']:.3f} accuracy {validation['accuracy']:.2%}   "
        f"{record['reviews_per_second']:.0f} reviews/s   {_clock(record['seconds'])}"
    )


def _clock(seconds: float) -> str:
    """Return seconds as minutes:seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _what_it_trains_on(recipe: Recipe, prepared: "Prepared", machine: "Machine") -> str:
    """Return a few lines that say what is about to happen."""
    split, known = prepared.split, prepared.coverage()
    return (
        f"Recipe   {recipe.name}: {recipe.about}\n"
        f"Reviews  {prepared.reviews.source}: {len(split.train):,} to train on, "
        f"{len(split.validation):,} for validation, {len(split.test):,} for the test\n"
        f"Split    {split.method}\n"
        f"Words    {len(prepared.tokenizer.vocabulary):,}; {prepared.vectors.source} knows "
        f"{known['tokens']:.2%} of the running words\n"
        f"Machine  {machine}"
    )


def _print_figures(measured: dict[str, Any], part: str) -> None:
    """Print what a person wants to know first."""
    for name, figures in (("BiLSTM", measured[part]), ("Linear", measured["baseline"][part])):
        low, high = figures["accuracy_interval"]
        auc = "-" if figures["roc_auc"] is None else f"{figures['roc_auc']:.4f}"
        click.echo(
            f"{name:<8} accuracy {figures['accuracy']:.2%} ({low:.2%} to {high:.2%}), "
            f"ROC AUC {auc}, log loss {figures['log_loss']:.3f}, Brier {figures['brier']:.3f}, "
            f"calibration error {figures['calibration_error']:.3f}"
        )
    click.echo(
        f"Paired   McNemar p = {measured['mcnemar']['p_value']:.2g} on {measured[part]['n']:,} reviews"
    )
    for name, row in measured[part]["by_class"].items():
        shares = "  ".join(
            f"{key} {'-' if row[key] is None else format(row[key], '.1%')}"
            for key in ("precision", "recall", "f1")
        )
        click.echo(f"         {name:<9} {shares}  ({row['n']:,})")


def _print_data(described: dict[str, Any]) -> None:
    """Print the counts, leaks and words of a set of reviews."""
    click.echo(
        f"Reviews  {described['source']}: {described['n']:,} ({described['empty']} without text)"
    )
    click.echo(f"Split    {described['method']}")
    for name, part in described["parts"].items():
        click.echo(
            f"         {name:<10} {part['n']:>6,}  positive {part['positive']:>6,}  "
            f"negative {part['negative']:>6,}  films {part['films']:>5,}"
        )
    lengths = {key: value for key, value in described["lengths"].items() if key != "histogram"}
    click.echo("Tokens   " + "  ".join(f"{key} {value:,.0f}" for key, value in lengths.items()))
    leaks = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in described["leaks"].items()
    )
    click.echo(f"Leaks    {leaks}")
    for title, key in (("frequent words", "frequent"), ("telling words", "words"),
                       ("telling n-grams", "ngrams")):  # fmt: skip
        for label, rows in described[key].items():
            click.echo(f"{label} {title}: " + ", ".join(str(row[0]) for row in rows))

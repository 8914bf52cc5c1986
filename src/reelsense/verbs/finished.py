"""evaluate, export: from a finished run to its figures and its bundle."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput
from reelsense.verbs import training_output as output
from reelsense.verbs.options import (
    data_options,
    machine_options,
    need_folder,
    read,
    source_of,
)

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews


@click.command()
@click.argument("model")
@click.option("--part", type=click.Choice(["train", "validation", "test", "all"]), default=None,
              help="Part of the run's own data (test by default), or of SOURCE (all).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the figures go; RUN/evaluation by default, or for a bundle "
                   "evaluation.")  # fmt: skip
@data_options
@machine_options
def evaluate(
    model: str,
    part: str | None,
    out: Path | None,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a run or a bundle on labelled reviews.

    MODEL is the folder of a run, or that of a bundle, or 'small' or 'accurate', the bundles in the
    package; a folder of such a name is ./small. A run is measured on its test part, or on the
    reviews of --data, beside the linear baseline, trained on the same reviews as the run. A bundle
    is measured on the reviews of --data.
    """
    if data is None and (text_column or label_column or labels):
        raise BadInput("--text-column, --label-column and --labels go with --data; add it")
    source = None if data is None else source_of(data, text_column, label_column, labels)

    from reelsense.bundle.folder import ABOUT, folder_of

    path = folder_of(model)
    if (path / ABOUT).exists():
        _evaluate_bundle(path, part or "all", out or Path("evaluation"), source, device, threads)
    else:
        _evaluate_run(path, part, out or path / "evaluation", source, device, threads)


def _evaluate_run(
    run: Path,
    part: str | None,
    folder: Path,
    source: dict[str, Any] | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a run, as `evaluate` says."""
    if not (run / "recipe.toml").exists():
        raise BadInput(
            f"{run}: not the folder of a run or a bundle; `reelsense train` makes a run, "
            "`reelsense export` a bundle of it"
        )

    from reelsense.training.checkpoint import read_run
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import evaluate_run

    recipe, saved = read_run(run)
    need_folder(folder)
    own = _own_reviews(run, saved["source"])
    other = None if source is None else read(source)
    machine = find_machine(device, threads, recipe.precision)
    measured = evaluate_run(run, recipe, own, other, part, folder, machine)
    output.print_figures(measured, "test", measured["part"])
    _warn_of_seen(measured)
    click.echo(f"Figures   {folder / 'metrics.json'}")


def _evaluate_bundle(
    path: Path,
    part: str,
    folder: Path,
    source: dict[str, Any] | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a bundle, as `evaluate` says."""
    if source is None:
        raise BadInput(f"{path}: a bundle brings no reviews; name labelled ones with --data")
    if device == "cuda":
        raise BadInput("--device cuda: a bundle computes on the processor; leave it out")
    for kept, what in ((path, "the bundle"), (Path(__file__).parents[1], "the package")):
        if folder.resolve().is_relative_to(kept.resolve()):
            raise BadInput(f"--out {folder}: lies in {what}; name another folder with --out")
    need_folder(folder)

    from reelsense.atomic import write_atomically
    from reelsense.evaluation import plots
    from reelsense.inference.measure import answers_csv, measure_bundle, part_of
    from reelsense.inference.predictor import load

    model = load(path, threads)
    reviews = part_of(read(source), part)
    measured, answers = measure_bundle(model, reviews, part)
    write_atomically(folder / "predictions.csv", answers_csv(reviews, answers))
    write_atomically(folder / "metrics.json", json.dumps(measured, indent=2) + "\n")
    plots.draw_run([], measured, folder)
    output.print_figures(measured, "test", part)
    decided = output.what_is_decided(measured["decided"], model.about["stated_error"])
    click.echo(f"Decided   {decided}")
    _warn_of_seen(measured)
    click.echo(f"Figures   {folder / 'metrics.json'}")


def _warn_of_seen(measured: dict[str, Any]) -> None:
    """Warn of reviews that were measured on and trained on."""
    if warning := output.what_was_seen(measured["seen"], measured["test"]["n"]):
        click.echo(warning, err=True)


def _own_reviews(run: Path, source: dict[str, Any]) -> "Reviews":
    """Read the reviews that a run was split from."""
    try:
        return read(source)
    except BadInput as error:
        raise BadInput(f"{run}: needs the reviews that it was trained on, but {error}") from None


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--held-out", type=click.Path(path_type=Path), multiple=True, metavar="RUN",
              help="A run of the same recipe whose held-out reviews say what the bundle is worth, "
                   "where RUN learned from every review; may come several times.")  # fmt: skip
@click.option("--variant", type=click.Choice(["fp32", "int8"]), default=None,
              help="Numbers to compute with; int8 by default, unless that costs "
                   "0.1 points of validation accuracy.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the bundle in FOLDER.")
def export(
    run: Path, folder: Path, held_out: tuple[Path, ...], variant: str | None, overwrite: bool
) -> None:
    """Make a bundle of a run: a folder that predicts.

    A bundle needs no torch: `reelsense predict --model FOLDER`. Its graph is checked against the
    network, its probabilities are calibrated on the reviews that RUN held out for validation, and
    its card says what it is worth on those held out for the test.
    """
    need_folder(folder)

    from reelsense.bundle.folder import check_place
    from reelsense.training.checkpoint import read_run

    # Before a minute of work, not after.
    check_place(folder, overwrite)
    for other in held_out:
        read_run(other)
    reviews = _own_reviews(run, read_run(run)[1]["source"])

    from reelsense.bundle import export as bundle

    about = bundle.export(run, folder, reviews, held_out, variant, overwrite)
    size = sum(file.stat().st_size for file in folder.iterdir())
    click.echo(output.what_was_exported(folder, about, size))

"""train, evaluate, export: from reviews to a run, its figures and its bundle."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe, read_recipe
from reelsense.verbs import training_output as output
from reelsense.verbs.interruption import Interrupted, how_to_go_on, interruptible
from reelsense.verbs.options import (
    UNLABELLED,
    RecipeCommand,
    bundle_path,
    data_options,
    machine_options,
    need_folder,
    place_of_unlabelled,
    read,
    read_unlabelled,
    recipe_options,
    source_of,
)

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews
    from reelsense.training.prepare import Prepared
    from reelsense.training.start import Start


class _Train(RecipeCommand):
    recipe = Recipe


@click.command(cls=_Train)
@click.option("--recipe", metavar="NAME", show_default="default",
              help="A recipe that `reelsense recipes` lists, or a TOML file.")  # fmt: skip
@click.option("--from", "origin", metavar="FOLDER",
              help="Start from the language models of this run of `reelsense pretrain`; or "
                   "fine-tune the model in this folder, or 'shipped', on --data.")  # fmt: skip
@UNLABELLED
@click.option("--run", "run_name", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the run goes; runs/RECIPE by default.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
@data_options
@machine_options
@recipe_options(Recipe)
def train(
    recipe: str | None,
    origin: str | None,
    unlabelled: tuple[str, ...],
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
    With --test 0 it is measured on the validation part only; with --validation 0 as well it learns
    from every review, and nothing is measured.
    """
    chosen = {key: value for key, value in changes.items() if value is not None}
    start, usual, plan = _start_and_plan(origin, recipe, data, chosen)
    run = run_name or Path("runs") / plan.name
    source = source_of(data, text_column, label_column, labels)
    source["unlabelled"] = [place_of_unlabelled(name) for name in unlabelled]
    need_folder(run)

    from reelsense.training import checkpoint

    # Before a minute of reading, not after.
    there = checkpoint.check_run(run, plan, resume, fine_tuning=start is not None)
    if there and (run / "report.html").exists() and not checkpoint.state_path(run).exists():
        click.echo(f"{run} has finished already: {run / 'report.html'}")
        return
    reviews, more = read(source), read_unlabelled(source["unlabelled"])

    from reelsense.evaluation.report import write_report
    from reelsense.model.networks import build
    from reelsense.training.loop import train as steps
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import measure_run, write_environment
    from reelsense.training.pools import make_pools
    from reelsense.training.prepare import prepare

    machine = find_machine(device, threads, plan.precision)
    prepared = prepare(plan, reviews, start)
    if start is None:
        network = build(plan, prepared.vectors.matrix, prepared.vectors.found)
    else:
        network = start.network(plan)
    pools = make_pools(plan, prepared, more)
    hashes = prepared.hashes()
    hashes |= {f"unlabelled {place}": part.sha256 for place, part in enumerate(more, 1)}
    checkpoint.open_run(run, plan, source, hashes, resume)  # from here on the input is good
    prepared.tokenizer.save(run / "tokenizer.json")
    write_environment(run, plan.seed, machine, hashes)
    click.echo(output.what_it_trains_on(usual, plan, prepared, machine))
    if start is not None:
        _note_the_start(run, f"--from {origin}", start, prepared)

    training, validation = (prepared.examples(plan, part) for part in ("train", "validation"))
    running = steps(plan, network, training, validation, run, machine, pools)
    with interruptible() as interrupted:
        output.draw_progress(running, plan, interrupted)
    click.echo(output.what_it_measures_on(prepared))
    try:
        measured = measure_run(run, plan, prepared, network, machine)
        report = write_report(run, dict(zip(reviews.ids, reviews.texts, strict=True)))
        checkpoint.clear_checkpoints(run)  # only now is nothing left to go on with
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {how_to_go_on()}") from None
    output.print_result(measured)
    click.echo(f"Weights   {run / 'weights.safetensors'}  sha256 {measured['weights_sha256']}")
    click.echo(f"Report    {report}")


def _start_and_plan(
    origin: str | None, recipe: str | None, data: str | None, changes: dict[str, Any]
) -> "tuple[Start | None, Recipe, Recipe]":
    """Return what the run starts from, the recipe that it would have, and that with the changes."""
    if origin is None:
        usual = read_recipe(recipe or "default")
        return None, usual, usual.changed(**changes)

    from reelsense.training.start import fine_tuning, read_language_model, read_start, started

    path = bundle_path(origin)
    if (path / "recipe.toml").exists():
        start = read_language_model(path, origin)
        usual = read_recipe(recipe or "accurate")
        return start, started(usual, start, {}), started(usual, start, changes)

    from reelsense.bundle.folder import read_bundle, trained_on

    if recipe is not None:
        raise BadInput(f"--recipe {recipe} cannot go with --from, which brings one; leave one out")
    if data is None:
        raise BadInput("--from needs --data with the reviews to fine-tune on; add it")
    found = read_bundle(path)
    start = read_start(found.path, found.about, found.tokenizer, trained_on(found.path))
    return start, fine_tuning(start, {}), fine_tuning(start, changes)


def _note_the_start(run: Path, name: str, start: "Start", prepared: "Prepared") -> None:
    """Keep in the run what its start had learned from; warn where that is held out here."""
    from reelsense.atomic import write_atomically
    from reelsense.text.fingerprints import seen, to_npy
    from reelsense.text.splits import normalised
    from reelsense.training.start import STARTED_FROM

    write_atomically(run / STARTED_FROM, to_npy(start.learned))
    rows = [*prepared.split.validation, *prepared.split.test]
    texts = (normalised(prepared.reviews.texts[row]) for row in rows)
    if known := int(seen(texts, start.learned).sum()):
        click.echo(
            f"{known:,} of the {len(rows):,} held-out reviews are among those that {name} "
            "learned from; figures on them flatter",
            err=True,
        )


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(["train", "validation", "test", "all"]), default=None,
              help="Part of the run's own data (test by default), or of SOURCE (all).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the figures go; RUN/evaluation by default, or for a bundle "
                   "evaluation.")  # fmt: skip
@data_options
@machine_options
def evaluate(
    model: Path,
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

    MODEL is the folder of a run, or that of a bundle, or 'shipped', the bundle in the package. A
    run is measured on its test part, or on the reviews of --data, beside the linear baseline,
    trained on the same reviews as the run. A bundle is measured on the reviews of --data.
    """
    if data is None and (text_column or label_column or labels):
        raise BadInput("--text-column, --label-column and --labels go with --data; add it")
    source = None if data is None else source_of(data, text_column, label_column, labels)
    path = bundle_path(model)
    if path != model or (path / "bundle.json").exists():
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

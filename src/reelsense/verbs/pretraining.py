"""pretrain: from reviews without labels to weights that a training starts from."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput
from reelsense.model.pretraining import Pretraining
from reelsense.verbs.interruption import Interrupted, how_to_go_on, interruptible
from reelsense.verbs.options import (
    UNLABELLED,
    RecipeCommand,
    data_options,
    machine_options,
    need_folder,
    place_of_unlabelled,
    read,
    read_unlabelled,
    recipe_options,
    source_of,
)
from reelsense.verbs.progress import Progress, clock, draw_progress

if TYPE_CHECKING:
    from reelsense.training.pretrain import Measured, PretrainingStep
    from reelsense.training.start import Pretrained


class _Pretrain(RecipeCommand):
    recipe = Pretraining


@click.command(cls=_Pretrain)
@click.option(
    "--from", "origin", metavar="NAME",
    help="Go on from the language models of this run, with their words, to learn how your reviews "
         "are written; 'pretrained': from those of the package.",
)  # fmt: skip
@UNLABELLED
@click.option("--recipe", metavar="FILE", help="A TOML file of values.")
@click.option("--run", "run_name", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the run goes; runs/NAME by default.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
@data_options
@machine_options
@recipe_options(Pretraining)
def pretrain(
    origin: str | None,
    unlabelled: tuple[str, ...],
    recipe: str | None,
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
    """Learn the language of reviews, whose labels nobody reads.

    Two language models, one that reads forwards and one backwards. The words of the labelled
    reviews of --data are read too, but for those that a training with the same --validation,
    --test and --split-seed holds out. `reelsense train --from FOLDER` starts from the weights.
    Ctrl-C saves the run; the same command with --resume goes on.
    """
    chosen = {key: value for key, value in changes.items() if value is not None}
    before, plan = _start_and_plan(origin, recipe, chosen)
    run = run_name or Path("runs") / plan.name
    source = source_of(data, text_column, label_column, labels)
    need_folder(run)

    from reelsense.training import checkpoint

    there = checkpoint.check_run(run, plan, resume, fine_tuning=before is not None)
    finished = there and not checkpoint.state_path(run).exists()
    if finished and (run / "weights.safetensors").exists():
        click.echo(f"{run} has finished already: {run / 'weights.safetensors'}")
        return
    source["unlabelled"] = [place_of_unlabelled(name) for name in unlabelled]
    labelled, more = read(source), read_unlabelled(source["unlabelled"], source["text_column"])

    import numpy as np

    from reelsense.atomic import write_atomically
    from reelsense.text.fingerprints import to_npy
    from reelsense.training.corpus import read_corpus
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import write_environment
    from reelsense.training.pretrain import build_language_model, finish
    from reelsense.training.pretrain import pretrain as steps
    from reelsense.training.start import READ

    machine = find_machine(device, threads, plan.precision)
    corpus = read_corpus(plan, labelled, more, before.tokenizer if before else None)
    network = build_language_model(plan, corpus, before.weights if before else None)
    sources, has_read = corpus.sources, corpus.read
    if before is not None:
        sources = sources | {checkpoint.STARTING_WEIGHTS: checkpoint.weights_hash(before.weights)}
        has_read = np.union1d(before.read, has_read)
    checkpoint.open_run(run, plan, source, sources, resume)
    corpus.tokenizer.save(run / "tokenizer.json")
    write_atomically(run / READ, to_npy(has_read))
    write_environment(run, plan.seed, machine, sources)
    click.echo(
        f"Reviews   {len(corpus.training):,} to learn from, {corpus.tokens():,} tokens; "
        f"{len(corpus.validation):,} for the perplexity\n"
        f"Words     {len(corpus.tokenizer.vocabulary) - 2:,}; {corpus.vectors.found.mean():.1%} "
        f"of them have a vector\n"
        f"Vectors   {corpus.vectors.source}\n"
        f"Machine   {machine}"
    )
    with interruptible() as interrupted:
        _draw(steps(plan, network, corpus, run, machine), plan, interrupted)
    try:
        digest = finish(run, network)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {how_to_go_on()}") from None
    click.echo(f"\nWeights   {run / 'weights.safetensors'}  sha256 {digest}")
    if corpus.validation:
        click.echo(f"Curve     {run / 'perplexity.png'}")
    click.echo(f"Go on     reelsense train --from {run} --recipe teacher")


def _start_and_plan(
    origin: str | None, recipe: str | None, changes: dict[str, Any]
) -> "tuple[Pretrained | None, Pretraining]":
    """Return what the run starts from, and the recipe of the file, or the usual one, changed."""
    plan = Pretraining()
    if recipe is not None:
        try:
            plan = Pretraining.from_toml(Path(recipe).read_text(encoding="utf-8"), recipe)
        except (OSError, UnicodeDecodeError):
            raise BadInput(f"--recipe {recipe}: no such file, or not a TOML file") from None
    if origin is None:
        return None, plan.changed(**changes)

    from reelsense.bundle.folder import folder_of
    from reelsense.training.start import going_on, read_pretrained

    before = read_pretrained(folder_of(origin), origin)
    return before, going_on(plan, before, changes)


def _measured(record: dict[str, Any]) -> str:
    """Return a line of `history.jsonl` as a row of the table."""
    values = record.get("perplexity")
    if values is None:
        return f"  {record['epochs']:6.2f}  {record['batch_loss']:9.3f}"
    return f"  {record['epochs']:6.2f}  {values['forward']:9.2f}  {values['backward']:9.2f}"


def _draw(
    running: "Generator[PretrainingStep | Measured]",
    plan: Pretraining,
    interrupted: Callable[[], bool],
) -> None:
    """Show the steps as they come, and a row for each time that the perplexity is measured."""
    from reelsense.training.pretrain import Measured

    def show(event: "PretrainingStep | Measured") -> Progress | str:
        if isinstance(event, Measured):
            return _measured(event.record)
        now = (
            f"loss {event.loss:.3f}  {event.reviews_per_second:,.0f} reviews/s  "
            f"{clock(event.seconds_left)} left"
        )
        return Progress(f"Epoch {event.epoch}/{plan.epochs}", event.share_done, now)

    held_out = "         perplexity of held-out reviews\n  epochs   forwards  backwards"
    click.echo(f"\n{held_out if plan.validation else '  epochs   loss (no review was held out)'}")
    draw_progress(running, show, interrupted)

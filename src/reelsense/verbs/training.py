"""train, distil: from reviews to a run and its figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe, read_recipe
from reelsense.torchrun import PeerLost
from reelsense.verbs import training_output as output
from reelsense.verbs.interruption import Interrupted, how_to_go_on, interruptible
from reelsense.verbs.options import (
    UNLABELLED,
    Command,
    RecipeCommand,
    data_options,
    machine_options,
    need_folder,
    place_of_unlabelled,
    read,
    read_unlabelled,
    recipe_options,
    source_of,
    values_of,
)
from reelsense.verbs.processes import joined

if TYPE_CHECKING:
    from reelsense.model.pooled import Network
    from reelsense.text.reviews import Reviews
    from reelsense.training.augment import Guards
    from reelsense.training.batches import Pool
    from reelsense.training.distil import Lessons, Teacher
    from reelsense.training.machine import Machine
    from reelsense.training.prepare import Prepared
    from reelsense.training.start import Start
    from reelsense.training.team import Team


class _Train(RecipeCommand):
    recipe = Recipe


FROM = click.option(
    "--from", "origin", metavar="NAME",
    help="Start from the language models of this run of `reelsense pretrain`, or 'pretrained', "
         "those of the package; or fine-tune on --data the bundle in this folder, or 'small' or "
         "'accurate', those of the package. A folder of such a name is ./small.",
)  # fmt: skip
RUN = click.option(
    "--run", "run", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where the run goes; runs/RECIPE by default.",
)  # fmt: skip
TRIAL = click.option(
    "--trial", is_flag=True,
    help="Measure on the validation part only: no choice is then made on the test part.",
)  # fmt: skip
RESUME = click.option("--resume", is_flag=True, help="Go on with the run in that folder.")


def run_options(command: Command) -> Command:
    """Add the flags of every run, however it learns."""
    command = machine_options(recipe_options(Recipe)(command))
    for option in (data_options, TRIAL, RESUME, RUN, UNLABELLED, FROM):
        command = option(command)
    return command


@click.command(cls=_Train)
@click.option("--recipe", metavar="NAME", show_default="default",
              help="A recipe that `reelsense recipes` lists, or a TOML file.")  # fmt: skip
@run_options
def train(**given: Any) -> None:
    """Train a network, measure it, draw every curve, write a report.

    It is measured on the test part, which nothing before has seen, beside a linear baseline that
    is trained on the same reviews. Ctrl-C saves the run; the same command with --resume goes on.
    With --test 0 it is measured on the validation part only; with --validation 0 as well it learns
    from every review, and nothing is measured. torchrun starts it in several processes:
    `torchrun --nproc-per-node 2 -m -- reelsense train ...`
    """
    _train(given, (), "default")


@click.command(cls=_Train)
@click.argument("teachers", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recipe", metavar="NAME", show_default="small",
              help="The student's, as with `reelsense train`.")  # fmt: skip
@run_options
def distil(teachers: tuple[Path, ...], **given: Any) -> None:
    """Train a small network on what TEACHERS say of many texts.

    TEACHERS are runs of the same split. They label the training reviews, those of --unlabelled, and
    stretches of one to three sentences of both. What they said is kept in the run. The student is a
    run as any other.
    """
    _train(given, teachers, "small")


def _train(given: dict[str, Any], teachers: Sequence[Path], usual_recipe: str) -> None:
    """Do what `train` and `distil` have in common: `given` are the values of their flags."""
    changes = {field.name: given.pop(field.name) for field in values_of(Recipe)}
    request = _Request(**given)
    chosen = {key: value for key, value in changes.items() if value is not None}
    start, usual, plan = _start_and_plan(request, usual_recipe, chosen)
    run = request.run or Path("runs") / plan.name
    source = source_of(request.data, request.text_column, request.label_column, request.labels)
    source["unlabelled"] = [place_of_unlabelled(name) for name in request.unlabelled]
    if request.unlabelled and not plan.unlabelled_share:
        raise BadInput(
            "--unlabelled: the recipe reads no review without a label; ask for some with "
            "--unlabelled-share"
        )
    with joined() as team:
        _train_in(team, request, run, source, teachers, (start, usual, plan))


def _train_in(
    team: "Team",
    request: "_Request",
    run: Path,
    source: dict[str, Any],
    teachers: Sequence[Path],
    start_and_plan: "tuple[Start | None, Recipe, Recipe]",
) -> None:
    """Read, check and train, alone or as one of several processes; see `_start_and_plan`."""
    from reelsense.training import checkpoint
    from reelsense.training.team import largest, leave, need_the_same

    start, usual, plan = start_and_plan
    there = False
    if team.first:  # no other process looks into the run folder, or writes there
        need_folder(run)
        # Before a minute of reading, not after.
        there = checkpoint.check_run(run, plan, request.resume, fine_tuning=start is not None)
    if largest(team, int(there and checkpoint.is_finished(run))):
        leave(team)
        click.echo(f"{run} has finished already: {run / 'report.html'}")
        return
    reviews, more = read(source), read_unlabelled(source["unlabelled"], source["text_column"])

    from reelsense.training.augment import guards_of
    from reelsense.training.distil import make_lessons, read_teacher
    from reelsense.training.machine import find_machine
    from reelsense.training.measure import write_environment
    from reelsense.training.pools import make_pools
    from reelsense.training.prepare import prepare

    machine = find_machine(request.device, request.threads, plan.precision)
    prepared = prepare(plan, reviews, start)
    masters = [read_teacher(teacher, plan, prepared) for teacher in teachers]
    lessons = make_lessons(plan, prepared, more) if masters else None
    pools = [] if masters else make_pools(plan, prepared, more)
    guards = guards_of(plan, prepared) if plan.augment != "none" else None
    network, hashes = _network(plan, prepared), _hashes(prepared, more, masters)
    need_the_same(team, _given(plan, hashes, network, machine))
    # From here on the input is good.
    if team.first:
        checkpoint.open_run(run, plan, source, hashes, request.resume)
        prepared.tokenizer.save(run / "tokenizer.json")
        write_environment(run, plan.seed, machine, hashes)
        click.echo(output.what_it_trains_on(usual, plan, prepared, machine))
        if start is not None:
            _note_the_start(run, f"--from {request.origin}", start, prepared)
    job = _Job(run, plan, prepared, network, machine, pools, guards, lessons, masters, team)
    try:
        _learn_and_measure(job, ("validation",) if request.trial else ("validation", "test"))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {how_to_go_on()}") from None
    except PeerLost:
        lost = f"another process of this training has ended; {how_to_go_on()}"
        raise PeerLost(lost) from None


def _network(plan: Recipe, prepared: "Prepared") -> "Network":
    """Return the network with its first weights."""
    from reelsense.model.networks import build

    if prepared.start is not None:
        return prepared.start.network(plan)
    return build(plan, prepared.vectors.matrix, prepared.vectors.found)


def _hashes(
    prepared: "Prepared", unlabelled: "Sequence[Reviews]", masters: "Sequence[Teacher]"
) -> dict[str, str]:
    """Return the SHA-256 of everything that the run learns from."""
    hashes = prepared.hashes()
    hashes |= {f"unlabelled {place}": part.sha256 for place, part in enumerate(unlabelled, 1)}
    hashes |= {f"teacher {place}": master.sha256 for place, master in enumerate(masters, 1)}
    return hashes


def _given(
    plan: Recipe, hashes: dict[str, str], network: "Network", machine: "Machine"
) -> dict[str, str]:
    """Return a digest of everything that must be the same in all processes of a training."""
    import torch

    from reelsense import __version__
    from reelsense.training.checkpoint import weights_hash

    return {
        "recipe": plan.to_toml(),
        "data": json.dumps(hashes, sort_keys=True),
        "first weights": weights_hash(network.state_dict()),
        "device": f"{machine.device.type} {machine.bf16}",
        "versions": f"{__version__} {torch.__version__}",
    }


def _learn_and_measure(job: "_Job", wanted: Sequence[str]) -> None:
    """Do all that a run does once its input is good, and say what came of it."""
    from reelsense.evaluation.report import write_report
    from reelsense.text.alike import words_alike
    from reelsense.training.checkpoint import clear_checkpoints
    from reelsense.training.distil import soft_labels
    from reelsense.training.loop import train as steps
    from reelsense.training.measure import measure_run
    from reelsense.training.team import largest, leave

    run, plan, prepared, network, machine, team = (
        job.run, job.plan, job.prepared, job.network, job.machine, job.team,
    )  # fmt: skip
    training, validation = (prepared.examples(plan, part) for part in ("train", "validation"))
    pools = job.pools
    if job.lessons is not None:
        training, pools = soft_labels(
            plan, prepared, job.lessons, job.masters, machine, run, click.echo
        )
    alike = words_alike(prepared.tokenizer.vocabulary) if plan.tie_names else []
    running = steps(
        plan, network, training, validation, run, machine, pools, alike, job.guards, team
    )
    with interruptible(agreed=lambda number: largest(team, number)) as interrupted:
        output.draw_training(running, plan, interrupted)
        leave(team)  # not before all is saved: torchrun ends the first once another has ended
    if not team.first:
        return
    click.echo(output.what_it_measures_on(prepared, wanted))
    measured = measure_run(run, plan, prepared, network, machine, wanted)
    reviews = prepared.reviews
    report = write_report(run, dict(zip(reviews.ids, reviews.texts, strict=True)))
    clear_checkpoints(run)  # only now is nothing left to go on with
    output.print_result(measured)
    click.echo(f"Weights   {run / 'weights.safetensors'}  sha256 {measured['weights_sha256']}")
    click.echo(f"Report    {report}")


@dataclass(frozen=True, eq=False)
class _Job:
    """A run whose input is good."""

    run: Path
    plan: Recipe
    prepared: "Prepared"
    network: "Network"
    machine: "Machine"
    pools: "list[Pool]"
    guards: "Guards | None"  # None: no review is altered
    lessons: "Lessons | None"  # of a student, in place of the pools
    masters: "list[Teacher]"
    team: "Team"


@dataclass(frozen=True)
class _Request:
    """The values of the flags that are not in a recipe."""

    recipe: str | None
    origin: str | None
    unlabelled: tuple[str, ...]
    run: Path | None
    resume: bool
    trial: bool
    data: str | None
    text_column: str | None
    label_column: str | None
    labels: str | None
    device: str
    threads: int | None


def _start_and_plan(
    request: _Request, usual_recipe: str, changes: dict[str, Any]
) -> "tuple[Start | None, Recipe, Recipe]":
    """Return what the run starts from, the recipe that it would have, and that with the changes."""
    origin, recipe = request.origin, request.recipe
    if origin is None:
        usual = read_recipe(recipe or usual_recipe)
        return None, usual, usual.changed(**changes)

    from reelsense.bundle.folder import folder_of, read_bundle, trained_on
    from reelsense.training.start import fine_tuning, read_language_model, read_start, started

    path = folder_of(origin)
    if not path.exists():
        raise BadInput(f"--from {origin}: there is no such folder; check it")
    if (path / "recipe.toml").exists():
        start = read_language_model(path, origin)
        usual = read_recipe(recipe or ("teacher" if usual_recipe == "default" else usual_recipe))
        return start, started(usual, start, {}), started(usual, start, changes)

    if recipe is not None:
        raise BadInput(f"--recipe {recipe} cannot go with --from, which brings one; leave one out")
    if request.data is None:
        raise BadInput("--from needs --data with the reviews to fine-tune on; add it")

    from reelsense.bundle.weights import weights_of_bundle

    found = read_bundle(path)
    weights = weights_of_bundle(found)
    start = read_start(path, found.about, found.tokenizer, weights, trained_on(path))
    return start, fine_tuning(start, {}), fine_tuning(start, changes)


def _note_the_start(run: Path, name: str, start: "Start", prepared: "Prepared") -> None:
    """Keep in the run what its start had learned from; warn where that is held out here."""
    from reelsense.atomic import write_atomically
    from reelsense.text.fingerprints import seen, to_npy
    from reelsense.text.splits import normalised
    from reelsense.training.start import STARTED_FROM

    write_atomically(run / STARTED_FROM, to_npy(start.learned))
    rows = [*prepared.split.validation, *prepared.split.test]
    texts = [normalised(prepared.reviews.texts[row]) for row in rows]
    for hashes, what in (
        (start.learned, "learned from; figures on them flatter"),
        (start.read, "has read (without their labels); figures on them may flatter; "
                     "pretrain with the same --validation, --test and --split-seed"),
    ):  # fmt: skip
        if known := int(seen(texts, hashes).sum()):
            click.echo(
                f"{known:,} of the {len(rows):,} held-out reviews are among those that {name} "
                f"{what}",
                err=True,
            )

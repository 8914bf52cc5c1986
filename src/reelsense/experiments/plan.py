"""What is compared: recipes, seeds and shares of the labels, on one split; and its folder.

A folder of a comparison holds `comparison.json` (what all its runs have in common), `recipes/`,
`logs/` (what each run said), and a run folder for each recipe, share and seed.
"""

import fcntl
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reelsense import __version__
from reelsense.atomic import write_atomically
from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.model.settings import differences, flag
from reelsense.text.reviews import Reviews
from reelsense.text.splits import Split
from reelsense.training.checkpoint import read_run
from reelsense.training.prepare import parts_of

SHARED: Final = "comparison.json"
OF_THE_SPLIT: Final = ("validation", "test", "split_seed")
DECIDED: Final = ("seed", "label_share")  # by the comparison, whatever a recipe says
_NAME: Final = re.compile(r"[\w+][\w.+-]*")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: a recipe, the share of the labels that it gets, a seed."""

    recipe: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.recipe}-{self.share:.9g}-{self.seed}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A comparison whose input is good.

    recipes: by their names; the first is the one that the others are compared with.
    shares: of the labels, rising.
    split: of the reviews, with all labels.
    part: what the recipes are measured on, "test" or "validation".
    least_steps: see `passes_of`.
    unlabelled: where reviews without a label are, for the recipes that read some.
    """

    folder: Path
    recipes: Mapping[str, Recipe]
    shares: tuple[float, ...]
    seeds: int
    reviews: Reviews
    split: Split
    part: str
    least_steps: int
    unlabelled: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The recipe that the others are compared with."""
        return next(iter(self.recipes))

    def cells(self) -> list[Cell]:
        """Return the runs in their order: a seed of everything before the next one."""
        return [
            Cell(name, share, seed)
            for seed in range(self.seeds)
            for share in self.shares
            for name in self.recipes
        ]

    def run(self, cell: Cell) -> Path:
        """Where a run is."""
        return self.folder / cell.name

    def recipe_file(self, name: str) -> Path:
        """Where a recipe is kept, as it was given."""
        return self.folder / "recipes" / f"{name}.toml"

    def recipe_of(self, cell: Cell) -> Recipe:
        """Return the recipe of a run."""
        recipe = self.recipes[cell.recipe].changed(seed=cell.seed, label_share=cell.share)
        return recipe.changed(passes=self.passes_of(cell))

    def passes_of(self, cell: Cell) -> int:
        """Return the passes of an epoch: the recipe's, or as many as make `least_steps` steps.

        Three epochs of 200 reviews are a dozen steps, in which no network learns anything: it would
        be compared how fast they begin. More epochs would do too, but to measure one takes eight
        times as long as to train it.
        """
        recipe = self.recipes[cell.recipe]
        a_pass = math.ceil(self.labelled(cell.share) / recipe.batch_reviews)
        return max(recipe.passes, math.ceil(self.least_steps / (a_pass * recipe.epochs)))

    def labelled(self, share: float) -> int:
        """Return about how many reviews a share of the labels is: at most one a class more."""
        return max(1, round(share * len(self.split.train)))


def make_plan(
    folder: Path,
    recipes: Sequence[tuple[str, Recipe]],
    shares: Sequence[float],
    seeds: int,
    reviews: Reviews,
    trial: bool,
    least_steps: int,
    unlabelled: Sequence[str] = (),
) -> Plan:
    """Return the comparison of recipes, each with the name that it was asked for by.

    Raises:
        BadInput: recipes that cannot be told apart or cut the reviews in other ways, a share that
            leaves a class without a review, nothing held out, reviews without a label that no
            recipe reads.
    """
    named = _by_name(recipes)
    first, *others = named.values()
    for recipe in others:
        for key in OF_THE_SPLIT:
            ours, theirs = getattr(recipe, key), getattr(first, key)
            if ours != theirs:
                raise BadInput(
                    f"recipe {recipe.name}: has {flag(key)} {ours} and {first.name} {theirs}; all "
                    "must cut the reviews alike"
                )
    if unlabelled and not any(recipe.unlabelled_share for recipe in named.values()):
        raise BadInput(
            "--unlabelled: none of the recipes reads a review without a label; give one with an "
            "unlabelled_share"
        )
    for share in shares:
        if not 0 < share <= 1:
            raise BadInput(f"--fractions {share:g}: is no share of the labels; above 0, at most 1")
    split = parts_of(first.changed(label_share=1.0), reviews)
    for share in shares:
        parts_of(first.changed(label_share=share), reviews)
    part = "validation" if trial or not len(split.test) else "test"
    if not len(getattr(split, part)):
        raise BadInput(
            f"recipe {first.name}: holds no {part} review out, so there is nothing to compare on; "
            f"give it a --{part} above 0"
        )
    rising = tuple(sorted(set(shares)))
    return Plan(folder, named, rising, seeds, reviews, split, part, least_steps, tuple(unlabelled))


def _by_name(recipes: Sequence[tuple[str, Recipe]]) -> dict[str, Recipe]:
    """Return recipes by their names, which are those of folders too."""
    asked: dict[str, str] = {}
    for argument, recipe in recipes:
        if not _NAME.fullmatch(recipe.name):
            raise BadInput(
                f"recipe {argument}: its name {recipe.name!r} cannot be that of a folder; take "
                "letters, digits, -, _ and ."
            )
        if recipe.name in asked:
            what = (
                f"recipe {argument}: is named twice; once is enough"
                if asked[recipe.name] == argument
                else f"recipes {asked[recipe.name]} and {argument}: are both called "
                f"{recipe.name!r}; give one of them another name"
            )
            raise BadInput(what)
        asked[recipe.name] = argument
    return {recipe.name: recipe for _, recipe in recipes}


# --- the folder -----------------------------------------------------------------------------------


def check_folder(folder: Path, resume: bool) -> None:
    """Refuse, before any work, a folder that is in the way or not there.

    Raises:
        BadInput: says which.
    """
    there = folder.is_dir() and any(folder.iterdir())
    if there and not (folder / SHARED).is_file():
        raise BadInput(f"{folder}: is not empty and no comparison; name another with --folder")
    if there and not resume:
        raise BadInput(
            f"{folder}: exists already; --resume goes on with it, --folder NAME starts another"
        )
    if resume and not there:
        raise BadInput(f"--resume: there is no comparison at {folder}; leave --resume out")


def open_folder(plan: Plan) -> None:
    """Make the folder of a comparison, or check that the one that is there goes on with this one.

    More recipes, shares and seeds than before are welcome; what all runs have in common stays.

    Raises:
        BadInput: it is of another split, other reviews or another version, or of another recipe of
            the same name; nothing is changed then.
    """
    saved, shared = plan.folder / SHARED, _shared(plan)
    before = _read_shared(saved) if saved.exists() else {}
    for key, (value, what) in shared.items():
        if before and before.get(key) != value:
            raise BadInput(
                f"--resume: {plan.folder} was made with {what} {before.get(key)}, this has "
                f"{value}; their figures do not mix: name another with --folder"
            )
    new = {}
    for name, recipe in plan.recipes.items():
        if (path := plan.recipe_file(name)).exists():
            _check_recipe(path, recipe)
        else:
            new[path] = recipe.to_toml()
    for cell in plan.cells():
        _check_run(plan, cell)
    for path, text in new.items():
        write_atomically(path, text)
    content = {key: value for key, (value, _) in shared.items()}
    write_atomically(saved, json.dumps(content, indent=2) + "\n")


def _shared(plan: Plan) -> dict[str, tuple[Any, str]]:
    """Return what all runs have in common, with words for it."""
    recipe = plan.recipes[plan.first]
    return {
        "reelsense": (__version__, "version"),
        "reviews": (plan.reviews.sha256, "the reviews with SHA-256"),
        **{key: (getattr(recipe, key), flag(key)) for key in OF_THE_SPLIT},
        "part": (plan.part, "figures of the part"),
        "least_steps": (plan.least_steps, "--steps"),
        "unlabelled": (list(plan.unlabelled), "--unlabelled"),
    }


def _read_shared(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: damaged; name another folder with --folder")
    return found


def _check_recipe(path: Path, recipe: Recipe) -> None:
    """Refuse another recipe than the one that was compared under the same name."""
    before = Recipe.from_toml(path.read_text(encoding="utf-8"), str(path))
    changed = differences(before.changed(about=recipe.about), recipe)
    if changed := {key: pair for key, pair in changed.items() if key not in DECIDED}:
        listed = "; ".join(f"{flag(key)} was {a}, is {b}" for key, (a, b) in changed.items())
        raise BadInput(
            f"--resume: {path.parent.parent} compares another recipe {recipe.name}: {listed}; "
            "give one of them another name"
        )


def _check_run(plan: Plan, cell: Cell) -> None:
    """Refuse a run that somebody made there in another way."""
    if not (plan.run(cell) / "data.json").exists():
        return
    recipe, data = read_run(plan.run(cell))
    odd = differences(recipe.changed(about=plan.recipes[cell.recipe].about), plan.recipe_of(cell))
    if odd or data["hashes"].get("reviews") != plan.reviews.sha256:
        what = f"differs in {', '.join(map(flag, odd))}" if odd else "is of other reviews"
        raise BadInput(f"--resume: {plan.run(cell)} {what}; name another folder with --folder")


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep the folder to this comparison; yield a descriptor that keeps it for who inherits it.

    A run that outlives the comparison that started it keeps the folder too, so that no second one
    goes on with the same run.

    Raises:
        BadInput: somebody else has it.
    """
    with (folder / ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"{folder}: another `reelsense compare`, or a run of one, is at work there; wait "
                "for it, or name another folder with --folder"
            ) from None
        yield file.fileno()

import json
from dataclasses import replace

import numpy as np
import pytest

from reelsense.errors import BadInput
from reelsense.experiments import plan as plans
from reelsense.experiments.plan import Cell, check_folder, locked, make_plan, open_folder
from reelsense.model.recipe import Recipe
from reelsense.text.splits import split


def recipe(name, **values):
    return Recipe(name=name, **{"validation": 0.2, "test": 0.2, **values})


def test_every_recipe_gets_every_seed_and_share_on_one_split(plan_of):
    plan = plan_of("a", "b", shares=[1, 0.5, 0.1], seeds=2)
    cells = plan.cells()
    assert len(cells) == len(set(cells)) == len({cell.name for cell in cells}) == 2 * 3 * 2
    assert [cell.name for cell in cells[:3]] == ["a-0.1-0", "b-0.1-0", "a-0.5-0"]
    assert {cell.seed for cell in cells[:6]} == {0}
    for cell in cells:
        made = plan.recipe_of(cell)
        assert (made.name, made.seed, made.label_share) == (cell.recipe, cell.seed, cell.share)
        assert made.changed(seed=0, label_share=1.0) == plan.recipes[cell.recipe]
    whole = split(plan.reviews, validation=0.2, test=0.2)
    assert np.array_equal(plan.split.train, whole.train)
    assert np.array_equal(plan.split.test, whole.test)
    assert (plan.first, plan.part) == ("a", "test")


def test_few_labels_are_gone_through_more_often_and_many_as_the_recipe_says(plan_of):
    plan = plan_of(
        recipes=[recipe("a", epochs=3, batch_reviews=16)], shares=[0.1, 1], least_steps=30
    )
    n = len(plan.split.train)
    assert plan.passes_of(Cell("a", 1, 0)) == 1
    assert plan.passes_of(Cell("a", 0.1, 0)) == -(-30 // (3 * -(-round(0.1 * n) // 16))) == 5
    assert plan.recipe_of(Cell("a", 0.1, 0)) == plan.recipes["a"].changed(passes=5, label_share=0.1)
    assert plan_of("a", shares=[0.1]).passes_of(Cell("a", 0.1, 0)) == 1
    often = plan_of(recipes=[recipe("a", passes=7)])
    assert often.passes_of(Cell("a", 1, 0)) == 7


def test_a_trial_and_recipes_without_a_test_are_measured_on_validation(plan_of):
    assert plan_of("a", trial=True).part == "validation"
    assert plan_of(recipes=[recipe("a", test=0.0)]).part == "validation"


def test_what_a_recipe_says_of_seed_and_labels_does_not_count(plan_of):
    plan = plan_of(recipes=[recipe("a", seed=7, label_share=0.5)])
    assert [plan.recipe_of(cell).seed for cell in plan.cells()] == [0, 1]
    assert all(plan.recipe_of(cell).label_share == 1 for cell in plan.cells())
    assert plan.split.unused == 0


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ([recipe("a"), recipe("a")], "recipe a: is named twice; once is enough"),
        ([recipe("a"), recipe("b", test=0.1)], "recipe b: has --test 0.1 and a 0.2; all must cut"),
        ([recipe("a"), recipe("b", split_seed=3)], "recipe b: has --split-seed 3 and a 0"),
        ([recipe("a", validation=0, test=0)], "recipe a: holds no validation review out"),
        ([recipe("../a")], r"recipe ../a: its name '\.\./a' cannot be that of a folder"),
        ([recipe("")], "its name '' cannot be"),
    ],
)
def test_recipes_that_cannot_be_compared_are_named(plan_of, recipes, message):
    with pytest.raises(BadInput, match=message):
        plan_of(recipes=recipes)


def test_reviews_without_a_label_that_nobody_reads_are_refused(plan_of):
    with pytest.raises(BadInput, match="--unlabelled: none of the recipes reads a review without"):
        plan_of("a", unlabelled=["x.csv"])


def test_two_files_with_one_name_are_told_apart(plan_of, made_up_reviews, tmp_path):
    named = [("x/a.toml", recipe("a")), ("y/b.toml", recipe("a"))]
    with pytest.raises(BadInput, match=r"recipes x/a.toml and y/b.toml: are both called 'a'; give"):
        make_plan(tmp_path, named, [1.0], 1, made_up_reviews(), False, 0)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_fraction_that_is_none_is_refused(plan_of, share):
    with pytest.raises(
        BadInput, match=f"--fractions {share:g}: is no share of the labels; above 0"
    ):
        plan_of("a", shares=[1, share])


def test_a_fraction_that_leaves_a_class_empty_is_refused(plan_of):
    with pytest.raises(BadInput, match=r"label share of 0.001 leaves none of the .* negative"):
        plan_of("a", shares=[1, 0.001])


# --- the folder -----------------------------------------------------------------------------------


def test_a_folder_is_opened_once_and_gone_on_with_when_asked(plan_of):
    plan = plan_of("a", "b")
    check_folder(plan.folder, resume=False)
    with pytest.raises(BadInput, match=r"--resume: there is no comparison at .*; leave --resume"):
        check_folder(plan.folder, resume=True)
    open_folder(plan)
    with pytest.raises(BadInput, match="exists already; --resume goes on with it, --folder NAME"):
        check_folder(plan.folder, resume=False)
    check_folder(plan.folder, resume=True)
    open_folder(plan_of("a", "b"))
    shared = json.loads((plan.folder / "comparison.json").read_text())
    assert shared["reviews"] == plan.reviews.sha256
    saved = (plan.folder / "recipes/b.toml").read_text()
    assert Recipe.from_toml(saved, "b") == plan.recipes["b"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(
            BadInput, match="is not empty and no comparison; name another with --fo"
        ):
            check_folder(tmp_path, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_more_recipes_seeds_and_shares_are_welcome(plan_of):
    open_folder(plan_of("a"))
    open_folder(plan_of("b", "a", seeds=5, shares=[0.1, 1]))
    open_folder(plan_of("a", seeds=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trial": True}, "was made with figures of the part test, this has validation"),
        (
            {"recipes": [recipe("b", unlabelled_share=1.0)], "unlabelled": ["x.csv"]},
            r"was made with --unlabelled \[\], this has \['x.csv'\]",
        ),
        ({"least_steps": 9}, "was made with --steps 0, this has 9; their figures do not mix"),
        ({"recipes": [recipe("b", split_seed=1)]}, "was made with --split-seed 0, this has 1"),
        ({"recipes": [recipe("b", test=0.3)]}, "was made with --test 0.2, this has 0.3"),
        (
            {"recipes": [recipe("a", hidden=64)]},
            "compares another recipe a: --hidden was 128, is 64",
        ),
    ],
)
def test_what_does_not_mix_is_refused_and_nothing_changes(plan_of, changes, message):
    plan = plan_of("a")
    open_folder(plan)
    before = {path: path.read_bytes() for path in plan.folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=message):
        open_folder(plan_of("a", **changes))
    assert before == {path: path.read_bytes() for path in plan.folder.rglob("*") if path.is_file()}


def test_other_reviews_and_another_version_are_refused(plan_of, other_reviews, monkeypatch):
    open_folder(plan_of("a"))
    with pytest.raises(BadInput, match=r"with the reviews with SHA-256 .*, this has .*do not mix"):
        open_folder(plan_of("a", reviews=other_reviews))
    monkeypatch.setattr(plans, "__version__", "99.0")
    with pytest.raises(BadInput, match=r"was made with version .*, this has 99.0; .*--folder"):
        open_folder(plan_of("a"))


def test_a_run_that_somebody_made_in_another_way_is_refused(plan_of, write_run):
    plan = plan_of("a")
    open_folder(plan)
    write_run(plan, plan.cells()[0], 1.0)
    open_folder(plan)
    saved = plan.run(plan.cells()[0]) / "recipe.toml"
    saved.write_text(saved.read_text().replace("hidden = 128", "hidden = 99"))
    with pytest.raises(BadInput, match="a-1-0 differs in --hidden; name another folder"):
        open_folder(plan)
    saved.write_text(saved.read_text().replace("hidden = 99", "hidden = 128"))
    data = plan.run(plan.cells()[0]) / "data.json"
    data.write_text(data.read_text().replace(plan.reviews.sha256, "0" * 64))
    with pytest.raises(BadInput, match="a-1-0 is of other reviews; name another folder"):
        open_folder(plan)


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_damaged_comparison_is_refused(plan_of, content):
    plan = plan_of("a")
    open_folder(plan)
    (plan.folder / "comparison.json").write_text(content)
    with pytest.raises(BadInput, match=r"comparison.json: damaged; name another folder"):
        open_folder(plan)


def test_the_words_about_a_recipe_may_change(plan_of):
    """What was written stays, so that a run that has begun goes on with its own recipe."""
    open_folder(plan_of("a"))
    plan = plan_of(recipes=[replace(recipe("a"), about="other words")])
    open_folder(plan)
    assert "other words" not in (plan.folder / "recipes/a.toml").read_text()


def test_a_folder_belongs_to_one_comparison_at_a_time(plan_of):
    plan = plan_of("a")
    open_folder(plan)
    with (
        locked(plan.folder),
        pytest.raises(BadInput, match="another `reelsense compare`, or a run of one, is at work"),
        locked(plan.folder),
    ):
        pass
    with locked(plan.folder):
        pass

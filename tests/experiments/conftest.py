"""A comparison without trainings: made-up reviews, and run folders as a training leaves them."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from reelsense.evaluation.metrics import evaluate
from reelsense.experiments.plan import make_plan, open_folder
from reelsense.model.recipe import Recipe
from reelsense.text.reviews import Reviews


def _reviews(n=400, seed=0):
    random = np.random.default_rng(seed)
    return Reviews(
        ids=tuple(f"row {row + 1}" for row in range(n)),
        texts=tuple(f"a film of {row} scenes" for row in range(n)),
        labels=(np.arange(n) % 2).astype(np.int8),
        films=random.integers(0, n // 4, n).astype(np.int64),
        parts=("",) * n,
        source="made-up reviews",
    )


@pytest.fixture(scope="session")
def made_up_reviews():
    return _reviews


@pytest.fixture
def plan_of(tmp_path):
    """Return a plan of recipes with these names; what is not given is small."""

    def make(*names, recipes=None, **given):
        recipes = recipes or [Recipe(name=name, validation=0.2, test=0.2) for name in names]
        usual = {
            "folder": tmp_path / "comparison", "shares": [1.0], "seeds": 2,
            "reviews": _reviews(), "trial": False, "least_steps": 0,
        }  # fmt: skip
        named = [(recipe.name, recipe) for recipe in recipes]
        return make_plan(recipes=named, **{**usual, **given})

    return make


def _write_run(plan, cell, skill, linear_skill=1.0, seconds=100.0):
    """Write what a finished run leaves; its logits are as good as `skill`."""
    run, recipe = plan.run(cell), plan.recipe_of(cell)
    part = plan.reviews.take(getattr(plan.split, plan.part))
    random = np.random.default_rng([cell.seed, len(cell.recipe)])
    signs = 2.0 * part.labels - 1
    logits = skill * signs + random.normal(0, 1, len(part))
    linear = 1 / (
        1 + np.exp(-linear_skill * signs - np.random.default_rng(9).normal(size=len(part)))
    )
    run.mkdir(parents=True)
    with (run / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "part", "label", "logit", "probability", "linear"])
        rows.writerow(["row 0", "another part", 1, 5, 0.99, 0.99])
        for name, label, logit, said in zip(part.ids, part.labels, logits, linear, strict=True):
            rows.writerow([name, plan.part, label, logit, 0.5, said])
    lengths = [1] * len(part)
    chances = 1 / (1 + np.exp(-logits))
    metrics = {
        plan.part: evaluate(part.labels, chances, lengths, part.ids),
        "baseline": {"seconds": 8.0, plan.part: evaluate(part.labels, linear, lengths, part.ids)},
        "best_epoch": 1, "parameters": 1234, "seconds": seconds, "run_seconds": seconds + 20,
        "peak_memory_mb": 900.4, "weights_sha256": f"{cell.seed:064x}",
        "split": {"train": plan.labelled(cell.share), "seed": plan.split.seed},
        "data": {"source": "/somewhere/reviews.csv"},
    }  # fmt: skip
    (run / "metrics.json").write_text(json.dumps(metrics))
    environment = {
        "device": "cpu, 1 core, fp32", "processor": "AVX2", "commit": "abc1234",
        "reelsense": "0.1.0", "torch": "2.13.0", "python": "3.11.7",
        "command": f"reelsense train --recipe /there/{cell.recipe}.toml --run /there/{cell.name}",
    }  # fmt: skip
    (run / "environment.json").write_text(json.dumps(environment))
    parts = {name: {"loss": 0.4, "accuracy": 0.8} for name in ("train", "validation")}
    epochs = [{"epoch": epoch, "seconds": 9.0, **parts} for epoch in (1, 2)]
    (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    (run / "recipe.toml").write_text(recipe.to_toml())
    hashes = {"reviews": plan.reviews.sha256}
    (run / "data.json").write_text(json.dumps({"source": {}, "hashes": hashes}))
    (run / "report.html").write_text("<p>whole</p>")


@pytest.fixture(scope="session")
def write_run():
    return _write_run


@pytest.fixture
def fill():
    """Write the runs of a plan: each recipe with its skill, None for one that failed."""

    def write(plan, **skills):
        open_folder(plan)
        (plan.folder / "logs").mkdir()
        for cell in plan.cells():
            skill = skills[cell.recipe]
            skill = skill[cell.seed] if isinstance(skill, list) else skill
            if skill is None:
                said = "something went on\nreelsense: the loss is not a number\n"
                (plan.folder / "logs" / f"{cell.name}.err").write_text(said)
            else:
                _write_run(plan, cell, skill, seconds=100.0 * (len(cell.recipe) + cell.seed))
        return plan

    return write


@pytest.fixture
def other_reviews():
    """The same reviews but for one text."""
    reviews = _reviews()
    return replace(reviews, texts=("another", *reviews.texts[1:]))

"""Recipes, seeds and shares of the labels, trained and compared on the same reviews.

The road of a comparison: `plan` what it consists of, `runs` train it, `cost` measures what the
networks cost to use, `results` and `summary` make figures of it, `conclusion` and `page` say them.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from reelsense.experiments.cost import measure_costs
from reelsense.experiments.plan import Plan, locked, open_folder
from reelsense.experiments.runs import Ended, Working, train_all


@dataclass(frozen=True)
class Measuring:
    """All runs have ended: so many of the networks have been measured."""

    done: int
    of: int


def compare(
    plan: Plan, flags: Sequence[str], at_once: int
) -> Generator[Ended | Working | Measuring]:
    """Train what has not been trained, and measure what it costs to use it.

    Close the generator to interrupt it: the runs at work save themselves, and the next comparison
    in the folder goes on with them.

    Args:
        plan: what is compared.
        flags: of `reelsense train`, the same for all runs.
        at_once: how many are trained at a time.

    Raises:
        BadInput: the folder is of another comparison, or one is at work there.
    """
    open_folder(plan)
    with locked(plan.folder) as lock:
        yield from train_all(plan, flags, at_once, lock)
        for done, of in measure_costs(plan):
            yield Measuring(done, of)

"""What a comparison says, in words made from its figures: what is sure, and what is not."""

from collections.abc import Sequence
from typing import Final

from reelsense.evaluation.page import duration, percent
from reelsense.experiments.plan import Plan
from reelsense.experiments.results import LINEAR, Results
from reelsense.experiments.summary import SURE, Against, Summary


def conclude(results: Results, summaries: Sequence[Summary]) -> list[str]:
    """Return a paragraph, a sentence each, that says what can and what cannot be concluded."""
    plan = results.plan
    said = [_measured(plan, summaries)] if summaries else []
    for share in reversed(plan.shares):
        rows = [row for row in summaries if row.share == share]
        said += _with_labels(plan, share, rows)
    return [*said, *_cheapest(plan, summaries), *_not_concluded(results, summaries)]


def _measured(plan: Plan, summaries: Sequence[Summary]) -> str:
    n = len(getattr(plan.split, plan.part))
    tests = sum(row.against is not None for row in summaries if row.share == summaries[-1].share)
    seeds = "one seed" if plan.seeds == 1 else f"{plan.seeds} seeds"
    return (
        f"Measured on {n:,} {plan.part} reviews with {seeds} of each recipe; a difference counts "
        f"where its p-value, corrected for {_number(tests, 'test')} (Holm), is below {SURE}."
    )


def _with_labels(plan: Plan, share: float, rows: Sequence[Summary]) -> list[str]:
    """Return what is sure and what is not with one share of the labels."""
    name = labels(share)
    first = next((row for row in rows if row.recipe == plan.first), None)
    if first is None:
        return [f"{_capital(name)}, no run of {plan.first} has finished, so nothing was compared."]
    said = [f"{_capital(name)}, {plan.first} has {percent(first.accuracy, 2)}."]
    found: dict[str, list[Summary]] = {}
    for row in rows:
        if row.against is not None:
            found.setdefault(_verdict(row.against), []).append(row)
    for verdict in VERDICTS:
        if alike := found.get(verdict):
            listed = ", ".join(f"{_the(row)} ({_by(row.against)})" for row in _by_gain(alike))
            said.append(f"{verdict.format(seeds=_number(plan.seeds, 'seed'))}: {listed}.")
    return said


VERDICTS: Final = (
    BETTER := "Better",
    WORSE := "Worse",
    AMONG_MANY := "Not sure, though each alone would count, for there are so many tests",
    LUCK := "Cannot be told from it, the interval over {seeds} being wider than the difference",
    REVIEWS := "Cannot be told from it, for on other reviews it may be as good",
)


def _verdict(against: Against) -> str:
    """Return what is sure of a recipe, or why nothing is."""
    of = against.estimate
    if against.is_sure:
        return BETTER if of.mean > 0 else WORSE
    if of.p_value < SURE:
        return AMONG_MANY
    if against.over_seeds is not None:
        low, high = against.over_seeds
        if (high - low) / 2 > abs(of.mean):
            return LUCK
    return REVIEWS


def _by(against: Against | None) -> str:
    """Return a difference and half of its interval, which is about as wide on both sides."""
    if against is None:
        return ""
    of = against.estimate
    return f"{_points(of.mean)} ± {50 * (of.high - of.low):.2f} points"


def _by_gain(rows: Sequence[Summary]) -> list[Summary]:
    return sorted(rows, key=lambda row: -row.against.estimate.mean if row.against else 0.0)


def _cheapest(plan: Plan, summaries: Sequence[Summary]) -> list[str]:
    """Return who is fast among those that are not sure to be worse than the first, or nothing."""
    rows = [
        row
        for row in summaries
        if row.share == plan.shares[-1]
        and row.recipe != LINEAR
        and not (row.against and row.against.is_sure and row.against.estimate.mean < 0)
    ]
    if len(rows) < 2:
        return []
    fastest = min(rows, key=lambda row: row.costs["training_seconds"])
    said = (
        f"Of the networks that are not worse than {plan.first} for sure, {fastest.recipe} is "
        f"trained fastest ({duration(fastest.costs['training_seconds'])})"
    )
    answering = [row for row in rows if "reviews_per_second" in row.costs]
    if answering:
        quickest = max(answering, key=lambda row: row.costs["reviews_per_second"])
        speed = quickest.costs["reviews_per_second"]
        said += f" and {quickest.recipe} answers fastest ({speed:,.0f} reviews a second on a core)"
    return [f"{said}."]


def _not_concluded(results: Results, summaries: Sequence[Summary]) -> list[str]:
    """Return what these figures do not say."""
    plan, said = results.plan, []
    if plan.seeds == 1:
        said.append(
            "Each recipe was trained once: the tests are of these networks, and nothing says how "
            "much of a difference is the luck of a seed."
        )
    if len(plan.recipes) > 2:
        said.append(
            f"Two recipes of which neither is {plan.first} were not tested against each other: "
            "which of them has the higher mean is no finding."
        )
    if plan.part == "validation":
        said.append(
            "The validation reviews chose the epoch of every run, so all figures flatter; nothing "
            "here is a last check."
        )
    if failed := [cell for cell in results.failed if cell.recipe != LINEAR]:
        names = ", ".join(dict.fromkeys(cell.recipe for cell in failed))
        said.append(
            f"{_number(len(failed), 'run')} of {len(plan.cells())} failed; what is said of {names} "
            "rests on the others, if there are any."
        )
    if summaries:
        said.append("All of it is one cut of one set of reviews; another was not tried.")
    return said


def labels(share: float) -> str:
    """Return in words what share of the labels was learned from."""
    return "with all labels" if share == 1 else f"with {100 * share:.3g}% of the labels"


def _the(row: Summary) -> str:
    return f"the {row.recipe}" if row.recipe == LINEAR else row.recipe


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

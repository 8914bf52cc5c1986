"""What a search may change: ranges of a recipe's fields, as people write them.

`learning_rate=1e-3..1e-2` is everything between two numbers, `pooling=max,mean` each of a list.
"""

from collections.abc import Collection, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, Final

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.model.settings import check_value, flag

NOT_SEARCHED: Final = {
    "name": "says what a recipe is",
    "about": "says what a recipe is",
    "seed": "is chance, and a lucky one helps nobody; --seed sets that of all trials",
    "precision": "belongs to the machine",
    "validation": "decides on which reviews trials are compared",
    "test": "decides on which reviews trials are compared",
    "split_seed": "decides on which reviews trials are compared",
}


@dataclass(frozen=True)
class Range:
    """The values that a field may take: from `low` to `high`, or else one of the `choices`."""

    name: str
    low: int | float = 0
    high: int | float = 0
    choices: tuple[Any, ...] = ()

    @property
    def log(self) -> bool:
        """Whether equal factors are equally likely, not equal steps: over a decade or more."""
        return not self.choices and 0 < 10 * self.low <= self.high

    def holds(self, value: Any) -> bool:
        """Say whether this is one of the values."""
        return value in self.choices if self.choices else self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return ",".join(map(_written, self.choices))
        return f"{self.low}..{self.high}"


def read_ranges(given: Sequence[str], fixed: Collection[str]) -> tuple[Range, ...]:
    """Read ranges as people write them: FIELD=LOW..HIGH, or FIELD=A,B,C.

    Args:
        given: the ranges.
        fixed: the fields that have been given one value already.

    Raises:
        BadInput: not a range, no such field, a value that the field refuses, or a field that is
            given twice or not to be searched; names the range.
    """
    known = {field.name: field for field in fields(Recipe)}
    found: dict[str, Range] = {}
    for text in given:
        said = f"--range {text}"
        written, equals, values = text.partition("=")
        name = written.strip().replace("-", "_")
        if not equals:
            raise BadInput(
                f"{said}: write FIELD=LOW..HIGH or FIELD=A,B,C, as in --range hidden=64..256"
            )
        if name not in known:
            raise BadInput(
                f"{said}: a recipe has no field {written.strip()!r}; `reelsense recipes default` "
                "shows the fields"
            )
        if name in NOT_SEARCHED:
            raise BadInput(f"{said}: {name} {NOT_SEARCHED[name]}; leave the range out")
        if name in found:
            raise BadInput(f"{said}: {name} has two ranges; leave one out")
        if name in fixed:
            raise BadInput(f"{said}: {flag(name)} sets that field already; leave one of them out")
        found[name] = _read(known[name], values, said)
    return tuple(found.values())


def usual_ranges(recipe: Recipe, fixed: Collection[str]) -> tuple[Range, ...]:
    """Return what is searched where nobody says what: the fields that most recipes differ in.

    The rate and the width around those of the recipe, and the three kinds of dropout. Not a field
    that is `fixed`.

    Raises:
        BadInput: all of them are.
    """
    rate = recipe.learning_rate
    found = (
        Range("learning_rate", _rounded(max(rate / 4, 1e-8)), _rounded(min(rate * 4, 10.0))),
        Range("hidden", max(1, recipe.hidden // 2), 2 * recipe.hidden),
        Range("dropout", 0.0, 0.6),
        Range("embedding_dropout", 0.0, 0.6),
        Range("word_dropout", 0.0, 0.3),
    )
    left = tuple(each for each in found if each.name not in fixed)
    if not left:
        raise BadInput(
            "every field that is searched by default has been set; say what to search with --range"
        )
    return left


def _read(field: Field[Any], values: str, said: str) -> Range:
    """Read what stands after the = of a range."""
    kind = type(field.default)
    low, dots, high = values.partition("..")
    if dots and kind in (int, float):
        ends = [_value(field, end, said) for end in (low, high)]
        if not ends[0] < ends[1]:
            raise BadInput(f"{said}: write the lower number first, the higher one after the dots")
        return Range(field.name, *ends)
    choices = tuple(_value(field, value, said) for value in values.split(","))
    if len(set(choices)) < len(choices):
        raise BadInput(f"{said}: a value stands there twice; leave one out")
    if len(choices) == 1:
        raise BadInput(
            f"{said}: one value is no choice; give several, or set it with {_set(field)}"
        )
    return Range(field.name, choices=choices)


def _value(field: Field[Any], text: str, said: str) -> Any:
    """Read one value of a field."""
    kind: type = type(field.default)
    value: Any = text.strip()
    try:
        if kind is bool:
            value = {"true": True, "false": False}[value.lower()]
        elif kind is not str:
            value = kind(value)
    except (KeyError, ValueError):
        what = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise BadInput(f"{said}: {value!r} is not {what}") from None
    try:
        check_value(field, value)
    except BadInput as error:
        raise BadInput(f"{said}: {error}") from None
    return value


def _set(field: Field[Any]) -> str:
    """Return how to set a field to one value."""
    return flag(field.name) + ("" if isinstance(field.default, bool) else " VALUE")


def _written(value: Any) -> str:
    """Return a value as it stands in a range."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rounded(number: float) -> float:
    """Return a number of three digits."""
    return float(f"{number:.3g}")

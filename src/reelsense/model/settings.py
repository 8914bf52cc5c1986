"""The machinery of a recipe: a flat frozen record of numbers that goes to and from TOML.

Every field is made with `setting`, which says its default, a line of help and the values that make
sense. The flags of the command line are made from the same fields.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Final, Self

from reelsense.errors import BadInput


def setting(
    default: Any,
    about: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = 0,
    high: float = math.inf,
) -> Any:
    """Describe a field: its default, a line of help, and the values that make sense."""
    metadata = {"help": about, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """A record whose values are checked when it is made.

    Raises:
        BadInput: a value of another kind than the default or out of its range; names the flag.
    """

    shown_by: ClassVar[str] = "reelsense recipes default"  # the command that shows the keys

    def __post_init__(self) -> None:
        for known in fields(self):
            check_value(known, getattr(self, known.name))

    def changed(self, **values: Any) -> Self:
        """Return the recipe with other values, checked again."""
        return replace(self, **values)

    def to_toml(self) -> str:
        """Write the recipe as TOML, a line a field with its help."""
        # A JSON string, number or boolean is spelt the same in TOML, but for the character DEL.
        lines = [
            f"{known.name} = {json.dumps(getattr(self, known.name), ensure_ascii=False)}"
            f"  # {known.metadata['help']}"
            for known in fields(self)
        ]
        return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"

    @classmethod
    def from_toml(cls, text: str, source: str) -> Self:
        """Read a recipe; `source` names it in errors. Fields left out keep their defaults.

        Raises:
            BadInput: not TOML, an unknown key, a value of the wrong kind.
        """
        import tomllib  # 6 ms, of which the verbs without a recipe have no use

        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{source}: not valid TOML: {error}") from None
        return cls.from_values(values, source)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], source: str) -> Self:
        """Make a recipe of fields by their names, as JSON or TOML hold them; see `from_toml`."""
        known = {known.name for known in fields(cls)}
        for key in values:
            if key not in known:
                raise BadInput(f"{source}: unknown key {key!r}; `{cls.shown_by}` shows the keys")
        try:
            return cls(**values)
        except BadInput as error:
            raise BadInput(f"{source}: {error}") from None


def differences(a: Settings, b: Settings) -> Mapping[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ, with both values."""
    of_a, of_b = asdict(a), asdict(b)
    return {key: (of_a[key], of_b[key]) for key in of_a if of_a[key] != of_b[key]}


def flag(name: str) -> str:
    """Return the flag of a field: max_tokens is --max-tokens."""
    return "--" + name.replace("_", "-")


def check_value(setting: Field[Any], value: Any) -> None:
    """Refuse a value of another kind than the field's default, or out of its range.

    Raises:
        BadInput: names the flag.
    """
    kind = type(setting.default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise BadInput(f"{flag(setting.name)} must be {_KINDS[kind]}, not {value!r}")
    choices, low, high = (setting.metadata[key] for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise BadInput(f"{flag(setting.name)} must be one of {', '.join(choices)}, not {value!r}")
    if value in (math.inf, -math.inf):  # which TOML and JSON spell differently
        raise BadInput(f"{flag(setting.name)} must be finite, not {value}")
    if kind in (int, float) and not low <= value <= high:
        span = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise BadInput(f"{flag(setting.name)} must be {span}, not {value}")


_KINDS: Final = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

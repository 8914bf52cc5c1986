"""Every number of a run, in one flat frozen record. Builds nothing, reads no data.

A recipe goes to and from TOML; the shipped ones stand in `recipes/`, named for what they are.
The flags of `reelsense train` are made from the fields below and their help.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from reelsense.errors import BadInput

SHIPPED: Final = Path(__file__).parent / "recipes"


def _setting(
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
class Recipe:
    """What a run does, apart from where its data lie and on which machine it runs.

    Raises:
        BadInput: a value out of its range or a combination that means nothing; names the flag.
    """

    name: str = _setting("default", "what the recipe is called")
    about: str = _setting("", "what the recipe is for, in a line")

    # The words that the network knows
    embedding: str = _setting("glove.6B.50d", "word vectors: a name, a glove.*.txt or a .zip")
    train_embedding: bool = _setting(True, "fine-tune the word vectors")
    cleanup: str = _setting(
        "none", "words left out (classic: stop words, all but letters)", choices=("none", "classic")
    )
    min_count: int = _setting(2, "leave out words seen fewer times in the training part", low=1)
    min_films: int = _setting(1, "leave out words used by reviews of fewer films", low=1)
    max_words: int = _setting(0, "keep only this many most frequent words (0: all)")

    # How much of a review is read
    max_tokens: int = _setting(0, "read at most this many tokens of a review (0: all of it)")
    keep: str = _setting(
        "head+tail",
        "which tokens stay when a review is longer than that",
        choices=("head", "tail", "head+tail"),
    )
    crop_tokens: int = _setting(0, "train on a random stretch of this many tokens (0: whole)")
    whole_epochs: int = _setting(1, "last epochs without --crop-tokens")

    # The network
    arch: str = _setting("bilstm", "kind of network", choices=("bilstm",))
    hidden: int = _setting(128, "units of the LSTM in each direction", low=1)
    layers: int = _setting(1, "LSTM layers, one above the other", low=1, high=8)
    pooling: str = _setting(
        "max+mean",
        "from the states of all tokens to one vector",
        choices=("last", "mean", "max", "max+mean"),
    )
    dense: int = _setting(0, "units of a ReLU layer before the output (0: none, exact evidence)")
    embedding_dropout: float = _setting(0.3, "drop whole vector dimensions of a review", high=0.95)
    word_dropout: float = _setting(0.0, "drop whole words", high=0.95)
    dropout: float = _setting(0.3, "drop features before each linear layer", high=0.95)

    # The training
    epochs: int = _setting(5, "times to go through the training part", low=1)
    batch_reviews: int = _setting(64, "most reviews in a batch", low=1)
    batch_tokens: int = _setting(16384, "most tokens in a batch, padding counted", low=1)
    learning_rate: float = _setting(3e-3, "peak learning rate of Adam", low=1e-8, high=10)
    schedule: str = _setting(
        "one-cycle", "learning rate over the run", choices=("constant", "one-cycle")
    )
    clip: float = _setting(1.0, "largest norm of a gradient", low=1e-6)
    average: float = _setting(
        0.998, "decay of the averaged weights (0: use the last)", high=0.99999
    )
    patience: int = _setting(
        0, "stop after so many epochs without a lower validation loss (0: never)"
    )
    precision: str = _setting(
        "auto",
        "arithmetic (auto: bf16 where the processor has it)",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = _setting(0, "seed of weights, order and dropout", high=2**31)

    # The parts of the data
    validation: float = _setting(0.1, "share of the reviews for validation (0: none)", high=0.9)
    test: float = _setting(
        0.1, "share for the test, where the source has no test part (0: no test at all)", high=0.9
    )
    split_seed: int = _setting(0, "seed of the split", high=2**31)

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting, getattr(self, setting.name))
        if self.crop_tokens and self.max_tokens and self.crop_tokens > self.max_tokens:
            raise BadInput(
                f"--crop-tokens {self.crop_tokens} is longer than --max-tokens {self.max_tokens}; "
                "crop fewer tokens or leave one of them out"
            )
        if self.validation + self.test >= 1:
            raise BadInput(
                f"--validation {self.validation} and --test {self.test} leave nothing to train on; "
                "together they must stay below 1"
            )

        if self.patience and not self.validation:
            raise BadInput(
                f"--patience {self.patience} watches the validation part, and --validation 0 "
                "leaves it empty; give --patience 0, or hold reviews out for validation"
            )

    def changed(self, **values: Any) -> "Recipe":
        """Return the recipe with other values, checked again."""
        return replace(self, **values)

    def to_toml(self) -> str:
        """Write the recipe as TOML, a line a field with its help."""
        # A JSON string, number or boolean is spelt the same in TOML, but for the character DEL.
        lines = [
            f"{setting.name} = {json.dumps(getattr(self, setting.name), ensure_ascii=False)}"
            f"  # {setting.metadata['help']}"
            for setting in fields(self)
        ]
        return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"

    @classmethod
    def from_toml(cls, text: str, source: str) -> "Recipe":
        """Read a recipe; `source` names it in errors. Fields left out keep their defaults.

        Raises:
            BadInput: not TOML, an unknown key, a value of the wrong kind.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{source}: not valid TOML: {error}") from None
        return cls.from_values(values, source)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], source: str) -> "Recipe":
        """Make a recipe of fields by their names, as JSON or TOML hold them; see `from_toml`."""
        known = {setting.name for setting in fields(cls)}
        for key in values:
            if key not in known:
                raise BadInput(
                    f"{source}: unknown key {key!r}; `reelsense recipes default` shows the keys"
                )
        try:
            return cls(**values)
        except BadInput as error:
            raise BadInput(f"{source}: {error}") from None


def shipped_recipes() -> dict[str, Recipe]:
    """Return the recipes that come with the package, by name."""
    return {
        path.stem: Recipe.from_toml(path.read_text(encoding="utf-8"), f"recipe {path.stem}")
        for path in sorted(SHIPPED.glob("*.toml"))
    }


def read_recipe(name: str) -> Recipe:
    """Return a shipped recipe by its name, or the one in a TOML file.

    Raises:
        BadInput: there is no such recipe or file, or it cannot be used.
    """
    shipped = SHIPPED / f"{name}.toml"
    path = shipped if "/" not in name and shipped.is_file() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"--recipe {name}: not a TOML file (it is not UTF-8)") from None
    except OSError:
        raise BadInput(
            f"--recipe {name}: no such recipe or TOML file; "
            f"the shipped ones are {', '.join(shipped_recipes())}"
        ) from None
    recipe = Recipe.from_toml(text, name)
    return recipe if "name" in tomllib.loads(text) else recipe.changed(name=path.stem)


def differences(a: Recipe, b: Recipe) -> Mapping[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ, with both values."""
    of_a, of_b = asdict(a), asdict(b)
    return {key: (of_a[key], of_b[key]) for key in of_a if of_a[key] != of_b[key]}


def flag(name: str) -> str:
    """Return the flag of a field: max_tokens is --max-tokens."""
    return "--" + name.replace("_", "-")


def _check(setting: Field[Any], value: Any) -> None:
    """Refuse a value of another kind than the default, or out of range."""
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

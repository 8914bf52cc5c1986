"""Every number of a run, in one flat frozen record. Builds nothing, reads no data.

A recipe goes to and from TOML; the shipped ones stand in `recipes/`, named for what they are.
The flags of `reelsense train` are made from the fields below and their help.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reelsense.errors import BadInput
from reelsense.model.settings import Settings, setting

SHIPPED: Final = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe(Settings):
    """What a run does, apart from where its data lie and on which machine it runs.

    Raises:
        BadInput: a value out of its range or a combination that means nothing; names the flag.
    """

    name: str = setting("default", "what the recipe is called")
    about: str = setting("", "what the recipe is for, in a line")

    # The words that the network knows
    embedding: str = setting("glove.6B.50d", "word vectors: a name, a glove.*.txt or a .zip")
    train_embedding: bool = setting(True, "fine-tune the word vectors")
    cleanup: str = setting(
        "none", "words left out (classic: stop words, all but letters)", choices=("none", "classic")
    )
    min_count: int = setting(2, "leave out words seen fewer times in the training part", low=1)
    min_films: int = setting(1, "leave out words used by reviews of fewer films", low=1)
    tie_names: bool = setting(
        False, "one vector for all names, one for all places, one for all kinds of people"
    )
    max_words: int = setting(0, "keep only this many most frequent words (0: all)")

    # How much of a review is read
    max_tokens: int = setting(0, "read at most this many tokens of a review (0: all of it)")
    keep: str = setting(
        "head+tail",
        "which tokens stay when a review is longer than that",
        choices=("head", "tail", "head+tail"),
    )
    crop_tokens: int = setting(0, "train on a random stretch of this many tokens (0: whole)")
    whole_epochs: int = setting(1, "last epochs without --crop-tokens")

    # The network
    arch: str = setting(
        "bilstm",
        "kind of network",
        choices=("bilstm", "bigru", "cnn", "dpcnn", "cnn-lstm", "mean"),
    )
    hidden: int = setting(
        128, "units of the LSTM or GRU in each direction, filters of each width of a CNN", low=1
    )
    layers: int = setting(
        1, "LSTM or GRU layers, one above the other; halvings of the dpcnn", low=1, high=8
    )
    pooling: str = setting(
        "max+mean",
        "from the states of all tokens to one vector",
        choices=("last", "mean", "max", "max+mean", "attention"),
    )
    dense: int = setting(0, "units of a ReLU layer before the output (0: none, exact evidence)")
    embedding_dropout: float = setting(0.3, "drop whole vector dimensions of a review", high=0.95)
    word_dropout: float = setting(0.0, "drop whole words", high=0.95)
    dropout: float = setting(0.3, "drop features before each linear layer", high=0.95)

    # The training
    epochs: int = setting(5, "epochs: times to train, measure and save", low=1)
    passes: int = setting(
        1, "times that an epoch goes through the training part, for few reviews", low=1
    )
    batch_reviews: int = setting(64, "most reviews in a batch", low=1)
    batch_tokens: int = setting(16384, "most tokens in a batch, padding counted", low=1)
    learning_rate: float = setting(3e-3, "peak learning rate of Adam", low=1e-8, high=10)
    encoder_rate: float = setting(
        1.0, "rate of the network below the pooling, as a share of the learning rate", high=1
    )
    embedding_rate: float = setting(1.0, "rate of the word vectors, likewise", high=1)
    schedule: str = setting(
        "one-cycle", "learning rate over the run", choices=("constant", "one-cycle")
    )
    warm_up: float = setting(0.3, "share of a one-cycle run in which the rate rises", high=0.9)
    clip: float = setting(1.0, "largest norm of a gradient", low=1e-6)
    average: float = setting(0.998, "decay of the averaged weights (0: use the last)", high=0.99999)
    adversarial: float = setting(
        0.0, "size of adversarial noise on a review's vectors, in their spread (0: none)"
    )
    virtual: float = setting(0.0, "the same on reviews without a label (0: none)")
    entropy: float = setting(0.0, "weight of the entropy of answers to reviews without a label")
    unlabelled_share: float = setting(
        0.0, "reviews without a label in an epoch, for each one with a label"
    )
    sentence_share: float = setting(
        0.0, "stretches of one to three sentences in an epoch, for each review"
    )
    counterfactual_share: float = setting(
        0.0, "plain sentences and edits that turn them, in an epoch, for each review"
    )
    augment: str = setting(
        "none",
        "how training reviews are altered, anew each epoch (`reelsense augment` shows it)",
        choices=("none", "synonym", "neighbour", "insert", "swap", "delete", "eda", "shuffle"),
    )
    augment_share: float = setting(0.5, "share of them that are altered", low=0.01, high=1)
    augment_strength: float = setting(
        0.1, "share of a review's words that change, at most", low=0.01, high=1
    )
    soft_share: float = setting(
        0.5,
        "share of the teachers in what a student learns of a labelled review, and of a stretch "
        "of sentences beside what is known of its review",
        high=1,
    )
    linear_share: float = setting(
        0.0, "share of the linear baseline among the teachers of whole reviews", high=1
    )
    patience: int = setting(
        0, "stop after so many epochs without a lower validation loss (0: never)"
    )
    precision: str = setting(
        "auto",
        "arithmetic (auto: bf16 where the processor has it)",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = setting(0, "seed of weights, order and dropout", high=2**31)

    # The parts of the data
    validation: float = setting(0.1, "share of the reviews for validation (0: none)", high=0.9)
    test: float = setting(
        0.1, "share for the test, where the source has no test part (0: no test at all)", high=0.9
    )
    split_seed: int = setting(0, "seed of the split", high=2**31)
    label_share: float = setting(
        1.0, "share of the training reviews to learn from, drawn by --seed", low=1e-6, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_tokens and self.max_tokens and self.crop_tokens > self.max_tokens:
            raise BadInput(
                f"--crop-tokens {self.crop_tokens} is longer than --max-tokens {self.max_tokens}; "
                "crop fewer tokens or leave one of them out"
            )
        if self.pooling == "last" and self.arch in ("cnn", "dpcnn", "mean"):
            raise BadInput(
                f"--pooling last is what an LSTM or GRU ends with, and --arch {self.arch} has no "
                "end; pool by max, mean, max+mean or attention"
            )
        if self.layers > 1 and self.arch in ("cnn", "mean"):
            raise BadInput(
                f"--layers {self.layers}: --arch {self.arch} has one; leave it out, or stack "
                "bilstm, bigru, cnn-lstm or dpcnn"
            )
        if self.validation + self.test >= 1:
            raise BadInput(
                f"--validation {self.validation} and --test {self.test} leave nothing to train on; "
                "together they must stay below 1"
            )
        if self.augment == "shuffle" and self.cleanup == "classic":
            raise BadInput(
                "--augment shuffle needs the marks that end sentences, and --cleanup classic takes "
                "them away; leave out one of the two"
            )
        if self.patience and not self.validation:
            raise BadInput(
                f"--patience {self.patience} watches the validation part, and --validation 0 "
                "leaves it empty; give --patience 0, or hold reviews out for validation"
            )


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
        raise BadInput(f"recipe {name}: not a TOML file (it is not UTF-8)") from None
    except OSError:
        raise BadInput(
            f"recipe {name}: no such recipe or TOML file; "
            f"the shipped ones are {', '.join(shipped_recipes())}"
        ) from None
    recipe = Recipe.from_toml(text, name)
    return recipe if "name" in tomllib.loads(text) else recipe.changed(name=path.stem)

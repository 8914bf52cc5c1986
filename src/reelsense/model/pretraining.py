"""Every number of the pre-training of a language model; see `training.pretrain`."""

from dataclasses import dataclass
from typing import ClassVar

from reelsense.model.settings import Settings, setting


@dataclass(frozen=True)
class Pretraining(Settings):
    """What a pre-training does, apart from where its data lie and on which machine it runs.

    The words, the dimensions and the units are those of every network that starts from it.

    Raises:
        BadInput: a value out of its range; names the flag.
    """

    shown_by: ClassVar[str] = "reelsense pretrain --help"

    name: str = setting("pretrain", "what the recipe is called")
    about: str = setting("", "what the recipe is for, in a line")

    # The words that the language model knows
    embedding: str = setting("glove.6B.50d", "word vectors: a name, a glove.*.txt or a .zip")
    dimensions: int = setting(
        256, "dimensions of a word: the vectors' own, then ones that are learned", low=1, high=4096
    )
    min_count: int = setting(2, "leave out words seen fewer times", low=1)
    min_films: int = setting(5, "leave out words used by reviews of fewer films", low=1)
    max_words: int = setting(30000, "keep only this many most frequent words (0: all)")

    # The network
    hidden: int = setting(512, "units of the LSTM in each direction", low=1)
    dropout: float = setting(0.1, "drop dimensions of the vectors and of the states", high=0.95)

    # The training
    epochs: int = setting(2, "times to go through the reviews", low=1)
    rows: int = setting(96, "stretches of text that are read side by side", low=1)
    window: int = setting(72, "tokens after which a step is taken", low=2)
    negatives: int = setting(1024, "words that a step tells the right ones from", low=1)
    learning_rate: float = setting(2e-3, "peak learning rate of Adam", low=1e-8, high=10)
    cooling: float = setting(0.3, "share of the run, its end, in which the rate falls", high=1)
    clip: float = setting(1.0, "largest norm of a gradient", low=1e-6)
    measure: int = setting(4, "times an epoch that the perplexity is measured", low=1)
    precision: str = setting(
        "auto",
        "arithmetic (auto: bf16 where the processor has it)",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = setting(0, "seed of weights, order and dropout", high=2**31)

    # The parts of the labelled reviews: what is held out here must be held out of the training too
    validation: float = setting(0.1, "share of the labelled reviews for validation", high=0.9)
    test: float = setting(0.1, "share of them for the test", high=0.9)
    split_seed: int = setting(0, "seed of the split", high=2**31)

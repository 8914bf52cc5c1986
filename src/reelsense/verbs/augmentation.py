"""augment: what a recipe's augmentation does to reviews, before and after."""

import shutil
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from reelsense.errors import BadInput
from reelsense.model.recipe import Recipe
from reelsense.verbs.columns import WIDEST, Piece, Style, is_coloured, is_terminal, wrapped
from reelsense.verbs.options import data_options, read, recipe_options, source_of
from reelsense.verbs.printing import printable

if TYPE_CHECKING:
    from reelsense.text.reviews import Reviews
    from reelsense.text.tokenizer import Tokenizer

SHOWN: Final = ("augment", "augment_strength", "embedding", "seed")  # of the recipe
# Where nothing is coloured stand the marks of wdiff. Letters tell the two colours apart, too.
GONE, NEW = ("[-", "-]"), ("{+", "+}")
STYLES: Final[dict[tuple[str, str], Style]] = {
    GONE: {"fg": 16, "bg": 223, "underline": True},
    NEW: {"fg": 16, "bg": 153, "bold": True},
}
TIGHT: Final = frozenset(".,!?;:)]'") | {"n't", "..."}  # what stands close to the word before it


@click.command()
@click.argument("text", required=False)
@click.option("--count", type=click.IntRange(1, 1000), default=3, metavar="N", show_default=True,
              help="How many reviews, or how many times TEXT, to alter.")  # fmt: skip
@click.option(
    "--show",
    is_flag=True,
    expose_value=False,
    help="Show before and after: all that this verb does, also without the flag.",
)
@data_options
@recipe_options(Recipe, SHOWN)
def augment(
    text: str | None,
    count: int,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
    **changes: Any,
) -> None:
    """Show what augmentation makes of reviews, before and after.

    Of training reviews of --data, chosen by --seed, or of TEXT. Which words are left alone is
    learned from the training reviews, as `reelsense train --augment` does. By default eda: one of
    neighbour, insert, swap and delete for each review. synonym asks WordNet, an extra:
    pip install "reelsense[synonyms]".
    """
    chosen = {key: value for key, value in changes.items() if value is not None}
    # Every word of the training reviews has a number, so that each can be shown wherever it goes.
    plan = Recipe(augment="eda", min_count=1).changed(**chosen)
    if plan.augment == "none":
        raise BadInput("--augment none changes nothing; name another kind")

    from reelsense.text.words import tokenize

    if text is not None and not tokenize(text):
        raise BadInput("TEXT has no words; give a review in quotes, or leave it out")
    reviews = read(source_of(data, text_column, label_column, labels))

    import numpy as np

    from reelsense.training.augment import altered, guards_of
    from reelsense.training.prepare import prepare

    prepared = prepare(plan, reviews)
    guards = guards_of(plan, prepared)
    dice = np.random.default_rng(plan.seed)
    rows = dice.permutation(prepared.split.train)[:count].tolist()
    texts = [reviews.texts[row] for row in rows] if text is None else [text] * count
    named = [_name(reviews, row) for row in rows] if text is None else ["TEXT"] * count
    ids = [prepared.tokenizer.encode(one) for one in texts]
    new = altered(ids, plan.augment, plan.augment_strength, guards, dice)
    click.echo(f"{plan.augment}, strength {plan.augment_strength:g}, seed {plan.seed}\n")
    for name, one, after in zip(named, texts, new, strict=True):
        _print_change(name, one, after.tolist(), prepared.tokenizer)
    if not is_coloured():
        click.echo("[-taken out, or here no more-] {+put in, or moved here+}")


def _name(reviews: "Reviews", row: int) -> str:
    """Return which review it is, and of which class."""
    return f"{reviews.ids[row]}, {('negative', 'positive')[reviews.labels[row]]}"


def _print_change(name: str, text: str, new: Sequence[int], tokenizer: "Tokenizer") -> None:
    """Print a text as it was and as it is with the words `new`, changes marked in both."""
    ids, offsets = tokenizer.encode_with_offsets(text)
    old, places = ids.tolist(), offsets.tolist()
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    same = [step for step in steps if step[0] == "equal"]
    kept = sum(last - first for _, first, last, _, _ in same)
    if kept == len(old) == len(new):
        click.echo(f"{name}: the guards let nothing change\n")
        return
    going = {
        place for kind, first, last, *_ in steps if kind != "equal" for place in range(first, last)
    }
    ends = [-1, *(end for _, end in places)]
    shown = [
        _Shown(printable(text[begin:end]), place in going, begin > ends[place])
        for place, (begin, end) in enumerate(places)
    ]
    after: list[_Shown] = []
    for kind, first, last, start, stop in steps:
        if kind == "equal":
            after += shown[first:last]
            continue
        letters = [printable(tokenizer.vocabulary[number]) for number in new[start:stop]]
        after += [_Shown(word, True, _is_spaced(word)) for word in letters]
    _print_marked(f"{name}\nBefore", shown, GONE)
    _print_marked("After ", after, NEW)
    click.echo()


class _Shown(NamedTuple):
    """A word as it is printed, whether it is marked, and whether a space stands before it."""

    letters: str
    is_marked: bool
    is_spaced: bool


def _is_spaced(word: str) -> bool:
    """Say whether a space stands before a word that the text does not have there."""
    return not (word in TIGHT or word.startswith("'"))


def _print_marked(title: str, words: Sequence[_Shown], mark: tuple[str, str]) -> None:
    """Print words, of which some are marked: by colours, or by letters around those in a row."""
    coloured = is_coloured()
    pieces: list[Piece] = [(title, {})]
    for is_marked, together in groupby(words, lambda word: word.is_marked):
        row = list(together)
        for place, word in enumerate(row):
            first, last = is_marked and not place, is_marked and word is row[-1]
            letters = word.letters
            if not coloured:
                letters = f"{mark[0] * first}{letters}{mark[1] * last}"
            pieces.append((" " * (word.is_spaced or len(pieces) == 1), {}))
            pieces.append((letters, STYLES[mark] if is_marked and coloured else {}))
    columns = max(min(shutil.get_terminal_size((80, 24)).columns, WIDEST), 20)
    # What goes into a file or another program has a line each.
    click.echo(wrapped(pieces, columns) if is_terminal() else "".join(part for part, _ in pieces))

"""What predict --explain prints: the text with its words marked, its sentences, its words.

Every figure is a share of the logit, and the shares add up to it. A word's share is its place's:
the network has read what stands around it, so "not" may speak through the word behind it.
"""

import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from reelsense.text.sentences import LINE_TAG
from reelsense.text.words import TAGS
from reelsense.verbs.columns import WIDEST, Piece, Style, cut, is_coloured, is_terminal, wrapped
from reelsense.verbs.printing import COLOURS, notes_on, printable, shortened

if TYPE_CHECKING:
    from reelsense.inference.answers import Evidence, Explanation

# Shares of the largest evidence in a text from which on a word is marked, and marked strongly.
MARKED, STRONG = 0.15, 0.5
# Colours of their own for letters and ground, which read on dark and on light terminals; the
# underline tells them apart where the ground is lost. 16 is the black of the 256: many terminals
# make a bold one of the 16 grey.
STYLES: Final[dict[tuple[bool, bool], Style]] = {
    (True, False): {"fg": 16, "bg": 153},
    (True, True): {"fg": 16, "bg": 75, "bold": True},
    (False, False): {"fg": 16, "bg": 223, "underline": True},
    (False, True): {"fg": 16, "bg": 208, "bold": True, "underline": True},
}
SENTENCES, WORDS = 12, 8  # that are listed
LONGEST: Final = 30  # columns of a listed word
BAR: Final = 8  # columns of the longest bar to each side
UNREAD: Final = 400  # letters between two words that are not printed if they were not read


def print_explanation(text: str, explanation: "Explanation") -> None:
    """Print where a prediction comes from.

    Marks are colours where the terminal has them; elsewhere a figure stands behind the word.
    """
    columns = max(min(shutil.get_terminal_size((80, 24)).columns, WIDEST), 20)
    prediction, words = explanation.prediction, explanation.words
    coloured = is_coloured()
    total = sum(word.evidence for word in words)
    head = wrapped(
        [(
            f"{prediction.label}, {prediction.probability:.1%} positive{notes_on(prediction)}\n"
            f"log-odds {explanation.logit:+.2f} = words {total:+.2f}, bias {explanation.bias:+.2f}",
            {},
        )],
        columns,
    )  # fmt: skip
    click.echo(f"{click.style(head, bold=True) if coloured else head}\n")
    if not words:
        return
    largest = max(abs(word.evidence) for word in words)
    marked = _marked(text, explanation, largest, coloured)
    # What goes into a file or another program keeps the lines of the text.
    click.echo(wrapped(marked, columns) if is_terminal() else "".join(part for part, _ in marked))
    least = MARKED * largest
    unmarked = sum(word.evidence for word in words if abs(word.evidence) < least)
    click.echo("\n" + wrapped(_legend(least, unmarked, coloured), columns))
    if len(explanation.sentences) > 1:
        click.echo("\nSentences")
        click.echo("\n".join(_sentences(explanation.sentences, columns, coloured)))
    for title, sign in (("Most for positive", 1), ("Most for negative", -1)):
        if listed := _strongest(words, sign, least):
            click.echo(f"\n{title}\n{_in_rows(listed, columns)}")
    click.echo()


def _marked(
    text: str, explanation: "Explanation", largest: float, coloured: bool
) -> Iterator[Piece]:
    """Yield the text with its words marked by their evidence."""
    here, truncated = 0, explanation.prediction.truncated
    for word in explanation.words:
        yield _between(text[here : word.start], truncated), {}
        # An accent or an entity may be shared by two words; no letter is printed twice.
        letters = printable(text[max(here, word.start) : word.end])
        share = abs(word.evidence) / largest if largest else 0.0
        if share < MARKED:
            yield letters, {}
        elif coloured:
            yield letters, STYLES[word.evidence > 0, share >= STRONG]
        else:
            yield f"{letters}[{word.evidence:+.2f}]", {}
        here = max(here, word.end)
    yield _between(text[here:], truncated).rstrip(), {}


def _between(gap: str, truncated: bool) -> str:
    """Return what stands between two words: tags as line breaks, and no more than was read."""
    if truncated and len(gap) > UNREAD:
        return f"\n[... {len(gap):,} characters that were not read ...]\n"
    return printable(TAGS.sub(lambda tag: "\n" if LINE_TAG.search(tag[0]) else "", gap))


def _legend(least: float, unmarked: float, coloured: bool) -> Iterator[Piece]:
    """Yield what the marks mean, and what the words without one add up to."""
    rest = f"unmarked: less than {least:.2f} each, {unmarked:+.2f} together"
    if not coloured:
        yield f"[+] for positive, [-] for negative, in log-odds; {rest}", {}
        return
    for positive, name in ((True, "for positive"), (False, "for negative")):
        yield f" {name} ", STYLES[positive, False]
        yield " strongly ", STYLES[positive, True]
        yield "  ", {}
    yield f"\n {rest}", {}


def _sentences(sentences: Sequence["Evidence"], columns: int, coloured: bool) -> Iterator[str]:
    """Yield a row for each of the strongest sentences, in their order, and one for the others."""
    ranked = sorted(range(len(sentences)), key=lambda place: -abs(sentences[place].evidence))
    longest = abs(sentences[ranked[0]].evidence) or 1.0
    draws = is_terminal() and columns >= 60 and sys.stdout.encoding.lower().startswith("utf")
    room = columns - 10 - (2 * BAR + 3 if draws else 0)
    for place in sorted(ranked[:SENTENCES]):
        sentence, bar = sentences[place], ""
        if draws:
            bar = _bar(sentence.evidence, longest, coloured)
        yield f"  {sentence.evidence:+6.2f}  {bar}{shortened(sentence.text, room)}"
    if others := [sentences[place].evidence for place in ranked[SENTENCES:]]:
        bar = " " * (2 * BAR + 3) if draws else ""
        rest = cut(f"(the other {len(others)} together)", room)
        yield f"  {sum(others):+6.2f}  {bar}{rest}"


def _bar(evidence: float, longest: float, coloured: bool) -> str:
    """Return a bar to the left or right of a middle."""
    full = "█" * round(BAR * abs(evidence) / longest)
    left, right = (f"{'' if evidence > 0 else full:>{BAR}}", full if evidence > 0 else "")
    right = f"{right:<{BAR}}  "
    if coloured:
        left = click.style(left, fg=COLOURS["negative"])
        right = click.style(right, fg=COLOURS["positive"])
    return f"{left}│{right}"


def _strongest(words: Sequence["Evidence"], sign: int, least: float) -> list[str]:
    """Return the words that add most to one side, all places of a word together."""
    sums: dict[str, list[float]] = defaultdict(list)
    for word in words:
        sums[word.text.lower()].append(word.evidence)
    ranked = sorted(sums.items(), key=lambda item: -sign * sum(item[1]))
    listed = []
    for letters, found in ranked[:WORDS]:
        if sign * sum(found) >= max(least, 1e-9):
            places = f" x{len(found)}" if len(found) > 1 else ""
            listed.append(f"{cut(printable(letters), LONGEST)}{places} {sum(found):+.2f}")
    return listed


def _in_rows(items: Sequence[str], columns: int) -> str:
    """Return the items in indented rows, none of them broken."""
    whole = "   ".join(item.replace(" ", "\xa0") for item in items)
    rows = wrapped([(whole, {})], columns - 2).replace("\xa0", " ")
    return "  " + rows.replace("\n", "\n  ")

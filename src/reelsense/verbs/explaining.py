"""What predict --explain prints: the text with its words marked, its sentences, its words.

Every figure is a share of the logit, and the shares add up to it. A word's share is its place's:
the network has read what stands around it, so "not" may speak through the word behind it.
"""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from reelsense.text.sentences import LINE_TAG
from reelsense.text.words import TAGS
from reelsense.verbs.printing import notes_on, printable, shortened

if TYPE_CHECKING:
    from reelsense.inference.predictor import Evidence, Explanation

WIDEST: Final = 100  # columns that are read with ease
# Shares of the largest evidence in a text from which on a word is marked, and marked strongly.
MARKED, STRONG = 0.15, 0.5
# Colours of their own for letters and ground, which read on dark and on light terminals, and as
# the nearest of 16 too; the underline tells them apart where the nearest is the same.
STYLES: Final = {
    (True, False): "black on #afd7ff",
    (True, True): "bold black on #5fafff",
    (False, False): "underline black on #ffd7af",
    (False, True): "bold underline black on #ff8700",
}
SENTENCES, WORDS = 12, 8  # that are listed
BAR: Final = 8  # columns of the longest bar to each side
UNREAD: Final = 400  # letters between two words that are not printed if they were not read


def print_explanation(text: str, explanation: "Explanation") -> None:
    """Print where a prediction comes from.

    Marks are colours where the terminal has them; elsewhere a figure stands behind the word.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.width = min(console.width, WIDEST)
    coloured = console.color_system is not None and not console.no_color
    prediction, words = explanation.prediction, explanation.words
    largest = max((abs(word.evidence) for word in words), default=0.0)
    total = sum(word.evidence for word in words)
    console.print(
        f"{prediction.label}, {prediction.probability:.1%} positive{notes_on(prediction)}\n"
        f"log-odds {explanation.logit:+.2f} = words {total:+.2f}, bias {explanation.bias:+.2f}",
        style="bold" if coloured else None,
    )
    if not words:
        console.print()
        return
    console.print()
    console.print(_marked(text, explanation, largest, coloured), soft_wrap=not console.is_terminal)
    console.print()
    least = MARKED * largest
    unmarked = sum(word.evidence for word in words if abs(word.evidence) < least)
    console.print(_legend(least, unmarked, coloured))
    if len(explanation.sentences) > 1:
        console.print("\nSentences")
        for row in _sentences(explanation.sentences, console):
            console.print(row, no_wrap=True)
    for title, sign in (("Most for positive", 1), ("Most for negative", -1)):
        if listed := _strongest(words, sign, least):
            width = min(console.width, WIDEST)
            rows = textwrap.fill(
                "   ".join(listed), width, initial_indent="  ", subsequent_indent="  "
            )
            console.print(f"\n{title}\n{rows}".replace("\xa0", " "), no_wrap=True)
    console.print()


def _marked(text: str, explanation: "Explanation", largest: float, coloured: bool) -> Text:
    """Return the text with its words marked by their evidence."""
    shown, here = Text(), 0
    truncated = explanation.prediction.truncated
    for word in explanation.words:
        shown.append(_between(text[here : word.start], truncated))
        # An accent or an entity may be shared by two words; no letter is printed twice.
        letters = printable(text[max(here, word.start) : word.end])
        share = abs(word.evidence) / largest if largest else 0.0
        if share < MARKED:
            shown.append(letters)
        elif coloured:
            shown.append(letters, STYLES[word.evidence > 0, share >= STRONG])
        else:
            shown.append(f"{letters}[{word.evidence:+.2f}]")
        here = max(here, word.end)
    shown.append(_between(text[here:], truncated).rstrip())
    return shown


def _between(gap: str, truncated: bool) -> str:
    """Return what stands between two words: tags as line breaks, and no more than was read."""
    if truncated and len(gap) > UNREAD:
        return f"\n[... {len(gap):,} characters that were not read ...]\n"
    return printable(TAGS.sub(lambda tag: "\n" if LINE_TAG.search(tag[0]) else "", gap))


def _legend(least: float, unmarked: float, coloured: bool) -> Text:
    """Return what the marks mean, and what the words without one add up to."""
    rest = f"unmarked: less than {least:.2f} each, {unmarked:+.2f} together"
    if not coloured:
        return Text(f"[+] for positive, [-] for negative, in log-odds; {rest}")
    legend = Text()
    for positive, name in ((True, "for positive"), (False, "for negative")):
        legend.append(f" {name} ", STYLES[positive, False])
        legend.append(" strongly ", STYLES[positive, True])
        legend.append("  ")
    return legend.append(f"\n {rest}")


def _sentences(sentences: Sequence["Evidence"], console: Console) -> Iterator[Text]:
    """Yield a row for each of the strongest sentences, in their order, and one for the others."""
    ranked = sorted(range(len(sentences)), key=lambda place: -abs(sentences[place].evidence))
    longest = abs(sentences[ranked[0]].evidence) or 1.0
    draws = console.is_terminal and console.width >= 60 and console.encoding.startswith("utf")
    for place in sorted(ranked[:SENTENCES]):
        sentence = sentences[place]
        row = Text(f"  {sentence.evidence:+6.2f}  ")
        if draws:
            columns = round(BAR * abs(sentence.evidence) / longest)
            left, right = (0, columns) if sentence.evidence > 0 else (columns, 0)
            row.append(f"{'█' * left:>{BAR}}", "color(166)")
            row.append("│")
            row.append(f"{'█' * right:<{BAR}}  ", "color(33)")
        row.append(shortened(sentence.text, min(console.width, WIDEST) - len(row)))
        yield row
    if others := [sentences[place].evidence for place in ranked[SENTENCES:]]:
        bar = " " * (2 * BAR + 3) if draws else ""
        yield Text(f"  {sum(others):+6.2f}  {bar}(the other {len(others)} together)")


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
            listed.append(f"{printable(letters)}{places} {sum(found):+.2f}")
    return listed


def _in_rows(items: Sequence[str], width: int) -> str:
    """Return the items in indented rows, none of them broken."""
    whole = "   ".join(item.replace(" ", "\xa0") for item in items)
    rows = textwrap.fill(whole, width, initial_indent="  ", subsequent_indent="  ")
    return rows.replace("\xa0", " ")

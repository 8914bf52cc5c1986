"""What came of many rows, in figures that add up over parts, files and machines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

BINS: Final = 10  # of the histogram, of equal width from 0 to 1


@dataclass(frozen=True)
class Tally:
    """Figures of rows: read, scored, without a score by kind of problem, and of the answers.

    histogram: how many of the scored have a P(positive) in each tenth, the last with 1 itself.
    tokens, unknown: words and marks of the scored, and how many of them have no vector.
    """

    rows: int = 0
    scored: int = 0
    problems: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    histogram: tuple[int, ...] = (0,) * BINS
    tokens: int = 0
    unknown: int = 0
    truncated: int = 0

    def plus(self, other: Self) -> Self:
        """Return the figures of both."""
        return type(self)(
            self.rows + other.rows,
            self.scored + other.scored,
            dict(Counter(self.problems) + Counter(other.problems)),
            dict(Counter(self.labels) + Counter(other.labels)),
            tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True)),
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            self.truncated + other.truncated,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the figures that `to_json` gave."""
        return cls(**{**content, "histogram": tuple(content["histogram"])})


def tally(answers: Sequence[Mapping[str, Any] | None], problems: Sequence[str]) -> Tally:
    """Return the figures of rows with these answers, None where a row has none.

    `problems` has the kind of each row's problem that has one, also of rows that are left out.
    """
    found = [answer for answer in answers if answer is not None]
    bins = Counter(min(int(answer["probability"] * BINS), BINS - 1) for answer in found)
    return Tally(
        rows=len(found) + len(problems),
        scored=len(found),
        problems=dict(Counter(problems)),
        labels=dict(Counter(answer["label"] for answer in found)),
        histogram=tuple(bins[place] for place in range(BINS)),
        tokens=sum(answer["tokens"] for answer in found),
        unknown=sum(round(answer["unknown"] * answer["tokens"]) for answer in found),
        truncated=sum(answer["truncated"] for answer in found),
    )


def total(tallies: Sequence[Tally]) -> Tally:
    """Return the figures of all."""
    whole = Tally()
    for part in tallies:
        whole = whole.plus(part)
    return whole

"""What a bundle's answers are worth on labelled reviews.

Here, and not beside `training.measure`, because what a user is told is what is measured: the
predictor's own answers, without torch.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from reelsense.bundle.folder import trained_on
from reelsense.errors import BadInput
from reelsense.evaluation.calibrate import decided
from reelsense.evaluation.metrics import evaluate
from reelsense.inference.answers import Prediction
from reelsense.inference.predictor import Predictor
from reelsense.text.fingerprints import seen
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised


def part_of(reviews: Reviews, part: str) -> Reviews:
    """Return the labelled reviews of a part that their source names; of all, for "all".

    Raises:
        BadInput: there are none.
    """
    labelled = np.flatnonzero(reviews.labels >= 0).tolist()
    rows = [row for row in labelled if part in ("all", reviews.parts[row])]
    if not rows:
        raise BadInput(f"--part {part}: {reviews.source} has no labelled reviews in that part")
    return reviews.take(rows)


def measure_bundle(
    model: Predictor, reviews: Reviews, part: str
) -> tuple[dict[str, Any], list[Prediction]]:
    """Return the figures of a bundle on labelled reviews, and its answers.

    The figures are those of `metrics.evaluate` under "test", whatever the part, of
    `calibrate.decided` under "decided", and "seen": the number of the reviews whose text was
    trained on.
    """
    answers = list(model.stream(reviews.texts))
    chances = [answer.probability for answer in answers]
    read = [min(answer.tokens, model.about["longest"]) for answer in answers]
    known = seen(map(normalised, reviews.texts), trained_on(model.bundle.path))
    figures = {
        "model": model.about["name"],
        "reviews": reviews.source,
        "part": part,
        "seen": int(known.sum()),
        "test": evaluate(reviews.labels, chances, read, reviews.ids),
        "decided": decided(reviews.labels, chances, model.confidence),
    }
    return figures, answers


def answers_csv(reviews: Reviews, answers: Sequence[Prediction]) -> str:
    """Return a line a review: its id, part and label, what the bundle says and P(positive)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "part", "label", "prediction", "probability"])
    writer.writerows(
        (name, part, int(label), answer.label, f"{answer.probability:.7g}")
        for name, part, label, answer in zip(
            reviews.ids, reviews.parts, reviews.labels, answers, strict=True
        )
    )
    return text.getvalue()

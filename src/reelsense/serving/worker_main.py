"""A process that holds the model, and answers one request after the other: see `worker`.

A line of JSON each: asked [TEXTS, EXPLAIN], it says [A PREDICTION, ...] or
{AN EXPLANATION}; or "what was wrong", or null for a defect, which it has reported.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from reelsense.errors import BadInput
from reelsense.inference.answers import Prediction, finite
from reelsense.serving.limits import report
from reelsense.serving.shapes import encoded, explanation_json, prediction_json

if TYPE_CHECKING:
    from reelsense.inference.predictor import Predictor

PROBE: Final = "A wonderful, moving film."


@dataclass(frozen=True)
class Loaded:
    """What a server knows of the model: bundle.json as JSON can hold it, its answer to PROBE."""

    about: dict[str, Any]
    confidence: float
    second: str | None
    probe: Prediction


def loaded(model: "Predictor") -> Loaded:
    """Return what a server has to know of a model."""
    second = model.second.about["name"] if model.second else None
    return Loaded(finite(dict(model.about)), model.confidence, second, model(PROBE))


def answer(model: "Predictor", texts: list[str], explain: bool) -> bytes:
    """Return the line about texts."""
    try:
        if explain:
            return encoded(explanation_json(model.explain(texts[0])))
        return encoded([prediction_json(said) for said in model(texts)])
    except BadInput as error:
        return encoded(str(error))
    except Exception as error:
        report(error)
        return encoded(None)


def main() -> None:
    """Load the model of the arguments, and answer until the end of standard input.

    The end comes with that of the server, be it killed.
    """
    gc.disable()  # until all is loaded, which takes 340 instead of 375 ms
    for number in (signal.SIGINT, signal.SIGTERM):  # of a whole group: the server decides
        signal.signal(number, signal.SIG_IGN)
    asked, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    with contextlib.suppress(OSError):  # the server has ended
        _serve(asked, said)
    os._exit(0)  # nothing is to be put away, and the server may wait


def _serve(asked: IO[bytes], said: IO[bytes]) -> None:
    try:
        from reelsense.inference.predictor import load

        model = load(**json.loads(sys.argv[1]))
        found = loaded(model)
    except Exception as error:
        _say(encoded({"wrong": str(error), "input": isinstance(error, BadInput)}), said)
        return
    _say(encoded(vars(found) | {"probe": prediction_json(found.probe)}), said)
    gc.freeze()  # the vocabulary is here to stay: a collection took 30 ms
    gc.enable()
    if model.about["evidence"]:
        model.explain(PROBE)  # its session takes 0.1 s to open
    if sys.platform == "linux":
        # Behind the server, which is to say no at once: in a flood of four times the load /healthz
        # had a median of 1.4 ms instead of 3.2, and accepted requests were answered in 93 instead
        # of 99 ms (p99; medians of 3 rounds in turns).
        os.setpriority(os.PRIO_PROCESS, 0, 5)
    for line in asked:
        texts, explain = json.loads(line)
        _say(answer(model, texts, explain), said)


def _say(line: bytes, said: IO[bytes]) -> None:
    said.write(line + b"\n")
    said.flush()

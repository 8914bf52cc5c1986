"""A process that holds the model, and answers one request after the other: see `worker`."""

import contextlib
import gc
import json
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from reelsense.errors import BadInput
from reelsense.inference.answers import Prediction
from reelsense.serving.limits import report
from reelsense.serving.shapes import encoded, explanation_json

if TYPE_CHECKING:
    from reelsense.inference.predictor import Predictor

PROBE: Final = "A wonderful, moving film."
SIZE: Final = 8  # bytes before each answer, which say how many it has


@dataclass(frozen=True)
class Loaded:
    """What a server knows of the model: bundle.json, and the answer to PROBE."""

    about: Mapping[str, Any]
    confidence: float
    second: str | None
    probe: Prediction


def loaded(model: "Predictor") -> Loaded:
    """Return what a server has to know of a model."""
    second = model.second.about["name"] if model.second else None
    return Loaded(model.about, model.confidence, second, model(PROBE))


def answer(model: "Predictor", texts: list[str], explain: bool) -> Any:
    """Return the fields of each prediction, or an explanation as JSON, or what was wrong.

    Both are quick to send: 32 records of Prediction took 280 us, their fields take 40; and of a
    long text an explanation is megabytes, whose parts nobody needs but the client.

    Returns:
        BadInput where the model cannot explain; None for a defect, which has been reported.
    """
    try:
        if explain:
            return encoded(explanation_json(model.explain(texts[0])))
        return [
            (said.label, said.probability, said.tokens, said.unknown, said.truncated)
            for said in model(texts)
        ]
    except BadInput as error:
        return error
    except Exception as error:
        report(error)
        return None


def main() -> None:
    """Answer what comes on standard input until its end, which is also that of a killed server."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a whole group: the server decides
        signal.signal(number, signal.SIG_IGN)
    asked, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):  # the server has ended
        _serve(asked, said)
    os._exit(0)  # nothing is to be put away, and the server may wait


def _serve(asked: IO[bytes], said: IO[bytes]) -> None:
    try:
        from reelsense.inference.predictor import load

        model = load(**json.loads(sys.argv[1]))
        _send(loaded(model), said)
    except Exception as error:
        _send(error, said)
        return
    gc.freeze()  # the vocabulary is here to stay: a collection took 30 ms
    if model.about["evidence"]:
        model.explain(PROBE)  # its session takes 0.1 s to open
    if sys.platform == "linux":
        # Behind the server, which is to say no at once: of four times the load that it can take it
        # answered all instead of four fifths, and /healthz took half the time.
        os.setpriority(os.PRIO_PROCESS, 0, 5)
    while True:
        texts, explain = pickle.load(asked)
        _send(answer(model, texts, explain), said)


def _send(content: object, file: IO[bytes]) -> None:
    data = pickle.dumps(content)
    file.write(len(data).to_bytes(SIZE, "little"))
    file.write(data)
    file.flush()

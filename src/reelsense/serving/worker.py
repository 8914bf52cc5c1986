"""The model in a process of its own: what it does there, and the server's hold on it.

Not in threads of the server: those that scored and the event loop waited for one lock of Python.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from reelsense.errors import BadInput, Failure
from reelsense.inference.answers import Prediction
from reelsense.serving.limits import Refused, report
from reelsense.serving.shapes import encoded, explanation_json

if TYPE_CHECKING:
    from reelsense.inference.predictor import Predictor

PROBE: Final = "A wonderful, moving film."
SIZE: Final = 8  # bytes before each answer, which say how many it has


@dataclass(frozen=True)
class Loaded:
    """A model that has been loaded elsewhere: bundle.json, and what it says of PROBE."""

    about: Mapping[str, Any]
    confidence: float
    second: str | None
    probe: Prediction


class Worker(asyncio.SubprocessProtocol):
    """A process that answers with the model, one request after the other.

    opening: what `predictor.load` takes.
    """

    def __init__(self, **opening: Any) -> None:
        self._opening = opening
        self._process: asyncio.SubprocessTransport | None = None
        self._heard = bytearray()
        self._said: asyncio.Future[Any] | None = None

    async def open(self) -> Loaded:
        """Start the process, and return its model once that is there.

        Raises:
            BadInput: there is no such bundle, or it is damaged. Failure: the process has died.
        """
        self._process, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            # -P: what lies in the folder of the user is not to be taken for a package.
            *(sys.executable, "-P", "-c", "from reelsense.serving.worker import main; main()"),
            stderr=None,
            process_group=0,  # a terminal's Ctrl-C is for the server, which has answers to wait for
        )
        loaded = await self._exchanged(self._opening)
        if isinstance(loaded, Exception):
            raise loaded
        assert isinstance(loaded, Loaded)
        return loaded

    async def ask(self, texts: list[str], explain: bool) -> Any:
        """Return the predictions of texts; with `explain`, of one, the explanation as JSON.

        Raises:
            BadInput: the model cannot explain. Failure: the process has died, and is to be opened
            again. Refused: a defect, which the process has reported.
        """
        said = await self._exchanged((texts, explain))
        if isinstance(said, BadInput):
            raise said
        if said is None:
            raise Refused(500, "internal", "the server failed; its log says where")
        return said if explain else [Prediction(*row) for row in said]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _exchanged(self, content: object) -> asyncio.Future[Any]:
        """Send something to the process; what comes back is the result, or Failure."""
        assert self._process is not None
        self._said = asyncio.get_running_loop().create_future()
        if self._process.get_returncode() is not None:
            self.process_exited()
        else:
            to: Any = self._process.get_pipe_transport(0)
            to.write(pickle.dumps(content))
        return self._said

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take a part of an answer."""
        self._heard += data
        if len(self._heard) >= SIZE + int.from_bytes(self._heard[:SIZE], "little"):
            content = pickle.loads(memoryview(self._heard)[SIZE:])
            self._heard = bytearray()
            if self._said is not None and not self._said.done():
                self._said.set_result(content)

    def process_exited(self) -> None:
        """Let who waits for an answer know that there will be none."""
        assert self._process is not None
        if self._said is not None and not self._said.done():
            code = self._process.get_returncode()
            self._said.set_exception(
                Failure(f"a process with the model has died (exit code {code})")
            )


def loaded(model: "Predictor") -> Loaded:
    """Return what a server has to know of a model."""
    second = model.second.about["name"] if model.second else None
    return Loaded(model.about, model.confidence, second, model(PROBE))


def answer(model: "Predictor", texts: list[str], explain: bool) -> Any:
    """Return the fields of each prediction, or an explanation as JSON.

    Both are quick to send: 32 records of Prediction took 280 us, their fields take 40; and of a
    long text an explanation is megabytes, whose parts nobody needs but the client.
    """
    if explain:
        return encoded(explanation_json(model.explain(texts[0])))
    return [
        (said.label, said.probability, said.tokens, said.unknown, said.truncated)
        for said in model(texts)
    ]


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
    opening = pickle.load(asked)
    try:
        from reelsense.inference.predictor import load

        model = load(**opening)
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
        try:
            content = answer(model, texts, explain)
        except BadInput as error:
            content = error
        except Exception as error:
            report(error)
            content = None
        _send(content, said)


def _send(content: object, file: IO[bytes]) -> None:
    data = pickle.dumps(content)
    file.write(len(data).to_bytes(SIZE, "little"))
    file.write(data)
    file.flush()

"""Texts to answers, in this process or in several that each hold the model.

Processes, not threads: two threads of one process wait for Python's lock while they tokenise.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from typing import Any

from reelsense.errors import Failure
from reelsense.inference.predictor import Predictor, load

Answers = list[dict[str, Any]]
Answered = Callable[[Iterable[list[str]]], Iterator[Answers]]

# Chunks that each process has waiting: while one is scored, the next has come already.
WAITING = 3


@dataclass(frozen=True)
class Model:
    """Which model answers, as `predictor.load` takes it; `explain` asks for evidence as well."""

    name: str | None = None
    second: str | None = None
    confidence: float | None = None
    explain: bool = False

    def open(self) -> Predictor:
        """Return it, to compute on one core."""
        return load(self.name, 1, self.confidence, self.second)


def answer(model: Predictor, texts: list[str], explain: bool) -> Answers:
    """Return the answer to each text: the columns of `outputs.ADDED`, and `outputs.EXPLAINED`."""
    if not explain:
        return [asdict(said) for said in model(texts)]
    answers = []
    for text in texts:
        why = model.explain(text)
        words = [
            {"start": word.start, "end": word.end, "evidence": word.evidence} for word in why.words
        ]
        answers.append(asdict(why.prediction) | {"logit": why.logit, "evidence": words})
    return answers


@contextmanager
def answering(model: Model, workers: int) -> Iterator[Answered]:
    """Give what answers chunks of texts, in their order.

    Raises:
        Failure: a process was killed; what has been answered before is not lost.
    """
    if workers == 1:
        predictor = model.open()
        yield lambda chunks: (answer(predictor, texts, model.explain) for texts in chunks)
        return
    # spawn: a process that onnxruntime runs in may not be forked.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _open, (model,))

    def answered(chunks: Iterable[list[str]]) -> Iterator[Answers]:
        rest = iter(chunks)
        first = list(islice(rest, 2))
        if len(first) < 2:  # a second process would take longer to start than to answer
            yield from (answer(model.open(), texts, model.explain) for texts in first)
            return
        yield from _in_order(pool, chain(first, rest), WAITING * workers)

    try:
        yield answered
    except BrokenProcessPool:
        raise Failure(
            "a worker process was killed, perhaps for want of memory; go on with --resume (a pipe: "
            "begin again) and fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterable[list[str]], ahead: int
) -> Iterator[Answers]:
    """Yield the answers to the chunks; at most `ahead` of them are read before one is answered."""
    waiting: deque[Future[Answers]] = deque()
    for texts in chunks:
        waiting.append(pool.submit(_answer, texts))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_opened: tuple[Predictor, bool] | None = None  # of a worker process


def _open(model: Model) -> None:
    """Open the model of a worker process, and end it with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _opened
    _opened = (model.open(), model.explain)


def _end_with_parent() -> None:
    """Wait for the end of the parent: after a kill -9 nobody else would end this process."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(texts: list[str]) -> Answers:
    assert _opened is not None
    return answer(_opened[0], texts, _opened[1])

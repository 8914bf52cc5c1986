"""Texts that wait for a thread, answered in their order; and no more of them than can be soon.

The event loop only puts texts in and waits. As many threads as cores take them out, each with
what a core can do at a time, and hand back whole requests.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reelsense.inference.answers import Prediction
from reelsense.inference.predictor import TASK, Predictor
from reelsense.serving.limits import Refused
from reelsense.serving.shapes import encoded, explanation_json

# What a request costs beside its characters, in characters: 0.3 ms for a text of six words, and
# 2.1 ms for 1,270 characters of a whole review.
OVERHEAD = 150
# An explanation took five times as long as a prediction of the same review.
EXPLAINED = 5
# Characters of short requests that a thread scores together, of what waits when it becomes free.
# With 8 clients and a short review each, 1,030 requests a second at 0.96 ms of processor time
# instead of 810 at 1.38 one by one (medians of 5 rounds in turns, on two busy cores). To wait for
# company did not pay: 940 a second with a window of 1 ms, 810 with one of 3 ms; of whole reviews,
# 190 one by one, 200 to 260 in all the other ways.
TOGETHER = 4096
# Characters a second and thread that are assumed before anything has been measured.
PACE = 300_000.0


@dataclass(eq=False)
class Job:
    """A request's texts, and the answers that are there already.

    cost: in characters, see OVERHEAD. pieces: how many of them are still to come.
    """

    texts: list[str]
    explain: bool
    answered: asyncio.Future[Any]
    answers: list[Prediction | None] = field(default_factory=list)
    pieces: int = 0
    wrong: BaseException | None = None

    def give_up(self, error: Exception) -> None:
        """Let who waits for the answers have an error instead, unless they are there."""
        if not self.answered.done():
            self.answered.set_exception(error)


@dataclass(frozen=True, eq=False)
class Piece:
    """Texts of one job that one thread takes at a time: their places in it, cost, since when."""

    job: Job
    rows: list[int]
    cost: int
    since: float = field(default_factory=time.monotonic)


class Work:
    """The texts that wait, and the threads that answer them.

    model: the Predictor, of which each thread computes on its own core.
    threads: as many as cores.
    took: called with the number of texts of each batch, from any thread.
    """

    def __init__(self, model: Predictor, threads: int, took: Callable[[int], object]) -> None:
        self.model = model
        self._took = took
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Piece] = deque()
        self._cost = 0  # of what waits
        self._pace = PACE
        self._closed = False
        self._change = threading.Condition(threading.Lock())
        self.threads = [
            threading.Thread(target=self._answer, name=f"reelsense-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    @property
    def depth(self) -> int:
        """How many pieces wait."""
        return len(self._waiting)

    @property
    def ahead(self) -> float:
        """Seconds that a request would wait now, as the last ones went."""
        with self._change:
            expected = self._cost / (self._pace * len(self.threads))
            # The pace lags behind what a flood takes away from it; the first in the line does not.
            waited = time.monotonic() - self._waiting[0].since if self._waiting else 0.0
        return max(expected, waited)

    def close(self) -> None:
        """Let the threads end when nothing waits any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def begin(self, texts: list[str], explain: bool = False) -> Job:
        """Let texts wait for their answers; to be called in the event loop.

        At once, so that what comes in the same turn of the loop sees them wait already: a hundred
        requests that came in one turn were all let in, and waited for 0.4 s.

        Returns:
            The job, whose `answered` becomes the predictions; with `explain`, of one text, the
            explanation as JSON (of a long text that is megabytes, made by the thread), or BadInput
            where the model cannot.

        Raises:
            Refused: the server ends.
        """
        job = Job(texts, explain, self._loop.create_future(), [None] * len(texts))
        pieces = cut(job, len(self.threads))
        job.pieces = len(pieces)
        with self._change:
            if self._closed:
                raise Refused(503, "draining", "the server is being stopped; try another one")
            self._waiting.extend(pieces)
            self._cost += sum(piece.cost for piece in pieces)
            self._change.notify(len(pieces))
        return job

    def end(self, job: Job) -> None:
        """Forget a job that nobody waits for any more: what has not begun leaves the queue."""
        if not job.pieces:
            return
        with self._change:
            self._cost -= sum(piece.cost for piece in self._waiting if piece.job is job)
            self._waiting = deque(piece for piece in self._waiting if piece.job is not job)

    def _take(self) -> list[Piece] | None:
        """Return the next pieces for a thread, of one or of several short requests; None: end.

        Nothing waits for company: see TOGETHER.
        """
        with self._change:
            while not self._waiting and not self._closed:
                self._change.wait()
            if not self._waiting:
                return None
            taken = [self._waiting.popleft()]
            cost = taken[0].cost
            while (
                not taken[0].job.explain
                and self._waiting
                and not self._waiting[0].job.explain
                and cost + self._waiting[0].cost <= TOGETHER
            ):
                taken.append(self._waiting.popleft())
                cost += taken[-1].cost
            self._cost -= cost
            return taken

    def _answer(self) -> None:
        """Answer pieces until the end: what a thread does."""
        if sys.platform == "linux":
            # Behind the event loop, which is to say no at once: of four times the load that it can
            # take it answered all instead of four fifths, and /healthz took half the time.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        while (pieces := self._take()) is not None:
            begin = time.perf_counter()
            texts = [piece.job.texts[row] for piece in pieces for row in piece.rows]
            answers: Any = ()
            wrong: BaseException | None = None
            try:
                if pieces[0].job.explain:
                    answers = [encoded(explanation_json(self.model.explain(texts[0])))]
                else:
                    answers = self.model(texts)
            except BaseException as error:
                wrong = error
            seconds = max(time.perf_counter() - begin, 1e-6)
            self._took(len(texts))
            self._enter(pieces, answers, wrong, seconds)

    def _enter(
        self, pieces: list[Piece], answers: list[Any], wrong: BaseException | None, seconds: float
    ) -> None:
        """Enter the answers of pieces, and hand back the jobs that are complete with them."""
        complete, place = [], 0
        with self._change:
            pace = sum(piece.cost for piece in pieces) / seconds
            self._pace += 0.05 * (pace - self._pace)
            for piece in pieces:
                job = piece.job
                if wrong is not None:
                    job.wrong = wrong
                else:
                    for row in piece.rows:
                        job.answers[row] = answers[place]
                        place += 1
                job.pieces -= 1
                if not job.pieces:
                    complete.append(job)
        if complete:
            self._loop.call_soon_threadsafe(_hand_back, complete)


def cut(job: Job, threads: int) -> list[Piece]:
    """Return the pieces of a job: texts of like length, at most TASK, so that all threads help."""
    lengths = [len(text) for text in job.texts]
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    size = min(TASK, -(-len(order) // threads))
    factor = EXPLAINED if job.explain else 1
    return [
        Piece(job, rows, factor * sum(lengths[row] + OVERHEAD for row in rows))
        for rows in (order[first : first + size] for first in range(0, len(order), size))
    ]


def _hand_back(jobs: list[Job]) -> None:
    """Wake those who wait for the jobs; in the event loop."""
    for job in jobs:
        if job.answered.done():
            continue
        if job.wrong is not None:
            job.answered.set_exception(job.wrong)
        else:
            job.answered.set_result(job.answers[0] if job.explain else job.answers)

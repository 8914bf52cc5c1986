"""Texts that wait for a worker, answered in their order; and no more of them than can be soon.

The event loop puts texts in; as soon as a worker is free, it gets what a core can do at a time (a
little waits for one that is at work), and whole requests are handed back.
"""

import asyncio
import functools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelsense.errors import BadInput, Failure
from reelsense.inference.answers import Prediction
from reelsense.serving.limits import Refused
from reelsense.serving.worker import Worker, understood
from reelsense.serving.worker_main import Loaded

# Texts that a worker takes at a time: as many as the predictor scores in one go.
TASK = 32
# What a request costs beside its characters, in characters: 0.3 ms for a text of six words, and
# 2.1 ms for 1,270 characters of a whole review.
OVERHEAD = 150
# An explanation took five times as long as a prediction of the same review.
EXPLAINED = 5
# Characters of short requests that a worker scores together, of what waits when it becomes free.
# With 8 clients and a short review each, 1,560 requests a second at 0.84 ms of processor time
# instead of 1,330 at 1.16 one by one (medians of 5 rounds in turns, on two cores). To wait for
# company did not pay: of 1,030 a second (then in threads) 940 were left with a window of 1 ms, 810
# with one of 3 ms; of whole reviews, 190 one by one, 200 to 260 in all the other ways.
TOGETHER = 4096
# Characters, with what workers have in hand, that wait for one of them while others have nothing to
# do: 2 ms of work. With 8 clients and a short review each, 19% less processor time and 14% fewer
# milliseconds (p99; medians of 30 rounds in turns). But SOON seconds after workers last got some,
# nothing waits for them any more: they may have come to a stop.
ALONE = 1500
SOON = 0.01
# Characters a second and worker that are assumed before anything has been measured.
PACE = 300_000.0


@dataclass(eq=False)
class Job:
    """A request's texts, and the answers that are there already.

    pieces: how many of its pieces are still to come.
    """

    texts: list[str]
    explain: bool
    answered: asyncio.Future[Any]
    answers: list[Prediction | None] = field(default_factory=list)
    pieces: int = 0
    wrong: Exception | None = None

    def hand_back(self) -> None:
        """Wake who waits for the answers, which are there."""
        if self.answered.done():
            return
        if self.wrong is not None:
            self.answered.set_exception(self.wrong)
        else:
            self.answered.set_result(self.answers[0] if self.explain else self.answers)

    def give_up(self, error: Exception) -> None:
        """Let who waits for the answers have an error instead, unless they are there."""
        if not self.answered.done():
            self.answered.set_exception(error)


@dataclass(frozen=True, eq=False)
class Piece:
    """Texts of one job that one worker takes at a time.

    rows: their places in it. cost: in characters, see OVERHEAD. since: when it came.
    """

    job: Job
    rows: list[int]
    cost: int
    since: float = field(default_factory=time.perf_counter)


class Work:
    """The texts that wait, and the workers that answer them.

    loaded: the model that the first of them has already.
    workers: as many as cores.
    took: called with the number of texts of each batch.
    """

    def __init__(
        self, loaded: Loaded, workers: Sequence[Worker], took: Callable[[int], object]
    ) -> None:
        self.loaded = loaded
        self.workers = workers
        self._took = took
        self._waiting: deque[Piece] = deque()
        self._cost = 0  # of what waits
        self._in_hand = 0  # cost of what workers have
        self._given = 0.0  # when they last got some
        self._pace = PACE
        self._closed = False
        self._idle: list[Worker] = []  # that have nothing to do
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in workers]

    @property
    def depth(self) -> int:
        """How many pieces wait."""
        return len(self._waiting)

    @property
    def alive(self) -> int:
        """How many workers live."""
        return sum(worker.lives for worker in self.workers)

    @property
    def ahead(self) -> float:
        """Seconds that a request would wait now, as the last ones went."""
        if not self._waiting:
            return 0.0
        expected = self._cost / (self._pace * len(self.workers))
        # The pace lags behind what a flood takes away from it; the first in the line does not.
        return max(expected, time.perf_counter() - self._waiting[0].since)

    def close(self) -> None:
        """Take no more, and let go of the workers."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    def begin(self, texts: list[str], explain: bool = False) -> Job:
        """Let texts wait for their answers.

        At once, so that what comes in the same turn of the loop sees them wait already: a hundred
        requests that came in one turn were all let in, and waited for 0.4 s.

        Returns:
            The job, whose `answered` becomes the predictions; with `explain`, of one text, the
            explanation as JSON, or BadInput where the model cannot.

        Raises:
            Refused: the server ends.
        """
        if self._closed:
            raise Refused(503, "draining", "the server is being stopped; try another one")
        answered = asyncio.get_running_loop().create_future()
        job = Job(texts, explain, answered, [None] * len(texts))
        pieces = cut(job, len(self.workers))
        job.pieces = len(pieces)
        self._waiting.extend(pieces)
        self._cost += cost_of(pieces)
        self._go_on()
        return job

    def end(self, job: Job) -> None:
        """Forget a job that nobody waits for any more: what has not begun leaves the queue."""
        if not job.pieces:
            return
        self._cost -= cost_of(piece for piece in self._waiting if piece.job is job)
        self._waiting = deque(piece for piece in self._waiting if piece.job is not job)

    def _go_on(self) -> None:
        """Give what waits to workers that have nothing to do."""
        while self._waiting and self._idle:
            now = time.perf_counter()
            if self._in_hand and self._in_hand + self._cost <= ALONE and now < self._given + SOON:
                return
            worker = self._idle.pop()  # the last one, whose caches are warm
            if worker.lives:
                pieces = self._take()
                self._in_hand, self._given = self._in_hand + cost_of(pieces), now
                texts = [piece.job.texts[row] for piece in pieces for row in piece.rows]
                enter = functools.partial(self._enter, worker, pieces, now)
                worker.ask(texts, pieces[0].job.explain).add_done_callback(enter)

    def _take(self) -> list[Piece]:
        """Return the next pieces for a worker, of one or of several short requests."""
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

    def _enter(
        self, worker: Worker, pieces: list[Piece], begin: float, said: asyncio.Future[bytes]
    ) -> None:
        """Enter what a worker has said of pieces, and hand back the jobs that are complete."""
        if said.cancelled():  # the server ends
            return
        cost = cost_of(pieces)
        self._in_hand -= cost
        pace = cost / max(time.perf_counter() - begin, 1e-6)
        self._pace += 0.05 * (pace - self._pace)
        explain = pieces[0].job.explain
        answers: Iterator[Any] = iter(())
        wrong: Exception | None = None
        try:
            found = understood(said.result(), explain)
            answers = iter([found] if explain else found)
        except Failure:
            wrong = Refused(503, "lost", "the process that worked on this has died; try again",
                            {"Retry-After": "1"})  # fmt: skip
        except (BadInput, Refused) as error:
            wrong = error
        self._took(sum(len(piece.rows) for piece in pieces))
        for piece in pieces:
            job = piece.job
            job.wrong = job.wrong or wrong
            for row, answer in zip(piece.rows, answers, strict=False):
                job.answers[row] = answer
            job.pieces -= 1
            if not job.pieces:
                job.hand_back()
        if worker.lives:
            self._idle.append(worker)
        self._go_on()

    async def _keep(self, worker: Worker) -> None:
        """Have a worker live and work, for ever."""
        while True:
            if not worker.lives:
                await self._opened(worker)
            self._idle.append(worker)
            self._go_on()
            await worker.ended()
            if worker in self._idle:
                self._idle.remove(worker)

    async def _opened(self, worker: Worker) -> None:
        """Start a worker; if that fails, again a second later."""
        if worker.code is not None:
            print(f"reelsense: a process with the model has died (exit code {worker.code}); "
                  "another one is started", file=sys.stderr, flush=True)  # fmt: skip
        while True:
            try:
                await worker.begin()
                await worker.loaded()
            except (BadInput, Failure) as error:
                print(f"reelsense: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(1)
            else:
                return


def cost_of(pieces: Iterable[Piece]) -> int:
    """Return the cost of pieces together."""
    return sum(piece.cost for piece in pieces)


def cut(job: Job, workers: int) -> list[Piece]:
    """Return the pieces of a job: texts of like length, at most TASK, so that all workers help."""
    lengths = [len(text) for text in job.texts]
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    size = min(TASK, -(-len(order) // workers))
    factor = EXPLAINED if job.explain else 1
    return [
        Piece(job, rows, factor * sum(lengths[row] + OVERHEAD for row in rows))
        for rows in (order[first : first + size] for first in range(0, len(order), size))
    ]

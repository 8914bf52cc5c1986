"""The queue: batches, refusals before it is long, and places that are given back."""

import asyncio

import pytest

from reelsense.inference import predictor
from reelsense.serving import work
from reelsense.serving.limits import Limits
from reelsense.serving.work import ALONE, OVERHEAD, TOGETHER, Job, cut


def asked(here, text="a", path="/v1/predict"):
    return here.begin(here.client.post(path, json={"text": text}))


@pytest.mark.parametrize(("texts", "threads", "sizes"), [
    (1, 2, [1]), (5, 2, [3, 2]), (64, 2, [32, 32]), (70, 2, [32, 32, 6]), (3, 8, [1, 1, 1]),
])  # fmt: skip
def test_pieces_hold_every_text_once_the_longest_first(texts, threads, sizes):
    job = Job(["a" * (7 * n % 64) for n in range(texts)], False, asyncio.Future(loop=_Loop()))
    pieces = cut(job, threads)
    assert [len(piece.rows) for piece in pieces] == sizes
    rows = [row for piece in pieces for row in piece.rows]
    assert sorted(rows) == list(range(texts))
    lengths = [len(job.texts[row]) for row in rows]
    assert lengths == sorted(lengths, reverse=True)


class _Loop:
    def get_debug(self):
        return False


def test_no_piece_is_more_than_the_predictor_takes_in_one_go():
    """More, and a worker would start threads for it."""
    assert work.TASK == predictor.TASK
    assert TOGETHER // OVERHEAD <= predictor.TASK


def test_short_requests_that_wait_are_scored_together(served, waiting, until):
    here = served(waiting, limits=Limits(waiting=10), threads=1)
    first = asked(here, "first")
    assert waiting.began.wait(10)
    rest = [asked(here, f"text {n}") for n in range(9)] + [asked(here, "long" * TOGETHER)]
    until(lambda: here.service.work.depth == 10)
    waiting.let.set()
    assert all(one.result(10).status_code == 200 for one in [first, *rest])
    shown = here.get("/metrics").text
    assert 'reelsense_batch_texts_bucket{le="8.0"} 2.0' in shown  # the first, and the long one
    assert 'reelsense_batch_texts_bucket{le="16.0"} 3.0' in shown


@pytest.fixture
def second_waits(served, waiting, until, monkeypatch):
    """A server of two workers and two requests: one worker has the first, and the second waits."""
    monkeypatch.setattr(work, "SOON", 100.0)
    here = served(waiting, limits=Limits(waiting=10), threads=2)
    running = [asked(here, "first")]
    until(lambda: waiting.asked == ["first"])
    running.append(asked(here, "second"))
    until(lambda: here.service.work.depth == 1)
    return here, running


def test_little_work_waits_for_the_worker_that_has_some(second_waits, waiting, until):
    here, running = second_waits
    running.append(asked(here, "x" * ALONE))
    until(lambda: waiting.asked == ["first", "second", "x" * ALONE])
    running.append(asked(here, "fourth"))
    until(lambda: here.service.work.depth == 1)
    waiting.let.set()
    assert [one.result(10).status_code for one in running] == [200] * 4


def test_nothing_waits_for_a_worker_that_has_come_to_a_stop(served, waiting, until, monkeypatch):
    here = served(waiting, limits=Limits(waiting=10), threads=2)
    running = [asked(here, "first")]
    until(lambda: waiting.asked == ["first"])
    monkeypatch.setattr(work, "SOON", 0.0)
    running.append(asked(here, "second"))
    until(lambda: waiting.asked == ["first", "second"])
    waiting.let.set()
    assert [one.result(10).status_code for one in running] == [200] * 2


def test_what_waits_for_a_worker_that_dies_goes_to_another(second_waits, waiting, until):
    here, running = second_waits
    (at_work,) = {*here.service.work.workers} - {*here.service.work._idle}
    at_work.lives = False
    waiting.let.set()
    assert [one.result(10).status_code for one in running] == [200] * 2


def test_what_would_wait_too_long_is_refused_at_once(served, waiting, until, refused):
    here = served(waiting, limits=Limits(waiting=0.5), threads=1)
    here.service.work._pace = 1000.0  # characters a second
    running = [asked(here)]
    assert waiting.began.wait(10)
    running.append(asked(here, "x" * 5000))  # may come: nobody is before it
    until(lambda: here.service.work.depth == 1)
    answer = asked(here).result(10)
    assert "try again in 6 s" in refused(answer, 429, "overloaded")
    assert answer.headers["retry-after"] == "6"
    refused(here.get("/readyz"), 503, "overloaded")
    assert here.get("/healthz").status_code == 200
    assert here.get("/v1/model").status_code == 200
    waiting.let.set()
    assert [one.result(10).status_code for one in running] == [200, 200]
    assert here.service.work.ahead == 0
    assert here.service.buffered == 0
    assert here.counted()["/v1/predict", "429"] == 1


def test_too_many_bytes_in_hand_are_refused(served, waiting, refused):
    here = served(waiting, limits=Limits(buffered=1000))
    first = asked(here, "x" * 2000)
    assert waiting.began.wait(10)
    refused(asked(here).result(10), 429, "overloaded")
    waiting.let.set()
    assert first.result(10).status_code == 200
    assert asked(here).result(10).status_code == 200


def test_no_answer_in_time_is_503_and_gives_its_place_back(served, waiting, refused):
    here = served(waiting, limits=Limits(seconds=0.2, waiting=10), threads=1)
    first = asked(here, "first")
    assert waiting.began.wait(10)
    second = asked(here, "second")
    for one in (first, second):
        answer = one.result(10)
        refused(answer, 503, "timeout")
        assert answer.headers["retry-after"]
    assert here.service.work.depth == 0
    waiting.let.set()
    assert asked(here, "third").result(10).status_code == 200
    assert waiting.asked == ["first", "third"]  # the second had not begun


def test_a_client_that_goes_away_gives_its_place_back(served, waiting, until):
    here = served(waiting, limits=Limits(waiting=10), threads=1)
    first = asked(here, "first")
    assert waiting.began.wait(10)
    body = b'{"text": "second"}'
    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict",
             "query_string": b"", "headers": headers, "client": None, "root_path": ""}  # fmt: skip
    running = here.begin(here.app(scope, receive, send))
    until(lambda: here.service.work.depth == 1)
    here.loop.call_soon_threadsafe(gone.set)
    running.result(10)
    assert sent == []
    assert here.service.work.depth == 0
    assert here.service.work.ahead == 0
    waiting.let.set()
    assert first.result(10).status_code == 200
    assert here.service.buffered == 0
    assert waiting.asked == ["first"]
    assert here.counted()["/v1/predict", "499"] == 1


def test_nothing_more_is_taken_after_the_end(served, waiting, refused):
    here = served(waiting)
    here.service.work.close()
    refused(asked(here).result(10), 503, "draining")

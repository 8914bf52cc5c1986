"""The process that holds the model: the same answers, and what becomes of it when it is killed."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from reelsense.errors import BadInput, Failure
from reelsense.inference.answers import finite
from reelsense.serving.shapes import encoded, explanation_json
from reelsense.serving.worker import Worker, understood

pytestmark = pytest.mark.slow


def process_of(worker):
    return worker._process.get_pid()


def with_worker(bundle, use, **opening):
    """Do something with a worker; then it must be gone."""

    async def run():
        worker = Worker(path=str(bundle), threads=1, **opening)
        try:
            await use(worker)
        finally:
            await worker.end()
        assert not worker.lives

    asyncio.run(run())


def test_it_answers_as_the_predictor_does(tiny_bundle, model):
    texts = ["a superb film", "", "half a character: \ud800", "\x00", "awful! " * 30_000]
    texts += [f"a film of {n} minutes" for n in range(40)]

    async def use(worker):
        await worker.begin()
        loaded = await worker.loaded()
        assert loaded.about == finite(model.about)
        assert loaded.confidence == 0.7
        said = understood(await worker.ask(texts, False), False)
        assert [one.probability for one in said] == [one.probability for one in model(texts)]
        for text in texts[:5]:  # the last is megabytes
            said = understood(await worker.ask([text], True), True)
            assert said == encoded(explanation_json(model.explain(text)))

    model = type(model)(model.bundle, 1, confidence=0.7)
    with_worker(tiny_bundle, use, confidence=0.7)


def test_what_is_no_bundle_is_said(tmp_path):
    async def use(worker):
        await worker.begin()
        with pytest.raises(BadInput, match=r"bundle\.json"):
            await worker.loaded()

    with_worker(tmp_path, use)


def test_one_that_is_killed_is_said_and_can_be_begun_again(tiny_bundle):
    async def use(worker):
        await worker.begin()
        first = await worker.loaded()
        os.kill(process_of(worker), signal.SIGSTOP)
        asked = worker.ask(["a"], False)
        await asyncio.sleep(0.05)
        os.kill(process_of(worker), signal.SIGKILL)
        with pytest.raises(Failure, match="exit code -9"):
            await asked
        assert not worker.lives
        await worker.begin()
        assert (await worker.loaded()).probe == first.probe
        assert await worker.ask([], False) == b"[]"

    with_worker(tiny_bundle, use)


def test_no_process_left_is_said(tiny_bundle, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    async def use(worker):
        with pytest.raises(Failure, match="No such file"):
            await worker.begin()

    with_worker(tiny_bundle, use)


def test_one_can_be_ended_at_any_time(tiny_bundle):
    for turns in range(8):  # of the event loop, that it has had to start

        async def use(worker, turns=turns):
            starting = asyncio.create_task(worker.begin())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()

        with_worker(tiny_bundle, use)


def ignores_signals(pid):
    try:
        ignored = re.search(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    except OSError:
        return False
    return int(ignored, 16) >> (signal.SIGTERM - 1) & 1 == 1


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
def test_a_server_starts_another_for_one_that_was_killed(start, until, answer_of, children_of):
    server = start("--threads", "1", "--max-wait", "20")
    with server.client() as client:
        (first,) = children_of(server.process.pid)
        os.kill(first, signal.SIGKILL)  # it had nothing to do, and nothing is lost
        until(lambda: children_of(server.process.pid) not in ([], [first]))
        assert client.post("/v1/predict", json={"text": "fine"}).status_code == 200

        (second,) = children_of(server.process.pid)
        os.kill(second, signal.SIGSTOP)
        asked = server.send({"text": "fine"})
        time.sleep(0.5)  # it has been given to the worker
        os.kill(second, signal.SIGKILL)
        status, body = answer_of(asked)
        assert (status, json.loads(body)["error"]["code"]) == (503, "lost")
        assert client.post("/v1/predict", json={"text": "fine"}).status_code == 200
        assert client.get("/readyz").status_code == 200
        assert "reelsense_workers 1.0" in client.get("/metrics").text
    died = "reelsense: a process with the model has died (exit code -9); another one is started\n"
    assert server.end() == (0, 2 * died)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_leaves_the_end_to_the_server(
    start, answer_of, until, number, children_of
):
    server = start("--threads", "2", "--max-wait", "20", model="small")
    until(lambda: sum(map(ignores_signals, children_of(server.process.pid))) == 2)  # not before
    running = server.send({"texts": ["The film was dull , but superb . " * 60] * 60})
    time.sleep(0.2)
    for pid in [server.process.pid, *children_of(server.process.pid)]:
        os.kill(pid, number)
    assert answer_of(running)[0] == 200
    assert server.ended() == (0, "")


@needs_proc
def test_no_process_outlives_the_server(start, until, children_of, is_running):
    server = start("--threads", "2")
    until(lambda: len(children_of(server.process.pid)) == 2)
    workers = children_of(server.process.pid)
    assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
    until(lambda: not any(is_running(pid) for pid in workers))

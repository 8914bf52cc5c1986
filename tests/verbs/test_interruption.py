"""Ctrl-C, SIGTERM and an output that nobody reads, while a network is trained."""

import json
import re
import signal
import subprocess
import sys

import pytest

from reelsense.verbs import interruption

LONG = ["--epochs", "4", "--batch-reviews", "2", "--precision", "fp32"]


def start(folder, arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "reelsense", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_epoch(process):
    """Read the output of a process up to the line of its first epoch."""
    for line in process.stdout:
        if line.lstrip().startswith("1/4"):
            return
    raise AssertionError(process.communicate())


def weights(run):
    return json.loads((run / "metrics.json").read_text())["weights_sha256"]


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_with_the_same_weights(reelsense, here, refused, tiny):
    process = start(here, [*tiny, *LONG, "--run", "broken off"])
    first_epoch(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"reelsense: interrupted( and saved)?; go on with: reelsense train .* --run 'broken off' "
        r"--resume\n",
        err,
    ), err
    assert not (here / "broken off/report.html").exists()
    refused(reelsense("evaluate", "broken off"), 2, "has no weights yet; .*--resume")

    assert reelsense(*tiny, *LONG, "--run", "broken off", "--resume").code == 0
    assert reelsense(*tiny, *LONG, "--run", "whole").code == 0
    assert weights(here / "broken off") == weights(here / "whole")


@pytest.mark.slow
def test_output_that_nobody_reads_ends_quietly_and_saves(here, tiny):
    process = start(here, [*tiny, *LONG])
    first_epoch(process)
    process.stdout.close()  # as `| head` does
    assert process.wait(timeout=60) in (0, 141)
    assert process.stderr.read() == ""
    assert (here / "run/checkpoint/state.safetensors").exists()


def test_first_signal_asks_and_the_second_ends():
    before = signal.getsignal(signal.SIGINT)
    context = interruption.interruptible()
    interrupted = context.__enter__()
    assert not interrupted()
    signal.raise_signal(signal.SIGINT)
    assert interrupted()
    with pytest.raises(KeyboardInterrupt) as second:
        signal.raise_signal(signal.SIGINT)
    assert not context.__exit__(KeyboardInterrupt, second.value, None)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(interruption.Interrupted) as stopped, interruption.interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143


@pytest.mark.parametrize("place", ["reelsense.text.reviews.read_reviews",
                                   "reelsense.training.measure.measure_run"])  # fmt: skip
def test_ctrl_c_elsewhere_is_one_line(reelsense, here, monkeypatch, place, refused, tiny):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    outcome = reelsense(*tiny, "--epochs", "1")
    refused(outcome, 130, "interrupted\n" if "text" in place else "; go on with: .*--resume")
    assert (here / "run").exists() == ("text" not in place)

"""`torchrun -m -- reelsense train`: several processes, one run; killed, interrupted, resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
AN_EPOCH = "checkpoint/state.safetensors"
LONG = ["--epochs", "4", "--batch-reviews", "4", "--precision", "fp32"]


def start(folder, processes, arguments):
    return subprocess.Popen(
        [*TORCHRUN, str(processes), "-m", "--", "reelsense", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def weights(run):
    return json.loads((run / "metrics.json").read_text())["weights_sha256"]


def ours(err):
    """Return what we have said, without what torchrun says itself."""
    return [line for line in err.splitlines() if line.startswith("reelsense: ")]


def process_of(torchrun, rank):
    """Return the process with that rank."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == torchrun.pid and f"RANK={rank}".encode() in environment:
            return int(path.parent.name)
    raise AssertionError(f"no process has rank {rank}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_csv, write_vectors, tiny):
    """The folder of reviews in which one process of two threads has trained the run `whole`."""
    folder = tmp_path_factory.mktemp("whole")
    write_csv(folder / "reviews.csv")
    write_vectors(folder / "vectors.txt")
    command = [sys.executable, "-m", "reelsense", *tiny, *LONG, "--threads", "2"]
    subprocess.run([*command, "--run", "whole"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_which_then_goes_on(
    whole, tiny, rank, reelsense, monkeypatch
):
    name = f"killed {rank}"
    process = start(whole, 2, [*tiny, *LONG, "--run", name])
    # The first process is killed before anything has been saved.
    wait_for(whole / name / (AN_EPOCH if rank else "environment.json"), process)
    os.kill(process_of(process, rank), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(ours(err)) == 1, err
    assert re.search("another process of this training has ended; .*--resume", ours(err)[0])
    assert err.count("Traceback") == 1  # torchrun's own
    resumed = [*tiny, *LONG, "--run", name, "--resume"]
    if rank == 0:  # two processes have the bits of two threads
        process = start(whole, 2, resumed)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.count("Weights of epoch") == out.count("\nReport ") == 1
        assert len(re.findall(r"^ +4/4 ", out, re.M)) == 1
        assert ours(err) == []
        environment = json.loads((whole / name / "environment.json").read_text())
        assert environment["device"] == "cpu, 2 processes of 1 core, fp32"
        assert "torchrun --nproc-per-node 2 -m -- reelsense train" in environment["command"]
    else:
        monkeypatch.chdir(whole)
        assert reelsense(*resumed).code == 0
    assert weights(whole / name) == weights(whole / "whole")
    assert curves(whole / name) == curves(whole / "whole")


def curves(run):
    """Return the history of a run without its times."""
    records = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if "second" not in k} for record in records]


def wait_for(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_saves_once_and_another_number_of_processes_goes_on(
    whole, tiny, reelsense, monkeypatch
):
    process = start(whole, 2, [*tiny, *LONG, "--run", "stopped"])
    wait_for(whole / "stopped" / AN_EPOCH, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(ours(err)) == 1, err
    assert "interrupted and saved; go on with the same torchrun command and --resume" in err
    monkeypatch.chdir(whole)
    assert reelsense(*tiny, *LONG, "--run", "stopped", "--resume").code == 0
    assert weights(whole / "stopped") == weights(whole / "whole")


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_has_begun(whole, tiny, reelsense, monkeypatch, stop_at):
    monkeypatch.chdir(whole)
    stop_at(30)
    begun = reelsense(*tiny, *LONG, "--threads", "2", "--run", "one")
    assert begun.code == 130, begun.err
    process = start(whole, 2, [*tiny, *LONG, "--run", "one", "--resume"])
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert weights(whole / "one") == weights(whole / "whole")


@pytest.mark.slow
def test_what_is_wrong_is_said_once_and_nothing_is_left(whole, tiny):
    before = sorted(whole.iterdir())
    process = start(whole, 2, [*tiny, "--run", "wrong", "--data", "missing.csv"])
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert out == ""
    assert len(ours(err)) == 1, err
    assert "missing.csv" in ours(err)[0]
    assert sorted(whole.iterdir()) == before


@pytest.fixture
def as_of_two(monkeypatch):
    """Let this process look like one that torchrun has started; its store does not answer."""
    given = {
        "TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("verb", ["distil", "pretrain", "compare", "tune", "predict", "score"])
def test_only_train_runs_in_several_processes(verb, reelsense, refused, as_of_two):
    refused(reelsense(verb, "x", "y"), 2, f"`reelsense {verb}` runs in one process, and torchrun")


def test_cores_are_shared_among_the_processes_of_a_host(as_of_two, monkeypatch):
    from reelsense.training import machine

    monkeypatch.setattr(machine, "available_cores", lambda: 5)
    monkeypatch.setattr(machine.torch, "set_num_threads", lambda count: None)
    found = machine.find_machine("cpu", None, "fp32")
    assert (found.threads, found.processes) == (2, 2)
    assert machine.find_machine("cpu", 3, "fp32").threads == 3


def test_without_torchrun_a_process_is_alone(monkeypatch):
    from reelsense import torchrun

    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # another starter's, for another program
    assert torchrun.place().size == 1
    assert torchrun.first_to_complain()

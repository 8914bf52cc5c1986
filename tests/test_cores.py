import os
import subprocess
import sys

import pytest

from reelsense import cores
from reelsense.cores import available_cores


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of 16 cores; returns what counts them, given the groups' line and their files."""
    monkeypatch.setattr(cores, "_affinity", lambda: 16)

    def count(groups, **files):
        (tmp_path / "cgroup").write_bytes(groups)
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return available_cores(tmp_path / "cgroup", tmp_path)

    return count


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (b"max 100000\n", 16),
        (b"200000 100000\n", 2),
        (b"150000 100000\n", 2),  # one and a half: rounded up
        (b"10000 100000\n", 1),
        (b"6400000 100000\n", 16),  # more than there are
        (b"0 100000\n", 16),
        (b"200000 0\n", 16),
        (b"200000\n", 16),
        (b"-1 100000\n", 16),
        (b"", 16),
        (b"\xff\x00 x y", 16),
        (b"9" * 5000 + b" 1", 16),  # more digits than Python reads
    ],
)
def test_version_2(host, limit, expected):
    assert host(b"0::/a/b\n", **{"a/b/cpu.max": limit}) == expected


@pytest.mark.parametrize("folder", ["a/b/", "a/", ""])
def test_the_groups_above_and_the_root_hold_as_well(host, folder):
    files = {"a/b/cpu.max": b"800000 100000", "a/cpu.max": b"max 100000"}
    assert host(b"0::/a/b\n", **files) == 8
    assert host(b"0::/a/b\n", **files | {f"{folder}cpu.max": b"300000 100000"}) == 3


def test_the_groups_of_others_do_not(host):
    assert host(b"0::/a\n", **{"b/cpu.max": b"100000 100000", "a/b/cpu.max": b"1 1"}) == 16


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [(b"250000\n", 3), (b"-1\n", 16), (b"x", 16)])
def test_version_1(host, mount, quota, expected):
    files = {f"{mount}/a/cpu.cfs_quota_us": quota, f"{mount}/a/cpu.cfs_period_us": b"100000\n"}
    groups = b"5:cpuset:/b\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n"
    assert host(groups, **files) == expected


def test_a_container_that_is_named_as_its_host_names_it(host):
    files = {"cpu/cpu.cfs_quota_us": b"400000", "cpu/cpu.cfs_period_us": b"100000"}
    assert host(b"4:cpu:/docker/0123\n", **files) == 4


@pytest.mark.parametrize("groups", [b"", b"\n:\n::\nnothing", b"0::/../../x\n", b"\xff", b"0::/\0"])
def test_what_cannot_be_read_sets_no_limit(host, groups):
    assert host(groups) == 16


def test_without_groups_and_without_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cores(tmp_path / "none", tmp_path) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path / "none", tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity():
    program = (
        "import os; from reelsense.cores import available_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "1\n"

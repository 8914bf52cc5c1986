"""How many cores this process may use: not those of the machine, but those it is given."""

import os
from collections.abc import Iterator
from pathlib import Path


def available_cores(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return the cores to use, at least 1: by affinity, and by the container's share of time.

    A container with a quota of 1.5 cores sees all cores of its host, and is put to sleep for most
    of each tenth of a second if it starts a thread for each of them. Rounded up: with one thread
    half a core would be left over.

    Args:
        groups: the file that names the control groups of this process, both versions of them.
        mounted: where their folders lie. Never an error: what cannot be read sets no limit.
    """
    cores = [_affinity()]
    for limit in _limits(groups, mounted):
        try:
            quota, period = map(int, limit.split())
            if quota > 0 and period > 0:
                cores.append(-(-quota // period))
        except ValueError:  # "max", which is no limit, or nothing that we know
            continue
    return max(1, min(cores))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on this system
        return os.cpu_count() or 1


def _limits(groups: Path, mounted: Path) -> Iterator[str]:
    """Yield "QUOTA PERIOD" of the process's groups and of all above them, which hold as well.

    A container may see its group under its own root and under the host's name for it at once, so
    folders that are not there are passed over, and the root is always looked at.
    """
    for line in _read(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        path = Path(group.lstrip("/"))
        for folder in (path, *path.parents):
            if not controllers:  # version 2
                yield _read(mounted / folder / "cpu.max")
            elif "cpu" in controllers.split(","):
                for mount in {"cpu", controllers}:  # "cpu,cpuacct", mostly with a link "cpu"
                    here = mounted / mount / folder
                    yield f"{_read(here / 'cpu.cfs_quota_us')} {_read(here / 'cpu.cfs_period_us')}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""

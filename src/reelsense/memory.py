"""How much memory this process has held."""

import sys
from contextlib import suppress
from pathlib import Path


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float:
    """Return the most memory that this process has held, in MiB.

    `status` is where Linux says so. What every Unix says, `ru_maxrss`, a process takes over from
    the one that started it, so that a small network compared by a large program would look large.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = status.read_text("utf-8", "replace").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024

    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)

"""What torchrun says of this process, and which of several processes says what went wrong."""

import os
from dataclasses import dataclass

from reelsense.errors import Failure


class PeerLost(Failure):
    """Another process of the same training has ended, or no longer answers."""


@dataclass(frozen=True)
class Place:
    """Where a process stands: `rank` of `size` in all, `local_rank` of `local_size` on its host."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: int = 0


def place() -> Place:
    """Return the place of this process; alone where torchrun has not started it.

    Other starters set WORLD_SIZE too, for programs that have nothing to do with us.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
    return Place(*(int(os.environ[name]) for name in names))


def command() -> list[str]:
    """Return how this program was started, but for its own arguments and torchrun's rendezvous."""
    here = place()
    if here.size == 1:
        return ["reelsense"]
    hosts = ["--nnodes", str(here.size // here.local_size)] if here.size > here.local_size else []
    # Behind -- torchrun, which has a --run-path, does not ask whether our --run is meant for it.
    return ["torchrun", *hosts, "--nproc-per-node", str(here.local_size), "-m", "--", "reelsense"]


def first_to_complain() -> bool:
    """Say whether no process of this host has complained before; the others then keep silent.

    All of them meet what is wrong with the input, and those that wait for one that has ended
    complain later than it: the first line is the cause. Not by rank: torchrun ends the others as
    soon as one has ended, maybe before the first of them has come to say why. Its store outlives
    its processes; where that does not answer, a line too many is better than none.
    """
    here = place()
    if here.size == 1:
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        from datetime import timedelta

        import torch.distributed as dist

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        limit = timedelta(seconds=5)
        store = dist.TCPStore(address, port, is_master=False, timeout=limit)  # type: ignore[attr-defined]
        return int(store.add(f"reelsense/{attempt}/{here.host}/complaints", 1)) == 1
    except (ImportError, KeyError, ValueError, RuntimeError):
        return True

"""The processes that train a network together, started by torchrun: gloo on CPUs, nccl on GPUs.

All of them hold the same network and plan the same batches. Each takes its own shards of a batch;
the gradients are added up over all, and every process moves its weights by the same sum. That is
what torch's DistributedDataParallel does in a backward pass; ours come from `torch.autograd.grad`
in two passes, which it does not see, so one flat sum is taken here. A sum of two has no order: two
processes of one thread end with the bits of one process of two threads.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from reelsense.errors import BadInput, is_out_of_memory
from reelsense.model.pooled import Network
from reelsense.torchrun import PeerLost, Place
from reelsense.training.batches import Examples
from reelsense.training.checkpoint import Position, Tensors, load_state, read_history
from reelsense.training.machine import Machine
from reelsense.training.measure import logits, loss_and_accuracy
from reelsense.training.regularise import Gradients, sum_of

# A process that has ended is noticed at once; this is for one that hangs. The first may read and
# tokenise for minutes while others wait.
PATIENCE: Final = timedelta(minutes=15)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Team:
    """Which process of how many; the first, 0, is the one that writes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Say whether this process writes and speaks."""
        return self.rank == 0


ALONE: Final = Team()


def join(here: Place) -> Team:
    """Return the team that this process belongs to, after all of it have come together.

    Raises:
        PeerLost: they do not.
    """
    if here.size == 1:
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(here.local_rank % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    _together(lambda: dist.init_process_group(backend, timeout=PATIENCE))
    return Team(here.rank, here.size)


def leave(team: Team) -> None:
    """Wait for all, and end the team; each goes on alone."""
    if team.size > 1:
        largest(team, 0)
        dist.destroy_process_group()


def largest(team: Team, number: int) -> int:
    """Return the largest of the numbers that the processes bring."""
    if team.size == 1:
        return number
    brought = torch.tensor(number, dtype=torch.int64)
    _together(lambda: dist.all_reduce(brought, dist.ReduceOp.MAX))
    return int(brought)


def need_the_same(team: Team, given: Mapping[str, str]) -> None:
    """Refuse processes that were given different things.

    Raises:
        BadInput: names what differs.
    """
    if team.size == 1:
        return
    digests = [hashlib.sha256(value.encode()).digest() for value in given.values()]
    own = torch.from_numpy(np.frombuffer(b"".join(digests), np.uint8).copy()).view(len(given), -1)
    everyone = [torch.empty_like(own) for _ in range(team.size)]
    _together(lambda: dist.all_gather(everyone, own))
    for rank, other in enumerate(everyone):
        differ = (other != everyone[0]).any(dim=1).tolist()
        if any(differ):
            names = " and ".join(
                name for name, is_other in zip(given, differ, strict=True) if is_other
            )
            raise BadInput(
                f"process {rank} of the training has another {names} than process 0; give all of "
                "them the same"
            )


def where_to_begin(
    team: Team, run: Path, shards: int
) -> tuple[Tensors | None, Position, list[dict[str, Any]]]:
    """Return the state that was saved last, None in a new run, its place, and the epochs behind it.

    The first process reads it and tells the others, so that only its host needs the run folder. A
    run keeps the number of shards that it began with, as another would round otherwise, unless
    there are more processes now; `shards` are those of a process in a new run.
    """
    saved: Tensors | None = None
    position, history = Position(shards=shards * team.size), list[dict[str, Any]]()
    if team.first:
        if (found := load_state(run)) is not None:
            saved, position = found
        history = read_history(run)[: position.epoch - 1]
    if team.size > 1:
        said = json.dumps([asdict(position), history, saved is not None]).encode()
        told, history, is_saved = json.loads(_from_first(said))
        position = Position(**told)
        if is_saved:
            tensors = _from_first(save(saved) if saved is not None else b"")
            saved = saved if team.first else load(tensors)
    return saved, position.changed(shards=max(position.shards, team.size)), history


def sum_over(team: Team, parts: Sequence[Gradients], weights: Mapping[str, Tensor]) -> Gradients:
    """Return the sum of the parts of a batch that all processes have, added in their order.

    A small batch may leave a process without a part.
    """
    if team.size == 1:
        return sum_of(parts)
    if parts:
        own = sum_of(parts)
    else:
        own = Gradients([torch.zeros_like(weight) for weight in weights.values()], 0.0, 0, 0)
    flat = torch.cat([gradient.reshape(-1).float() for gradient in own.of_weights])
    counts = torch.tensor([own.loss, own.correct, own.labelled], dtype=torch.float64)
    # On GPUs a sum waits for a peer that has ended; this one, on the processor, notices it first.
    _together(lambda: dist.all_reduce(counts))
    _together(lambda: dist.all_reduce(flat))
    sizes = [gradient.numel() for gradient in own.of_weights]
    summed = [
        piece.view_as(gradient).to(gradient.dtype)
        for piece, gradient in zip(torch.split(flat, sizes), own.of_weights, strict=True)
    ]
    loss, correct, labelled = counts.tolist()
    return Gradients(summed, loss, int(correct), int(labelled))


def measured_by_all(
    team: Team, network: Network, part: Examples, machine: Machine, workers: ThreadPoolExecutor
) -> dict[str, float]:
    """Return loss and accuracy of a part, of which each process scores its share of the batches."""
    scores = logits(network, part, machine, workers, turn=(team.rank, team.size))
    if team.size > 1:  # each score is one process's, and 0 in the others
        _together(lambda: dist.all_reduce(torch.from_numpy(scores)))
    return loss_and_accuracy(scores, part.labels)


def _from_first(data: bytes) -> bytes:
    """Return the bytes that the first process has."""
    size = torch.tensor(len(data), dtype=torch.int64)
    _together(lambda: dist.broadcast(size, 0))
    sent = torch.zeros(int(size), dtype=torch.uint8)
    if len(data) == len(sent):
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    _together(lambda: dist.broadcast(sent, 0))
    return sent.numpy().tobytes()


def _together(do: Callable[[], Found]) -> Found:
    """Do what all processes do at once.

    Raises:
        PeerLost: one of them has ended or does not answer.
    """
    try:
        return do()
    except RuntimeError as error:  # gloo has none of its own; nccl's and the store's are subclasses
        if is_out_of_memory(error):
            raise
        raise PeerLost(f"another process of this training has ended ({error})") from error

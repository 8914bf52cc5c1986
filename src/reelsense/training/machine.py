"""On what a run computes: the device, the cores, the precision. Not part of a recipe."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from reelsense.cores import available_cores
from reelsense.errors import BadInput
from reelsense.torchrun import place


@dataclass(frozen=True)
class Machine:
    """A device and how to use it; `bf16` says whether training multiplies in bfloat16.

    Of `processes` that train together each has as much.
    """

    device: torch.device
    threads: int
    bf16: bool
    processes: int = 1

    def workers(self) -> ThreadPoolExecutor:
        """Return a pool whose threads each compute on one core.

        Each takes its own part of a batch: torch's LSTM makes all its cores meet at every token,
        and with other work on the machine two cores on one batch ran at a seventh of the speed.
        """
        return ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))

    def __str__(self) -> str:
        cores = f"{self.threads} {'core' if self.threads == 1 else 'cores'}"
        several = f"{self.processes} processes of " if self.processes > 1 else ""
        return f"{self.device.type}, {several}{cores}, {'bf16' if self.bf16 else 'fp32'}"


def find_machine(device: str, threads: int | None, precision: str) -> Machine:
    """Return the machine for `--device`, `--threads` and the recipe's precision.

    bfloat16 on its own account only where the processor multiplies in it: 1.7x the speed of
    float32 there, and slower than it elsewhere. Processes of one host share its cores and take a
    GPU each.

    Raises:
        BadInput: a GPU or bfloat16 is asked for and there is none, or fewer GPUs than processes.
    """
    here = place()
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine or this torch has no GPU; use --device cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda and here.local_size > torch.cuda.device_count():
        raise BadInput(
            f"{here.local_size} processes on a host with {torch.cuda.device_count()} GPU(s): "
            "each needs one; start fewer with --nproc-per-node, or use --device cpu"
        )
    cores = threads or max(1, available_cores() // here.local_size)
    torch.set_num_threads(cores)
    if not cuda:
        _keep_freed_memory()
    if cuda:
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported()
    if precision == "bf16" and not cuda and not _has_kernels_for_bf16():
        raise BadInput("--precision bf16: this processor has no bfloat16; use auto or fp32")
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16)
    found = torch.device("cpu")
    if cuda:
        found = torch.device("cuda", here.local_rank) if here.size > 1 else torch.device("cuda")
    return Machine(found, cores, bf16, here.size)


def _has_kernels_for_bf16() -> bool:
    # torch's LSTM on a processor says so only in the first batch, in words of its own.
    return not torch._C._has_mkldnn or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _keep_freed_memory() -> None:
    """Ask the C library (glibc; others do without) to keep freed memory for the next batch.

    Left alone it gives every large array back to the system and takes it anew, page by page:
    a third of the processor time of a training step, and 1.25x its wall time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(-4, 0)  # M_MMAP_MAX: no array gets a mapping of its own
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing is given back
    mallopt(-8, 1)  # M_ARENA_MAX: one heap for all threads, which then serves any of them

"""Token ids to what the graph says of them: one onnxruntime session and the batches it is given.

numpy and onnxruntime only. A session computes on one core, so any number of threads may share it,
each with batches of its own: threads inside a batch would have to meet at every token.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from reelsense.bundle.protobuf import Span, fields, with_length
from reelsense.errors import BadInput

Ids = NDArray[np.int32]

# The states of a batch this small stay in the core's own cache (1 MiB of L2 a core): 128 units in
# int8 ran at 410,000 tokens/s a core in batches of 1,024 tokens and at 290,000 in batches of 8,192.
# With two threads 2,048 is a tenth faster than 1,024: fewer calls wait for Python's lock.
BATCH_TOKENS = 2048

# Of onnx.proto: ModelProto.graph; GraphProto's node and output, and where their names are.
GRAPH = 7
NAMED = {1: 3, 12: 1}


def open_session(model: bytes, name: str = "model.onnx") -> onnxruntime.InferenceSession:
    """Return a session for a model that `onnx_file.check_model` has let through.

    Raises:
        BadInput: onnxruntime does not take it, or it does not answer as a graph of ours; `name`
            says which file it is.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said once, by us
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        probe = [np.ones(3, np.int32), np.zeros(0, np.int32)]
        outputs = [output.name for output in session.get_outputs()]
        found = run(session, probe, outputs)
    except Exception as error:  # its errors have no class of their own to name
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: onnxruntime cannot use it ({reason})") from None
    for output, values in zip(outputs, found, strict=True):
        shape = (2, 3) if output == "evidence" else (2,)
        if values.shape != shape or not np.isfinite(values).all():
            raise BadInput(f"{name}: its {output} is not what a graph of Reelsense says")
    return session


def without_evidence(model: bytes) -> bytes:
    """Return a checked model without the nodes and the output whose names begin with "evidence".

    onnxruntime computes every node, also one that no asked output needs.
    """
    parts = []
    for number, whole, inside in fields(model, (0, len(model))):
        if number == GRAPH:
            kept = [model[slice(*span)] for span in _without_evidence(model, inside)]
            parts.append(with_length(GRAPH, b"".join(kept)))
        else:
            parts.append(model[slice(*whole)])
    return b"".join(parts)


def _without_evidence(model: bytes, graph: Span) -> Iterator[Span]:
    """Yield where the fields of the graph lie that stay."""
    for number, whole, inside in fields(model, graph):
        if (of_name := NAMED.get(number)) is not None:
            names = [model[slice(*name)] for at, _, name in fields(model, inside) if at == of_name]
            if any(name.startswith(b"evidence") for name in names):
                continue
        yield whole


def batches(lengths: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the rows of each batch: reviews of like length, at most BATCH_TOKENS with padding."""
    sizes = np.maximum(np.asarray(lengths, np.int64), 1)
    order = np.argsort(sizes, kind="stable")
    cut: list[NDArray[np.int64]] = []
    start = 0
    for place in range(1, len(order) + 1):
        full = place < len(order) and (place - start + 1) * sizes[order[place]] > BATCH_TOKENS
        if full or place == len(order):
            cut.append(order[start:place])
            start = place
    return cut


def run(
    session: onnxruntime.InferenceSession, ids: Sequence[Ids], outputs: Sequence[str]
) -> list[NDArray[np.float32]]:
    """Return what the graph says of one batch of reviews (at least one), an array an output."""
    lengths = np.array([len(row) for row in ids], np.int32)
    padded = np.zeros((len(ids), max(1, int(lengths.max(initial=0)))), np.int32)
    for place, row in enumerate(ids):
        padded[place, : len(row)] = row
    # The memory that a batch took is kept for the next (1.15x the speed), but not all that one
    # very long text needed.
    options = _GIVES_BACK if padded.size > 8 * BATCH_TOKENS else None
    found: list[Any] = session.run(list(outputs), {"ids": padded, "lengths": lengths}, options)
    return found


_GIVES_BACK = onnxruntime.RunOptions()
_GIVES_BACK.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

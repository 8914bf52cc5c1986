"""Weights as small whole numbers, and the pins that fix what they stand for.

DynamicQuantizeLSTM finds its units in the values of a batch; `graph._int8_lstm` says how two more
dimensions and units pin them. V words, D dimensions, H units; gates are rows.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SATURATED = 40.0  # sigmoid and tanh of it are 1 in float32


def to_levels(vectors: Array) -> tuple[NDArray[np.uint8], Array]:
    """Return word vectors on 256 levels with the two pins, and what a dimension's unit stands for.

    Each dimension has a unit of its own, which the LSTM's input weights take in.
    """
    spread = np.maximum(np.abs(vectors).max(axis=0), 1e-12)
    levels = np.clip(np.rint(vectors / spread * 127.5) + 128, 0, 255).astype(np.uint8)
    pins = np.tile(np.array([0, 255], np.uint8), (len(vectors), 1))
    return np.concatenate([levels, pins], axis=1), spread.astype(np.float32)


def with_pins(rows: Array, pins: bool = False) -> Array:
    """Return a weight (4H, ...) with the rows of two more units in each gate.

    They are zeros, and in the bias (`pins`) what keeps the gates open and the inputs at +1 and -1.
    """
    gates = []
    for gate, place in zip(np.split(rows, 4), "iofc", strict=True):
        more = np.zeros((2, *gate.shape[1:]), np.float32)
        if pins:
            more[:] = [SATURATED, -SATURATED] if place == "c" else SATURATED
        gates.append(np.concatenate([gate, more]))
    return np.concatenate(gates)


def to_7_bits(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Return weights (inputs, 4H) as integers from -63 to 63, and the unit of each column."""
    scale = np.maximum(np.abs(weight).max(axis=0) / 63, 1e-12).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale

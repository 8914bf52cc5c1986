"""Which texts a model has learned from, kept without the texts: eight bytes of each one's SHA-256.

Among 25,000 texts the chance that a new one is taken for a known one is 25,000 / 2^64.
"""

import hashlib
from collections.abc import Iterable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from reelsense.errors import BadInput

Hashes = NDArray[np.uint64]


def hash_texts(normalised: Iterable[str]) -> Hashes:
    """Return the first 8 bytes of each text's SHA-256, in their order.

    Args:
        normalised: texts as `text.splits.normalised` returns them.
    """
    digests = (
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8] for text in normalised
    )
    return np.frombuffer(b"".join(digests), "<u8")


def seen(normalised: Iterable[str], hashes: Hashes) -> NDArray[np.bool_]:
    """Say of each text whether its hash is among `hashes`; texts as for `hash_texts`."""
    return np.isin(hash_texts(normalised), hashes)


def to_npy(hashes: Hashes) -> bytes:
    """Return a .npy file with the hashes, each once and ascending."""
    file = BytesIO()
    np.save(file, np.unique(hashes), allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes, name: str) -> Hashes:
    """Return the hashes in a file of `to_npy`.

    Raises:
        BadInput: it is none, or cut short; says `name`.
    """
    file = BytesIO(data)
    try:
        # Not np.load, which takes the memory for whatever length the header says.
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        hashes = np.frombuffer(data, "<u8", offset=file.tell())
        whole = dtype == hashes.dtype and shape == hashes.shape
    except Exception:  # the header is a Python literal, and so are its errors
        whole = False
    if not whole or (hashes[1:] <= hashes[:-1]).any():
        raise BadInput(f"{name}: not the hashes of texts; make its folder again")
    return hashes

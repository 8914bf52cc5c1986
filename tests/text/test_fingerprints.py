import hashlib

import numpy as np
import pytest

from reelsense.errors import BadInput
from reelsense.text.fingerprints import from_npy, hash_texts, seen, to_npy

TEXTS = ["a fine film", "a dull film", "日本 film", "half a surrogate \ud800"]


def test_a_hash_is_the_beginning_of_sha256_little_endian():
    digest = hashlib.sha256(b"a fine film").digest()
    assert hash_texts(["a fine film"]).tolist() == [int.from_bytes(digest[:8], "little")]


def test_texts_are_known_again_in_a_file_of_their_hashes():
    hashes = from_npy(to_npy(hash_texts(TEXTS)), "x")
    assert hashes.dtype == np.uint64
    assert (hashes[1:] > hashes[:-1]).all()
    texts = ["new", *TEXTS, "a fine film.", "A fine film"]
    assert seen(texts, hashes).tolist() == [False, True, True, True, True, False, False]
    assert seen([], hashes).tolist() == []
    assert seen(TEXTS, hashes[:0]).tolist() == [False] * 4


def test_copies_of_a_text_count_once_and_no_text_is_fine():
    assert len(from_npy(to_npy(hash_texts(TEXTS * 2)), "x")) == 4
    assert len(from_npy(to_npy(hash_texts([])), "x")) == 0


def header(shape, kind="<u8"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        header("(1,)") + bytes(7),
        header("(2,)") + bytes(8),
        header("(10000000000000,)") + bytes(8),
        header("(1,)", "<f8") + bytes(8),
        header("(1,)", "|O") + bytes(8),
        header("(1, 1)") + bytes(8),
        header("(2,)") + bytes(16),  # the same twice
        header("(2,)") + (2).to_bytes(8, "little") + (1).to_bytes(8, "little"),
        header("(" * 50) + bytes(8),
        header("x.y") + bytes(8),
    ],
)
def test_what_is_no_file_of_hashes_is_refused(data):
    with pytest.raises(BadInput, match=r"^x\.npy: not the hashes of texts"):
        from_npy(data, "x.npy")

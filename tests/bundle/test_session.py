"""Batches: every review once, of like length, small enough for the cache."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.bundle.session import BATCH_TOKENS, batches, open_session
from reelsense.errors import BadInput


@given(st.lists(st.integers(0, 3000), max_size=200))
def test_every_review_is_in_one_batch_that_is_not_too_large(lengths):
    cut = batches(lengths)
    assert sorted(row for batch in cut for row in batch) == list(range(len(lengths)))
    for batch in cut:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= BATCH_TOKENS


def test_batches_have_little_padding():
    lengths = np.random.default_rng(0).lognormal(5.3, 0.6, 2000).astype(int)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches(lengths))
    assert padded <= 1.05 * lengths.sum()


def test_a_file_that_onnxruntime_does_not_take_is_one_line():
    with pytest.raises(BadInput, match=r"^there.onnx: onnxruntime cannot use it") as found:
        open_session(b"nonsense", "there.onnx")
    assert "\n" not in str(found.value)

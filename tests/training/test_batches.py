import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelsense.training.batches import Examples, Pool, crop, in_order, pad, plan, width

lengths_of = st.lists(st.integers(0, 60), min_size=1, max_size=80)
reviews_of, tokens_of = st.integers(1, 20), st.integers(1, 300)


def examples(lengths):
    """Reviews whose ids count up across all of them, so that each id stands once."""
    ends = np.cumsum(lengths)
    ids = [
        np.arange(end - length + 1, end + 1, dtype=np.int32)
        for end, length in zip(ends, lengths, strict=True)
    ]
    return Examples(ids, (np.arange(len(lengths)) % 2).astype(np.int8))


def order(seed):
    return None if seed is None else np.random.default_rng(seed)


@given(lengths_of, reviews_of, tokens_of, st.none() | st.integers(0, 99))
def test_every_row_is_in_exactly_one_batch_and_no_batch_is_too_big(lengths, reviews, tokens, seed):
    batches = plan(lengths, reviews, tokens, order(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        sizes = [max(1, lengths[row]) for row in batch]
        assert 1 <= len(batch) <= reviews
        assert len(batch) == 1 or len(batch) * width(max(sizes)) <= tokens
        assert sizes == sorted(sizes)  # so that shards are of like length


@given(lengths_of, reviews_of, tokens_of, st.integers(0, 99))
def test_the_same_seed_gives_the_same_batches(lengths, reviews, tokens, seed):
    first = plan(lengths, reviews, tokens, order(seed))
    again = plan(lengths, reviews, tokens, order(seed))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]


def test_another_seed_gives_other_batches_in_another_order():
    lengths = np.random.default_rng(0).integers(1, 200, 500).tolist()
    first, second = (plan(lengths, 16, 2000, order(seed)) for seed in (0, 1))
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
    longest = [max(lengths[row] for row in batch) for batch in first]
    assert longest != sorted(longest)


def test_without_an_order_the_shortest_come_first():
    batches = plan([5, 1, 9, 3], 2, 100)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2]]


def test_no_reviews_no_batches():
    assert plan([], 8, 100) == []
    assert plan([], 8, 100, order(0)) == []


def test_like_lengths_lie_together_so_that_little_is_padding():
    lengths = np.random.default_rng(0).lognormal(5.3, 0.7, 5000).astype(int) + 1
    batches = plan(lengths.tolist(), 64, 16384, order(0))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert lengths.sum() / padded > 0.92


# --- Padding and shards ---------------------------------------------------------------------------


@given(lengths_of)
def test_a_batch_holds_its_reviews_and_zeros(lengths):
    data = examples(lengths)
    rows = np.arange(len(lengths))[::-1].copy()
    batch = pad(data, rows)
    assert batch.ids.shape == (len(lengths), width(max(lengths)))
    assert batch.ids.dtype == batch.lengths.dtype == torch.int64
    assert batch.labels.tolist() == data.labels[rows].tolist()
    for place, row in enumerate(rows):
        length = int(batch.lengths[place])
        assert length == lengths[row]
        assert batch.ids[place, :length].tolist() == data.ids[row].tolist()
        assert not batch.ids[place, length:].any()


@given(lengths_of, st.integers(1, 9))
def test_shards_share_a_batch_out_and_keep_its_lengths(lengths, count):
    data = examples(lengths)
    batch = pad(data, np.argsort(lengths, kind="stable"))
    shards = batch.shards(count)
    assert len(shards) == min(count, len(lengths))
    assert sorted(np.concatenate([shard.rows for shard in shards])) == list(range(len(lengths)))
    for shard in shards:
        assert len(shard) == len(shard.ids) == len(shard.lengths) == len(shard.labels)
        for place, row in enumerate(shard.rows):
            length = int(shard.lengths[place])
            assert shard.ids[place, :length].tolist() == data.ids[row].tolist()
            assert shard.labels[place] == data.labels[row]
        assert shard.ids.shape[1] == width(int(shard.lengths.max()))
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@given(lengths_of)
def test_in_order_goes_through_all_shortest_first(lengths):
    batches = list(in_order(examples(lengths), reviews=7, tokens=100))
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(len(lengths)))
    assert torch.cat([batch.lengths for batch in batches]).tolist() == sorted(lengths)


def test_a_batch_moves_whole_to_a_device():
    moved = pad(examples([2, 3]), np.array([0, 1])).to(torch.device("cpu"))
    assert moved.ids[:, :4].tolist() == [[1, 2, 0, 0], [3, 4, 5, 0]]
    assert moved.rows.tolist() == [0, 1]


@given(st.integers(0, 5000))
def test_a_width_holds_the_longest_and_is_the_next_multiple_of_16(longest):
    assert width(longest) % 16 == 0
    assert max(longest, 1) <= width(longest) < max(longest, 1) + 16


# --- Shorter reviews ------------------------------------------------------------------------------


@given(lengths_of, st.integers(1, 30), st.integers(0, 99))
def test_crop_takes_a_contiguous_stretch_of_each_review(lengths, tokens, seed):
    data = examples(lengths)
    cropped = crop(data, tokens, np.random.default_rng(seed))
    assert cropped.labels is data.labels
    for whole, part in zip(data.ids, cropped.ids, strict=True):
        assert len(part) == min(len(whole), tokens)
        assert set(part.tolist()) <= set(whole.tolist())
        assert (np.diff(part) == 1).all()
    again = crop(data, tokens, np.random.default_rng(seed))
    assert all((a == b).all() for a, b in zip(cropped.ids, again.ids, strict=True))


def test_crop_reaches_every_stretch_and_draws_the_same_number_whatever_the_lengths():
    ids = np.arange(6, dtype=np.int32)
    chance = np.random.default_rng(0)
    data = Examples([ids] * 200, np.zeros(200, np.int8))
    starts = {int(row[0]) for row in crop(data, 4, chance).ids}
    assert starts == {0, 1, 2}


def test_crop_of_nothing_is_the_examples_themselves():
    data = examples([3, 4])
    assert crop(data, 0, np.random.default_rng(0)) is data


# --- Examples from several places -----------------------------------------------------------------


def test_examples_are_taken_in_the_order_asked_for():
    data = examples([2, 0, 3])
    taken = data.take(np.array([2, 0, 2]))
    assert [row.tolist() for row in taken.ids] == [[3, 4, 5], [1, 2], [3, 4, 5]]
    assert taken.labels.tolist() == [0, 0, 0]
    assert data.take(np.array([1])).labels.tolist() == [1]
    assert len(data.take(np.zeros(0, np.int64))) == 0


def test_more_examples_come_behind_and_keep_their_labels_whatever_these_are():
    ids = [np.array([n], np.int32) for n in range(6)]
    hard = Examples(ids[:2], np.array([1, 0], np.int8))
    soft = Examples(ids[2:4], np.array([0.25, 0.9], np.float32))
    none = Examples(ids[4:], np.array([-1, -1], np.int8))
    whole = hard.with_more([soft, none])
    assert [int(row[0]) for row in whole.ids] == [0, 1, 2, 3, 4, 5]
    labels = np.array([1, 0, 0.25, 0.9, -1, -1], np.float32)
    assert whole.labels.tolist() == labels.tolist()
    batch = pad(whole, np.array([5, 3, 0]))
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == labels[[5, 3, 0]].tolist()
    assert hard.with_more([]).labels.tolist() == [1, 0]
    assert (len(hard), hard.labels.dtype) == (2, np.int8)  # itself as it was


def pool(size, an_epoch):
    """A pool whose reviews are their own place."""
    ids = [np.array([n], np.int32) for n in range(size)]
    return Pool(Examples(ids, np.full(size, -1, np.int8)), an_epoch)


def drawn(pool, epoch, seed=0):
    return [int(row[0]) for row in pool.draw(seed, epoch).ids]


@given(st.integers(1, 30), st.integers(0, 70), st.integers(1, 8), st.integers(0, 99))
def test_all_of_a_pool_have_had_their_turn_before_one_comes_again(size, an_epoch, epochs, seed):
    rows = [row for epoch in range(epochs) for row in drawn(pool(size, an_epoch), epoch + 1, seed)]
    assert len(rows) == epochs * an_epoch
    for first in range(0, len(rows), size):  # turn after turn, wherever the epochs end
        turn = rows[first : first + size]
        assert len(set(turn)) == len(turn)


def test_what_an_epoch_draws_depends_on_the_seed_and_the_epoch_alone():
    many = pool(50, 20)
    third = drawn(many, 3)
    assert drawn(pool(50, 20), 3) == third  # without having drawn the first two
    assert drawn(many, 3, seed=1) != third
    assert drawn(many, 2) != third
    assert third != sorted(third)


def test_one_turn_is_in_another_order_than_the_next():
    many = pool(50, 50)
    assert drawn(many, 1) != drawn(many, 2)
    assert sorted(drawn(many, 1)) == sorted(drawn(many, 2)) == list(range(50))


def test_what_is_drawn_keeps_its_labels():
    soft = np.linspace(0, 1, 9).astype(np.float32)
    some = Pool(Examples([np.array([n], np.int32) for n in range(9)], soft), 4).draw(0, 2)
    assert some.labels.tolist() == [soft[int(row[0])] for row in some.ids]

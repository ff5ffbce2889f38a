"""Every image once, a few shards at a time, any part alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.data.shards.order import WINDOW, Order

SIZES = st.lists(st.integers(0, 9), min_size=0, max_size=23)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 2**64 - 1), st.integers(0, 300), st.integers(0, 300))
def test_a_permutation_of_which_any_part_can_be_had(sizes: list[int], stream: int, start: int, length: int) -> None:
    shard = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    order = Order(shard, stream)
    whole = order.part(0, len(order))
    assert sorted(whole.tolist()) == list(range(sum(sizes))) and whole.dtype == np.int64
    assert Order(shard, stream).part(start, start + length).tolist() == whole[start : start + length].tolist()


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**64 - 1))
def test_reading_stays_within_a_few_shards_and_comes_to_each_once(sizes: list[int], stream: int) -> None:
    shard = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    order = Order(shard, stream)
    at, seen = 0, set()
    for window in order.windows:
        assert len(window) <= WINDOW and not seen & set(window.tolist())
        seen |= set(window.tolist())
        count = sum(sizes[s] for s in window)
        assert set(shard[order.part(at, at + count)].tolist()) == set(window.tolist())
        at += count
    assert at == sum(sizes)


def test_images_in_any_order_of_shards() -> None:
    shard = np.array([2, 0, 1, 0, 2, 1, 0], np.uint32)
    assert sorted(Order(shard, 5).part(0, 7).tolist()) == list(range(7))


def test_streams_differ_and_windows_are_mixed() -> None:
    shard = np.repeat(np.arange(12, dtype=np.uint32), 50)
    one, other = Order(shard, 1), Order(shard, 2)
    assert not np.array_equal(one.part(0, 600), other.part(0, 600))
    assert {tuple(w) for w in map(tuple, one.windows)} != {tuple(w) for w in map(tuple, other.windows)}
    # In a window of four shards a neighbour is of the same shard one time in four.
    same = np.mean(np.diff(shard[one.part(0, 600)].astype(int)) == 0)
    assert abs(same - 0.25) < 0.06


def test_all_orders_of_a_small_set_are_equally_likely() -> None:
    shard = np.repeat(np.arange(2, dtype=np.uint32), [2, 1])
    orders = [tuple(Order(shard, stream).part(0, 3).tolist()) for stream in range(6000)]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6 and ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-square, 5 degrees, p = 0.001

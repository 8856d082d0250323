from __future__ import annotations

import torch

from hocket.learn.pool import SMALL, VectorPool

BIG = SMALL * 2


def test_memory_that_nobody_refers_to_is_handed_out_again() -> None:
    pool = VectorPool()
    first = pool.take(BIG)
    address = first.data_ptr()
    del first
    assert pool.free_bytes == 4 * BIG
    again = pool.take(BIG)
    assert again.data_ptr() == address
    assert again.shape == (BIG,)
    assert again.dtype is torch.float32
    assert pool.free_bytes == 0


def test_a_slice_an_array_or_the_bytes_of_a_vector_keep_its_memory() -> None:
    pool = VectorPool()
    for part in (lambda v: v[7:9], lambda v: v.view(2, -1), lambda v: memoryview(v.numpy())):
        vector = pool.take(BIG).fill_(3.0)
        kept = part(vector)
        del vector
        other = pool.take(BIG).fill_(4.0)
        assert float(torch.as_tensor(kept).reshape(-1)[0]) == 3.0
        del kept, other


def test_vectors_in_use_at_the_same_time_share_nothing() -> None:
    pool = VectorPool()
    vectors = [pool.take(BIG).fill_(float(n)) for n in range(4)]
    assert [float(v.sum()) for v in vectors] == [n * BIG for n in range(4)]


def test_no_more_memory_than_the_limit_waits_for_its_next_use() -> None:
    pool = VectorPool(most_free_bytes=8 * BIG)
    vectors = [pool.take(BIG) for _ in range(5)]
    vectors.clear()
    assert pool.free_bytes == 8 * BIG


def test_other_sizes_and_small_vectors_have_memory_of_their_own() -> None:
    pool = VectorPool()
    pool.take(BIG)
    assert pool.take(2 * BIG).shape == (2 * BIG,)
    assert pool.take(10).shape == (10,)
    assert pool.free_bytes == 4 * BIG + 4 * 2 * BIG


def test_bodies_of_about_a_size_share_memory_one_after_the_other() -> None:
    """As compressed updates come: else each would leave behind what fits no other."""
    pool = VectorPool()
    for size in range(BIG + 1, BIG + 1000):
        assert pool.take(size).shape == (size,)
    assert 4 * BIG < pool.free_bytes < 2 * 4 * BIG

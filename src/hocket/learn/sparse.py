"""Deltas of which a codec sent few values: torch's sparse vectors (COO, one dimension, coalesced).

What works on a delta goes through here, so that a hundredth of the values costs a hundredth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hocket.learn.inner import inner


def sparse_vector(places: Tensor, values: Tensor, size: int) -> Tensor:
    """A vector (size) that holds `values` (k, float32) at `places` (k, int64, ascending)."""
    return torch.sparse_coo_tensor(
        places.unsqueeze(0), values, (size,), is_coalesced=True, check_invariants=False
    )


def dense(delta: Tensor) -> Tensor:
    """The delta with its zeros."""
    return delta.to_dense() if delta.is_sparse else delta


def inner_of(delta: Tensor, vector: Tensor) -> float:
    """<delta, vector> for a dense vector (n, float32)."""
    if not delta.is_sparse:
        return inner(delta, vector)
    return inner(delta.values(), vector.index_select(0, delta.indices()[0]))


def accumulate(total: Tensor, delta: Tensor, weight: float) -> None:
    """Total += weight * delta, in the precision of `total` (n)."""
    if delta.is_sparse:
        values = delta.values().to(total.dtype)
        total.index_add_(0, delta.indices()[0], values, alpha=weight)
    else:
        total.add_(delta, alpha=weight)


def nonzero(delta: Tensor) -> Tensor:
    """1 where the delta is not 0, else 0; sparse where the delta is."""
    if not delta.is_sparse:
        return delta.ne(0).to(delta.dtype)
    values = delta.values()
    return sparse_vector(delta.indices()[0], values.ne(0).to(values.dtype), len(delta))


def blocks_of(delta: Tensor, size: int) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
    """Blocks of a delta: vectors (size), or the places within the block and their values."""
    if not delta.is_sparse:
        yield from torch.split(delta, size) if len(delta) > size else (delta,)
        return
    places, values = delta.indices()[0], delta.values()
    starts = torch.arange(0, len(delta) + size, size)
    ends = torch.searchsorted(places, starts).tolist()
    for start, low, high in zip(range(0, len(delta), size), ends, ends[1:], strict=False):
        yield places[low:high] - start, values[low:high]


def add_block(out: Tensor, block: Tensor | tuple[Tensor, Tensor]) -> None:
    """Out += block."""
    if isinstance(block, Tensor):
        out.add_(block)
    else:
        out.index_add_(0, *block)

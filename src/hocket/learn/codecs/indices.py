"""Ascending indices as gaps, each a base-128 varint (LEB128).

The gaps are d_0 = i_0 and d_j = i_j - i_{j-1} - 1, all at least 0: no sequence of gaps repeats an
index or goes back. A gap takes 7 bits a byte, low group first; a set high bit says that more
follows. It is written in the fewest bytes (its last byte is 0 only where that is its only byte)
and in 5 at most.

Example: 3, 7, 135, 136, 20000 -> gaps 3, 3, 127, 0, 19863 -> 03 03 7f 00 97 9b 01.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hocket.errors import CorruptPayload

MAX_VARINT_BYTES = 5
GROUP_BITS = 7
GROUP = 0x7F
MORE = 0x80


def encode_indices(indices: NDArray[np.int64]) -> bytes:
    """Write strictly ascending, non-negative indices (k) below 2^32."""
    gaps = np.diff(indices, prepend=-1) - 1
    lengths = np.ones(len(gaps), np.int64)
    for place in range(1, MAX_VARINT_BYTES):
        lengths += gaps >= 1 << GROUP_BITS * place
    starts = np.cumsum(lengths) - lengths
    octets = np.empty(lengths.sum(), np.uint8)
    for place in range(lengths.max(initial=0)):
        held = np.flatnonzero(lengths > place)
        more = np.where(lengths[held] > place + 1, MORE, 0)
        octets[starts[held] + place] = (gaps[held] >> GROUP_BITS * place) & GROUP | more
    return octets.tobytes()


def decode_indices(data: memoryview, count: int, size: int) -> NDArray[np.int64]:
    """Read `count` ascending indices, all below `size`, from exactly the bytes of `data`.

    Raises:
        CorruptPayload: the bytes hold more, fewer or other numbers, or not in this form.
    """
    octets = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(octets < MORE)
    if len(last) != count or (len(octets) > 0 and octets[-1] >= MORE):
        raise CorruptPayload(f"the index bytes do not hold {count} whole varints")
    lengths = np.diff(last, prepend=-1)
    longest = lengths.max(initial=0)
    if longest > MAX_VARINT_BYTES:
        raise CorruptPayload(f"a varint has {longest} bytes, more than {MAX_VARINT_BYTES}")
    if np.any((octets[last] == 0) & (lengths > 1)):
        raise CorruptPayload("a varint is not written in the fewest bytes")
    gaps = _gaps(octets, last - lengths + 1, lengths)
    # In float64, because the sum of hostile gaps could wrap round in int64.
    if count + gaps.sum(dtype=np.float64) > size:
        raise CorruptPayload(f"an index lies beyond the tensor's {size} values")
    indices: NDArray[np.int64] = np.cumsum(gaps + 1) - 1
    return indices


def _gaps(
    octets: NDArray[np.uint8], starts: NDArray[np.intp], lengths: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Put the varints' groups together, one place of all varints at a time."""
    gaps = (octets[starts] & GROUP).astype(np.int64)
    for place in range(1, lengths.max(initial=0)):
        held = np.flatnonzero(lengths > place)
        groups = (octets[starts[held] + place] & GROUP).astype(np.int64)
        gaps[held] |= groups << GROUP_BITS * place
    return gaps

"""Top-k: the k values of largest magnitude, and where they belong. All others decode to 0.

Layout, little-endian, without padding: uint32 k; the k indices, ascending, as varint gaps (see
`indices`); k float32 values in the order of the indices. The index bytes are what lies between:
length - 4 - 4k. Equal magnitudes: the lower index goes first. A value sent is exact, and one left
out errs by its own magnitude, which is at most that of every value sent.

Lin, Han, Mao, Wang, Dally. Deep Gradient Compression. ICLR 2018. arXiv:1712.01887 (the selection).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hocket.core.manifest import BYTES_PER_VALUE
from hocket.core.payload import CodecId
from hocket.errors import CorruptPayload
from hocket.learn.codecs.codec import require_finite
from hocket.learn.codecs.indices import decode_indices, encode_indices

COUNT = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class TopK:
    """The largest `ratio` of the values, at about 5.3 bytes each where that is 1 %."""

    id: ClassVar[CodecId] = CodecId.TOPK
    ratio: float = 0.01  # share of a tensor's values that is sent; 1 sends all
    kind: Literal["topk"] = "topk"

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            # ValueError, because the task file's parser turns it into a TaskError with the key.
            raise ValueError(f"ratio must lie in (0, 1], not {self.ratio}")

    def count(self, size: int) -> int:
        """How many of `size` values are sent: k = max(1, floor(ratio * size))."""
        return min(size, max(1, math.floor(self.ratio * size)))

    def encode(self, values: Tensor, generator: torch.Generator) -> bytes:  # noqa: ARG002 (the protocol's; nothing is drawn)
        """Select, then write (O(n), no sorting)."""
        require_finite(values)
        array = values.numpy()
        kept = largest(array, self.count(len(array)))
        return COUNT.pack(len(kept)) + encode_indices(kept) + array[kept].astype("<f4").tobytes()

    def decode_into(self, data: memoryview, out: Tensor) -> None:
        """Zero `out` and put the values in their places."""
        places, values = self.decode(data, len(out))
        out.zero_().scatter_(0, places, values)

    def decode(self, data: memoryview, size: int) -> tuple[Tensor, Tensor]:
        """The places (k, int64, ascending) and the values (k, float32) that were sent.

        Raises CorruptPayload and NotFinite, as `decode_into` does.
        """
        if len(data) < COUNT.size:
            raise CorruptPayload(f"{len(data)} bytes are too few to hold a count")
        (count,) = COUNT.unpack_from(data)
        if count > size:
            raise CorruptPayload(f"{count} values were sent for a tensor of {size}")
        values_at = len(data) - BYTES_PER_VALUE * count
        if values_at < COUNT.size:
            raise CorruptPayload(f"{len(data)} bytes are too few for {count} values")
        indices = decode_indices(data[COUNT.size : values_at], count, size)
        values = torch.from_numpy(np.frombuffer(data[values_at:], "<f4").astype(np.float32))
        require_finite(values)
        return torch.from_numpy(indices), values

    def encoded_bytes_limit(self, size: int) -> int:
        """All values sent: a byte for each gap, which is then 0. Fewer values take fewer bytes."""
        return COUNT.size + (1 + BYTES_PER_VALUE) * size


def largest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Ascending indices (k) of the k values of largest magnitude; ties go to the lower index."""
    if k == len(values):
        return np.arange(k)
    magnitudes = np.abs(values)
    threshold = np.partition(magnitudes, -k)[-k]
    indices = np.flatnonzero(magnitudes >= threshold)
    surplus = len(indices) - k
    if surplus:
        tied = np.flatnonzero(magnitudes[indices] == threshold)
        indices = np.delete(indices, tied[-surplus:])
    return indices

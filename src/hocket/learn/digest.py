"""A model's bytes, and the name that its values have."""

from __future__ import annotations

import sys

import numpy as np
import xxhash
from torch import Tensor


def octets_of(vector: Tensor) -> memoryview:
    """The float32 values of a vector as little-endian bytes, without a copy where possible."""
    values = vector.numpy()
    if sys.byteorder == "big":
        values = values.astype("<f4")
    return values.view(np.uint8).data


def digest_of(vector: Tensor) -> str:
    """xxh3-64 of the float32 values, 16 hex digits."""
    return f"{xxhash.xxh3_64_intdigest(octets_of(vector)):016x}"

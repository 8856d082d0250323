"""Stochastic int8: one float32 scale s > 0, then n signed bytes q in [-127, 127]; 4 + n bytes.

A value is q * s. The encoder takes s = max|v| / 127 (1 where all values are 0) and rounds v / s up
with the probability of its fraction, else down, so that the mean of what is decoded is v, the
error stays below s and its variance below s^2 / 4. It is QSGD's quantiser (Alistarh et al.,
NeurIPS 2017, arXiv:1610.02132, section 3.1) with the largest magnitude in place of the norm.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hocket.core.payload import CodecId
from hocket.errors import CorruptPayload, NotFinite
from hocket.learn.codecs.codec import require_finite

LEVELS = 127  # magnitudes that a signed byte can hold on either side of zero
FLOAT32 = np.finfo(np.float32)
SCALE = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class Int8:
    """A quarter of the bytes, without bias."""

    id: ClassVar[CodecId] = CodecId.INT8
    kind: Literal["int8"] = "int8"

    def encode(self, values: Tensor, generator: torch.Generator) -> bytes:
        """Draw one uniform number a value from `generator`."""
        require_finite(values)
        scale = _scale(values)
        levels = values / scale
        low = levels.floor()
        # Compared with the exact fraction instead of floor(levels + u): a sum rounded to float32
        # would sometimes carry a whole number up to the next.
        up = torch.rand(values.shape, generator=generator) < levels.sub_(low)
        quantised = low.add_(up).clamp_(-LEVELS, LEVELS).to(torch.int8)
        return SCALE.pack(scale) + quantised.numpy().tobytes()

    def decode_into(self, data: memoryview, out: Tensor) -> None:
        """Multiply each byte by the scale."""
        if len(data) != self.encoded_bytes_limit(len(out)):
            raise CorruptPayload(f"{len(data)} bytes are not a scale and {len(out)} signed bytes")
        (scale,) = SCALE.unpack_from(data)
        if not abs(scale) * LEVELS <= float(FLOAT32.max):
            raise NotFinite(f"scale {scale} takes the values out of float32; clip and train again")
        if scale <= 0:
            raise CorruptPayload(f"scale {scale} is not positive")
        quantised = np.frombuffer(data, np.int8, offset=SCALE.size)
        if quantised.size and quantised.min() < -LEVELS:
            raise CorruptPayload("a byte holds -128; levels lie in [-127, 127]")
        np.copyto(out.numpy(), quantised)
        out.mul_(scale)

    def encoded_bytes_limit(self, size: int) -> int:
        """Every encoding has exactly this length."""
        return SCALE.size + size


def _scale(values: Tensor) -> float:
    """The float32 scale of a vector, such that 127 scales stay finite and v / scale is at most 127.

    Below the smallest normal number division loses precision, so the scale does not go there.
    """
    largest = np.float32(values.abs().max().item() if len(values) else 0.0)
    if largest == 0:
        return 1.0
    scale = max(largest / np.float32(LEVELS), FLOAT32.smallest_normal)
    if float(scale) * LEVELS > float(FLOAT32.max):
        scale = np.nextafter(scale, np.float32(0))
    return float(scale)

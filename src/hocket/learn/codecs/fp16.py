"""Half precision: n IEEE binary16 values, little-endian, 2n bytes.

Rounded to nearest: a value x of magnitude up to 65504 errs by at most max(|x| 2^-11, 2^-25).
Larger magnitudes are clamped to 65504 and never become infinite; error feedback sends the rest
with the next update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hocket.core.payload import CodecId
from hocket.errors import CorruptPayload
from hocket.learn.codecs.codec import require_finite

LARGEST = 65504.0  # of all finite binary16 values


@dataclass(frozen=True, slots=True)
class Fp16:
    """Half the bytes, for three decimal digits."""

    id: ClassVar[CodecId] = CodecId.FP16
    kind: Literal["fp16"] = "fp16"

    def encode(self, values: Tensor, generator: torch.Generator) -> bytes:  # noqa: ARG002 (the protocol's; nothing is drawn)
        """Clamp, then round to nearest, ties to even."""
        require_finite(values)
        halves = values.clamp(-LARGEST, LARGEST).half()
        return halves.numpy().astype("<f2", copy=False).tobytes()

    def decode_into(self, data: memoryview, out: Tensor) -> None:
        """Widen, which is exact."""
        if len(data) != self.encoded_bytes_limit(len(out)):
            raise CorruptPayload(f"{len(data)} bytes are not {len(out)} half-precision values")
        # A copy, because the bytes may be read-only and unaligned; torch widens 8 times as fast
        # as numpy, which makes up for it.
        halves = np.frombuffer(data, "<f2").astype(np.float16)
        out.copy_(torch.from_numpy(halves))
        require_finite(out)

    def encoded_bytes_limit(self, size: int) -> int:
        """Every encoding has exactly this length."""
        return 2 * size

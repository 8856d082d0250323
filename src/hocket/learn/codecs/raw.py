"""Raw: n float32 values, little-endian, 4n bytes. Lossless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hocket.core.manifest import BYTES_PER_VALUE
from hocket.core.payload import CodecId
from hocket.errors import CorruptPayload
from hocket.learn.codecs.codec import require_finite


@dataclass(frozen=True, slots=True)
class Raw:
    """The values as they are."""

    id: ClassVar[CodecId] = CodecId.RAW
    kind: Literal["raw"] = "raw"

    def encode(self, values: Tensor, generator: torch.Generator) -> memoryview:  # noqa: ARG002 (the protocol's; nothing is drawn)
        """Hand out the values' own memory (on a little-endian machine): no copy."""
        require_finite(values)
        return values.numpy().astype("<f4", copy=False).view(np.uint8).data

    def decode_into(self, data: memoryview, out: Tensor) -> None:
        """Copy once."""
        if len(data) != self.encoded_bytes_limit(len(out)):
            raise CorruptPayload(f"{len(data)} bytes are not {len(out)} float32 values")
        np.copyto(out.numpy(), np.frombuffer(data, "<f4"))
        require_finite(out)

    def encoded_bytes_limit(self, size: int) -> int:
        """Every encoding has exactly this length."""
        return BYTES_PER_VALUE * size

"""Encoded tensors as they travel: a header that says all sizes beforehand, and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from typing_extensions import Buffer

CHUNK_BYTES = 512 * 1024  # of a body at a time, where nobody asks for another size


class CodecId(IntEnum):
    """How one tensor's values are written (wire values; never renumber). See docs/protocol.md."""

    RAW = 1  # float32, little-endian
    FP16 = 2  # IEEE half, little-endian
    INT8 = 3  # float32 scale, then one signed byte a value
    TOPK = 4  # delta-varint indices and float32 values of the largest entries


class Packing(IntEnum):
    """What is wrapped around the concatenated tensors (wire values; never renumber)."""

    NONE = 1
    ZSTD = 2


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a payload: enough to know its decoded size before any memory is taken."""

    name: str
    shape: tuple[int, ...]
    codec: CodecId
    encoded_bytes: int

    @property
    def size(self) -> int:
        """Number of values once decoded."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class PayloadHeader:
    """Tensors in manifest order, concatenated, then packed."""

    tensors: tuple[TensorHeader, ...]
    packing: Packing
    wire_bytes: int  # length of the body as it travels
    checksum: int | None  # xxh3-64 of the body as it travels; None: not checked

    @property
    def unpacked_bytes(self) -> int:
        """Length of the body once unpacked."""
        return sum(tensor.encoded_bytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Payload:
    """A header and its body. The body may be any contiguous buffer and is never changed."""

    header: PayloadHeader
    body: Buffer

"""What every codec can do: write one tensor's values as bytes, and read them back."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.payload import CodecId
from hocket.errors import NotFinite


class Codec(Protocol):
    """One way of writing a tensor. A frozen dataclass whose fields are its hyperparameters.

    Hyperparameters matter to `encode` only: any instance decodes what any other has encoded.
    """

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    @property
    def id(self) -> CodecId:
        """Name on the wire."""
        ...

    def encode(self, values: Tensor, generator: torch.Generator) -> Buffer:
        """Write `values` (n, float32, contiguous, on the CPU).

        The bytes may be a view of `values`, which must then stay as they are. Equal values and
        equal generators give equal bytes.

        Raises:
            NotFinite: a value is NaN or infinite.
        """
        ...

    def decode_into(self, data: memoryview, out: Tensor) -> None:
        """Read `data` into `out` (n, float32, contiguous): every value of it is overwritten.

        Takes memory for O(n + len(data)) bytes at most, whatever the bytes claim. After an error
        the values of `out` mean nothing.

        Raises:
            CorruptPayload: the bytes are no encoding of n values.
            NotFinite: they hold NaN or infinite values.
        """
        ...

    def encoded_bytes_limit(self, size: int) -> int:
        """Most bytes that an encoding of `size` values can have."""
        ...


def require_finite(values: Tensor) -> None:
    """Check a vector (n, float32) with one pass at memory speed.

    Every square is non-negative, so a NaN or an infinity cannot cancel out of v . v; only where
    that product overflows are the values looked at one by one.

    Raises:
        NotFinite: a value is NaN or infinite.
    """
    if bool(torch.isfinite(torch.dot(values, values))) or bool(torch.isfinite(values).all()):
        return
    raise NotFinite("NaN or infinite values; lower the learning rate or clip, and train again")

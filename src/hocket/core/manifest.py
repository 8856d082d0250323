"""What a model looks like from outside: named float32 tensors laid end to end in one vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

BYTES_PER_VALUE = 4
EXCHANGED = "c/"  # before the names of the tensors of the second vector


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor of the model, float32, row-major."""

    name: str
    shape: tuple[int, ...]
    trainable: bool = True  # false for running statistics and other buffers

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Manifest:
    """The tensors of a model in the order in which the global vector holds them."""

    tensors: tuple[TensorSpec, ...]

    @cached_property
    def size(self) -> int:
        """Number of values in the global vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def doubled(self) -> Manifest:
        """This, and behind it as many values of a vector that travels with the model."""
        seconds = (TensorSpec(EXCHANGED + t.name, t.shape, trainable=False) for t in self.tensors)
        return Manifest((*self.tensors, *seconds))

    @property
    def dense_bytes(self) -> int:
        """Bytes of the whole model as raw float32."""
        return self.size * BYTES_PER_VALUE

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index in the global vector at which each tensor starts."""
        starts, at = [], 0
        for tensor in self.tensors:
            starts.append(at)
            at += tensor.size
        return tuple(starts)

    @cached_property
    def digest(self) -> str:
        """16 hex digits over names, shapes and trainability; equal digests fit each other."""
        text = "\n".join(f"{t.name} {t.shape} {t.trainable}" for t in self.tensors)
        return blake2b(text.encode(), digest_size=8).hexdigest()

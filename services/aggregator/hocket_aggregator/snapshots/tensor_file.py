"""Named tensors as one safetensors file in memory, and back.

The format: 8 bytes with the length of the header, a JSON header, the values end to end. Written
here, and not by the library, because that copies all of it, and holds the interpreter meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from typing_extensions import Buffer

from hocket.errors import CorruptState

_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}
_ALIGNED = 8  # bytes, as the format asks for


def encode(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> list[Buffer]:
    """The file's bytes, piece by piece: the header, and the tensors' own memory.

    Tensors are float32, float64 or int32, of any shape, maybe read-only.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in ordered:
        end = at + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    values = [
        tensor.reshape(-1).view(torch.uint8).numpy().data for _, tensor in ordered if tensor.nbytes
    ]
    return [len(text).to_bytes(8, "little") + text, *values]


def decode(data: Buffer, what: str) -> dict[str, Tensor]:
    """The tensors by name; `what` names the file. Raises CorruptState."""
    try:
        tensors: dict[str, Tensor] = load(bytes(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptState(f"{what} is no safetensors file: {error}") from error
    return tensors

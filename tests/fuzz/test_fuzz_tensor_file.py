"""Safetensors files that were damaged: still tensors, or a typed error."""

from __future__ import annotations

import torch
from hocket_aggregator.snapshots.tensor_file import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.errors import CorruptState

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "total": torch.tensor([1e300, -0.0], dtype=torch.float64),
    "baseline": torch.tensor(0.25, dtype=torch.float64),
    "odd": torch.tensor([float("nan"), float("inf"), 1e-45]),
    "none": torch.zeros(0),
}
FILE = b"".join(bytes(memoryview(piece)) for piece in encode(TENSORS, {"task": "tiny"}))


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255), st.integers(0, len(FILE)))
@settings(max_examples=700)
def test_a_damaged_file_is_corrupt_state_or_still_tensors(at: int, change: int, end: int) -> None:
    for data in (FILE[:at] + bytes([FILE[at] ^ change]) + FILE[at + 1 :], FILE[:end], FILE[end:]):
        try:
            found = decode(data, "a file")
        except CorruptState:
            continue
        assert sum(tensor.nbytes for tensor in found.values()) <= len(data)

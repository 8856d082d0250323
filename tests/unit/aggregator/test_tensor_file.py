"""Safetensors files as we write them, read by the library, and what is wrong with damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hocket_aggregator.snapshots.tensor_file import decode, encode
from safetensors import safe_open

from hocket.errors import CorruptState

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "total": torch.tensor([1e300, -0.0], dtype=torch.float64),
    "baseline": torch.tensor(0.25, dtype=torch.float64),
    "odd": torch.tensor([float("nan"), float("inf"), 1e-45]),
    "none": torch.zeros(0),
    "moved_at": torch.tensor([7, 0, 2**31 - 1], dtype=torch.int32),
}
FILE = b"".join(bytes(memoryview(piece)) for piece in encode(TENSORS, {"task": "tiny"}))


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(FILE)
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata() == {"task": "tiny"}
        assert set(file.keys()) == set(TENSORS)
        for name, tensor in TENSORS.items():
            found = file.get_tensor(name)
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert found.numpy().tobytes() == tensor.numpy().tobytes()


def test_tensors_are_not_copied() -> None:
    (_, values) = encode({"x": TENSORS["weight"]})
    before = bytes(memoryview(values))
    TENSORS["weight"].add_(1)
    after = bytes(memoryview(values))
    TENSORS["weight"].sub_(1)
    assert before != after


@pytest.mark.parametrize("end", [0, 7, 8, 50, -1])
def test_a_cut_file_is_corrupt_state(end: int) -> None:
    with pytest.raises(CorruptState):
        decode(FILE[:end], "a file")


def test_the_message_names_the_file() -> None:
    with pytest.raises(CorruptState, match=r"tensors/x\.safetensors is no safetensors file"):
        decode(FILE[:50], "tensors/x.safetensors")

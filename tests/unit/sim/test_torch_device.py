"""What `[run] device` means to torch, and what is said where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.simulations import fleet, ready, task

from hocket.errors import TaskError
from hocket.sim.torch_device import torch_device

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's settings of the process, which are put back."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    tf32 = torch.backends.cudnn.allow_tf32
    yield
    os.environ.pop(WORKSPACE, None)
    torch.use_deterministic_algorithms(mode=False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = tf32


def test_the_cpu_needs_nothing() -> None:
    assert torch_device("cpu") == torch.device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("built_for", "what"),
    [(None, "built without CUDA; install"), ("12.8", "finds no NVIDIA GPU here; look")],
)
def test_without_a_gpu_it_is_said_before_anything_is_read(
    built_for: str | None, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    missing = task(data={"kind": "npz", "path": str(tmp_path / "no.npz")})
    with pytest.raises(TaskError, match=f"device is 'cuda', but .*{what}.*take device 'cpu'"):
        ready(missing, fleet(run={"device": "cuda"}))


@pytest.mark.usefixtures("settings")
def test_on_a_gpu_torch_rounds_as_float32_and_repeats_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert torch_device("cuda") == torch.device("cuda", 1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert os.environ[WORKSPACE] == ":4096:8"

"""Where torch trains and evaluates: on the CPU, or on this machine's GPU."""

from __future__ import annotations

import os
from typing import Literal

import torch

from hocket.errors import TaskError

DeviceName = Literal["cpu", "cuda"]

_REPEATABLE = ":4096:8"  # cuBLAS: the same bits, for 24 MB of workspace


def check_device(name: DeviceName) -> None:
    """Raise TaskError where torch finds no such device here. Nothing is begun on it."""
    if name == "cuda" and not torch.cuda.is_available():
        raise TaskError(f"device is 'cuda', but {_what_is_missing()}, or take device 'cpu'")


def torch_device(name: DeviceName) -> torch.device:
    """The device of that name, with torch made ready for it. Raises TaskError as `check_device`.

    For "cuda" that changes the whole process: torch is to round as float32 does, and to take
    kernels that give the same bits each time. Where a model needs one that does not, torch warns.
    """
    check_device(name)
    if name == "cpu":
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _REPEATABLE)  # read when first used
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # Nobody reads it. Torch's type hints do not know of the switch.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


def _what_is_missing() -> str:
    if torch.version.cuda is None:
        return (
            f"this torch ({torch.__version__}) is built without CUDA; install a CUDA build of it "
            "on a machine with an NVIDIA GPU"
        )
    return (
        f"torch {torch.__version__} finds no NVIDIA GPU here; look whether nvidia-smi lists one, "
        "and whether CUDA_VISIBLE_DEVICES hides it"
    )

"""Torch's global generators, for what knows no other: a model's own dropout layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Let them draw from `seed`, on the CPU and on `device`; afterwards they are as they were."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        # Not torch.manual_seed: that looks for every kind of device each time, for 0.1 ms.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.get_device_module(device).manual_seed_all(seed)
        yield

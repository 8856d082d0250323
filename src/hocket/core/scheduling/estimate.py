"""How long a device will take, by what the registry knows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hocket.core.device import Device


@dataclass(frozen=True, slots=True)
class Work:
    """What one trigger asks for."""

    local_epochs: int
    batch_size: int
    up_bytes: int  # of a typical update as it travels
    down_bytes: int  # of the model


def expected_s(device: Device, work: Work) -> float | None:
    """Seconds from trigger to update; None where the device's training was never measured.

    Never NaN, whatever the device says of itself: no steps of infinite length take for ever.
    """
    steps = work.local_epochs * math.ceil(device.capability.num_examples / work.batch_size)
    training_s = device.capability.training_s(steps, work.batch_size)
    if training_s is None:
        return None
    total_s = training_s + device.link_to().transfer_s(work.up_bytes, work.down_bytes)
    return math.inf if math.isnan(total_s) else total_s

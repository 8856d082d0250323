"""How long a device will take, by what the registry knows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hocket.core.device import Device
from hocket.core.ids import DeviceId


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


class Estimates:
    """`expected_s` of many devices again and again: each is worked out when its record changes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._known: dict[DeviceId, tuple[Device, float | None]] = {}

    def expected_s(self, device: Device) -> float | None:
        """What `expected_s` says of this very record."""
        known = self._known.get(device.device_id)
        if known is not None and known[0] is device:
            return known[1]
        expected = expected_s(device, self._work)
        self._known[device.device_id] = device, expected
        return expected

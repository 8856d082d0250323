"""How many devices fit one message, well below the 4 MiB at which gRPC refuses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hocket.core.device import Device

# An entry is a device's own fields, a link, a cost line or a label: at most 0.6 kB each.
MAX_ENTRIES = 5000


def batches(devices: Sequence[Device], most: int) -> Iterator[list[Device]]:
    """The devices in order, in lists of at most `most` devices that fit a message each."""
    batch: list[Device] = []
    entries = 0
    for device in devices:
        more = _entries(device)
        if batch and (len(batch) == most or entries + more > MAX_ENTRIES):
            yield batch
            batch, entries = [], 0
        batch.append(device)
        entries += more
    if batch:
        yield batch


def _entries(device: Device) -> int:
    return 1 + len(device.links) + len(device.capability.costs) + len(device.labels)

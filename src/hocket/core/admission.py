"""What a device may say of itself. Everything else is refused before it leaves a trace.

Each check raises InvalidRequest naming the field, its value and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId
from hocket.core.link import Link
from hocket.errors import InvalidRequest

MAX_LABELS = 16
MAX_LABEL_CHARS = 64
MAX_COST_LINES = 64
MAX_LINKS = 1000  # peers remembered of one device
MAX_COUNT = 2**63 - 1  # what an SQL integer holds

_DEVICE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_device_id(device_id: str, field: str = "device_id") -> DeviceId:
    """`device_id` as a name: 1 to 64 of letters, digits, '.', '_' and '-'."""
    if _DEVICE_ID.fullmatch(device_id) is None:
        raise InvalidRequest(
            f"{field} is {device_id[:80]!r}; use 1 to 64 of letters, digits, '.', '_' and '-'"
        )
    return DeviceId(device_id)


def check_labels(labels: Mapping[str, str]) -> None:
    """At most 16 labels, keys of 1 to 64 printable characters, values of at most 64."""
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"{len(labels)} labels are given; give at most {MAX_LABELS}")
    for key, value in labels.items():
        if not (key.isprintable() and 1 <= len(key) <= MAX_LABEL_CHARS):
            raise InvalidRequest(
                f"a label is named {key[:80]!r}; use 1 to {MAX_LABEL_CHARS} printable characters"
            )
        if len(value) > MAX_LABEL_CHARS:
            raise InvalidRequest(
                f"label {key!r} has a value of {len(value)} characters; use at most "
                f"{MAX_LABEL_CHARS}"
            )


def check_capability(capability: Capability) -> None:
    """Shares within [0, 1], widths within (0, 1], times and counts finite and not negative."""
    if len(capability.costs) > MAX_COST_LINES:
        raise InvalidRequest(
            f"capability.costs holds {len(capability.costs)} lines; send at most {MAX_COST_LINES}"
        )
    for line in capability.costs:
        if not 0.0 < line.keep <= 1.0:
            raise InvalidRequest(f"capability.costs.keep is {line.keep}; it must be in (0, 1]")
        _check_quantity("capability.costs.fixed_s", line.fixed_s)
        _check_quantity("capability.costs.per_example_s", line.per_example_s)
    _check_share("capability.processor_share", capability.processor_share)
    _check_share("capability.energy_share", capability.energy_share)
    _check_count("capability.memory_bytes", capability.memory_bytes)
    _check_count("capability.num_examples", capability.num_examples)


def check_links(links: Sequence[Link]) -> None:
    """Each peer once, rates and times finite and not negative, losses within [0, 1]."""
    if len(links) > MAX_LINKS:
        raise InvalidRequest(f"{len(links)} links are reported; report at most {MAX_LINKS}")
    peers = {link.peer for link in links}
    if len(peers) < len(links):
        raise InvalidRequest("a peer is named twice among the links; report each peer once")
    for link in links:
        checked_device_id(link.peer, "links.peer")
        _check_quantity("links.up_bytes_per_s", link.up_bytes_per_s)
        _check_quantity("links.down_bytes_per_s", link.down_bytes_per_s)
        _check_quantity("links.rtt_s", link.rtt_s)
        _check_share("links.loss", link.loss)
        _check_count("links.transfers", link.transfers)


def _check_quantity(field: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise InvalidRequest(f"{field} is {value}; it must be finite and not negative")


def _check_share(field: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:  # NaN fails both
        raise InvalidRequest(f"{field} is {value}; it must be in [0, 1]")


def _check_count(field: str, value: int) -> None:
    if not 0 <= value <= MAX_COUNT:
        raise InvalidRequest(f"{field} is {value}; it must be in [0, 2^63)")

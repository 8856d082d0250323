from __future__ import annotations

from typing import Any

import pytest

from hocket.core.capability import Capability
from hocket.core.device import ANY_DEVICE, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import AGGREGATOR_PEER, Link

PI = Device(
    DeviceId("pi"),
    Incarnation(1),
    DeviceState.ALIVE,
    Capability(processor_share=0.5, memory_bytes=1000, available=False),
    (
        Link("neighbour", up_bytes_per_s=1e9, down_bytes_per_s=1e9),
        Link(AGGREGATOR_PEER, up_bytes_per_s=100.0, down_bytes_per_s=200.0),
    ),
    labels={"room": "2", "kind": "camera"},
)


def test_the_default_filter_lets_every_device_through() -> None:
    assert ANY_DEVICE.matches(PI)


@pytest.mark.parametrize(
    ("field", "passes", "fails"),
    [
        ("device_ids", frozenset({"pi", "x"}), frozenset({"x"})),
        (
            "states",
            frozenset({DeviceState.ALIVE, DeviceState.LEFT}),
            frozenset({DeviceState.EXPIRED}),
        ),
        ("available_only", False, True),
        ("min_processor_share", 0.5, 0.51),
        ("min_memory_bytes", 1000, 1001),
        ("min_up_bytes_per_s", 100.0, 101.0),
        ("min_down_bytes_per_s", 200.0, 201.0),
        ("labels", {"room": "2"}, {"room": "3"}),
        ("labels", {"room": "2", "kind": "camera"}, {"room": "2", "floor": "1"}),
    ],
)
def test_each_condition_decides_by_itself(field: str, passes: Any, fails: Any) -> None:
    assert DeviceFilter(**{field: passes}).matches(PI)
    assert not DeviceFilter(**{field: fails}).matches(PI)


def test_a_link_not_measured_carries_nothing() -> None:
    stranger = Device(DeviceId("s"), Incarnation(1), DeviceState.ALIVE, Capability())
    assert not DeviceFilter(min_up_bytes_per_s=1.0).matches(stranger)
    assert DeviceFilter(min_processor_share=1.0).matches(stranger)

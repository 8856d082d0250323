from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hocket_device.ability import Ability
from hocket_device.lease import LeaseHolder, retry_s
from hocket_device.resources import Resources
from support.clock import ManualClock

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.schedule import Schedule
from hocket.errors import Overloaded, Unavailable
from hocket.rpc.registry_client import Joined, Lease, RegistryClient

ALWAYS = Schedule(default=True)


def test_step_times_follow_the_share_of_the_processor() -> None:
    share = 1.0
    resources = Resources(lambda: share, lambda: float("inf"), lambda: 4096)
    ability = Ability(resources, ALWAYS, ManualClock())
    assert ability.now().costs == ()
    ability.measured((CostLine(0.5, 0.002, 0.001),), num_examples=60)
    share = 0.25
    capability = ability.now()
    assert capability.costs == (CostLine(0.5, 0.008, 0.004),)
    assert (capability.processor_share, capability.num_examples) == (0.25, 60)
    assert capability.memory_bytes == 4096


async def test_availability_follows_its_owners_plan() -> None:
    clock = ManualClock(now=1000.0)
    resources = Resources(lambda: 1.0, lambda: 1.0, lambda: 0)
    ability = Ability(resources, Schedule(default=True, steps=((60.0, True), (30.0, False))), clock)
    assert (ability.now().available, ability.next_change_s()) == (True, 60.0)
    await clock.advance(70.0)
    assert (ability.now().available, ability.next_change_s()) == (False, 20.0)
    await clock.advance(20.0)
    assert ability.now().available


class Listening:
    """A registry that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    async def join(self, *_: object) -> Joined:
        return Joined(DeviceId("d"), Incarnation(1), lease_s=90.0, heartbeat_s=60.0)

    async def heartbeat(self, _: Caller, capability: Capability) -> Lease:
        self.told.append(capability.available)
        return Lease(lease_s=90.0, heartbeat_s=60.0)


async def test_a_change_of_availability_is_told_when_it_happens() -> None:
    clock, registry = ManualClock(), Listening()
    plan = Schedule(default=True, steps=((20.0, True), (30.0, False)))
    ability = Ability(Resources(lambda: 1.0, lambda: 1.0, lambda: 0), plan, clock)
    lease = LeaseHolder(
        cast("RegistryClient", registry),
        "d",
        {},
        ability.now,
        clock,
        lambda: 0.5,
        ability.next_change_s,
    )
    await lease.join()
    keeping = asyncio.ensure_future(lease.keep())
    await clock.advance(19.0)
    assert registry.told == []
    await clock.advance(2.0)
    assert registry.told == [False]
    keeping.cancel()
    await asyncio.wait({keeping})


def test_an_overloaded_service_is_left_alone_for_as_long_as_it_asks() -> None:
    assert retry_s(Overloaded("full", retry_after_s=7.5), 0, lambda: 0.0) == 7.5
    assert retry_s(Overloaded("full", retry_after_s=7.5), 0, lambda: 0.5) > 7.5


@pytest.mark.parametrize(("attempt", "limit_s"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 3.0), (50, 3)])
def test_waits_before_a_retry_grow_up_to_three_seconds(attempt: int, limit_s: float) -> None:
    error = Unavailable("gone")
    assert retry_s(error, attempt, lambda: 0.5) == pytest.approx(limit_s / 2)

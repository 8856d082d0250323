"""Watching the registry over real gRPC: all devices, then every change, to each at its own pace."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from support.clock import ManualClock
from support.limits import LIMIT_S
from support.registry import BUSY, IDLE, LEASE_S, registry_client, serving_registry

from hocket.core.device import Device, DeviceState
from hocket.errors import Overloaded, Unavailable
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

Seen = tuple[str, DeviceState, bool, int]


def brief(devices: tuple[Device, ...]) -> list[Seen]:
    return [(d.device_id, d.state, d.capability.available, d.revision) for d in devices]


async def test_a_watcher_sees_all_devices_and_then_every_change(
    client: RegistryClient, clock: ManualClock
) -> None:
    pi = (await client.join(IDLE, "pi")).caller
    async with aclosing(client.watch()) as watch:
        assert brief((await anext(watch))[0]) == [("pi", DeviceState.ALIVE, True, 1)]
        await client.heartbeat(pi, BUSY)
        assert brief((await anext(watch))[0]) == [("pi", DeviceState.ALIVE, False, 2)]
        await client.heartbeat(pi, BUSY)  # changes nothing that could be seen
        await client.join(IDLE, "zero")
        assert brief((await anext(watch))[0]) == [("zero", DeviceState.ALIVE, True, 3)]
        await clock.advance(LEASE_S - 1)
        await client.heartbeat(pi)
        await clock.advance(1.0)
        devices, revision = await anext(watch)
        assert brief(devices) == [("zero", DeviceState.EXPIRED, True, 4)]
        assert revision == 4


async def test_a_watch_resumes_from_a_revision(client: RegistryClient) -> None:
    pi = (await client.join(IDLE, "pi")).caller
    await client.join(IDLE, "zero")
    await client.heartbeat(pi, BUSY)
    await client.leave(pi)
    async with aclosing(client.watch(after_revision=2)) as watch:
        devices, revision = await anext(watch)
    assert brief(devices) == [
        ("pi", DeviceState.ALIVE, False, 3),
        ("pi", DeviceState.LEFT, False, 4),
    ]
    async with aclosing(client.watch(after_revision=revision)) as watch:
        assert await anext(watch) == ((), 4)  # up to date


async def test_a_watcher_who_reads_nothing_holds_nobody_up(client: RegistryClient) -> None:
    async with aclosing(client.watch()) as slow:
        await anext(slow)
        callers = [(await client.join(IDLE, f"d{at}")).caller for at in range(20)]
        for turn in range(20):
            for caller in callers:
                await client.heartbeat(caller, BUSY if turn % 2 == 0 else IDLE)
        last, revisions = 0, []
        while last < 420:
            devices, last = await anext(slow)
            revisions += [device.revision for device in devices]
    assert revisions == list(range(1, 421))


async def test_watchers_are_bounded_and_make_room_when_they_go(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with registry_client(tmp_path, clock, max_watchers=1) as client:
        async with aclosing(client.watch()) as watch:
            await anext(watch)
            with pytest.raises(Overloaded) as refused:
                await anext(client.watch())
            assert refused.value.retry_after_s == 5.0
        async with asyncio.timeout(LIMIT_S):  # until the server has noticed that the first hung up
            while not await is_admitted(client):
                pass


async def is_admitted(client: RegistryClient) -> bool:
    async with aclosing(client.watch()) as watch:
        try:
            await anext(watch)
        except Overloaded:
            return False
    return True


async def test_a_registry_that_stops_sends_its_watchers_away(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        address = await server.enter_async_context(serving_registry(tmp_path, clock))
        channel = await stack.enter_async_context(open_channel(address))
        watch = await stack.enter_async_context(aclosing(RegistryClient(channel).watch()))
        await anext(watch)
        await server.aclose()
        with pytest.raises(Unavailable):
            await anext(watch)

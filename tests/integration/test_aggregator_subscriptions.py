"""Subscriptions over real gRPC: who is triggered, who hears of the end, and who is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from support.aggregating import Running, aggregating, caller, until
from support.clock import ManualClock
from support.scalar import device

from hocket.core.records import DevicePhase
from hocket.core.stop import Stop
from hocket.core.terms import Finished, Trigger
from hocket.errors import StaleIncarnation
from hocket.rpc import convert
from hocket.v1 import aggregator_pb2 as pb


async def test_a_trigger_reaches_the_subscriber_and_the_push_brings_the_next(
    running: Running,
) -> None:
    async with aclosing(running.client.subscribe(caller("a"))) as events:
        first = await anext(events)
        assert isinstance(first, Trigger)
        assert (first.version, first.timeout_s) == (1, 600.0)
        await running.client.pull(
            caller("a"), limit_bytes=running.manifest.dense_bytes, for_training=True
        )
        (phase,) = [d.phase for d in (await running.status()).devices if d.device_id == "a"]
        assert phase is DevicePhase.TRAINING
        await running.push_from("a", 1)
        second = await anext(events)
        assert isinstance(second, Trigger)
        assert second.version == 2


async def test_a_subscriber_hears_of_the_end(tmp_path: Path) -> None:
    async with aggregating(tmp_path, stop=Stop(versions=2)) as running:
        async with aclosing(running.client.subscribe(caller("a"))) as events:
            assert isinstance(await anext(events), Trigger)
            await running.push_from("b", 1)
            assert await anext(events) == Finished("version 2 of 2 reached")
            assert await anext(events, None) is None
        async with aclosing(running.client.subscribe(caller("c"))) as events:
            assert await anext(events) == Finished("version 2 of 2 reached")


async def test_a_newer_subscription_of_a_device_ends_the_older(running: Running) -> None:
    async with aclosing(running.client.subscribe(caller("a"))) as older:
        assert isinstance(await anext(older), Trigger)
        async with aclosing(running.client.subscribe(caller("a"))) as newer:
            waiting = asyncio.ensure_future(anext(newer))
            assert await anext(older, None) is None
            await running.push_from("a", 1)
            assert isinstance(await waiting, Trigger)


async def test_an_older_incarnation_is_told_to_stop(running: Running) -> None:
    async with aclosing(running.client.subscribe(caller("a"))) as older:
        assert isinstance(await anext(older), Trigger)
        await running.see(device("a", 2))
        async with aclosing(running.client.subscribe(caller("a", 2))) as newer:
            assert isinstance(await anext(newer), Trigger)
            with pytest.raises(StaleIncarnation, match="stop this process"):
                await anext(older)


async def test_a_subscriber_that_hangs_up_is_triggered_no_more(running: Running) -> None:
    async with aclosing(running.client.subscribe(caller("a"))) as events:
        await anext(events)

    await running.push_from("a", 1)
    await until(lambda: running.phase("a") is DevicePhase.AWAY)


async def test_a_slow_subscriber_holds_nobody_up(running: Running) -> None:
    """Its stream is never read, yet others are triggered and their updates applied."""
    slow = running.stub.Subscribe(pb.SubscribeRequest(caller=convert.caller_to_pb(caller("a"))))
    await until(lambda: running.phase("a") is not DevicePhase.AWAY)
    for base in range(1, 21, 2):
        await running.push_from("a", base)
        await running.push_from("b", base + 1)
    assert (await running.status()).version == 21
    slow.cancel()


async def test_a_silent_device_is_given_up_after_its_timeout(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        aggregating(tmp_path, clock=clock) as running,
        aclosing(running.client.subscribe(caller("a"))) as events,
    ):
        await anext(events)
        await clock.advance(599.0)
        assert (await running.status()).devices[0].in_phase_s == 599.0
        await clock.advance(1.0)
        assert isinstance(await anext(events), Trigger)

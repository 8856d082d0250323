"""Streams of triggers: one a device, nobody waited for."""

from __future__ import annotations

import asyncio

import pytest
from hocket_aggregator.subscriptions import QUEUE_SIZE, Subscriptions
from hocket_aggregator.turn import Turn
from support.scalar import caller
from torch import Tensor

from hocket.core.device import Caller
from hocket.core.events import Effect, SendTrigger, TaskFinished, Tick
from hocket.core.terms import Finished, Trigger
from hocket.errors import StaleIncarnation


def trigger(number: int) -> Trigger:
    return Trigger(str(number), 1, 0, 60.0)


def send(to: Subscriptions, who: Caller, number: int) -> None:
    turn(to, SendTrigger(who, trigger(number)))


def turn(to: Subscriptions, *effects: Effect[Tensor]) -> None:
    to.on_turn(Turn(Tick(), effects, 0.0, 0.0, {}))


async def test_events_come_in_order_and_end_with_the_task() -> None:
    all_ = Subscriptions()
    mine = all_.open(caller("a"))
    send(all_, caller("a"), 1)
    send(all_, caller("b"), 2)
    turn(all_, TaskFinished(Finished("done")))
    assert [event async for event in mine.events()] == [trigger(1), Finished("done")]


async def test_what_a_broken_stream_did_not_deliver_reaches_the_next_of_a_busy_device() -> None:
    all_ = Subscriptions()
    older = all_.open(caller("a"))
    send(all_, caller("a"), 1)
    newer = all_.open(caller("a"), inherit=True)
    assert [event async for event in older.events()] == []
    assert await anext(newer.events()) == trigger(1)
    assert not all_.close(older)
    assert all_.close(newer)


async def test_an_idle_device_that_comes_back_starts_afresh() -> None:
    all_ = Subscriptions()
    all_.open(caller("a"))
    send(all_, caller("a"), 1)
    newer = all_.open(caller("a"))
    send(all_, caller("a"), 2)
    assert await anext(newer.events()) == trigger(2)


async def test_a_newer_incarnation_inherits_nothing() -> None:
    all_ = Subscriptions()
    older = all_.open(caller("a"))
    send(all_, caller("a"), 1)
    newer = all_.open(caller("a", 2))
    send(all_, caller("a"), 2)
    send(all_, caller("a", 2), 3)
    assert await anext(newer.events()) == trigger(3)
    with pytest.raises(StaleIncarnation):
        [event async for event in older.events()]


async def test_a_device_that_reads_nothing_costs_a_bounded_queue() -> None:
    all_ = Subscriptions()
    mine = all_.open(caller("a"))
    for number in range(1000):
        send(all_, caller("a"), number)
    assert mine.undelivered() == [trigger(number) for number in range(QUEUE_SIZE)]


async def test_a_reader_that_waits_is_woken_and_let_go() -> None:
    all_ = Subscriptions()
    mine = all_.open(caller("a"))
    reading = asyncio.ensure_future(anext(mine.events()))
    await asyncio.sleep(0)
    send(all_, caller("a"), 1)
    assert await reading == trigger(1)
    rest = asyncio.ensure_future(anext(mine.events(), None))
    await asyncio.sleep(0)
    all_.close_all()
    assert await rest is None

"""A device whose fresh model is long on its way: it trains on, and waits for it nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.fake_aggregator import FakeAggregator
from support.gate import Gate
from support.limits import LIMIT_S
from support.site import aggregator, site, until

from hocket.core.device import DeviceState
from hocket.core.ids import Version
from hocket.core.terms import TrainingTerms


def slow_to_answer(epochs: int) -> FakeAggregator:
    """An aggregator with something newer, which it holds back."""
    fake = aggregator(training=TrainingTerms(epochs, 16, learning_rate=0.01))
    fake.newer_after_pull = True
    fake.hold_fresh = asyncio.Event()
    return fake


async def test_it_trains_on_meanwhile_and_merges_at_the_end_of_the_epoch_in_which_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, fake = Gate(closed_before=3), slow_to_answer(epochs=3)
    gate.put(monkeypatch)
    assert fake.hold_fresh is not None
    async with site(tmp_path, fake) as s, s.device() as agent:
        fake.trigger(slot=1)
        await until(lambda: gate.ended == [1, 2] and len(fake.pulls) == 2)  # still held back
        once_bytes = agent.courier.tally.bytes_down
        fake.hold_fresh.set()
        await until(lambda: agent.courier.tally.bytes_down == 2 * once_bytes)
        gate.open.set()
        update = await fake.taken.get()
    assert gate.ended == [1, 2, 3]
    assert update.header.base_version == 1
    assert update.header.refresh is not None
    assert (update.header.refresh.slot, update.header.refresh.version) == (1, Version(2))
    assert not fake.fresh_given_up.is_set()


async def test_what_comes_too_late_is_given_up_and_the_update_pushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, fake = Gate(closed_before=2), slow_to_answer(epochs=2)
    gate.put(monkeypatch)
    async with site(tmp_path, fake) as s:
        others = asyncio.all_tasks()
        async with s.device() as agent:
            fake.trigger(slot=1)
            await until(lambda: len(fake.pulls) == 2)
            gate.open.set()
            first = await fake.taken.get()
            await asyncio.wait_for(fake.fresh_given_up.wait(), LIMIT_S)  # though nobody let it go
            assert agent.courier.link.loss == 0.0  # the link is not to blame
            fake.trigger()
            await fake.taken.get()
        await until(lambda: asyncio.all_tasks() <= others)
    assert first.header.refresh is None
    assert [pull.for_training for pull in fake.pulls] == [True, False, True]
    assert fake.said_training == [False]  # no training was given up


@pytest.mark.parametrize("end", ["stopped", "finished"])
async def test_the_end_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    gate, fake, stop = Gate(closed_before=2), slow_to_answer(epochs=2), asyncio.Event()
    gate.put(monkeypatch)
    async with site(tmp_path, fake) as s:
        others = asyncio.all_tasks()
        async with asyncio.timeout(LIMIT_S), s.agent() as agent:
            running = asyncio.create_task(agent.run(stop))
            fake.trigger(slot=1)
            await until(lambda: len(fake.pulls) == 2)
            if end == "finished":
                fake.finish()
                gate.open.set()
            else:
                stop.set()
            await running
            await fake.fresh_given_up.wait()
            gate.open.set()
        await until(lambda: asyncio.all_tasks() <= others)
        assert (await s.record()).state is DeviceState.LEFT

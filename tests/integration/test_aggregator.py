"""The aggregator over real gRPC: updates become versions, by the numbers of the papers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from support.aggregating import CNN, Running, aggregating, caller, fill, header, pulled, until
from support.scalar import device

from hocket.core.events import DeviceSeen
from hocket.core.ids import UpdateId, Version
from hocket.core.scheduling import Rounds
from hocket.core.stop import Stop
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import Applied, Buffered, Dropped, DropReason
from hocket.errors import UnknownVersion
from hocket.learn.codecs import TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.strategies import FedAvg, FedBuff
from hocket.learn.submodels.plan import plan_of


async def test_a_fresh_push_at_version_one_weighs_a_half(running: Running) -> None:
    """fedasmu.md 1.2, first row: t = o = 1 gives alpha 0.5, so w + 0.5 * delta."""
    before = await pulled(running)
    outcome = await running.push(header("a"), running.payload(fill(running.manifest, 0.5)))
    assert outcome == Applied(version=Version(2), weight=0.5, tau=0)
    assert torch.allclose(await pulled(running), before + 0.25, atol=1e-6)


async def test_weights_follow_the_table_of_the_paper(running: Running) -> None:
    """fedasmu.md 1.2: t = 4, s = 1 gives 1/3; and s = 4 at t = 4: xi = 1 / (2 * 4), alpha 1/9."""
    for base, name in enumerate("abc", start=1):
        await running.push_from(name, base, update_id=UpdateId(f"warm-{base}"))
    await running.client.pull(
        caller("d"), limit_bytes=running.manifest.dense_bytes, for_training=True
    )
    fresh = await running.push_from("d", 4)
    assert isinstance(fresh, Applied)
    assert (fresh.version, fresh.tau) == (5, 0)
    assert fresh.weight == pytest.approx(1 / 3, abs=1e-9)


async def test_a_stale_push_weighs_less(running: Running) -> None:
    """t = 4, o = 1: s = 4, xi = 1 / (sqrt(4) * 4) = 1/8, alpha = 1/9 (fedasmu.md 1.2)."""
    limit = running.manifest.dense_bytes
    await running.client.pull(caller("d"), limit_bytes=limit, for_training=True)
    for base, name in enumerate("abc", start=1):
        await running.push_from(name, base)
    stale = await running.push_from("d", 1)
    assert isinstance(stale, Applied)
    assert (stale.version, stale.tau) == (5, 3)
    assert stale.weight == pytest.approx(1 / 9, abs=1e-9)


async def test_a_base_that_nobody_holds_is_forgotten(running: Running) -> None:
    await running.push_from("a", 1)
    digest = await running.digest()
    with pytest.raises(UnknownVersion, match="pull the newest"):
        await running.push_from("b", 1)
    assert await running.digest() == digest


async def test_the_same_update_twice_gets_the_first_answer(running: Running) -> None:
    first = await running.push_from("a", 1)
    await running.push_from("b", 2)
    digest = await running.digest()
    again = await running.client.push(header("a"), running.payload(fill(running.manifest, 9.0)))
    assert again.outcome == first
    assert again.num_bytes == 0
    status = await running.status()
    assert (status.version, status.digest, status.updates_accepted) == (3, digest, 2)


async def test_a_push_after_the_end_is_dropped_with_the_reason(tmp_path: Path) -> None:
    async with aggregating(tmp_path, stop=Stop(versions=2)) as running:
        await running.push_from("a", 1)
        late = await running.client.push(
            header("b", 2), running.payload(fill(running.manifest, 0.1))
        )
        assert isinstance(late.outcome, Dropped)
        assert late.outcome.reason is DropReason.TASK_FINISHED
        assert late.num_bytes == 0  # the device is spared the transfer
        status = await running.status()
        assert (status.version, status.updates_rejected) == (2, 1)
        assert status.finished_reason == "version 2 of 2 reached"


async def test_a_buffering_strategy_says_how_full_its_buffer_is(tmp_path: Path) -> None:
    async with aggregating(tmp_path, strategy=FedBuff(goal=2)) as running:
        first = await running.push_from("a", 1)
        assert isinstance(first, Buffered)
        assert (first.fill, first.goal, first.version) == (1, 2, 2)
        second = await running.push_from("b", 1)
        assert isinstance(second, Applied)
        versions = [record async for record in running.client.list_versions()]
        assert versions[0].update_ids == ("a-from-1", "b-from-1")


async def test_a_synchronous_round_asks_each_device_once_and_averages_by_examples(
    tmp_path: Path,
) -> None:
    strategy, pace = FedAvg(cohort=2), Rounds(cohort=2)
    async with aggregating(tmp_path, devices="abc", strategy=strategy, pace=pace) as running:
        streams = {name: running.client.subscribe(caller(name)) for name in "abc"}
        heard = {name: asyncio.ensure_future(anext(stream)) for name, stream in streams.items()}
        await until(lambda: sum(call.done() for call in heard.values()) == 2)
        first, second = (name for name, call in heard.items() if call.done())
        again = asyncio.ensure_future(anext(streams[first]))
        payload = running.payload(fill(running.manifest, 0.3))
        answer = await running.push(header(first, num_examples=100), payload)
        assert answer == Buffered(Version(2), 1.0, 0, 1, 2)
        third = next(name for name in "abc" if name not in {first, second})
        assert not again.done()  # it has given its part
        assert not heard[third].done()  # the round is full
        payload = running.payload(fill(running.manifest, 0.6))
        answer = await running.push(header(second, num_examples=50), payload)
        assert answer == Applied(Version(2), 50 / 150, 0)
        moved = await pulled(running) - running.setup.first
        assert torch.allclose(moved, torch.tensor(0.4), atol=1e-6)  # (100 * 0.3 + 50 * 0.6) / 150
        next_round = (again, heard[third], asyncio.ensure_future(anext(streams[second])))
        await until(lambda: sum(call.done() for call in next_round) == 2)
        for call in next_round:
            call.cancel()
        await asyncio.wait(next_round)


async def test_an_update_of_a_submodel_moves_only_what_it_holds(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        spec = SubmodelSpec((0.25,), ChannelRule.RANDOM, 11)
        plan = plan_of(running.setup.graph, spec)
        delta = torch.ones(plan.sliced_manifest.size)
        payload = encode_payload(
            delta, plan.sliced_manifest, TopK(ratio=1.0), torch.Generator().manual_seed(0)
        )
        outcome = await running.push(header("a", spec=spec), payload)
        assert outcome == Applied(Version(2), 0.5, 0)
        _, held = plan.scatter(delta)
        moved = (await pulled(running)) - running.setup.first
        assert held is not None
        assert torch.allclose(moved, 0.5 * held, atol=1e-6)


async def test_devices_seen_while_serving_are_known(running: Running) -> None:
    await running.aggregator.owner.handle(DeviceSeen(device("late")))
    assert isinstance(await running.push_from("late", 1), Applied)

"""The aggregator over real gRPC: updates become versions, and whoever asks gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hocket_aggregator.aggregator import Limits
from support.aggregating import (
    CNN,
    WIDE,
    Running,
    aggregating,
    caller,
    fill,
    header,
    pulled,
    until,
)
from support.clock import ManualClock
from support.scalar import device

from hocket.core.events import DeviceSeen
from hocket.core.ids import UpdateId, Version
from hocket.core.records import DevicePhase
from hocket.core.scheduling import Rounds
from hocket.core.stop import Stop
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.terms import Finished, Trigger
from hocket.core.update import Applied, Buffered, Dropped, DropReason, RefreshReport
from hocket.errors import CorruptPayload, Overloaded, StaleIncarnation, UnknownVersion
from hocket.learn.codecs import TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.strategies import FedAvg, FedBuff
from hocket.learn.submodels.plan import plan_of
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.v1 import aggregator_pb2 as pb


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with aggregating(tmp_path) as it:
        yield it


async def test_the_terms_of_the_task_reach_the_devices(running: Running) -> None:
    terms = await running.client.get_task()
    assert terms == running.setup.terms
    assert terms.manifest.size == 64 * 12 + 12 + 12 * 10 + 10


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


async def test_only_what_is_newer_is_sent(running: Running) -> None:
    limit = running.manifest.dense_bytes
    assert await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=1) is None
    await running.push_from("a", 1)
    newer = await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=1)
    assert newer is not None
    assert newer.version == 2


async def test_a_version_that_was_lost_is_replaced(running: Running) -> None:
    """A device may know a version from before a crash that this aggregator never made."""
    limit = running.manifest.dense_bytes
    model = await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=7)
    assert model is not None
    assert model.version == 1


async def test_a_base_is_held_until_its_update_comes(running: Running) -> None:
    limit = running.manifest.dense_bytes
    await running.client.pull(caller("d"), limit_bytes=limit, for_training=True)
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    versions = {v.version: v.retained async for v in running.client.list_versions()}
    assert versions == {1: True, 2: False, 3: True}
    await running.push_from("d", 1)
    versions = {v.version: v.retained async for v in running.client.list_versions()}
    assert versions == {1: False, 2: False, 3: False, 4: True}


async def test_pulls_that_nobody_reads_are_bounded_and_make_room_when_they_go(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hocket_aggregator.service.MAX_PULLS", 2)
    request, service = pb.PullModelRequest(), running.aggregator.service
    unread: list[Any] = [service.PullModel(request, cast("Any", None)) for _ in range(2)]
    for parts in unread:
        await anext(parts)
    with pytest.raises(Overloaded) as refused:
        await pulled(running)
    assert refused.value.retry_after_s > 0
    await unread[0].aclose()
    assert len(await pulled(running)) == running.manifest.size


async def test_a_submodel_costs_about_its_size(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        spec = SubmodelSpec((0.5,), ChannelRule.LEADING)
        plan = plan_of(running.setup.graph, spec)
        part = await pulled(running, spec)
        assert torch.equal(part, plan.extract(running.setup.first))
        status = await running.status()
        whole = running.manifest.dense_bytes
        assert status.bytes_pulled == plan.sliced_manifest.dense_bytes < 0.55 * whole


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


async def test_a_model_beyond_four_megabytes_passes_both_ways(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=WIDE) as running:
        assert running.manifest.dense_bytes > 4 * 1024 * 1024
        before = await pulled(running)
        generator = torch.Generator().manual_seed(5)
        delta = torch.rand(running.manifest.size, generator=generator)
        assert await running.push(header("a"), running.payload(delta)) == Applied(
            Version(2), 0.5, 0
        )
        assert torch.allclose(await pulled(running), before + 0.5 * delta, atol=1e-6)


async def test_a_broken_push_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        payload = running.payload(fill(running.manifest, 0.5))
        opening = convert.push_header_to_pb(header("a"), payload.header)
        pieces = list(chunks(payload.body, chunk_bytes=50_000))

        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        assert (await call.read()).resume_offset == 0
        await call.write(pb.PushUpdateRequest(chunk=pieces[0]))
        staging = running.aggregator.staging
        await until(lambda: staging.received(UpdateId("a-from-1")) == 50_000)
        call.cancel()

        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        assert (await call.read()).resume_offset == 50_000
        for piece in pieces[1:]:
            await call.write(pb.PushUpdateRequest(chunk=piece))
        outcome = convert.outcome_from_pb((await call.read()).outcome)
        assert outcome == Applied(Version(2), 0.5, 0)
        assert staging.num_bytes == 0


async def test_a_stream_that_ends_early_is_told_so_and_may_go_on(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    opening = convert.push_header_to_pb(header("a"), payload.header)
    call = running.stub.PushUpdate()
    await call.write(pb.PushUpdateRequest(header=opening))
    await call.read()
    await call.write(pb.PushUpdateRequest(chunk=next(chunks(payload.body, chunk_bytes=1000))))
    await call.done_writing()
    status = await call.code()
    assert status.name == "INVALID_ARGUMENT"
    assert "ended at byte 1000" in await call.details()
    pushed = await running.client.push(header("a"), payload)
    assert pushed.num_bytes == running.manifest.dense_bytes - 1000
    assert pushed.outcome == Applied(Version(2), 0.5, 0)


async def test_a_newer_stream_takes_a_push_over(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    opening = convert.push_header_to_pb(header("a"), payload.header)
    older = running.stub.PushUpdate()
    await older.write(pb.PushUpdateRequest(header=opening))
    await older.read()
    assert (await running.push(header("a"), payload)) == Applied(Version(2), 0.5, 0)
    await older.write(pb.PushUpdateRequest(chunk=next(chunks(payload.body))))
    assert (await older.code()).name == "UNAVAILABLE"
    assert (await running.status()).version == 2


async def test_too_much_at_once_is_sent_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as probe:
        most = probe.setup.terms.max_update_bytes
    async with aggregating(tmp_path, model=CNN, limits=Limits(staged_bytes=most)) as running:
        payload = running.payload(fill(running.manifest, 0.5))
        opening = convert.push_header_to_pb(header("a"), payload.header)
        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        await call.read()
        with pytest.raises(Overloaded) as refused:
            await running.push(header("b"), payload)
        assert refused.value.retry_after_s > 0
        assert (await running.status()).updates_rejected == 0  # nothing is wrong with it
        for piece in chunks(payload.body):
            await call.write(pb.PushUpdateRequest(chunk=piece))
        await call.read()
        assert isinstance(await running.push_from("b", 2), Applied)


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


async def test_versions_are_watched_as_they_come_and_once_more_when_judged(
    running: Running,
) -> None:
    async with aclosing(running.client.watch_versions(after_version=1)) as watch:
        await running.push_from("a", 1)
        made = await anext(watch)
        assert (made.version, made.parent, made.update_ids) == (2, 1, ("a-from-1",))
        while made.evaluation is None:
            made = await anext(watch)
        assert made.version == 2
        assert 0.0 <= made.evaluation.test_accuracy <= 1.0
    status = await running.status()
    assert status.evaluated_version == 2
    assert status.evaluation == made.evaluation


async def test_a_late_watcher_gets_what_came_before(running: Running) -> None:
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    seen = []
    async with aclosing(running.client.watch_versions()) as watch:
        async for record in watch:
            seen.append(record.version)
            if len(set(seen)) == 3:
                break
    assert sorted(set(seen)) == [1, 2, 3]


async def test_lineage_names_the_updates_behind_a_version(running: Running) -> None:
    refresh = RefreshReport(slot=1, version=Version(1), reward=0.25)
    await running.push_from("a", 1, refresh=refresh)
    await running.push_from("b", 2)
    await running.push_from("c", 3)
    updates = [update async for update in running.client.get_lineage(3)]
    assert [u.header.update_id for u in updates] == ["b-from-2", "a-from-1"]
    assert updates[1].header == header("a", refresh=refresh)
    assert updates[1].outcome == Applied(Version(2), 0.5, 0)
    assert updates[1].codec == "raw"
    assert updates[1].wire_bytes == updates[1].dense_bytes == running.manifest.dense_bytes


async def test_pages_of_versions_and_updates_join_without_gaps(running: Running) -> None:
    for base in range(1, 6):
        await running.push_from("a", base)
    versions, updates, token = [], [], ""
    while True:
        page = await running.stub.ListVersions(
            pb.ListVersionsRequest(page_size=2, page_token=token)
        )
        versions += [v.version for v in page.versions]
        token = page.next_page_token
        if not token:
            break
    while True:
        lineage = await running.stub.GetLineage(
            pb.GetLineageRequest(version=5, page_size=2, page_token=token)
        )
        updates += [u.base_version for u in lineage.updates]
        token = lineage.next_page_token
        if not token:
            break
    assert versions == [6, 5, 4, 3, 2, 1]
    assert updates == [4, 3, 2, 1]


async def test_status_counts_bytes_and_devices(running: Running) -> None:
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    status = await running.status()
    assert (status.task, status.strategy, status.version) == ("tiny", "fedasmu", 3)
    assert status.bytes_dense_equivalent == 2 * running.manifest.dense_bytes
    assert status.bytes_pushed == 2 * running.manifest.dense_bytes  # they were pushed raw
    assert [d.device_id for d in status.devices] == ["a", "b", "c", "d"]
    assert [d.updates_accepted for d in status.devices] == [1, 1, 0, 0]
    assert status.devices[0].last_weight == 0.5


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


async def test_many_devices_push_at_once(running: Running) -> None:
    await running.see(*(device(f"n{i}") for i in range(12)))
    limit = running.manifest.dense_bytes
    for i in range(12):
        await running.client.pull(caller(f"n{i}"), limit_bytes=limit, for_training=True)
    outcomes = await asyncio.gather(*(running.push_from(f"n{i}", 1) for i in range(12)))
    versions = sorted(o.version for o in outcomes if isinstance(o, Applied))
    assert versions == list(range(2, 14))


async def test_a_corrupted_body_drops_what_was_staged(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    wrong = replace(payload, header=replace(payload.header, checksum=1))
    with pytest.raises(CorruptPayload):
        await running.push(header("a"), wrong)
    assert running.aggregator.staging.num_bytes == 0
    assert isinstance(await running.push_from("a", 1), Applied)


async def test_devices_seen_while_serving_are_known(running: Running) -> None:
    await running.aggregator.owner.handle(DeviceSeen(device("late")))
    assert isinstance(await running.push_from("late", 1), Applied)

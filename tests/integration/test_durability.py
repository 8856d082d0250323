"""What an acknowledgement is worth: the folder as it is at any moment is enough to go on from.

A copy of the folder of a running aggregator is what SIGKILL would leave of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import support.aggregating
import torch
from hocket_aggregator.journal.reader import segments
from hocket_aggregator.recovery.replay import replay
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots
from support.aggregating import CNN, Running, fill, header, pulled
from support.lives import aggregating, digests, killed, recorded, train
from support.strategies import every_strategy, name_of

from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.ledger import Ledger
from hocket.core.stop import Stop
from hocket.core.update import Applied, Dropped, DropReason
from hocket.errors import CorruptState, InvalidUpdate, UnknownVersion
from hocket.learn.strategies import (
    AnyStrategy,
)
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.task import Limits
from hocket.v1 import aggregator_pb2 as pb


@pytest.mark.parametrize("strategy", every_strategy(3), ids=name_of)
async def test_nothing_acknowledged_is_lost_and_the_future_is_the_same(
    tmp_path: Path, strategy: AnyStrategy
) -> None:
    async with aggregating(tmp_path / "live", strategy=strategy) as running:
        outcomes = await train(running, 8)
        copy = killed(tmp_path / "live", tmp_path / "copy")
        known = await digests(running)
        later = await train(running, 6, first=8)
        end = await running.digest()
        policy = running.aggregator.core.slots.keep().tensors
    async with aggregating(copy, strategy=strategy) as again:
        assert await digests(again) == known
        repeated = [
            await again.push(
                header("abcd"[n % 4], 1, update_id=f"u{n}"),
                again.payload(fill(again.manifest, 9.0)),
            )
            for n in range(8)
        ]
        assert repeated == outcomes
        assert await train(again, 6, first=8) == later
        assert await again.digest() == end
        learned = again.aggregator.core.slots.keep().tensors
        assert all(torch.equal(learned[name], policy[name]) for name in policy)


async def test_a_push_goes_on_at_its_byte_after_a_restart(tmp_path: Path) -> None:
    delta = torch.randn(54_000, generator=torch.Generator().manual_seed(0)) * 0.01
    async with aggregating(tmp_path / "live", model=CNN) as running:
        payload = running.payload(delta[: running.manifest.size])
        sent = await _send_half(running, payload)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy, model=CNN) as again:
        pushed = await again.client.push(header("a", incarnation=Incarnation(1)), payload)
        assert 0 < pushed.num_bytes == payload.header.wire_bytes - sent
        assert isinstance(pushed.outcome, Applied)


async def _send_half(running: Running, payload: Any) -> int:
    pieces = list(chunks(payload.body, chunk_bytes=10_000))
    half = pieces[: len(pieces) // 2]

    async def requests() -> AsyncIterator[pb.PushUpdateRequest]:
        opening = convert.push_header_to_pb(header("a"), payload.header)
        yield pb.PushUpdateRequest(header=opening)
        for chunk in half:
            yield pb.PushUpdateRequest(chunk=chunk)

    call = running.stub.PushUpdate(requests())
    with pytest.raises(Exception, match="stream ended at byte"):
        async for _ in call:
            pass
    (body,) = running.aggregator.staging._bodies.values()
    await running.aggregator.journal.written(body.ticket)
    return sum(len(chunk.data) for chunk in half)


async def test_a_dropped_update_is_dropped_for_good(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", task_limits=Limits(staleness=1)) as running:
        await train(running, 3)
        payload = running.payload(fill(running.manifest, 1.0))
        dropped = await running.push(header("a", 1, update_id="late"), payload)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    assert isinstance(dropped, Dropped)
    assert dropped.reason is DropReason.TOO_STALE
    async with aggregating(copy, task_limits=Limits(staleness=9)) as again:
        assert await again.push(header("a", 4, update_id="late"), payload) == dropped


async def test_a_base_that_a_device_holds_is_there_after_a_restart(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await pulled(running, for_training=True)  # device a, version 1
        await running.push_from("b", 1)
        await running.push_from("c", 2)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy) as again:
        outcome = await again.push_from("a", 1)
        assert isinstance(outcome, Applied)
        assert outcome.tau == 2
        with pytest.raises(UnknownVersion):
            await again.push_from("d", 2)


async def test_a_task_that_has_ended_stays_so(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", stop=Stop(versions=3)) as running:
        await train(running, 2)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy, stop=Stop(versions=30)) as again:
        status = await again.status()
        assert status.version == 3
        assert "3" in status.finished_reason


async def test_bytes_of_a_refused_body_do_not_come_back(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        bad = running.payload(fill(running.manifest, 3e38))
        with pytest.raises(Exception, match="overflows float32"):
            await running.push(header("a"), bad)
        await train(running, 1, first=1)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy) as again:
        assert again.aggregator.staging.num_bytes == 0


async def test_an_answer_that_the_rules_have_forgotten_is_on_record(tmp_path: Path) -> None:
    async with aggregating(tmp_path, task_limits=Limits(staleness=2)) as running:
        outcomes = await train(running, 5)
        running.aggregator.core.state.ledger = Ledger(1)
        payload = running.payload(fill(running.manifest, 9.0))
        again = await running.push(header("a", 1, update_id="u0"), payload)  # too stale by now
        assert again == outcomes[0]
        with pytest.raises(InvalidUpdate, match="used by another device"):
            await running.push(header("b", 1, update_id="u0"), payload)
        assert len([u async for u in running.client.get_lineage()]) == 5


async def test_a_first_start_that_is_cut_short_may_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Snapshots.save

    async def killed_before(self: Snapshots, snapshot: Snapshot) -> None:
        await asyncio.to_thread(_until_there, tmp_path / "live" / "journal", 2)
        killed(tmp_path / "live", tmp_path / "copy")
        await save(self, snapshot)

    monkeypatch.setattr(Snapshots, "save", killed_before)
    async with aggregating(tmp_path / "live"):
        monkeypatch.undo()
    for _ in range(2):
        async with aggregating(tmp_path / "copy") as again:
            await train(again, 1)
    for file in (tmp_path / "copy" / "snapshots").iterdir():
        file.unlink()
    with pytest.raises(CorruptState, match="no sound snapshot is left"):
        async with aggregating(tmp_path / "copy"):
            pass


def _until_there(folder: Path, segment: int) -> None:
    while segment not in segments(folder):
        pass


async def test_the_journal_can_be_switched_off_and_on(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        await train(running, 2)
    async with aggregating(tmp_path, durable=False) as running:
        await train(running, 2, first=2)
    async with aggregating(tmp_path) as running:
        assert (await running.status()).version == 5
        await train(running, 2, first=4)
        known = await digests(running)
        assert (await replay(running.setup, tmp_path)).digest == await running.digest()
    assert sorted(known) == [1, 2, 3, 4, 5, 6, 7]


async def test_without_a_journal_a_kill_goes_back_to_the_snapshot(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await train(running, 2)
    async with aggregating(tmp_path / "live", durable=False) as running:
        await train(running, 2, first=2)
        await recorded(running)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    for durable in (False, True):
        async with aggregating(copy, durable=durable) as again:
            assert (await again.status()).version == 3


async def test_bases_beyond_those_in_memory_are_mapped_and_train_as_well(tmp_path: Path) -> None:
    async def run(where: Path, bases_in_memory: int) -> str:
        limits = replace(support.aggregating.LIMITS, bases_in_memory=bases_in_memory)
        async with aggregating(where, limits=limits, devices="abcdefgh") as running:
            for n, name in enumerate("abc"):
                who = Caller(DeviceId(name), Incarnation(1))
                limit = running.manifest.dense_bytes
                await running.client.pull(who, limit_bytes=limit, for_training=True)
                await train_one(running, "defg"[n], n + 1)
            files = sorted(file.name for file in (where / "bases").glob("*"))
            assert files == ([] if bases_in_memory else ["1.f32", "2.f32", "3.f32"])
            for n, name in enumerate("abc"):
                await train_one(running, name, n + 1)
            assert list((where / "bases").glob("*")) == []
            return await running.digest()

    assert await run(tmp_path / "memory", 8) == await run(tmp_path / "mapped", 0)


async def train_one(running: Running, name: str, base: int) -> None:
    delta = torch.randn(running.manifest.size, generator=torch.Generator().manual_seed(base))
    outcome = await running.push(header(name, base), running.payload(delta * 0.01))
    assert isinstance(outcome, Applied)

"""A journal in which bodies come and nothing is settled: it stays short, and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hocket_aggregator.journal.reader import file_of, segments
from hocket_aggregator.recovery.replay import replay
from hocket_aggregator.snapshots.keeper import AGAIN_S, Retention
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots
from support.aggregating import LIMITS, Running, aggregating, header, until
from support.clock import ManualClock
from support.lives import killed, recorded, snapshots_of

from hocket.core.ids import UpdateId, Version
from hocket.core.payload import Payload
from hocket.core.update import Applied, UpdateHeader
from hocket.errors import StorageFull
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.task import ModelRef
from hocket.v1 import aggregator_pb2 as pb

MODEL = ModelRef("hocket.learn.models:mlp", {"inputs": 64, "classes": 10, "hidden": [512]})
BODY_BYTES = 4 * (64 * 512 + 512 + 512 * 10 + 10)
CHUNK_BYTES = 10_000
EVERY_BYTES = 5 * BODY_BYTES
SHORT = replace(
    LIMITS, retention=Retention(every_s=1e9, every_bytes=EVERY_BYTES, kept=1, journal_bytes=0)
)


def of(name: str, update_id: str, running: Running) -> UpdateHeader:
    return header(name, running.aggregator.core.newest.version, update_id=UpdateId(update_id))


async def break_off(running: Running, name: str, update_id: str, payload: Payload) -> None:
    """All of an update but its last piece."""
    there = running.aggregator.staging.received(UpdateId(update_id))

    async def requests() -> AsyncIterator[pb.PushUpdateRequest]:
        made = convert.push_header_to_pb(of(name, update_id, running), payload.header)
        yield pb.PushUpdateRequest(header=made)
        for chunk in list(chunks(payload.body, there, CHUNK_BYTES))[:-1]:
            yield pb.PushUpdateRequest(chunk=chunk)

    with pytest.raises(Exception, match="stream ended at byte"):
        async for _ in running.stub.PushUpdate(requests()):
            pass


async def up_to_date(running: Running) -> None:
    """Return once the keeper has done what the turns so far ask for."""
    keeper, journal = running.aggregator.keeper, running.aggregator.journal
    await until(lambda: not keeper._saving.locked() and journal.num_bytes < EVERY_BYTES)


def journal_of(data: Path) -> list[int]:
    return segments(data / "journal")


async def test_bodies_that_break_off_do_not_make_the_journal_grow(tmp_path: Path) -> None:
    """Nothing is settled meanwhile, so no snapshot has anything new to cover."""
    live = tmp_path / "live"
    async with aggregating(live, model=MODEL, limits=SHORT) as running:
        payload = running.payload(torch.full((running.manifest.size,), 0.01))
        assert payload.header.wire_bytes == BODY_BYTES
        first = await running.push(header("b"), payload)
        for number in range(40):
            await break_off(running, "a", f"broken-{number}", payload)
            await up_to_date(running)
        assert len(journal_of(live)) <= 3  # of the two newest snapshots, of 5 or 6 bodies each
        there = running.aggregator.staging.received(UpdateId("broken-39"))
        await recorded(running)
        await running.aggregator.journal.all_synced()
        copy = killed(live, tmp_path / "copy")
        digest = await running.digest()
    async with aggregating(copy, model=MODEL, limits=SHORT) as again:
        assert await again.digest() == digest
        assert await again.push(header("b"), payload) == first
        assert again.aggregator.staging.received(UpdateId("broken-39")) == there > 0
        outcome = await again.push(of("a", "broken-39", again), payload)
        assert isinstance(outcome, Applied)
        assert outcome.version == 3


async def test_a_body_long_on_its_way_holds_no_old_segments_back(tmp_path: Path) -> None:
    """It is written again at the journal's end; a kill at any time finds it all the same."""
    live, copies = tmp_path / "live", list[Path]()
    async with aggregating(live, model=MODEL, limits=SHORT) as running:
        payload = running.payload(torch.full((running.manifest.size,), 0.01))
        await break_off(running, "c", "slow", payload)
        there = running.aggregator.staging.received(UpdateId("slow"))
        for number in range(60):
            await break_off(running, "a", f"broken-{number}", payload)
            await up_to_date(running)
            assert len(journal_of(live)) <= 6
            if number % 9 == 8:
                await running.aggregator.journal.all_synced()
                copies.append(killed(live, tmp_path / f"copy-{number}"))
    assert min(journal_of(copies[-1])) > 2
    for copy in copies:
        async with aggregating(copy, model=MODEL, limits=SHORT) as again:
            assert again.aggregator.staging.received(UpdateId("slow")) == there > 0
            outcome = await again.push(of("c", "slow", again), payload)
            assert isinstance(outcome, Applied)
            digest = await again.digest()
        assert (await replay(again.setup, copy)).digest == digest


@pytest.mark.parametrize("slow", [False, True])
async def test_half_of_what_is_kept_can_be_replayed_at_any_time(
    tmp_path: Path, *, slow: bool
) -> None:
    """Also while a body is long on its way, which needs the journal from its beginning."""
    limit_bytes = 12 * EVERY_BYTES
    retention = Retention(every_s=1e9, every_bytes=EVERY_BYTES, kept=2, journal_bytes=limit_bytes)
    limits = replace(LIMITS, retention=retention)
    async with aggregating(tmp_path, model=MODEL, limits=limits) as running:
        payload = running.payload(torch.full((running.manifest.size,), 0.01))
        if slow:
            await break_off(running, "c", "slow", payload)
        for number in range(150):
            await running.push(of("a", f"a-{number}", running), payload)
            await up_to_date(running)
            stored = await snapshots_of(running)
            reached = [s for s in journal_of(tmp_path) if s >= stored[0].needs_from]
            num_bytes = sum(file_of(tmp_path / "journal", s).stat().st_size for s in reached)
            assert num_bytes <= limit_bytes + 2 * EVERY_BYTES
            if number >= 70:
                assert num_bytes >= limit_bytes / 2
        early = Version(stored[0].version + 1)
        await recorded(running)
        known = await running.aggregator.records.version(early)
        assert (await replay(running.setup, tmp_path, early)).digest == known.digest


async def test_bodies_of_earlier_lives_count_as_well(tmp_path: Path) -> None:
    """No life brings enough for a snapshot of its own."""
    data = tmp_path / "0"
    for life in range(3):
        async with aggregating(data, model=MODEL, limits=SHORT) as running:
            payload = running.payload(torch.full((running.manifest.size,), 0.01))
            for number in range(2):
                await break_off(running, "a", f"broken-{life}-{number}", payload)
            await running.aggregator.journal.all_synced()
            assert len(await snapshots_of(running)) == 1
            data = killed(data, tmp_path / str(life + 1))
    async with aggregating(data, model=MODEL, limits=SHORT):
        await until(lambda: len(list((data / "snapshots").glob("*.json"))) == 2)


async def test_a_long_journals_snapshot_that_failed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt begins a segment, so what is to go is in those before it."""
    clock, failures, save = ManualClock(), [StorageFull("no room", 1.0)], Snapshots.save

    async def once_full(self: Snapshots, snapshot: Snapshot) -> None:
        if failures:
            raise failures.pop()
        await save(self, snapshot)

    async with aggregating(tmp_path, model=MODEL, limits=SHORT, clock=clock) as running:
        payload = running.payload(torch.full((running.manifest.size,), 0.01))
        before = await snapshots_of(running)
        monkeypatch.setattr(Snapshots, "save", once_full)
        for number in range(6):
            await break_off(running, "a", f"broken-{number}", payload)
        await until(lambda: not failures)
        await up_to_date(running)
        assert await snapshots_of(running) == before
        await clock.advance(AGAIN_S)
        await until(lambda: len(list((tmp_path / "snapshots").glob("*.json"))) == 2)

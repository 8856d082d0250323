"""Snapshots of an aggregator at work: what they cover, what they wait for, what they leave out."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hocket_aggregator.journal import Journal
from hocket_aggregator.journal.entries import Settled
from hocket_aggregator.journal.frame import BEGINNING_BYTES
from hocket_aggregator.journal.reader import read_entries, segments
from hocket_aggregator.journal.segment import Disk
from hocket_aggregator.metadata.store import Store
from hocket_aggregator.snapshots import keeper as keeper_module
from support.aggregating import fill, header, until
from support.lives import aggregating, killed, snapshots_of, train

from hocket.core.events import Pushed
from hocket.core.ids import Version
from hocket.core.update import Buffered, Update
from hocket.errors import StorageFailed, Unavailable
from hocket.learn.strategies import FedBuff


async def test_a_snapshot_between_two_pushes_of_one_batch_covers_the_first_only(
    tmp_path: Path,
) -> None:
    """Else the journal would have the first applied a second time."""
    async with aggregating(tmp_path / "live") as running:
        owner, keeper = running.aggregator.owner, running.aggregator.keeper
        delta = fill(running.manifest, 0.1)
        first, second = (Pushed(Update(header(*who), delta)) for who in (("a", 1), ("b", 2)))
        # The first snapshot of all has been saved: another would wait for it.
        await until(lambda: keeper._saved is not None and not keeper._saving.locked())
        async with asyncio.TaskGroup() as group:  # all are in the owner's queue before it looks
            group.create_task(owner.handle(first))
            group.create_task(keeper._save_from(owner))
            group.create_task(owner.handle(second))
        between = await keeper._snapshots.at_or_before(Version(2))
        assert between.newest.version == 2
        entries = list(read_entries(tmp_path / "live" / "journal", between.segment))
        settled = [e.entry.header.device_id for e in entries if isinstance(e.entry, Settled)]
        assert settled == ["b"]


async def test_a_snapshot_waits_for_the_answers_that_it_covers_to_be_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not read from the journal again: the update would be taken for a new one."""
    go, save = asyncio.Event(), Store.save

    async def slow(self: Store, *what: Any) -> None:
        await go.wait()
        await save(self, *what)

    buffer = FedBuff(goal=3)
    async with aggregating(tmp_path / "live", strategy=buffer) as running:
        monkeypatch.setattr(Store, "save", slow)
        payload = running.payload(fill(running.manifest, 1.0))
        first = await running.push(header("a"), payload)
        keeper, before = running.aggregator.keeper, await snapshots_of(running)
        saving = asyncio.create_task(keeper._save_from(running.aggregator.owner))
        await until(lambda: bool(running.aggregator.records._waiting))
        assert await snapshots_of(running) == before
        copy = killed(tmp_path / "live", tmp_path / "copy")
        go.set()
        await saving
        assert len(await snapshots_of(running)) == len(before) + 1
    async with aggregating(copy, strategy=buffer) as again:
        assert await again.push(header("a"), payload) == first
        assert again.aggregator.core.state.pending_ids == [header("a").update_id]


async def test_what_the_journal_did_not_take_is_in_no_snapshot(tmp_path: Path) -> None:
    """Nobody has had an answer to it, and its device pushes it again."""

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def until_it_fails() -> None:
        async with aggregating(tmp_path, strategy=buffer) as running:
            journal, owner = running.aggregator.journal, running.aggregator.owner
            assert isinstance(journal, Journal)
            journal._writer._disk = journal._writer._segment._disk = Disk(sync=broken)
            with pytest.raises(Unavailable):
                await owner.handle(Pushed(Update(header("a"), fill(running.manifest, 1.0))))
            assert running.aggregator.core.state.pending_ids == [header("a").update_id]

    buffer = FedBuff(goal=3)
    with pytest.raises(BaseExceptionGroup) as failed:
        await until_it_fails()
    assert failed.group_contains(StorageFailed)
    lose_newest_segment(tmp_path)
    async with aggregating(tmp_path, strategy=buffer) as again:
        outcome = await again.push_from("a")
        assert isinstance(outcome, Buffered)
        assert outcome.fill == 1


def lose_newest_segment(folder: Path) -> None:
    """Whatever the broken disk may yet have kept of the newest segment is gone."""
    newest = folder / "journal" / f"{segments(folder / 'journal')[-1]:010d}.journal"
    with newest.open("r+b") as file:
        file.truncate(BEGINNING_BYTES)


async def test_a_journal_that_cannot_be_shortened_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(keeper_module, "drop_before", refuse)
    async with aggregating(tmp_path) as running:
        await train(running, 1)
        await running.aggregator.keeper._save_from(running.aggregator.owner)
        assert [stored.version for stored in await snapshots_of(running)] == [1, 2]
        assert (await train(running, 1, first=1))[0].tau == 0

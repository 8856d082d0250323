"""What an acknowledgement is worth: the folder as it is at any moment is enough to go on from.

A copy of the folder of a running aggregator is what SIGKILL would leave of it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import support.aggregating
import torch
from hocket_aggregator.aggregator import Limits as ServiceLimits
from hocket_aggregator.journal import Journal
from hocket_aggregator.journal.entries import Settled
from hocket_aggregator.journal.frame import BEGINNING_BYTES
from hocket_aggregator.journal.reader import read_entries, segments
from hocket_aggregator.journal.segment import Disk
from hocket_aggregator.metadata.store import Store
from hocket_aggregator.recovery.replay import replay
from hocket_aggregator.snapshots import keeper as keeper_module
from hocket_aggregator.snapshots.keeper import Retention
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots, Stored
from support.aggregating import CNN, TASK, Running, fill, header, pulled, until

from hocket.core.device import Caller
from hocket.core.events import Pushed
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.ledger import Ledger
from hocket.core.stop import Stop
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    Update,
)
from hocket.errors import (
    CorruptState,
    InvalidUpdate,
    NotFound,
    StartupError,
    StorageFailed,
    Unavailable,
    UnknownVersion,
)
from hocket.learn.codecs import TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.strategies import AnyStrategy, FedASMU, FedAvg, FedBuff
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.task import Limits
from hocket.v1 import aggregator_pb2 as pb

Digests = dict[int, str]
FIVE_EPOCHS = replace(TASK.training, local_epochs=5)  # so that there is a slot to learn
aggregating = partial(support.aggregating.aggregating, training=FIVE_EPOCHS)


async def digests(running: Running) -> Digests:
    return {v.version: v.digest async for v in running.client.list_versions()}


def killed(live: Path, where: Path) -> Path:
    """The folder as a kill at this moment would leave it."""
    shutil.copytree(live, where)
    return where


async def train(running: Running, count: int, first: int = 0) -> list[Outcome]:
    """Pushes of different values from several devices, each from the newest version."""
    outcomes = []
    for n in range(first, first + count):
        name = "abcd"[n % 4]
        base = (await running.status()).version
        delta = torch.randn(running.manifest.size, generator=torch.Generator().manual_seed(n))
        made = header(
            name, base, update_id=f"u{n}", refresh=RefreshReport(1 + n % 4, base, 0.1 * n)
        )
        outcomes.append(await running.push(made, running.payload(delta * 0.01)))
    return outcomes


@pytest.mark.parametrize(
    "strategy",
    [FedASMU(), FedASMU(memory="sketch", sketch_size=64), FedBuff(goal=3), FedAvg(cohort=4)],
    ids=["fedasmu", "sketch", "fedbuff", "fedavg"],
)
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


async def test_replay_rebuilds_every_version_that_is_retained(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        await train(running, 5)
        assert (await replay(running.setup, tmp_path)).digest == await running.digest()  # live
    async with aggregating(tmp_path) as running:
        await train(running, 5, first=5)
        known = await digests(running)
        for version, digest in known.items():
            rebuilt = await replay(running.setup, tmp_path, version)
            assert (rebuilt.version, rebuilt.digest) == (version, digest)
        with pytest.raises(NotFound, match="version 40 does not exist"):
            await replay(running.setup, tmp_path, 40)


async def test_replay_covers_submodels_and_lossy_codecs(tmp_path: Path) -> None:
    half = SubmodelSpec((0.5,))
    async with aggregating(tmp_path, model=CNN) as running:
        plan = running.aggregator.service._model.plan(half)
        delta = torch.randn(plan.sliced_manifest.size, generator=torch.Generator().manual_seed(2))
        generator = torch.Generator().manual_seed(1)
        payload = encode_payload(delta * 0.01, plan.sliced_manifest, TopK(0.1), generator)
        await running.push(header("a", 1, spec=half), payload)
        await train(running, 2)
        assert (await replay(running.setup, tmp_path, 2)).digest == (await digests(running))[2]
        assert (await replay(running.setup, tmp_path)).digest == await running.digest()


async def test_a_damaged_journal_is_an_error_that_names_file_and_offset(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await train(running, 4)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    number = segments(copy / "journal")[-1]
    file = copy / "journal" / f"{number:010d}.journal"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptState, match=rf"{file.name} is damaged: at byte \d+"):
        async with aggregating(copy):
            pass


async def test_a_lost_segment_is_an_error(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await train(running, 4)
        async for _ in running.client.get_lineage():
            pass  # the records are on disk
        copy = killed(tmp_path / "live", tmp_path / "copy")
    number = segments(copy / "journal")[-1]
    (copy / "journal" / f"{number:010d}.journal").unlink()
    with pytest.raises(CorruptState, match="restore it from a copy"):
        async with aggregating(copy):
            pass


async def test_a_lost_database_is_made_again_from_the_journal(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await train(running, 4)
        known = await digests(running)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    for file in copy.glob("aggregator.db*"):
        file.unlink()
    del known[1]  # nothing in the journal made it
    async with aggregating(copy) as again:
        assert await digests(again) == known
        lineage = [record.header.update_id async for record in again.client.get_lineage()]
        assert lineage == ["u3", "u2", "u1", "u0"]


async def test_other_rules_cannot_go_on_from_the_folder(tmp_path: Path) -> None:
    async with aggregating(tmp_path, strategy=FedASMU(mu_alpha=1.0)) as running:
        await train(running, 2)
    with pytest.raises(StartupError, match="mu_alpha"):
        async with aggregating(tmp_path, strategy=FedASMU(mu_alpha=2.0)):
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


async def test_a_snapshot_between_two_pushes_of_one_batch_covers_the_first_only(
    tmp_path: Path,
) -> None:
    """Else the journal would have the first applied a second time."""
    async with aggregating(tmp_path / "live") as running:
        owner, keeper = running.aggregator.owner, running.aggregator.keeper
        delta = fill(running.manifest, 0.1)
        first, second = (Pushed(Update(header(*who), delta)) for who in (("a", 1), ("b", 2)))
        async with asyncio.TaskGroup() as group:  # all are in the owner's queue before it looks
            group.create_task(owner.handle(first))
            group.create_task(keeper._save_from(owner))
            group.create_task(owner.handle(second))
        between = await keeper._snapshots.at_or_before(Version(2))
        assert between.newest.version == 2
        entries = list(read_entries(tmp_path / "live" / "journal", between.segment))
        settled = [e.entry.header.device_id for e in entries if isinstance(e.entry, Settled)]
        assert settled == ["b"]


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


async def test_a_lost_segment_is_an_error_also_after_a_time_without_journal(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", durable=False) as running:
        await train(running, 2)
    async with aggregating(tmp_path / "live") as running:
        await train(running, 2, first=2)
        await recorded(running)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    (copy / "journal" / f"{segments(copy / 'journal')[-1]:010d}.journal").unlink()
    with pytest.raises(CorruptState, match="restore it from a copy"):
        async with aggregating(copy):
            pass


async def recorded(running: Running) -> None:
    """Return once every answer is in the database."""
    async for _ in running.client.get_lineage():
        pass


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


async def snapshots_of(running: Running) -> list[Stored]:
    return await running.aggregator.keeper._snapshots.stored()


async def test_a_lost_database_takes_no_answer_with_it(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live") as running:
        await pulled(running, for_training=True)  # so that version 1 stays a base
        payload = running.payload(fill(running.manifest, 1.0))
        first = await running.push(header("b"), payload)
    for file in (tmp_path / "live").glob("aggregator.db*"):
        file.unlink()
    async with aggregating(tmp_path / "live") as again:
        assert await again.push(header("b"), payload) == first
        assert (await again.status()).version == 2


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


async def test_replay_says_when_the_journal_no_longer_reaches_back(tmp_path: Path) -> None:
    limits = ServiceLimits(retention=Retention(every_s=1e9, journal_bytes=0))
    async with aggregating(tmp_path, limits=limits) as running:
        for first in (0, 2, 4):
            await train(running, 2, first)
            await running.aggregator.keeper._save_from(running.aggregator.owner)
        assert [stored.version for stored in await snapshots_of(running)] == [1, 3, 5, 7]
        known = await digests(running)
        for version in (1, 3, 5, 6, 7):
            assert (await replay(running.setup, tmp_path, version)).digest == known[version]
        with pytest.raises(NotFound, match="version 2 cannot be rebuilt any more"):
            await replay(running.setup, tmp_path, 2)


async def test_replay_changes_nothing(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        await train(running, 2)
        await running.aggregator.keeper._save_from(running.aggregator.owner)
    newest = max((tmp_path / "snapshots").iterdir())
    newest.write_bytes(newest.read_bytes()[:-2])
    before = files(tmp_path)
    assert (await replay(running.setup, tmp_path)).version == 3
    assert files(tmp_path) == before


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


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

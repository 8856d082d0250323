"""A round that its deadline closes: made once, journalled, and made again bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.journal.entries import Closed
from hocket_aggregator.journal.reader import read_entries
from hocket_aggregator.recovery.replay import replay
from support.aggregating import (
    MLP,
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
from support.lives import digests, killed, recorded, snapshots_of

from hocket.core.scheduling import Rounds
from hocket.core.update import Applied, Buffered, Dropped, DropReason
from hocket.errors import NotFound
from hocket.learn.strategies import Ca2fl, FedAvg, FedBuff

DEADLINE_S = 30.0
PACE = Rounds(cohort=3, deadline_s=DEADLINE_S)
FEDAVG: dict[str, Any] = {"strategy": FedAvg(cohort=3), "pace": PACE}


def closings(folder: Path) -> list[Closed]:
    entries = (found.entry for found in read_entries(folder / "journal", 1))
    return [entry for entry in entries if isinstance(entry, Closed)]


async def at_version(running: Running, version: int) -> str:
    """The digest of that version, once it is the newest."""
    await until(lambda: running.aggregator.core.newest.version == version)
    status = await running.status()
    assert status.version == version
    return status.digest


@pytest.mark.parametrize("model", [MLP, WIDE], ids=["on the loop", "in a thread"])
async def test_a_deadline_makes_a_version_of_what_has_come(tmp_path: Path, model: Any) -> None:
    clock = ManualClock()
    async with aggregating(tmp_path, clock=clock, model=model, **FEDAVG) as running:
        limit = running.manifest.dense_bytes
        await running.client.pull(caller("c"), limit_bytes=limit, for_training=True)
        answers = []
        for name, examples, value in (("a", 100, 0.3), ("b", 50, 0.6)):
            payload = running.payload(fill(running.manifest, value))
            answers.append(await running.push(header(name, num_examples=examples), payload))
        assert [type(answer) for answer in answers] == [Buffered, Buffered]
        await clock.advance(DEADLINE_S - 1)
        assert (await running.status()).version == 1
        await clock.advance(1)
        digest = await at_version(running, 2)
        moved = await pulled(running) - running.setup.first
        assert torch.allclose(moved, torch.tensor(0.4), atol=1e-6)  # (100 * 0.3 + 50 * 0.6) / 150
        newest = await anext(running.client.list_versions())
        assert (newest.digest, newest.update_ids) == (digest, ("a-from-1", "b-from-1"))
        late = await running.push_from("c", 1)
        assert isinstance(late, Dropped)
        assert late.reason is DropReason.ROUND_OVER
        (closed,) = closings(tmp_path)
        assert (closed.version, closed.digest, closed.unix_s) == (2, digest, clock.unix())


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(cohort=3), FedBuff(goal=3), Ca2fl(goal=3, devices=4)],
    ids=lambda rule: rule.kind,
)
async def test_a_crash_after_a_closed_round_gives_the_same_bits(
    tmp_path: Path, strategy: Any
) -> None:
    clock, task = ManualClock(), {"strategy": strategy, "pace": PACE}
    async with aggregating(tmp_path / "live", clock=clock, **task) as running:
        for version in (1, 2):
            await running.push_from("a", version)
            await running.push_from("b", version)
            await clock.advance(DEADLINE_S)
            await at_version(running, version + 1)
        await running.push_from("c", 3)  # a part of the third round
        known = await digests(running)
        await recorded(running)
        copy = killed(tmp_path / "live", tmp_path / "copy")
        for name in "ab":
            assert not isinstance(await running.push_from(name, 3), Dropped)
        full = await at_version(running, 4)
    assert [closed.version for closed in closings(copy)] == [2, 3]
    for version in (2, 3):
        rebuilt = await replay(running.setup, copy, version)
        assert (rebuilt.digest, rebuilt.updates) == (known[version], 2 * version - 2)
    with pytest.raises(NotFound, match="end at version 3"):
        await replay(running.setup, copy, 4)
    async with aggregating(copy, **task) as again:
        assert await digests(again) == known
        for name in "ab":
            outcome = await again.push_from(name, 3)
        assert isinstance(outcome, Applied)
        assert await at_version(again, 4) == full


async def test_a_round_that_only_a_deadline_ended_outlives_the_snapshot_before_it(
    tmp_path: Path,
) -> None:
    async with aggregating(tmp_path / "live", **FEDAVG) as running:
        await running.push_from("a", 1)
    clock = ManualClock()
    async with aggregating(tmp_path / "live", clock=clock, **FEDAVG) as running:
        await clock.advance(DEADLINE_S)  # from the start on: nobody has come back
        digest = await at_version(running, 2)
        await recorded(running)
        copy = killed(tmp_path / "live", tmp_path / "copy")
    for file in copy.glob("aggregator.db*"):
        file.unlink()
    async with aggregating(copy, **FEDAVG) as again:
        assert await at_version(again, 2) == digest
        records = [record async for record in again.client.list_versions()]
        assert [(r.version, r.update_ids) for r in records] == [(2, ("a-from-1",))]
    async with aggregating(copy, **FEDAVG) as again:
        assert await at_version(again, 2) == digest


@pytest.mark.parametrize("durable", [True, False], ids=["sync", "none"])
async def test_a_version_that_a_deadline_made_is_saved_at_a_clean_stop(
    tmp_path: Path, durable: bool
) -> None:
    """Pulls and watchers have seen it, and with no journal nothing else would tell of it."""
    clock = ManualClock()
    async with aggregating(tmp_path, clock=clock, durable=durable, **FEDAVG) as running:
        for name in "ab":
            await running.push_from(name, 1)
        await running.aggregator.keeper._save_from(running.aggregator.owner)
        await clock.advance(DEADLINE_S)
        digest = await at_version(running, 2)
        stored = await snapshots_of(running)
    newest = max((tmp_path / "snapshots").glob("*.json")).stem
    assert {snapshot.version for snapshot in stored} == {1}
    assert int(newest.partition("-")[0]) == 2
    async with aggregating(tmp_path, durable=durable, **FEDAVG) as again:
        assert await at_version(again, 2) == digest
        assert [record.version async for record in again.client.list_versions()] == [2, 1]

"""Without a journal a crash goes back to a snapshot: what came after it never happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.aggregating import Running, aggregating
from support.lives import killed

from hocket.core.update import Applied, Buffered, Dropped
from hocket.errors import NotFound
from hocket.learn.strategies import FedBuff
from hocket.task import Limits as TaskLimits

BUFFER = FedBuff(goal=3)


async def killed_after(running: Running, live: Path, where: Path) -> Path:
    """The folder as a kill at this moment would leave it, the records up to date."""
    await running.aggregator.records.flush()
    return killed(live, where)


async def snapshot(running: Running) -> None:
    await running.aggregator.keeper._save_from(running.aggregator.owner)


async def test_an_update_of_a_version_that_is_gone_is_taken_anew(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", durable=False) as running:
        kept = await running.push_from("a", 1)
        await snapshot(running)
        lost = await running.push_from("b", 2)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    assert isinstance(lost, Applied)
    async with aggregating(copy, durable=False) as again:
        assert (await again.status()).version == 2
        assert await again.push_from("a", 1) == kept  # the first answer
        assert (await again.status()).version == 2
        anew = await again.push_from("b", 2)
        assert (await again.status()).version == 3
        assert anew == lost
        told = [u.header.update_id async for u in again.client.get_lineage(3)]
        assert told == ["b-from-2", "a-from-1"]
        assert (await again.status()).updates_accepted == 2


async def test_what_the_snapshots_buffer_holds_is_still_on_record(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", durable=False, strategy=BUFFER) as running:
        kept = await running.push_from("a", 1)
        await snapshot(running)
        lost = await running.push_from("b", 1)
        made = await running.push_from("c", 1)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    assert [type(outcome) for outcome in (kept, lost, made)] == [Buffered, Buffered, Applied]
    await goes_on_with_one_of_three(copy)


async def test_an_update_that_no_buffer_holds_is_not_on_record(tmp_path: Path) -> None:
    """Though no version is gone, an update is."""
    async with aggregating(tmp_path / "live", durable=False, strategy=BUFFER) as running:
        await running.push_from("a", 1)
        await snapshot(running)
        await running.push_from("b", 1)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    await goes_on_with_one_of_three(copy)


async def goes_on_with_one_of_three(folder: Path) -> None:
    async with aggregating(folder, durable=False, strategy=BUFFER) as again:
        held = await again.push_from("a", 1)
        assert isinstance(held, Buffered)
        assert held.fill == 1  # the first answer, not a second place in the buffer
        second = await again.push_from("b", 1)
        assert isinstance(second, Buffered)
        assert second.fill == 2
        assert isinstance(await again.push_from("c", 1), Applied)
        told = [u.header.update_id async for u in again.client.get_lineage(2)]
        assert told == ["c-from-1", "b-from-1", "a-from-1"]


async def test_a_version_that_is_gone_has_no_record(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "live", durable=False) as running:
        await running.push_from("a", 1)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy, durable=False) as again:
        assert [v.version async for v in again.client.list_versions()] == [1]
        with pytest.raises(NotFound):
            await anext(aiter(again.client.get_lineage(2)))


async def test_a_drop_is_for_good_although_it_came_after_the_snapshot(tmp_path: Path) -> None:
    strict, lenient = TaskLimits(staleness=0), TaskLimits(staleness=9)
    options = {"durable": False, "task_limits": strict}
    async with aggregating(tmp_path / "live", **options) as running:  # type: ignore[arg-type]
        await running.push_from("a", 1)
        await snapshot(running)
        dropped = await running.push_from("b", 1)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    assert isinstance(dropped, Dropped)
    async with aggregating(copy, durable=False, task_limits=lenient) as again:
        assert await again.push_from("b", 1) == dropped


@pytest.mark.parametrize("then", [True, False], ids=["with", "without"])
async def test_a_journal_switched_on_begins_at_the_snapshot(tmp_path: Path, *, then: bool) -> None:
    async with aggregating(tmp_path / "live", durable=False) as running:
        await running.push_from("a", 1)
        await running.push_from("b", 2)
        copy = await killed_after(running, tmp_path / "live", tmp_path / "copy")
    async with aggregating(copy, durable=then) as again:
        assert isinstance(await again.push_from("b", 1), Applied)
        next_copy = await killed_after(again, copy, tmp_path / "next")
        version = (await again.status()).version
    async with aggregating(next_copy, durable=then) as last:
        assert (await last.status()).version == (version if then else 1)

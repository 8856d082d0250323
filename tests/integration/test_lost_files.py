"""A folder that lacks a file, has a damaged one or belongs to other rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from hocket_aggregator.journal.reader import segments
from support.aggregating import fill, header, pulled
from support.lives import aggregating, digests, killed, recorded, train

from hocket.errors import CorruptState, StartupError
from hocket.learn.strategies import FedASMU


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


async def test_other_rules_cannot_go_on_from_the_folder(tmp_path: Path) -> None:
    async with aggregating(tmp_path, strategy=FedASMU(mu_alpha=1.0)) as running:
        await train(running, 2)
    with pytest.raises(StartupError, match="mu_alpha"):
        async with aggregating(tmp_path, strategy=FedASMU(mu_alpha=2.0)):
            pass

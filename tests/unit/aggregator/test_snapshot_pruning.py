"""Which snapshots stay, which journal they need, and what is let go."""

from __future__ import annotations

from pathlib import Path

from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.snapshots import Stored
from support.snapshots import assert_same, filled, left, snapshot, snapshots

from hocket.core.ids import Version


async def test_they_are_listed_oldest_first() -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 9, 2, 10)
    await snapshots(blobs).save(snapshot(9, 95))
    expected = [(2, 20), (9, 90), (9, 95), (10, 100)]
    assert await snapshots(blobs).stored() == [
        Stored(Version(v), s, s, journalled=True) for v, s in expected
    ]


async def test_the_newest_stay_with_the_journal_that_two_of_them_need() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, 5, 6)
    assert await stored.prune(3) == 50
    assert await left(blobs) == [4, 5, 6]
    assert await blobs.names("versions") == [f"versions/{v}.safetensors" for v in (3, 4, 5, 6)]
    assert await stored.prune(1) == 60
    assert await left(blobs) == [6]


async def test_pieces_of_open_bodies_count_as_needed() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, pieces_before=7)
    assert await stored.prune(2) == 23
    assert await stored.prune(2, [33]) == 23  # what recovery needs stays, whatever the rule says


async def test_where_replay_shall_start_a_snapshot_stays_with_its_journal() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, 5, 6, 7, 8)
    assert await stored.prune(2, [30, 50]) == 30
    assert await left(blobs) == [3, 5, 7, 8]
    assert await stored.prune(2, [50]) == 50
    assert await left(blobs) == [5, 7, 8]
    assert await stored.prune(2, [1000]) == 70


async def test_replay_starts_from_a_snapshot_that_a_journal_follows() -> None:
    """After a time without a journal the first snapshot with one begins where those before did."""
    blobs = open_blobs("memory://")
    stored = snapshots(blobs)
    for version in (3, 5):
        await stored.save(snapshot(version, 1, journalled=False))
    for version, segment in ((7, 2), (8, 3), (9, 4)):
        await stored.save(snapshot(version, segment, pieces_from=max(1, segment - 1)))
    assert await stored.prune(1, [1]) == 1
    assert await left(blobs) == [7, 9]


async def test_what_no_snapshot_names_goes(tmp_path: Path) -> None:
    stored = await filled(open_blobs(tmp_path), 2)
    rubbish = [
        "versions/99.safetensors",
        "versions/3.safetensors.partial",
        "tensors/abc.safetensors",
        "tensors/abc.safetensors.partial",
        "snapshots/0000000003-0000000001.json.partial",
    ]
    for name in rubbish:
        (tmp_path / name).write_bytes(b"x")
    aside = tmp_path / "snapshots" / "0000000001-0000000001.damaged"
    aside.write_bytes(b"for a person to look at")
    await stored.prune(1)
    assert not [name for name in rubbish if (tmp_path / name).exists()]
    assert aside.exists()
    assert_same(await snapshots(open_blobs(tmp_path)).newest(), snapshot(2, 20))

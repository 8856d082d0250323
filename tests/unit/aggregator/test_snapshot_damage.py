"""Snapshots under crashes and damage: the one before is found, or nothing begins anew."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pytest
from hocket_aggregator.snapshots.blobs import open_blobs
from structlog.testing import capture_logs
from support.snapshots import Crash, Crashing, Passing, assert_same, damage, snapshot, snapshots

from hocket.core.ids import Version
from hocket.errors import CorruptState
from hocket.hosting import failpoint


async def test_a_crash_at_any_step_of_a_save_leaves_the_snapshot_before() -> None:
    steps = 0
    while True:
        inner = open_blobs("memory://")
        before, after = snapshot(7), snapshot(9, 4)
        await snapshots(inner).save(before)
        blobs = Crashing(inner, after=steps)
        writer = snapshots(blobs)
        await writer.newest()
        try:
            await writer.save(after)
        except Crash:
            assert_same(await snapshots(inner).newest(), before)
            survivor = snapshots(inner)
            await survivor.newest()
            await survivor.prune(5)  # takes away what the crash left
            assert await inner.names("versions") == [
                "versions/6.safetensors",
                "versions/7.safetensors",
            ]
            await survivor.save(after)
            assert_same(await snapshots(inner).newest(), after)
            steps += 1
        else:
            assert_same(await snapshots(inner).newest(), after)
            break
    assert steps >= 4  # two models, a pack of tensors, the manifest


async def test_a_crash_at_any_step_of_a_prune_leaves_what_is_to_stay() -> None:
    steps = 0
    while True:
        inner = open_blobs("memory://")
        writer = snapshots(inner)
        for version in (3, 5, 7):
            await writer.save(snapshot(version, version))
        blobs = Crashing(inner, after=steps)
        pruner = snapshots(blobs)
        try:
            await pruner.prune(1)
        except Crash:
            assert_same(await snapshots(inner).newest(), snapshot(7, 7))
            for each in await snapshots(inner).stored():
                found = await snapshots(inner).at_or_before(each.version)
                assert found.newest.version == each.version
            steps += 1
        else:
            break
    assert steps >= 3


async def test_both_failpoints_lie_between_the_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Crashing(open_blobs("memory://"))
    passed: list[tuple[str, int]] = []
    for module in ("snapshots.snapshots", "snapshots.tensor_blobs"):
        monkeypatch.setattr(
            f"hocket_aggregator.{module}.reach",
            lambda place: passed.append((place, len(blobs.puts))),
        )
    await snapshots(blobs).save(snapshot())
    tensors, last = len(blobs.puts) - 1, failpoint.Failpoint.BEFORE_MANIFEST
    assert passed[-1] == (last, tensors)
    assert passed[:-1] == [(failpoint.Failpoint.MID_SNAPSHOT, n + 1) for n in range(tensors)]


@pytest.mark.parametrize("part", ["manifest", "model", "base", "tensors", "missing"])
async def test_a_damaged_snapshot_is_set_aside_and_the_one_before_taken(part: str) -> None:
    blobs = open_blobs("memory://")
    writer = snapshots(blobs)
    await writer.save(snapshot(5, 2))
    shared = set(await blobs.names())
    await writer.save(snapshot(9, 4))
    own = [name for name in await blobs.names() if name not in shared]
    name = {
        "manifest": "snapshots/0000000009-0000000004.json",
        "model": "versions/9.safetensors",
        "base": "versions/8.safetensors",
        "missing": "versions/8.safetensors",
        "tensors": next(name for name in own if name.startswith("tensors/")),
    }[part]
    if part == "missing":
        await blobs.delete([name])
    else:
        await damage(blobs, name)
    reader = snapshots(blobs)
    with capture_logs() as logs:
        assert_same(await reader.newest(), snapshot(5, 2))
    (entry,) = [entry for entry in logs if entry["event"] == "snapshot_damaged"]
    assert name in entry["cause"] or part == "missing"
    assert "snapshots/0000000009-0000000004.damaged" in await blobs.names()
    assert [each.version for each in await reader.stored()] == [5]
    await reader.save(snapshot(9, 4))  # what is made again is written again
    assert_same(await snapshots(blobs).newest(), snapshot(9, 4))


async def test_when_none_is_sound_nothing_begins_anew() -> None:
    blobs = open_blobs("memory://")
    writer = snapshots(blobs)
    for version in (5, 6):
        await writer.save(snapshot(version, version))
        await damage(blobs, f"snapshots/{version:010}-{version:010}.json")
    for _ in range(2):  # and looking changes nothing
        with pytest.raises(CorruptState, match=r"no snapshot in memory:// is sound.*Restore"):
            await snapshots(blobs).newest()


async def test_a_manifest_under_another_name_is_damaged() -> None:
    blobs = open_blobs("memory://")
    await snapshots(blobs).save(snapshot(5, 2))
    data = await blobs.get("snapshots/0000000005-0000000002.json")
    await blobs.put("snapshots/0000000009-0000000002.json", data)
    assert_same(await snapshots(blobs).newest(), snapshot(5, 2))


@pytest.mark.parametrize("on", ["snapshots/", "versions/7"])
async def test_one_that_its_writer_has_let_go_meanwhile_is_not_damaged(on: str) -> None:
    """A reader beside a running aggregator finds it listed, and then not there."""
    for newest in (True, False):
        inner = open_blobs("memory://")
        for version in (3, 5, 7):
            await snapshots(inner).save(snapshot(version, version))
        gone = ["snapshots/0000000007-0000000007.json", "versions/7.safetensors"]
        reader = snapshots(Passing(inner, gone=gone, on=on))
        with capture_logs() as logs:
            find = reader.newest(set_aside=False) if newest else reader.at_or_before(Version(7))
            assert_same(await find, snapshot(5, 5))
        assert logs == []


async def test_a_reader_that_is_overtaken_looks_again() -> None:
    """All that it has listed is let go, and another there by then."""
    inner = open_blobs("memory://")
    await snapshots(inner).save(snapshot(7, 7))
    one = await inner.names()
    await snapshots(inner).save(snapshot(9, 9))
    another = {name: await inner.get(name) for name in await inner.names() if name not in one}
    await inner.delete([name for name in another if name.startswith("snapshots/")])

    @dataclass
    class Overtaking(Passing):
        async def delete(self, names: Collection[str]) -> None:
            if names:
                for name, data in another.items():
                    await inner.put(name, data)
            await super().delete(names)

    gone = [name for name in one if name.startswith("snapshots/")]
    found = await snapshots(Overtaking(inner, gone=gone)).newest(set_aside=False)
    assert_same(found, snapshot(9, 9))

"""Snapshots: what was saved comes back, to its own task alone, and replay begins at it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hocket_aggregator.recovery.reader import read_model, snapshot_versions
from hocket_aggregator.snapshots import tensor_blobs
from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.record import decode_record
from hocket_aggregator.snapshots.snapshots import Snapshots
from safetensors import safe_open
from safetensors.torch import load_file
from support.s3 import s3_server
from support.snapshots import (
    MANIFEST,
    RULE,
    SIZE,
    Crashing,
    assert_same,
    damage,
    filled,
    model,
    snapshot,
    snapshots,
)
from support.strategies import every_strategy, name_of

from hocket.core.ids import Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.strategy import Memory
from hocket.errors import CorruptState, NotFound, StartupError
from hocket.learn.digest import digest_of
from hocket.learn.slot_policy import SlotPolicy
from hocket.learn.strategies import (
    FedASMU,
    FedAsync,
)


@pytest.mark.parametrize("rule", every_strategy(4, sketch_size=3), ids=name_of)
async def test_what_was_saved_comes_back_bit_for_bit(rule: Any, tmp_path: Path) -> None:
    saved = snapshot(rule=rule)
    await snapshots(open_blobs(tmp_path), rule).save(saved)
    found = await snapshots(open_blobs(tmp_path), rule).newest()
    assert_same(found, saved)
    assert found is not None
    rule.recall(found.memory, found.newest.model)
    SlotPolicy(6).recall(found.slots)


async def test_snapshots_may_lie_in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as (bucket, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        stored = await filled(open_blobs("s3://bucket/tiny"), 2, 3, 4)
        assert await stored.prune(1) == 40
        assert_same(await snapshots(open_blobs("s3://bucket/tiny")).newest(), snapshot(4, 40))
        assert [key for key in bucket.blobs if "snapshots" in key] == [
            "tiny/snapshots/0000000004-0000000040.json"
        ]


async def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    stored = snapshots(open_blobs(tmp_path))
    assert await stored.newest() is None
    assert await stored.stored() == []
    assert await stored.prune(3) == 0


async def test_models_are_safetensors_that_others_can_read(tmp_path: Path) -> None:
    await snapshots(open_blobs(tmp_path)).save(snapshot(7))
    assert snapshot_versions(tmp_path) == [7, 6]
    tensors = load_file(read_model(tmp_path))
    assert torch.equal(tensors["weight"], model(7)[:6].view(2, 3))
    assert torch.equal(tensors["bias"], model(7)[6:])
    with safe_open(read_model(tmp_path, 6), framework="pt") as file:
        assert file.metadata() == {
            "task": "tiny",
            "version": "6",
            "digest": digest_of(model(6)),
            "manifest": MANIFEST.digest,
        }


async def test_bases_may_be_files_mapped_read_only(tmp_path: Path) -> None:
    model(6).numpy().tofile(tmp_path / "6.f32")
    mapped = torch.from_numpy(np.memmap(tmp_path / "6.f32", np.float32, mode="c"))
    saved = snapshot(7, bases={Version(6): mapped})
    await snapshots(open_blobs(tmp_path)).save(saved)
    assert_same(await snapshots(open_blobs(tmp_path)).newest(), saved)


async def test_large_tensors_have_blobs_of_their_own_and_small_ones_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 24)
    monkeypatch.setattr(tensor_blobs, "PACK_BYTES", 1 << 20)
    blobs = Crashing(open_blobs("memory://"))
    stored = snapshots(blobs)
    contribution = {f"moved/{d}": torch.full((SIZE,), float(n)) for n, d in enumerate("abc")}
    small = {f"n/{d}": torch.ones(2, dtype=torch.float64) for d in "abcd"}
    saved = snapshot(memory=Memory({}, contribution | small), slots=Memory())
    await stored.save(saved)
    assert len([name for name in blobs.puts if name.startswith("tensors/")]) == 3 + 1
    assert_same(await snapshots(blobs).newest(), saved)


async def test_a_tensor_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 24)
    blobs = Crashing(open_blobs("memory://"))
    stored = snapshots(blobs)
    lasting = {"moved/a": model(1), "moved/b": model(2)}
    await stored.save(snapshot(7, memory=Memory({}, lasting)))
    blobs.puts.clear()
    moved = {**lasting, "moved/b": model(3)}
    after = snapshot(8, 4, bases={Version(7): model(7)}, memory=Memory({}, moved))
    await stored.save(after)
    assert len(blobs.puts) == 3  # version 8, the one that moved, the manifest
    again = snapshots(blobs)
    assert_same(await again.newest(), after)
    blobs.puts.clear()
    await again.save(replace(after, segment=5, pieces_from=5))  # after a restart
    assert blobs.puts == ["snapshots/0000000008-0000000005.json"]


async def test_a_tensor_that_died_lends_its_name_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Objects are told apart by where they lie, and a new one may lie where an old one did."""
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 0)
    blobs = open_blobs("memory://")
    stored = snapshots(blobs)
    for number in range(20):
        saved = snapshot(2, number, memory=Memory({}, {"x": torch.full((3,), float(number))}))
        await stored.save(saved)
        assert_same(await snapshots(blobs).newest(), saved)
        del saved


async def test_a_model_changed_in_memory_is_not_stored() -> None:
    blobs = open_blobs("memory://")
    with pytest.raises(CorruptState, match="changed in memory"):
        await snapshots(blobs).save(snapshot(digest="0" * 16))
    assert await snapshots(blobs).newest() is None


async def test_a_save_leaves_the_loop_free() -> None:
    """Other tasks go on between its steps; each step runs in a thread or waits for one."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await snapshots(open_blobs("memory://")).save(snapshot())
    beside.cancel()
    assert turns > 5


# --- whose they are ---


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (lambda blobs: snapshots(blobs, task="other"), "task: 'tiny' then, 'other' now"),
        (lambda blobs: snapshots(blobs, FedAsync()), "strategy: 'fedasmu' then, 'fedasync' now"),
        (lambda blobs: snapshots(blobs, FedASMU(sigma0=0.5)), "strategy.sigma0: 1.0 then, 0.5 now"),
        (
            lambda blobs: Snapshots(blobs, "tiny", Manifest((TensorSpec("w", (8,)),)), RULE),
            f"model: {MANIFEST.digest} then",
        ),
    ],
)
async def test_snapshots_of_another_task_are_refused(other: Any, differs: str) -> None:
    blobs = open_blobs("memory://")
    await snapshots(blobs).save(snapshot())
    for work in ("newest", "stored"):
        with pytest.raises(StartupError, match=re.escape(differs)) as caught:
            await getattr(other(blobs), work)()
        assert "AGGREGATOR_DATA_DIR" in caught.value.message
    with pytest.raises(StartupError, match=re.escape(differs)):
        await other(blobs).at_or_before(Version(9))
    assert len(await blobs.names("snapshots")) == 1  # nothing was set aside


async def test_a_setting_that_did_not_exist_then_had_its_default() -> None:
    blobs = open_blobs("memory://")
    name = "snapshots/0000000007-0000000003.json"
    await snapshots(blobs).save(snapshot())
    record = decode_record(await blobs.get(name), name)
    del record.origin.strategy["sketch_size"]
    await blobs.put(name, record.encode())
    assert await snapshots(blobs).newest() is not None
    with pytest.raises(StartupError, match=r"strategy\.sketch_size: 16384 then, 5 now"):
        await snapshots(blobs, FedASMU(sketch_size=5)).newest()


# --- where replay begins ---


async def test_replay_begins_at_or_before_a_version() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 5, 9)
    for version, expected in ((2, 2), (4, 2), (5, 5), (8, 5), (9, 9), (70, 9)):
        assert (await stored.at_or_before(Version(version))).newest.version == expected
    with pytest.raises(NotFound, match=r"version 1 or before.*versions: 2, 5, 9"):
        await stored.at_or_before(Version(1))


async def test_replay_begins_earlier_if_need_be_and_changes_nothing() -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 2, 5)
    await damage(blobs, "versions/5.safetensors")
    names = await blobs.names()
    assert (await snapshots(blobs).at_or_before(Version(6))).newest.version == 2
    assert await blobs.names() == names
    await damage(blobs, "versions/2.safetensors")
    with pytest.raises(CorruptState, match=r"versions/2\.safetensors"):
        await snapshots(blobs).at_or_before(Version(6))

"""`hocket replay`: the journal rebuilds every version it reaches back to, and nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hocket_aggregator.aggregator import Limits as ServiceLimits
from hocket_aggregator.recovery.replay import replay
from hocket_aggregator.snapshots.keeper import Retention
from support.aggregating import CNN, header
from support.lives import aggregating, digests, snapshots_of, train

from hocket.core.submodel import SubmodelSpec
from hocket.errors import NotFound
from hocket.learn.codecs import TopK
from hocket.learn.codecs.payload import encode_payload


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

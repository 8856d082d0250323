"""What an aggregator leaves behind, and how the next one goes on from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hocket_aggregator.aggregator import Limits
from hocket_aggregator.recovery.reader import (
    read_lineage,
    read_model,
    read_status,
    read_versions,
    snapshot_versions,
)
from hocket_aggregator.snapshots.keeper import Retention
from safetensors.torch import load_file
from structlog.testing import capture_logs
from support.aggregating import CNN, aggregating, fill, header, pulled
from support.clock import ManualClock
from torch import Tensor

from hocket.core.manifest import Manifest
from hocket.core.records import DevicePhase
from hocket.core.stop import Stop
from hocket.core.update import Applied
from hocket.errors import NotFound, StartupError
from hocket.learn.digest import digest_of
from hocket.learn.flat import views


async def test_a_restart_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        first = await running.push_from("a", 1)
        await running.push_from("b", 2)
        before = await running.status()
        values = await pulled(running)
    async with aggregating(tmp_path) as running:
        after = await running.status()
        assert (after.version, after.digest) == (before.version, before.digest)
        assert after.updates_accepted == 2
        assert after.bytes_pushed == before.bytes_pushed
        assert torch.equal(await pulled(running), values)
        payload = running.payload(fill(running.manifest, 5.0))
        assert await running.push(header("a"), payload) == first  # exactly once, across lives
        third = await running.push_from("c", 3)
        assert isinstance(third, Applied)
        assert third.version == 4
        versions = [v.version async for v in running.client.list_versions()]
        assert versions == [4, 3, 2, 1]


async def test_without_a_journal_a_crash_goes_back_to_the_newest_snapshot(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with aggregating(tmp_path / "live", durable=False) as running:
        digest = await running.digest()
        await running.push_from("a", 1)
        await running.push_from("b", 2)
        assert [v.version async for v in running.client.list_versions()] == [3, 2, 1]
        shutil.copytree(tmp_path / "live", copy)  # what a kill would leave
    with capture_logs() as logs:
        async with aggregating(copy) as running:
            assert (await running.status()).version == 1
            assert await running.digest() == digest
            assert [v.version async for v in running.client.list_versions()] == [1]
            assert isinstance(await running.push_from("a", 1), Applied)  # applied anew
    (removed,) = [entry for entry in logs if entry["event"] == "records_removed"]
    assert (removed["versions"], removed["updates"]) == (2, 2)


async def test_a_damaged_snapshot_is_passed_over_and_made_up_for(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        await running.push_from("a", 1)
        digest = await running.digest()
    newest = tmp_path / "versions" / "2.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with capture_logs() as logs:
        async with aggregating(tmp_path) as running:
            status = await running.status()
            assert (status.version, status.digest) == (2, digest)
    assert any(entry["event"] == "snapshot_damaged" for entry in logs)
    assert digest_of(torch.cat([t.reshape(-1) for t in _in_order(newest, running.manifest)])) == (
        digest
    )


async def test_another_models_folder_is_refused(tmp_path: Path) -> None:
    async with aggregating(tmp_path):
        pass
    with pytest.raises(StartupError, match=r"holds versions of task 'tiny'.*move that folder"):
        async with aggregating(tmp_path, model=CNN):
            pass


async def test_another_tasks_folder_is_refused(tmp_path: Path) -> None:
    async with aggregating(tmp_path):
        pass
    with pytest.raises(StartupError, match="AGGREGATOR_DATA_DIR"):
        async with aggregating(tmp_path, name="other"):
            pass


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    async with aggregating(tmp_path):
        with pytest.raises(StartupError, match="another aggregator uses"):
            async with aggregating(tmp_path):
                pass


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartupError, match="choose another AGGREGATOR_DATA_DIR"):
        async with aggregating(tmp_path / "file" / "data"):
            pass


async def test_room_for_less_than_one_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="AGGREGATOR_STAGED_BYTES_LIMIT"):
        async with aggregating(tmp_path, limits=Limits(staged_bytes=10)):
            pass


async def test_snapshots_hold_named_tensors_and_only_the_newest_stay(tmp_path: Path) -> None:
    clock = ManualClock()
    limits = Limits(retention=Retention(every_s=5.0, kept=2))
    async with aggregating(tmp_path, clock=clock, limits=limits) as running:
        for base in range(1, 4):
            await running.push_from("a", base)
            await clock.advance(5.0)
            version = base + 1
            async for _ in running.client.get_lineage():
                pass  # a read of the records gives the snapshot's thread time to begin
            await running.aggregator.keeper.save(running.aggregator.core, await running.digest())
            assert snapshot_versions(tmp_path)[0] == version
        model = running.aggregator.core.newest.model
        tensors = load_file(read_model(tmp_path))
        expected = views(model, running.manifest)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    # The newest two, and the first: from it every version can still be rebuilt.
    assert snapshot_versions(tmp_path) == [4, 3, 1]


async def test_a_reader_finds_everything_when_the_aggregator_has_stopped(tmp_path: Path) -> None:
    async with aggregating(tmp_path, stop=Stop(versions=3)) as running:
        await running.push_from("a", 1)
        await running.push_from("b", 2)
        await running.aggregator.evaluator.settled()
        live = await running.status()
    status = read_status(tmp_path)
    assert (status.version, status.digest) == (3, live.digest)
    assert status.finished_reason == "version 3 of 3 reached"
    assert status.evaluated_version == 3
    assert {d.phase for d in status.devices} == {DevicePhase.AWAY}
    versions = read_versions(tmp_path)
    assert [(v.version, v.parent) for v in versions] == [(3, 2), (2, 1), (1, 0)]
    assert versions[0].retained
    assert versions[0].evaluation is not None
    lineage = read_lineage(tmp_path)
    assert [u.header.update_id for u in lineage] == ["b-from-2", "a-from-1"]
    assert [u.header.update_id for u in read_lineage(tmp_path, 2)] == ["a-from-1"]
    assert read_model(tmp_path).name == "3.safetensors"
    with pytest.raises(NotFound, match="take one of 3"):
        read_model(tmp_path, 77)
    with pytest.raises(NotFound, match="no version 77"):
        read_lineage(tmp_path, 77)


def test_a_reader_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no aggregator has stored anything"):
        read_status(tmp_path)
    with pytest.raises(NotFound, match="no snapshot"):
        read_model(tmp_path)


def test_reading_does_not_import_torch() -> None:
    code = "import sys, hocket_aggregator.recovery.reader; sys.exit('torch' in sys.modules)"
    path = [str(Path(entry)) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"], check=False
    )
    assert done.returncode == 0


def _in_order(file: Path, manifest: Manifest) -> list[Tensor]:
    tensors = load_file(file)
    return [tensors[spec.name] for spec in manifest.tensors]

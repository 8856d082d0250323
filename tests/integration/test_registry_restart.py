"""The registry over restarts, on real SQLite: what it promised, and where it refuses to start."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hocket_registry.store import DeviceStore, read_devices
from support.clock import ManualClock
from support.registry import BUSY, IDLE, LEASE_S, listed, registry_client

from hocket.core.device import DeviceState
from hocket.core.ids import DeviceId
from hocket.core.link import Link
from hocket.errors import HocketError, StartupError


async def test_a_restart_forgets_neither_incarnations_nor_leases(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with registry_client(tmp_path, clock) as client:
        a = (await client.join(IDLE, "a", {"room": "lab"})).caller
        b = (await client.join(IDLE, "b")).caller
        await client.join(IDLE, "c")
        await client.leave(b)
        await client.heartbeat(a, BUSY)
        await client.report_links(a, [Link("aggregator", 1e6, 2e6, 0.03, 0.1, 4)])
        before = await listed(client)
    await clock.advance(1000.0)  # a registry that is down cannot hear heartbeats
    async with registry_client(tmp_path, clock) as client:
        after = await listed(client)
        # Each counts as changed: a watcher may hold a later word that was lost.
        assert min(device.revision for device in after) > max(d.revision for d in before)
        assert [replace(device, revision=0) for device in after] == [
            replace(
                device,
                lease_left_s=LEASE_S if device.state is DeviceState.ALIVE else 0.0,
                revision=0,
            )
            for device in before
        ]
        await client.heartbeat(a)
        assert (await client.join(IDLE, "b")).incarnation == 2
        await clock.advance(LEASE_S)
        states = {device.device_id: device.state for device in await listed(client)}
        assert states[DeviceId("c")] is DeviceState.EXPIRED


async def test_revisions_grow_over_restarts(tmp_path: Path, clock: ManualClock) -> None:
    revisions: list[int] = []
    for _ in range(3):
        async with registry_client(tmp_path, clock) as client:
            await client.join(IDLE, "pi")
            async with aclosing(client.watch(revisions[-1] if revisions else 0)) as watch:
                (device,), revision = await anext(watch)
            assert device.incarnation == len(revisions) + 1
            assert revision == device.revision
            revisions.append(revision)
    assert revisions == sorted(set(revisions))


async def test_a_join_is_on_disk_before_it_is_answered(tmp_path: Path, clock: ManualClock) -> None:
    async with registry_client(tmp_path, clock) as client:
        pi = (await client.join(IDLE, "pi")).caller
        devices, _ = await read_devices(tmp_path)
        assert [(d.device_id, d.incarnation) for d in devices] == [("pi", 1)]
        await client.leave(pi)
        devices, revision = await read_devices(tmp_path)
        assert [(d.state, d.capability) for d in devices] == [(DeviceState.LEFT, IDLE)]
        assert revision == 2


async def test_two_registries_do_not_share_a_folder(tmp_path: Path, clock: ManualClock) -> None:
    async with registry_client(tmp_path, clock):
        with pytest.raises(StartupError, match="another registry"):
            await DeviceStore.open(tmp_path)
    await (await DeviceStore.open(tmp_path)).close()


@pytest.mark.parametrize("read", [read_devices, DeviceStore.open])
async def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path, read: object) -> None:
    (tmp_path / "registry.sqlite3").write_bytes(b"not a database, " * 100)
    assert callable(read)
    with pytest.raises(StartupError, match="choose another REGISTRY_DATA_DIR"):
        await read(tmp_path)


async def test_reading_where_no_registry_ever_was_says_so(tmp_path: Path) -> None:
    with pytest.raises(HocketError, match="no registry has stored"):
        await read_devices(tmp_path)

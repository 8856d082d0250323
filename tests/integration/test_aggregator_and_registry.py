"""The aggregator mirrors a real registry: who joins may push at once, who left may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.aggregating import aggregating, caller, header, until
from support.clock import ManualClock
from support.registry import serving_registry

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId, Version
from hocket.core.update import Applied
from hocket.errors import StaleIncarnation, UnknownDevice
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient


async def test_a_device_may_push_before_the_watch_has_told_of_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        serving_registry(tmp_path / "registry", clock) as address,
        open_channel(address) as channel,
    ):
        registry = RegistryClient(channel, address)
        async with aggregating(
            tmp_path / "aggregator", clock=clock, registry=registry, devices=""
        ) as running:
            joined = await registry.join(Capability(num_examples=10), "pi")
            outcome = await running.push_from("pi", 1)
            assert outcome == Applied(Version(2), 0.5, 0)

            again = await registry.join(Capability(num_examples=10), "pi")
            assert again.incarnation == joined.incarnation + 1
            fresh = await running.push_from("pi", 2, incarnation=again.incarnation)
            assert isinstance(fresh, Applied)
            with pytest.raises(StaleIncarnation):
                await running.push_from("pi", 3, incarnation=joined.incarnation)

            await registry.leave(again.caller)
            fleet = running.aggregator.core.fleet
            await until(lambda: not _alive(fleet.find(DeviceId("pi"))))
            with pytest.raises(UnknownDevice, match="join the registry again"):
                await running.push_from("pi", 3, incarnation=again.incarnation)
            assert (await running.status()).version == 3


async def test_with_the_registry_away_known_devices_go_on(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_channel("127.0.0.1:1") as channel:
        registry = RegistryClient(channel, "127.0.0.1:1")
        async with aggregating(tmp_path, clock=clock, registry=registry) as running:
            assert isinstance(await running.push_from("a", 1), Applied)
            with pytest.raises(UnknownDevice):
                await running.push(header("stranger", 2), running.payload(running.setup.first))
            assert caller("stranger").device_id not in {
                d.device_id for d in (await running.status()).devices
            }


def _alive(member: object) -> bool:
    device = getattr(member, "device", None)
    return device is not None and device.state.name == "ALIVE"

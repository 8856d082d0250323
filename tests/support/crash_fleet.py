"""A registry, an aggregator and a few devices that train a small model, each killable."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.supervised import Supervised

from hocket.cli.processes import Service
from hocket.core.manifest import Manifest
from hocket.task import load_task
from hocket.task.setup import Setup, set_up

TASK = """
name = "crashes"
seed = 5
[model]
function = "hocket.learn.models:mlp"
arguments = {{ inputs = 64, classes = 10, hidden = [{hidden}] }}
[data]
kind = "digits"
[training]
local_epochs = 2
batch_size = 32
learning_rate = 0.05
gradient_clip_norm = 4.0
[pace]
kind = "concurrent"
devices = {devices}
[evaluation]
every_versions = 20
limit = 64
[strategy]
{strategy}
[codec]
{codec}
[refresh]
kind = "learned"
"""
FEDASMU = 'kind = "fedasmu"\nmu_alpha = 0.5'
FEDBUFF = 'kind = "fedbuff"\ngoal = 3'
SMALL, LARGE = 16, 4500  # hidden units; of LARGE, an update of float32 takes three chunks
LEASE_S = 60.0  # longer than any outage here: a lease that ends was lost
SNAPSHOT_EVERY_S = "0.5"  # so that the places within a snapshot are reached
# Outside the range from which the kernel takes ports for outgoing connections: a client that
# keeps calling a dead server's port there can end up connected to itself, and hold the port.
PORTS = range(20_000, 32_000)
_GIVEN: set[int] = set()  # by this process: several fleets may live side by side


@dataclass(slots=True)
class CrashFleet:
    """The processes, and where they keep what they keep."""

    home: Path
    setup: Setup
    registry_address: str
    aggregator_address: str
    registry: Supervised
    aggregator: Supervised
    devices: list[Supervised] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        """Of the model."""
        return self.setup.terms.manifest

    @property
    def data_dir(self) -> Path:
        """The aggregator's."""
        return Path(self.aggregator.service.environment["AGGREGATOR_DATA_DIR"])

    @property
    def all(self) -> list[Supervised]:
        """Every process."""
        return [*self.devices, self.aggregator, self.registry]

    async def watch(self) -> None:
        """Until a process ends that nobody has killed: then AssertionError with its words."""
        ends = [process.unexpected for process in self.all]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        raise AssertionError(done.pop().result())


@asynccontextmanager
async def crash_fleet(
    home: Path,
    *,
    devices: int = 0,
    strategy: str = FEDASMU,
    codec: str = 'kind = "raw"',
    hidden: int = LARGE,
    data_dir: Path | None = None,
    **settings: str,
) -> AsyncIterator[CrashFleet]:
    """The fleet, with the registry started and nothing else; all of it is stopped at the end.

    `settings` are the aggregator's, without their prefix.
    """
    text = TASK.format(hidden=hidden, devices=max(1, devices), strategy=strategy, codec=codec)
    task = _written(home, text)
    registry, aggregator = f"127.0.0.1:{quiet_port()}", f"127.0.0.1:{quiet_port()}"
    setup = set_up(load_task(task))
    fleet = CrashFleet(
        home,
        setup,
        registry,
        aggregator,
        Supervised(_registry(home, registry)),
        Supervised(
            _aggregator(home, task, registry, aggregator, data_dir or home / "data", settings)
        ),
        [
            Supervised(_device(home, task, registry, aggregator, number, devices))
            for number in range(devices)
        ],
    )
    try:
        await fleet.registry.serve()
        yield fleet
    finally:
        await asyncio.gather(*(device.stop() for device in fleet.devices))
        await fleet.aggregator.stop()
        await fleet.registry.stop()


def _written(home: Path, text: str) -> Path:
    task = home / "task.toml"
    task.write_text(text, encoding="utf-8")
    return task


def quiet_port() -> int:
    """A port of PORTS that nobody listens on now, and that was given to nobody before."""
    ports = random.SystemRandom()
    while True:
        port = ports.choice(PORTS)
        with socket.socket() as probe:
            if port not in _GIVEN and probe.connect_ex(("127.0.0.1", port)) != 0:
                _GIVEN.add(port)
                return port


def _registry(home: Path, address: str) -> Service:
    ready = home / "registry.ready.json"
    environment = {
        "REGISTRY_LISTEN": address,
        "REGISTRY_DATA_DIR": str(home / "registry"),
        "REGISTRY_READY_FILE": str(ready),
        "REGISTRY_LEASE_S": f"{LEASE_S:g}",
        "REGISTRY_HEARTBEAT_S": "1",
    }
    return Service("registry", "hocket_registry", environment, home / "registry.log", ready)


def _aggregator(
    home: Path, task: Path, registry: str, address: str, data_dir: Path, settings: dict[str, str]
) -> Service:
    ready = home / "aggregator.ready.json"
    environment = {
        "AGGREGATOR_LISTEN": address,
        "AGGREGATOR_REGISTRY": registry,
        "AGGREGATOR_DATA_DIR": str(data_dir),
        "AGGREGATOR_TASK": str(task),
        "AGGREGATOR_READY_FILE": str(ready),
        "AGGREGATOR_SNAPSHOT_EVERY_S": SNAPSHOT_EVERY_S,
        "AGGREGATOR_SNAPSHOTS_KEPT": "10",
        "AGGREGATOR_JOURNAL_KEPT_BYTES": str(512 << 20),
    } | {f"AGGREGATOR_{name.upper()}": value for name, value in settings.items()}
    return Service("aggregator", "hocket_aggregator", environment, home / "aggregator.log", ready)


def _device(
    home: Path, task: Path, registry: str, aggregator: str, number: int, devices: int
) -> Service:
    name = f"device-{number}"
    ready = home / f"{name}.ready.json"
    environment = {
        "DEVICE_REGISTRY": registry,
        "DEVICE_AGGREGATOR": aggregator,
        "DEVICE_TASK": str(task),
        "DEVICE_DEVICE_ID": name,
        "DEVICE_STATE_DIR": str(home / name),
        "DEVICE_SHARD": str(number),
        "DEVICE_SHARDS": str(devices),
        "DEVICE_READY_FILE": str(ready),
    }
    return Service(name, "hocket_device", environment, home / f"{name}.log", ready)

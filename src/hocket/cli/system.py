"""A whole system on this machine: a registry, an aggregator and a fleet, as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hocket.cli.fleet import FleetDevice
from hocket.cli.processes import Process, Service, stop_all
from hocket.cli.where import System
from hocket.errors import StartupError

READY_TIMEOUT_S = 60.0
LOADING_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, and where."""

    home: Path
    task: Path | None  # None: the digits task
    fleet: Sequence[FleetDevice]
    registry: str = "127.0.0.1:50051"
    aggregator: str = "127.0.0.1:50052"


class RunningSystem:
    """The processes of a plan."""

    def __init__(self, plan: Plan, system: System) -> None:
        self.plan = plan
        self.system = system
        self.started_unix_s = time.time()
        self._ordered = sorted(plan.fleet, key=lambda device: -device.processor_share)
        self.services: list[Process] = []
        self.devices: list[Process] = []

    async def start(self) -> None:
        """Start the services and the quickest device. Raises StartupError.

        Returns once the aggregator serves; `enlist` starts the other devices.
        """
        registry = await self._start_service(self._registry())
        aggregator = await self._start_service(self._aggregator())
        await self._start_device(self._ordered[0])
        await registry.ready(READY_TIMEOUT_S)
        await aggregator.ready(READY_TIMEOUT_S)
        self.system.write()

    async def enlist(self) -> None:
        """Start the other devices, quickest first, a few at a time: loading torch takes a core."""
        loading = asyncio.Semaphore(LOADING_AT_ONCE)
        await self._until_ready(self.devices[0])

        async def start(device: FleetDevice) -> None:
            async with loading:
                await self._until_ready(await self._start_device(device))

        async with asyncio.TaskGroup() as group:
            for device in self._ordered[1:]:
                group.create_task(start(device))

    async def stop(self) -> None:
        """Devices first, so that they can leave; the registry last."""
        await stop_all(self.devices)
        for service in reversed(self.services):
            await service.stop()

    async def failure(self) -> str:
        """Returns when a service has ended by itself, with what it said."""
        watched = [asyncio.ensure_future(service.wait()) for service in self.services]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watched:
                watch.cancel()
        ended = next(s for s in self.services if s.returncode is not None)
        return ended.obituary()

    def lost_devices(self) -> list[Process]:
        """Devices whose process has ended with an error."""
        return [device for device in self.devices if device.returncode not in (None, 0)]

    async def _start_service(self, service: Service) -> Process:
        process = await Process.start(service)
        self.services.append(process)
        return process

    async def _start_device(self, device: FleetDevice) -> Process:
        process = await Process.start(self._device(device))
        self.devices.append(process)
        return process

    async def _until_ready(self, device: Process) -> None:
        """A device that does not come up is somebody else's to report."""
        with contextlib.suppress(StartupError):
            await device.ready(READY_TIMEOUT_S)

    def _registry(self) -> Service:
        folder = self.plan.home / "registry"
        ready = self.plan.home / "registry.ready.json"
        env = {
            "REGISTRY_LISTEN": self.plan.registry,
            "REGISTRY_DATA_DIR": str(folder),
            "REGISTRY_READY_FILE": str(ready),
        }
        return Service("registry", "hocket_registry", env, self._log("registry"), ready)

    def _aggregator(self) -> Service:
        folder = self.plan.home / "aggregator"
        ready = self.plan.home / "aggregator.ready.json"
        env = self._task("AGGREGATOR") | {
            "AGGREGATOR_LISTEN": self.plan.aggregator,
            "AGGREGATOR_REGISTRY": self.plan.registry,
            "AGGREGATOR_DATA_DIR": str(folder),
            "AGGREGATOR_READY_FILE": str(ready),
        }
        return Service("aggregator", "hocket_aggregator", env, self._log("aggregator"), ready)

    def _device(self, device: FleetDevice) -> Service:
        ready = self.plan.home / "devices" / f"{device.name}.ready.json"
        env = device.environment() | self._task("DEVICE")
        env |= {
            "DEVICE_REGISTRY": self.plan.registry,
            "DEVICE_AGGREGATOR": self.plan.aggregator,
            "DEVICE_STATE_DIR": str(self.plan.home / "devices" / device.name),
            "DEVICE_SHARD": str(self.plan.fleet.index(device)),
            "DEVICE_READY_FILE": str(ready),
            "DEVICE_SHARDS": str(len(self.plan.fleet)),
        }
        return Service(device.name, "hocket_device", env, self._log(device.name), ready)

    def _task(self, prefix: str) -> dict[str, str]:
        env = {"OMP_NUM_THREADS": "1"}
        if self.plan.task is not None:
            env[f"{prefix}_TASK"] = str(self.plan.task.resolve())
        return env

    def _log(self, name: str) -> Path:
        return self.plan.home / "logs" / f"{name}.log"


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[RunningSystem]:
    """Start a system; whatever happens, no process outlives the block."""
    for address in (plan.registry, plan.aggregator):
        _check_free(address)
    try:
        plan.home.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StartupError(f"folder {plan.home} cannot be made: {cause.strerror}") from cause
    up = RunningSystem(plan, System(plan.registry, plan.aggregator, plan.home, os.getpid()))
    enlisting: asyncio.Task[None] | None = None
    try:
        await up.start()
        enlisting = asyncio.create_task(up.enlist())
        yield up
    finally:
        if enlisting is not None:
            enlisting.cancel()
            await asyncio.gather(enlisting, return_exceptions=True)
        await up.stop()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _check_free(address: str) -> None:
    host, _, port = address.rpartition(":")
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "127.0.0.1", int(port)))
        except (OSError, ValueError) as cause:
            raise StartupError(
                f"{address} cannot be listened on ({cause}): is another system running? Stop it, "
                "or choose other ports with --registry-port and --aggregator-port"
            ) from cause

"""The real services as processes, for one case, in a folder of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hocket.cli.bench.cases import Case
from hocket.cli.bench.raw_server import READY_VARIABLE
from hocket.cli.bench.task_file import NEVER, task_text
from hocket.cli.processes import Process, Service

READY_TIMEOUT_S = 120.0
ANY_PORT = "127.0.0.1:0"
LEASE_S = 86_400.0  # longer than any run: nobody need send heartbeats


class Running:
    """A service that serves."""

    def __init__(self, process: Process, address: str, pid: int) -> None:
        self.process = process
        self.address = address
        self.pid = pid

    @classmethod
    async def start(cls, service: Service) -> Running:
        """Start it and wait until it serves. Raises StartupError."""
        process = await Process.start(service)
        try:
            told = await process.ready(READY_TIMEOUT_S)
        except BaseException:
            await process.stop()
            raise
        return cls(process, str(told["address"]), int(told["pid"]))

    async def kill(self) -> None:
        """As kill -9 does."""
        os.kill(self.pid, signal.SIGKILL)
        await self.process.wait()


class Rig:
    """A registry, and an aggregator that can be killed and started again."""

    def __init__(self, folder: Path, registry: Running, aggregator: Service) -> None:
        self.folder = folder
        self.registry = registry
        self._service = aggregator
        self.aggregator: Running | None = None

    async def start_aggregator(self) -> Running:
        """Start it on its folder, whatever an earlier one left there."""
        self.aggregator = await Running.start(self._service)
        return self.aggregator

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / "logs" / f"{name}.log"


@asynccontextmanager
async def rig(folder: Path, case: Case) -> AsyncIterator[Rig]:
    """A registry and the case's aggregator in a new folder, stopped at the end."""
    _lay_out(folder, case)
    registry = await Running.start(_registry(folder))
    rigged = Rig(folder, registry, _aggregator(folder, case, registry))
    try:
        await rigged.start_aggregator()
        yield rigged
    finally:
        if rigged.aggregator is not None:
            await rigged.aggregator.process.stop()
        await registry.process.stop()


@asynccontextmanager
async def raw_server(folder: Path) -> AsyncIterator[str]:
    """The bare server's address."""
    ready, log = folder / "raw.ready.json", folder / "logs" / "raw-server.log"
    service = Service(
        "raw server", "hocket.cli.bench.raw_server", {READY_VARIABLE: str(ready)}, log, ready
    )
    running = await Running.start(service)
    try:
        yield running.address
    finally:
        await running.process.stop()


def _lay_out(folder: Path, case: Case) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(task_text(case), encoding="utf-8")


def _registry(folder: Path) -> Service:
    ready = folder / "registry.ready.json"
    env = {
        "REGISTRY_LISTEN": ANY_PORT,
        "REGISTRY_DATA_DIR": str(folder / "registry"),
        "REGISTRY_READY_FILE": str(ready),
        "REGISTRY_LEASE_S": str(LEASE_S),
    }
    return Service("registry", "hocket_registry", env, folder / "logs" / "registry.log", ready)


def _aggregator(folder: Path, case: Case, registry: Running) -> Service:
    ready = folder / "aggregator.ready.json"
    env = {
        "OMP_NUM_THREADS": "1",
        "AGGREGATOR_LISTEN": ANY_PORT,
        "AGGREGATOR_REGISTRY": registry.address,
        "AGGREGATOR_DATA_DIR": str(folder / "aggregator"),
        "AGGREGATOR_READY_FILE": str(ready),
        "AGGREGATOR_TASK": str(folder / "task.toml"),
        "AGGREGATOR_DURABILITY": "sync" if case.durable else "none",
    }
    if case.recovers:  # so that the journal alone has every update
        env["AGGREGATOR_SNAPSHOT_EVERY_S"] = str(NEVER)
        env["AGGREGATOR_SNAPSHOT_EVERY_BYTES"] = str(1 << 60)
    log = folder / "logs" / "aggregator.log"
    return Service("aggregator", "hocket_aggregator", env, log, ready)

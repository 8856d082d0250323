"""A site: a real registry, an aggregator whose answers are chosen, and whole devices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hocket_device.__main__ import compose
from hocket_device.agent import Agent
from hocket_device.settings import Settings
from support.clock import ManualClock
from support.fake_aggregator import FakeAggregator
from support.limits import LIMIT_S
from support.registry import serving_registry
from support.serving import serving

from hocket.core.device import Device
from hocket.core.payload import CodecId
from hocket.core.terms import EncodingTerms, RefreshTerms, TaskTerms, TrainingTerms
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.submodels.graph import channel_graph
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import aggregator_service
from hocket.task import Task, default_task

LEASE_S = 15.0
DIGITS = default_task()
WIDE = """
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [1800, 110] }
[data]
kind = "digits"
"""


def aggregator(task: Task = DIGITS, **terms: Any) -> FakeAggregator:
    model = task.build_model()
    manifest = manifest_of(model)
    usual = TaskTerms(
        name=task.name,
        manifest=manifest,
        training=TrainingTerms(local_epochs=2, batch_size=16, learning_rate=0.01),
        encoding=EncodingTerms(CodecId.INT8),
        refresh=RefreshTerms(enabled=True),
        dropout_rows=(),  # a choice by the processor's load, which is no test's to know
        seed=1,
        max_update_bytes=2 * manifest.dense_bytes,
        chunk_bytes=512 * 1024,
        staleness_limit=99,
    )
    told = replace(usual, **terms)
    return FakeAggregator(  # type: ignore[abstract] # devices make no other calls
        told, flatten(model), channel_graph(model)
    )


@dataclass
class Site:
    """One test's registry, aggregator and devices."""

    fake: FakeAggregator
    registry: RegistryClient
    registry_address: str
    aggregator_address: str
    clock: ManualClock  # the registry's
    folder: Path

    @asynccontextmanager
    async def agent(self, **settings: Any) -> AsyncIterator[Agent]:
        """A device that can be run."""
        usual: dict[str, Any] = {
            "registry": self.registry_address,
            "aggregator": self.aggregator_address,
            "device_id": "d1",
            "shards": 20,
            "state_dir": self.folder / "d1",
        }
        chosen = Settings(**usual | settings)
        async with (
            open_channel(chosen.registry) as to_registry,
            open_channel(chosen.aggregator) as to_aggregator,
        ):
            with ThreadPoolExecutor(1) as thread:
                yield compose(
                    chosen,
                    RegistryClient(to_registry),
                    AggregatorClient(to_aggregator),
                    thread,
                    chance=lambda: 0.02,
                )

    @asynccontextmanager
    async def device(self, **settings: Any) -> AsyncIterator[Agent]:
        """A device at work for the length of the block."""
        stop = asyncio.Event()
        async with (
            asyncio.timeout(LIMIT_S),
            self.agent(**settings) as agent,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(agent.run(stop))
            yield agent
            stop.set()

    @asynccontextmanager
    async def life(self, **settings: Any) -> AsyncIterator[Agent]:
        """A device at work until the block ends, and then gone as by a kill: it does nothing more.

        What it leaves on the registry is a farewell, which makes no difference to its next life.
        """
        async with asyncio.timeout(LIMIT_S), self.agent(**settings) as agent:
            running = asyncio.create_task(agent.run(asyncio.Event()))
            try:
                yield agent
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def record(self, device_id: str = "d1") -> Device:
        """What the registry knows of a device."""
        [device] = [d async for d in self.registry.list_devices() if d.device_id == device_id]
        return device

    async def once(self, holds: Callable[[Device], bool], device_id: str = "d1") -> Device:
        """The registry's record of a device, as soon as something holds for it."""
        async for devices, _ in self.registry.watch():
            for device in devices:
                if device.device_id == device_id and holds(device):
                    return device
        raise AssertionError("the registry ended the watch")


@asynccontextmanager
async def site(
    folder: Path, fake: FakeAggregator | None = None, heartbeat_s: float = 0.05
) -> AsyncIterator[Site]:
    fake = fake or aggregator()
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(
            serving_registry(folder / "registry", clock, lease_s=LEASE_S, heartbeat_s=heartbeat_s)
        )
        address = await stack.enter_async_context(serving(aggregator_service(fake)))
        channel = await stack.enter_async_context(open_channel(registry))
        yield Site(fake, RegistryClient(channel), registry, address, clock, folder)


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as something holds."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 -- of files and counts, which wake nobody
            await asyncio.sleep(0.001)


def kept(folder: Path) -> dict[str, Any]:
    """What a device has on disk: all of it is replaced at once."""
    state: dict[str, Any] = json.loads((folder / "device.json").read_text())
    return state

"""A whole aggregator on the loopback: real gRPC, real SQLite, no registry, time moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hocket_aggregator.aggregator import Aggregator, Limits, Surroundings, open_aggregator
from hocket_aggregator.roster import Registry
from hocket_aggregator.snapshots.keeper import Retention
from support.clock import ManualClock
from support.limits import LIMIT_S
from support.scalar import device
from support.serving import serving
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.device import Caller, Device
from hocket.core.events import DeviceSeen
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.manifest import Manifest
from hocket.core.payload import Payload
from hocket.core.records import DevicePhase, Status
from hocket.core.scheduling import Concurrent
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.update import Outcome, UpdateHeader
from hocket.learn.codecs import Codec, Raw
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.data import Digits
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.server import aggregator_service
from hocket.task import EvaluationRules, ModelRef, Task
from hocket.task import Limits as TaskLimits
from hocket.task.setup import Setup, set_up
from hocket.v1 import aggregator_pb2_grpc as pb_grpc

MLP = ModelRef("hocket.learn.models:mlp", {"inputs": 64, "classes": 10, "hidden": [12]})
CNN = ModelRef("hocket.learn.models:digits_cnn", {})
WIDE = ModelRef("hocket.learn.models:mlp", {"inputs": 64, "classes": 10, "hidden": [1024, 1100]})
LIMITS = Limits(retention=Retention(every_s=1e9))

TASK = Task(
    model=MLP,
    data=Digits(),
    name="tiny",
    seed=3,
    pace=Concurrent(devices=10),
    evaluation=EvaluationRules(limit=64),
)


@dataclass(frozen=True, slots=True)
class Running:
    """What a test sees of an aggregator."""

    aggregator: Aggregator
    client: AggregatorClient
    stub: Any
    setup: Setup
    clock: Clock
    address: str

    @property
    def manifest(self) -> Manifest:
        return self.setup.terms.manifest

    async def see(self, *devices: Device) -> None:
        for one in devices:
            await self.aggregator.owner.handle(DeviceSeen(one))

    async def digest(self) -> str:
        return (await self.status()).digest

    async def status(self) -> Status:
        return await self.client.get_status()

    def phase(self, name: str) -> DevicePhase:
        member = self.aggregator.core.fleet.find(DeviceId(name))
        assert member is not None
        return member.status.phase

    async def push(self, header: UpdateHeader, payload: Payload) -> Outcome:
        return (await self.client.push(header, payload)).outcome

    async def push_from(self, name: str, base: int = 1, **fields: Any) -> Outcome:
        payload = self.payload(fill(self.manifest, 0.01))
        return await self.push(header(name, base, **fields), payload)

    def payload(self, delta: Tensor, codec: Codec | None = None, *, pack: bool = False) -> Payload:
        """Of a delta; where a rule exchanges one more vector, half of it turned round is that."""
        generator, terms = torch.Generator().manual_seed(1), self.setup.terms
        sent = torch.cat((delta, delta * -0.5)) if terms.exchanges else delta
        return encode_payload(sent, terms.travelling, codec or Raw(), generator, pack=pack)


def fill(manifest: Manifest, value: float) -> Tensor:
    return torch.full((manifest.size,), value)


def header(name: str, base: int = 1, **fields: Any) -> UpdateHeader:
    made = UpdateHeader(
        update_id=UpdateId(f"{name}-from-{base}"),
        device_id=DeviceId(name),
        incarnation=Incarnation(1),
        base_version=Version(base),
        num_examples=100,
        num_steps=10,
        learning_rate=0.1,
        train_loss=0.5,
        train_s=1.0,
    )
    return replace(made, **fields)


def caller(name: str, incarnation: int = 1) -> Caller:
    return Caller(DeviceId(name), Incarnation(incarnation))


async def pulled(running: Running, spec: SubmodelSpec = FULL, **options: Any) -> Tensor:
    """The values of the newest model, or a part of it, as they came."""
    limit = running.manifest.dense_bytes
    model = await running.client.pull(caller("a"), limit_bytes=limit, spec=spec, **options)
    assert model is not None
    return torch.frombuffer(bytearray(model.payload.body), dtype=torch.float32)


@asynccontextmanager
async def aggregating(
    data_dir: Path,
    *,
    clock: Clock | None = None,
    registry: Registry | None = None,
    limits: Limits = LIMITS,
    devices: str = "abcd",
    task_limits: TaskLimits | None = None,
    durable: bool = True,
    **of_task: Any,
) -> AsyncIterator[Running]:
    """An aggregator that knows some devices, for the length of the block; it ends cleanly."""
    setup = set_up(replace(TASK, limits=task_limits or TaskLimits(), **of_task))
    clock = clock or ManualClock()
    around = Surroundings(data_dir, clock, lambda: 0.5, registry, limits, durable=durable)
    async with AsyncExitStack() as stack:
        aggregator = await stack.enter_async_context(open_aggregator(setup, around))
        await stack.enter_async_context(_in_background(aggregator))
        address = await stack.enter_async_context(serving(aggregator_service(aggregator.service)))
        channel = await stack.enter_async_context(open_channel(address))
        client = AggregatorClient(channel, address)
        stub = pb_grpc.AggregatorServiceStub(channel)
        running = Running(aggregator, client, stub, setup, clock, address)
        await running.see(*(device(name) for name in devices))
        yield running
        aggregator.end_streams()


@asynccontextmanager
async def _in_background(aggregator: Aggregator) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in aggregator.background()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event of its own
            await asyncio.sleep(0)

"""A service for each test, of its own: an aggregator, or a registry with a clock moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.aggregating import Running, aggregating
from support.clock import ManualClock
from support.registry import registry_client, serving_registry

from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.v1 import registry_pb2_grpc as pb_grpc


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with aggregating(tmp_path) as it:
        yield it


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=100.0)


@pytest.fixture
async def client(tmp_path: Path, clock: ManualClock) -> AsyncIterator[RegistryClient]:
    async with registry_client(tmp_path, clock) as connected:
        yield connected


@pytest.fixture
async def stub(
    tmp_path: Path, clock: ManualClock
) -> AsyncIterator[pb_grpc.RegistryServiceAsyncStub]:
    async with serving_registry(tmp_path, clock) as address, open_channel(address) as channel:
        yield pb_grpc.RegistryServiceStub(channel)

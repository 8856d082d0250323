"""What every store of the registry's devices promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hocket_registry.store import DeviceStore, Stored
from support.databases import KINDS, database_of

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.errors import StartupError

CAPABILITY = Capability(
    costs=(CostLine(1.0, 0.01, 0.001), CostLine(0.5, 0.005, 0.0005)),
    processor_share=0.75,
    memory_bytes=2**40,
    num_examples=200,
)
PI = Device(
    DeviceId("pi"),
    Incarnation(2**40),
    DeviceState.ALIVE,
    CAPABILITY,
    (Link("aggregator", 1e6, 2e6, 0.03, 0.1, 4), Link("phone", 1.0, 2.0, 3.0, 0.0, 1)),
    revision=3,
    joined_unix_s=1.7e9 + 0.25,
    labels={"room": "Büro"},
)
PHONE = replace(PI, device_id=DeviceId("phone"), links=(), revision=2, labels={})


class Place:
    """A folder and a database in which stores are opened one after the other."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[DeviceStore]:
        store = await DeviceStore.open(self.folder, self.url)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with database_of(request.param) as url:
        yield Place(tmp_path, url)


async def test_a_new_store_knows_nothing(place: Place) -> None:
    async with place.opened() as store:
        assert await store.load() == Stored()


async def test_devices_come_back_as_they_were_saved_in_the_order_of_their_ids(place: Place) -> None:
    async with place.opened() as store:
        await store.save([PI], 2)
        await store.save([PHONE], 3)
    async with place.opened() as store:
        assert await store.load() == Stored((PHONE, PI), 3)


async def test_a_later_state_takes_the_earlier_ones_place_and_peers_stay(place: Place) -> None:
    later = replace(
        PI,
        incarnation=Incarnation(2**40 + 1),
        state=DeviceState.LEFT,
        links=(Link("aggregator", 5.0, 6.0, 7.0, 0.5, 8),),
        revision=9,
    )
    async with place.opened() as store:
        await store.save([PI, PHONE], 3)
        await store.save([later], 9)
        stored = await store.load()
    assert stored == Stored((PHONE, replace(later, links=(*later.links, PI.links[1]))), 9)


async def test_a_revision_is_kept_without_devices(place: Place) -> None:
    async with place.opened() as store:
        await store.save([], 7)
        assert await store.load() == Stored((), 7)
        await store.save([], 8)
        assert (await store.load()).revision == 8


async def test_two_processes_do_not_share_a_database(place: Place, tmp_path: Path) -> None:
    async with place.opened():
        beside = Place(tmp_path / "other" if place.url else place.folder, place.url)
        with pytest.raises(StartupError, match="another registry uses"):
            async with beside.opened():
                pass

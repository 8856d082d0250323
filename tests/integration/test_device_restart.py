"""Devices that are killed, and services that go away and come back: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from structlog.testing import capture_logs
from support.clock import Sleepless
from support.fake_aggregator import FakeAggregator
from support.gate import Gate
from support.limits import LIMIT_S
from support.registry import serving_registry
from support.serving import serving
from support.site import LEASE_S, WIDE, Site, aggregator, kept, site, until

from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.payload import CodecId
from hocket.core.terms import EncodingTerms
from hocket.core.update import Applied, Dropped, DropReason, Outcome
from hocket.errors import HocketError, StorageFailed, StorageFull, UnknownVersion
from hocket.rpc.server import aggregator_service
from hocket.task import load_task

CHUNK = 512 * 1024
APPLIED = Applied(Version(2), 0.5, 0)
TOPK = EncodingTerms(CodecId.TOPK, topk_ratio=0.01)


def second_life() -> Caller:
    return Caller(DeviceId("d1"), Incarnation(2))


def residual(folder: Path) -> torch.Tensor:
    return load_file(folder / f"residual-{kept(folder)['residual']}.safetensors")["residual"]


async def test_a_device_killed_in_mid_push_finishes_that_push_in_its_next_life(
    tmp_path: Path,
) -> None:
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    fake = aggregator(load_task(file), encoding=EncodingTerms(CodecId.RAW))
    fake.stall_push_at = CHUNK
    async with site(tmp_path, fake) as s:
        async with s.life(task=file):
            await s.fake.subscribers.get()
            fake.trigger()
            await until(lambda: fake.stall_push_at == 0)
        async with s.life(task=file):
            update = await fake.taken.get()
            await until(lambda: fake.said_training == [False, True, False])
            assert await fake.subscribers.get() == second_life()
            fake.trigger()
            following = await fake.taken.get()
    assert fake.push_ids == [update.header.update_id] * 2 + [following.header.update_id]
    assert fake.resumed_at == [0, CHUNK, 0]
    assert update.header.incarnation == 2
    assert update.delta.any()
    assert kept(tmp_path / "d1")["participant"]["trainings"] == 2


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (APPLIED, True),
        (Dropped(DropReason.TOO_STALE, "pull anew", 100), False),
        (UnknownVersion("version 1 is not retained; pull anew"), False),
    ],
    ids=["applied", "dropped", "forgotten"],
)
async def test_an_outcome_that_the_device_did_not_live_to_see_is_acted_upon_once(
    tmp_path: Path, answer: Outcome | HocketError, *, used: bool
) -> None:
    fake = aggregator(encoding=TOPK)
    folder = tmp_path / "d1"
    if not isinstance(answer, HocketError):
        fake.outcome = answer
    fake.hold_answer = asyncio.Event()
    async with site(tmp_path, fake) as s:
        async with s.life():
            fake.trigger()
            message = (await fake.taken.get()).delta
        assert kept(folder)["outbox"] > 0
        left_out = residual(folder)
        fake.hold_answer = None
        fake.refuse_push = answer if isinstance(answer, HocketError) else None
        async with s.life():
            await until(lambda: kept(folder)["outbox"] == 0)
            tally = kept(folder)["tally"]
            assert tally["updates_accepted"] == int(used)
            assert tally["updates_dropped"] + tally["updates_refused"] == int(not used)
            left = residual(folder)
            await until(lambda: len(fake.said_training) > 1 and not fake.said_training[-1])
            fake.trigger()  # and it goes on
            following = await fake.taken.get()
    assert torch.allclose(left, left_out if used else left_out + message, atol=1e-7)
    assert fake.taken.empty()
    assert len(set(fake.push_ids)) == 2
    assert following.header.update_id == fake.push_ids[-1]
    assert following.header.incarnation == 2


async def test_a_damaged_outbox_does_not_keep_the_device_from_its_work(tmp_path: Path) -> None:
    fake = aggregator()
    fake.hold_push = asyncio.Event()
    async with site(tmp_path, fake) as s:
        async with s.life():
            fake.trigger()
            await fake.arrived.get()
        [file] = (tmp_path / "d1").glob("outbox-*")
        file.write_bytes(b"")
        fake.hold_push = None
        async with s.life():
            fake.trigger()
            update = await fake.taken.get()
    assert update.header.update_id != fake.push_ids[0]
    assert [aside.name for aside in file.parent.glob("*.damaged")] == [f"{file.name}.damaged"]


async def test_a_full_disk_holds_the_update_back_until_there_is_room(tmp_path: Path) -> None:
    fake = aggregator()
    in_the_way = tmp_path / "d1" / "device.json.new"
    async with site(tmp_path, fake) as s, s.device() as agent:
        await fake.subscribers.get()
        in_the_way.mkdir()
        slept: list[float] = []
        agent.courier.clock = Sleepless(slept)
        with capture_logs() as logs:
            fake.trigger()
            await until(lambda: len(slept) >= 3)
            assert fake.push_ids == []
            in_the_way.rmdir()
            update = await fake.taken.get()
    held = [entry for entry in logs if entry["event"] == "update_held_back"]
    assert len(held) >= 3
    assert "make room" in held[0]["problem"]
    assert all(wait_s >= 1.0 for wait_s in slept[:3])
    assert fake.push_ids == [update.header.update_id]


async def test_a_full_disk_does_not_outlive_the_task(tmp_path: Path) -> None:
    fake = aggregator()
    async with site(tmp_path, fake) as s, s.agent() as agent:
        running = asyncio.create_task(agent.run(asyncio.Event()))
        await fake.subscribers.get()
        (tmp_path / "d1" / "device.json.new").mkdir()
        slept: list[float] = []
        agent.courier.clock = Sleepless(slept)
        fake.trigger()
        await until(lambda: bool(slept))
        fake.finish()
        await asyncio.wait_for(running, LIMIT_S)
    assert fake.push_ids == []


@pytest.mark.parametrize(
    ("refusal", "least_s"),
    [
        (StorageFull("the disk is full", 30.0), 30.0),
        (StorageFailed("the disk failed; the aggregator stops"), 0.0),
    ],
    ids=["full", "failed"],
)
async def test_an_aggregator_without_room_is_left_alone_for_as_long_as_it_asks(
    tmp_path: Path, refusal: HocketError, least_s: float
) -> None:
    fake = aggregator()
    async with site(tmp_path, fake) as s, s.device() as agent:
        await fake.subscribers.get()
        await s.once(lambda d: bool(d.capability.costs))
        fake.refuse_push = refusal
        slept: list[float] = []
        agent.courier.clock = Sleepless(slept)
        fake.trigger()
        update = await fake.taken.get()
    assert fake.push_ids == [update.header.update_id] * 2
    assert least_s < slept[0] < least_s + 3.0  # jitter comes on top
    assert kept(tmp_path / "d1")["tally"]["updates_refused"] == 0


@asynccontextmanager
async def mortal(folder: Path, fake: FakeAggregator, **settings: Any) -> AsyncIterator[Mortal]:
    """A device whose registry and aggregator can be killed and started again."""
    async with AsyncExitStack() as stack:
        s = await stack.enter_async_context(site(folder, fake))
        made = Mortal(s, stack, folder)
        await made.start_registry()
        await made.start_aggregator()
        await stack.enter_async_context(s.life(**settings))
        yield made


class Mortal:
    """A site's services, each on an address that stays."""

    def __init__(self, s: Site, stack: AsyncExitStack, folder: Path) -> None:
        self.site = s
        self._stack = stack
        self._folder = folder / "mortal"
        self._running = dict[str, AsyncExitStack]()
        s.registry_address = s.aggregator_address = "127.0.0.1:0"

    async def start_registry(self) -> None:
        serving_it = serving_registry(
            self._folder,
            self.site.clock,
            lease_s=LEASE_S,
            heartbeat_s=0.05,
            address=self.site.registry_address,
        )
        self.site.registry_address = await self._start("registry", serving_it)

    async def start_aggregator(self) -> None:
        serving_it = serving(
            aggregator_service(self.site.fake), address=self.site.aggregator_address
        )
        self.site.aggregator_address = await self._start("aggregator", serving_it)

    async def kill(self, which: str) -> None:
        await self._running.pop(which).aclose()

    async def start(self, which: str) -> None:
        await (self.start_registry() if which == "registry" else self.start_aggregator())

    async def _start(self, which: str, service: Any) -> str:
        own = self._running[which] = AsyncExitStack()
        self._stack.push_async_callback(own.aclose)
        address: str = await own.enter_async_context(service)
        return address


SERVICES = pytest.mark.parametrize("which", ["registry", "aggregator"])


@SERVICES
async def test_an_idle_device_outlives_its_services(tmp_path: Path, which: str) -> None:
    fake = aggregator()
    async with mortal(tmp_path, fake) as m:
        await fake.subscribers.get()
        await m.kill(which)
        await m.start(which)
        if which == "aggregator":
            await fake.subscribers.get()
        fake.trigger()
        update = await fake.taken.get()
    assert update.header.device_id == "d1"
    assert not any(fake.said_training)


@SERVICES
async def test_a_training_outlives_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    gate, fake = Gate(closed_before=2), aggregator()
    gate.put(monkeypatch)
    fake.hold_fresh = asyncio.Event()
    async with mortal(tmp_path, fake) as m:
        await fake.subscribers.get()
        fake.trigger(slot=1)
        await until(lambda: len(fake.pulls) == 2)  # in mid-training
        await m.kill(which)
        fake.hold_fresh.set()
        await m.start(which)
        gate.open.set()
        update = await fake.taken.get()
    assert update.header.refresh is None  # the model was the same
    assert fake.push_ids == [update.header.update_id]
    assert len(fake.pulls) == 2  # what was trained is not trained again


@SERVICES
async def test_a_push_outlives_the_services(tmp_path: Path, which: str) -> None:
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    fake = aggregator(load_task(file), encoding=EncodingTerms(CodecId.RAW))
    fake.stall_push_at = CHUNK if which == "aggregator" else 0
    fake.hold_push = asyncio.Event()
    async with mortal(tmp_path, fake, task=file) as m:
        await fake.subscribers.get()
        fake.trigger()
        await fake.arrived.get()
        await until(lambda: fake.stall_push_at == 0)
        await m.kill(which)
        if which == "registry":  # nobody there needs to know of it
            fake.hold_push.set()
        await m.start(which)
        if which == "aggregator":  # it is told of a push, and then that there is none
            await until(lambda: fake.said_training[-1])
            fake.hold_push.set()
            await until(lambda: fake.said_training[-2:] == [True, False])
        update = await fake.taken.get()
        folder = tmp_path / "d1"
        await until(lambda: kept(folder)["outbox"] == 0 and not fake.said_training[-1])
        fake.trigger()
        await fake.taken.get()
    assert fake.push_ids[:-1] == [update.header.update_id] * (2 if which == "aggregator" else 1)
    assert fake.resumed_at[:-1] == ([0, CHUNK] if which == "aggregator" else [0])


async def test_a_device_told_in_mid_training_that_its_base_is_gone_loses_that_training_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, fake = Gate(closed_before=2), aggregator(encoding=TOPK)
    gate.put(monkeypatch)
    fake.hold_fresh = asyncio.Event()
    async with mortal(tmp_path, fake) as m:
        await fake.subscribers.get()
        fake.trigger(slot=1)
        await until(lambda: len(fake.pulls) == 2)
        await m.kill("aggregator")
        fake.hold_fresh.set()
        fake.refuse_push = UnknownVersion("version 1 is not retained; pull anew")
        await m.start("aggregator")
        gate.open.set()
        folder = tmp_path / "d1"
        await until(lambda: kept(folder)["tally"]["updates_refused"] == 1)
        assert residual(folder).any()
        fake.trigger()
        await fake.taken.get()
    assert [pull.for_training for pull in fake.pulls].count(True) == 2

"""A client that pushes in closed loop, as docs/protocol.md says, and keeps book of every answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeVar

import grpc
import torch
from support.book import Book, Parcel
from support.crash_fleet import CrashFleet
from support.supervised import Supervised

from hocket.core.capability import Capability
from hocket.core.device import Caller
from hocket.core.ids import UpdateId, Version
from hocket.core.payload import Payload
from hocket.core.update import Outcome, UpdateHeader
from hocket.errors import Overloaded, StorageFailed, Unavailable, UnknownDevice, UnknownVersion
from hocket.learn.codecs import Raw, TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import CHANNEL_OPTIONS, NO_PROXY
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.transfer import Pacer, Pushed

T = TypeVar("T")

ANSWER_S = 90.0  # for a call and all its repetitions: an outage is much shorter
TRANSFER_S = 20.0
CHUNK_S = 0.04  # the longest wait before a chunk
AGAIN_S = 0.4  # the longest wait between two tries
RECONNECT_MS = 100
PASSING = (Overloaded, Unavailable, StorageFailed)


class Unhurried:
    """Leaves the aggregator time to be killed between two chunks."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def take(self, _: int, /) -> None:
        """Wait a little."""
        await asyncio.sleep(CHUNK_S * self._chance.random())


class Witness:
    """One device of its own, called `name`. All its chance comes from `seed`."""

    def __init__(
        self,
        name: str,
        seed: int,
        fleet: CrashFleet,
        registry: RegistryClient,
        aggregator: AggregatorClient,
        book: Book,
    ) -> None:
        self.name = name
        self.book = book
        self.aggregator = aggregator
        self._registry = registry
        self._manifest = fleet.manifest
        self._chance = random.Random(f"{seed} {name}")
        self._pace = Unhurried(self._chance)
        self._caller: Caller | None = None
        self._number = 0

    @property
    def caller(self) -> Caller:
        """Who it is. Call `join` first."""
        assert self._caller is not None
        return self._caller

    async def join(self) -> Caller:
        """Take a lease; the only one that it should ever need."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                with suppress(*PASSING):
                    joined = await self._registry.join(Capability(num_examples=100), self.name)
                    self._caller = joined.caller
                    return joined.caller
                await self._wait()

    async def run(self) -> None:
        """Push, and offer again what was acknowledged, until cancelled."""
        while True:
            await self.push(large=self._chance.random() < 0.5)
            if self._chance.random() < 0.3:
                await self.repeat(self._chance.choice(list(self.book.promises)))
            await asyncio.sleep(0.3 * self._chance.random())

    async def beat(self, period_s: float = 1.0) -> None:
        """Keep the lease until cancelled. It must live through every restart of the registry."""
        while True:
            with suppress(*PASSING):
                await self._registry.heartbeat(self.caller)
            await asyncio.sleep(period_s)

    async def prepare(self, *, large: bool) -> Parcel:
        """Pull for training, and think of an update."""
        return await self._until_answered(lambda: self.prepare_once(large=large))

    async def prepare_once(self, *, large: bool) -> Parcel:
        """The same, once; raises what that came to."""
        pulled = await self.aggregator.pull(
            self.caller,
            limit_bytes=self._manifest.dense_bytes,
            for_training=True,
            deadline_s=TRANSFER_S,
        )
        assert pulled is not None
        return self.parcel(pulled.version, large=large)

    def parcel(self, base: Version, *, large: bool) -> Parcel:
        """A new update."""
        self._number += 1
        header = UpdateHeader(
            update_id=UpdateId(f"{self.name}-{self._number}"),
            device_id=self.caller.device_id,
            incarnation=self.caller.incarnation,
            base_version=base,
            num_examples=100,
            num_steps=10,
            learning_rate=0.05,
        )
        return Parcel(header, self._chance.getrandbits(32), large)

    def payload(self, parcel: Parcel) -> Payload:
        """The update's bytes: the same ones whenever they are asked for."""
        generator = torch.Generator().manual_seed(parcel.seed)
        delta = 1e-3 * torch.randn(self._manifest.size, generator=generator)
        codec = Raw() if parcel.large else TopK()
        return encode_payload(delta, self._manifest, codec, generator, pack=not parcel.large)

    async def push(self, *, large: bool) -> Outcome | None:
        """One update, seen through to its outcome; None where its base was forgotten."""
        parcel = await self.prepare(large=large)
        return await self.deliver(parcel)

    async def push_until(self, process: Supervised, *, large: bool) -> Parcel | None:
        """Push until the process dies; the update that then had no answer, if any."""
        parcel: Parcel | None = None
        while True:
            try:
                parcel = parcel or await self.prepare_once(large=large)
                self.book.note(parcel, (await self.attempt(parcel)).outcome)
                parcel = None
            except PASSING:
                if not process.alive:
                    return parcel
                await self._wait()

    async def deliver(self, parcel: Parcel) -> Outcome | None:
        """Push an update until it is answered, and write the answer down."""
        payload = self.payload(parcel)
        tries = 0

        async def attempt() -> Pushed:
            nonlocal tries
            tries += 1
            return await self.attempt(parcel, payload)

        try:
            pushed = await self._until_answered(attempt)
        except UnknownVersion:
            self.book.counts["bases forgotten"] += 1
            return None
        if tries > 1:
            self.book.counts["pushed more than once"] += 1
        if 0 < pushed.num_bytes < payload.header.wire_bytes:
            self.book.counts["resumed in mid-stream"] += 1
        self.book.note(parcel, pushed.outcome)
        return pushed.outcome

    async def repeat(self, update_id: UpdateId) -> None:
        """Offer an acknowledged update again: the first answer must come again, and at once."""
        promise = self.book.promises[update_id]
        payload = self.payload(promise.parcel)
        pushed = await self._until_answered(lambda: self.attempt(promise.parcel, payload))
        self.book.counts["duplicates offered"] += 1
        assert (pushed.outcome, pushed.num_bytes) == (promise.outcome, 0), (
            f"{update_id} was acknowledged with {promise.outcome}; offered again, "
            f"{pushed.num_bytes} bytes were taken and the answer was {pushed.outcome}"
        )

    async def recorded(self) -> set[str]:
        """The updates behind the newest version, as the aggregator tells."""

        async def attempt() -> set[str]:
            return {update.header.update_id async for update in self.aggregator.get_lineage()}

        return await self._until_answered(attempt)

    async def attempt(
        self, parcel: Parcel, payload: Payload | None = None, pace: Pacer | None = None
    ) -> Pushed:
        """Push once; raises what that came to."""
        mine = parcel.header.device_id == self.caller.device_id
        incarnation = self.caller.incarnation if mine else parcel.header.incarnation
        header = replace(parcel.header, incarnation=incarnation)
        return await self.aggregator.push(
            header,
            payload or self.payload(parcel),
            pace=pace or self._pace,
            deadline_s=TRANSFER_S,
        )

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_S
        while True:
            try:
                return await call()
            except (*PASSING, UnknownDevice) as error:
                if loop.time() > until:
                    raise AssertionError(f"no answer within {ANSWER_S:g} s") from error
                if isinstance(error, Overloaded):
                    self.book.counts[f"told {error.reason}"] += 1
                    await asyncio.sleep(error.retry_after_s)
            await self._wait()

    async def _wait(self) -> None:
        await asyncio.sleep(AGAIN_S * self._chance.random())


def watchful_channel(address: str) -> grpc.aio.Channel:
    """A channel that finds a server that is back at once: each life would wait seconds for it."""
    options = dict(CHANNEL_OPTIONS + NO_PROXY) | {"grpc.max_reconnect_backoff_ms": RECONNECT_MS}
    return grpc.aio.insecure_channel(address, options=tuple(options.items()))


@asynccontextmanager
async def witness(
    fleet: CrashFleet, book: Book, name: str = "witness", seed: int = 0
) -> AsyncIterator[Witness]:
    """A witness that has joined."""
    async with (
        watchful_channel(fleet.registry_address) as to_registry,
        watchful_channel(fleet.aggregator_address) as to_aggregator,
    ):
        made = Witness(
            name,
            seed,
            fleet,
            RegistryClient(to_registry, fleet.registry_address),
            AggregatorClient(to_aggregator, fleet.aggregator_address),
            book,
        )
        await made.join()
        beating = asyncio.create_task(made.beat())
        try:
            yield made
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

"""Snapshots of a tiny task, the blobs they lie in, and what a crash makes of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hocket_aggregator.snapshots.blobs import Blobs
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots
from support.strategies import bits, push, server
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.strategy import Global, Memory
from hocket.learn.digest import digest_of
from hocket.learn.slot_policy import SlotPolicy
from hocket.learn.strategies import FedASMU

MANIFEST = Manifest((TensorSpec("weight", (2, 3)), TensorSpec("bias", (2,))))
SIZE = 8
RULE = FedASMU()


def model(version: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(version))


def memory_after(rule: Any, updates: int) -> Memory[Tensor]:
    aggregator = server(rule, *model(1).tolist())
    for number in range(updates):
        device = "abc"[number % 3]
        aggregator.take(push(model(100 + number), base=aggregator.now.version, device=device))
    kept: Memory[Tensor] = rule.keep(aggregator.memory)
    return kept


def snapshot(version: int = 7, segment: int = 3, rule: Any = RULE, **fields: Any) -> Snapshot:
    newest = Global(model(version), Version(version))
    made = Snapshot(
        newest=newest,
        digest=digest_of(newest.model),
        segment=segment,
        pieces_from=segment,
        bases={Version(version - 1): model(version - 1)} if version > 1 else {},
        holds={DeviceId("a"): Version(version)},
        memory=memory_after(rule, version - 1),
        slots=SlotPolicy(5).keep(),
        pending_ids=(UpdateId("a-1"), UpdateId("ü 2")),
        contributors=(DeviceId("a"), DeviceId("b")),
        updates_accepted=version - 1,
        updates_rejected=2,
        triggers_sent=9,
        finished="",
        journalled=True,
        created_unix_s=1_700_000_000.123456,
    )
    return replace(made, **fields)


def snapshots(blobs: Blobs, rule: Any = RULE, task: str = "tiny") -> Snapshots:
    return Snapshots(blobs, task, MANIFEST, rule)


def as_bits(tensors: Any) -> dict[Any, tuple[bytes, torch.dtype, torch.Size]]:
    return {name: (bits(t), t.dtype, t.shape) for name, t in tensors.items()}


def assert_same(found: Snapshot | None, saved: Snapshot) -> None:
    assert found is not None
    assert bits(found.newest.model) == bits(saved.newest.model)
    assert found.newest.version == saved.newest.version
    assert as_bits(found.bases) == as_bits(saved.bases)
    for kept, before in ((found.memory, saved.memory), (found.slots, saved.slots)):
        assert kept.facts == before.facts
        assert as_bits(kept.tensors) == as_bits(before.tensors)
    plain = {"newest": found.newest, "bases": {}, "memory": Memory(), "slots": Memory()}
    assert replace(found, **plain) == replace(saved, **plain)  # type: ignore[arg-type]


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Crashing:
    """Blobs that end with the process at the `after`-th change; they count what they do."""

    inner: Blobs
    after: int = 10**9
    puts: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return self.inner.where

    def change(self) -> None:
        self.after -= 1
        if self.after < 0:
            raise Crash

    async def put(self, name: str, *pieces: Buffer) -> None:
        self.change()
        await self.inner.put(name, *pieces)
        self.puts.append(name)

    async def get(self, name: str) -> Buffer:
        return await self.inner.get(name)

    async def names(self, prefix: str = "") -> list[str]:
        return await self.inner.names(prefix)

    async def delete(self, names: Collection[str]) -> None:
        for name in names:
            self.change()
            await self.inner.delete([name])


@dataclass
class Passing(Crashing):
    """Blobs of which `gone` are let go when one is asked for that begins with `on`."""

    gone: Collection[str] = ()
    on: str = ""

    async def get(self, name: str) -> Buffer:
        if name.startswith(self.on):
            gone, self.gone = self.gone, ()
            await self.delete(gone)
        return await super().get(name)


async def damage(blobs: Blobs, name: str) -> None:
    data = bytearray(memoryview(await blobs.get(name)))
    data[-3] ^= 1
    await blobs.put(name, data)


async def filled(blobs: Blobs, *versions: int, pieces_before: int = 0) -> Snapshots:
    """One snapshot for each version; its segment is ten times that."""
    writer = snapshots(blobs)
    for version in versions:
        segment = 10 * version
        pieces_from = segment - pieces_before
        await writer.save(snapshot(version, segment, pieces_from=pieces_from))
    return writer


async def left(blobs: Blobs) -> list[int]:
    return [each.version for each in await snapshots(blobs).stored()]

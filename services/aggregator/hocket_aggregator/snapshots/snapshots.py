"""Snapshots: all that a task has come to at one moment, whole or not there.

A snapshot is a manifest and the blobs that it names. The manifest is written last, and blobs that
no manifest names are rubbish of a crash, so the snapshot before stays usable at every moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from torch import Tensor

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.manifest import Manifest
from hocket.core.strategy import Global, Memory, Strategy
from hocket.errors import CorruptState, NotFound
from hocket.hosting.failpoint import Failpoint, reach
from hocket_aggregator.snapshots.blobs import PARTIAL, Blobs
from hocket_aggregator.snapshots.record import (
    FORMAT,
    SNAPSHOTS,
    Origin,
    SnapshotRecord,
    decode_record,
    defaults_of,
)
from hocket_aggregator.snapshots.tensor_blobs import TensorBlobs

log = structlog.get_logger()

DAMAGED = ".damaged"
NEEDED = 2
"""Snapshots that a task can go on from whatever the retention rule says: the newest, and the one
to fall back on should that be damaged."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a task's rules, and where the journal goes on from there."""

    newest: Global[Tensor]
    digest: str  # of the newest model's values
    segment: int  # first journal segment that it does not cover
    pieces_from: int  # first segment with pieces of bodies that were not settled then
    bases: Mapping[Version, Tensor]  # retained besides the newest
    holds: Mapping[DeviceId, Version]
    memory: Memory[Tensor]  # the strategy's
    slots: Memory[Tensor]  # the slot policy's
    pending_ids: tuple[UpdateId, ...]
    contributors: tuple[DeviceId, ...]
    updates_accepted: int
    updates_rejected: int
    triggers_sent: int
    finished: str  # the reason; empty if the task goes on
    journalled: bool  # there is a journal from `segment` on
    created_unix_s: float


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """Where a snapshot stands."""

    version: Version
    segment: int
    needs_from: int  # first journal segment that is read when a task goes on from here
    journalled: bool


class Snapshots:
    """The snapshots of one task. One process writes them; others may read meanwhile."""

    def __init__(
        self, blobs: Blobs, task: str, manifest: Manifest, strategy: Strategy[Tensor, Any]
    ) -> None:
        self._blobs = blobs
        self._tensors = TensorBlobs(blobs, task, manifest)
        self._origin = Origin.of(task, manifest, strategy)
        self._defaults = defaults_of(strategy)
        self._records: dict[str, SnapshotRecord] | None = None  # by name, sorted
        self._writing = asyncio.Lock()

    async def save(self, snapshot: Snapshot) -> None:
        """Store it: what is not stored yet of its tensors, then its manifest.

        Raises StorageFull or StorageFailed; the snapshots before it are as they were.
        """
        async with self._writing:
            records = await self._known()
            record = await self._store_tensors(snapshot)
            reach(Failpoint.BEFORE_MANIFEST)
            await self._blobs.put(record.name, await asyncio.to_thread(record.encode))
            self._records = dict(sorted({**records, record.name: record}.items()))

    async def newest(self, *, set_aside: bool = True) -> Snapshot | None:
        """The newest sound snapshot; None where none was ever stored.

        Damaged ones are logged and, unless told not to, set aside as `.damaged`. Raises
        CorruptState when none of several is sound, and StartupError when they belong to another
        task, model or rule.
        """
        async with self._writing:
            while names := await self._names():
                snapshot = await self._newest_of(names, set_aside=set_aside)
                if snapshot is not None:
                    return snapshot
            return None

    async def at_or_before(self, version: Version) -> Snapshot:
        """The newest sound snapshot that is not newer than `version`. Changes nothing.

        Raises NotFound, which names what there is, CorruptState or StartupError.
        """
        known = [name for name in await self._names() if _version_of(name) <= version]
        problem: CorruptState | NotFound | None = None
        for name in reversed(known):
            try:
                return await self._load(await self._read(name))
            except (CorruptState, NotFound) as error:
                if not await self._is_there(name):
                    continue
                log.warning("snapshot_damaged", snapshot=name, cause=error.message)
                problem = error
        if problem is not None:
            raise problem
        versions = sorted({_version_of(name) for name in await self._names()})
        there = ", ".join(map(str, versions)) or "none"
        raise NotFound(
            f"no snapshot in {self._blobs.where} is of version {version} or before; "
            f"there are snapshots of versions: {there}"
        )

    async def stored(self) -> list[Stored]:
        """Every snapshot whose manifest is sound, oldest first."""
        records = await self._known()
        return [_stored(record) for record in records.values()]

    async def prune(self, keep: int, replay_from: Iterable[int] = ()) -> int:
        """Let go of old snapshots; the first journal segment that must stay.

        The newest `keep` stay, and besides them the oldest that needs the journal from each of the
        segments `replay_from` on, at which replay shall be able to start. Blobs that no snapshot
        names are deleted, also those that a crash has left.

        A segment must stay while one of those for replay needs it, or one of the two newest: the
        task goes on from the second when the first is damaged.
        """
        async with self._writing:
            records = await self._known()
            stay = list(records)[-max(1, keep) :]
            needed = stay[-NEEDED:]
            for start in replay_from:
                from_there = [
                    n for n, r in records.items() if r.needs_from == start and r.journalled
                ]
                needed += from_there[:1]
            stay += needed
            await self._delete([name for name in records if name not in stay])
            await self._sweep()
            return min((records[name].needs_from for name in needed), default=0)

    async def _newest_of(self, names: Sequence[str], *, set_aside: bool) -> Snapshot | None:
        """As `newest`; None when all of them have been let go since they were listed."""
        damaged: dict[str, CorruptState | NotFound] = {}
        for name in reversed(names):
            try:
                snapshot = await self._load(await self._read(name))
            except (CorruptState, NotFound) as error:
                if not await self._is_there(name):
                    continue
                log.warning("snapshot_damaged", snapshot=name, cause=error.message)
                damaged[name] = error
                continue
            for each in damaged if set_aside else ():
                await self._set_aside(each)
            return snapshot
        if damaged:
            raise CorruptState(
                f"no snapshot in {self._blobs.where} is sound: "
                + "; ".join(error.message for error in damaged.values())
                + ". Restore the folder from a copy, or choose another to begin anew"
            )
        return None

    async def _delete(self, names: list[str]) -> None:
        await self._blobs.delete(names)  # before the blobs that they name
        records = await self._known()
        for name in names:
            del records[name]

    async def _sweep(self) -> None:
        records = (await self._known()).values()
        named = set().union(*(record.blobs() for record in records))
        await self._tensors.keep_only(named)
        manifests = await self._blobs.names(SNAPSHOTS)
        await self._blobs.delete([name for name in manifests if name.endswith(PARTIAL)])

    async def _store_tensors(self, snapshot: Snapshot) -> SnapshotRecord:
        newest = snapshot.newest
        digest = await self._tensors.put_model(newest.version, newest.model)
        if digest != snapshot.digest:
            raise CorruptState(
                f"version {newest.version} was made with digest {snapshot.digest} and has {digest} "
                "now: its values were changed in memory; start again, the journal has them"
            )
        bases = {int(v): await self._tensors.put_model(v, m) for v, m in snapshot.bases.items()}
        memory, slots = snapshot.memory, snapshot.slots
        tensors = {f"memory/{name}": tensor for name, tensor in memory.tensors.items()}
        tensors |= {f"slots/{name}": tensor for name, tensor in slots.tensors.items()}
        return SnapshotRecord(
            format=FORMAT,
            origin=self._origin,
            version=newest.version,
            digest=digest,
            segment=snapshot.segment,
            pieces_from=snapshot.pieces_from,
            bases=bases,
            holds={str(d): int(v) for d, v in snapshot.holds.items()},
            memory_facts=dict(memory.facts),
            slots_facts=dict(slots.facts),
            tensors=await self._tensors.put(tensors),
            pending_ids=list(snapshot.pending_ids),
            contributors=list(snapshot.contributors),
            updates_accepted=snapshot.updates_accepted,
            updates_rejected=snapshot.updates_rejected,
            triggers_sent=snapshot.triggers_sent,
            finished=snapshot.finished,
            journalled=snapshot.journalled,
            created_unix_s=snapshot.created_unix_s,
        )

    async def _load(self, record: SnapshotRecord) -> Snapshot:
        get_model = self._tensors.get_model
        models = {Version(v): await get_model(v, d) for v, d in record.digests.items()}
        tensors = await self._tensors.get(record.tensors)
        newest = Global(models.pop(Version(record.version)), Version(record.version))
        return Snapshot(
            newest=newest,
            digest=record.digest,
            segment=record.segment,
            pieces_from=record.pieces_from,
            bases=models,
            holds={DeviceId(d): Version(v) for d, v in record.holds.items()},
            memory=Memory(record.memory_facts, _within("memory/", tensors)),
            slots=Memory(record.slots_facts, _within("slots/", tensors)),
            pending_ids=tuple(map(UpdateId, record.pending_ids)),
            contributors=tuple(map(DeviceId, record.contributors)),
            updates_accepted=record.updates_accepted,
            updates_rejected=record.updates_rejected,
            triggers_sent=record.triggers_sent,
            finished=record.finished,
            journalled=record.journalled,
            created_unix_s=record.created_unix_s,
        )

    async def _known(self) -> dict[str, SnapshotRecord]:
        """The manifests, read once; only this object changes them."""
        if self._records is None:
            records = {}
            for name in await self._names():
                try:
                    records[name] = await self._read(name)
                except (CorruptState, NotFound) as error:
                    log.warning("snapshot_damaged", snapshot=name, cause=error.message)
            self._records = records
        return self._records

    async def _read(self, name: str) -> SnapshotRecord:
        what = f"{self._blobs.where}/{name}"
        record = await asyncio.to_thread(decode_record, await self._blobs.get(name), what)
        if record.name != name:
            raise CorruptState(f"{what} holds the manifest of {record.name}")
        self._origin.check(record.origin, what, self._defaults)
        return record

    async def _names(self) -> list[str]:
        return [name for name in await self._blobs.names(SNAPSHOTS) if _is_manifest(name)]

    async def _is_there(self, name: str) -> bool:
        """Whether its writer has not let go of it since it was listed."""
        return name in await self._names()

    async def _set_aside(self, name: str) -> None:
        await self._blobs.put(name.removesuffix(".json") + DAMAGED, await self._blobs.get(name))
        await self._blobs.delete([name])
        if self._records is not None:
            self._records.pop(name, None)


def _stored(record: SnapshotRecord) -> Stored:
    return Stored(Version(record.version), record.segment, record.needs_from, record.journalled)


def _is_manifest(name: str) -> bool:
    version, _, segment = name.removeprefix(f"{SNAPSHOTS}/").removesuffix(".json").partition("-")
    return name.endswith(".json") and (version + segment).isdecimal() and bool(segment)


def _version_of(name: str) -> int:
    return int(name.removeprefix(f"{SNAPSHOTS}/").partition("-")[0])


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

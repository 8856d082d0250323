"""The aggregator put together around one task and one data folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from hocket.core.clock import Clock
from hocket.core.events import DeviceSeen, Evaluated
from hocket.core.ids import FIRST_VERSION, DeviceId, UpdateId, Version
from hocket.core.records import DeviceStatus, Status, VersionRecord
from hocket.core.versions import IN_MEMORY
from hocket.errors import HocketError, StartupError, StorageFull
from hocket.task.setup import Setup
from hocket_aggregator.evaluation import Evaluator
from hocket_aggregator.job import Core
from hocket_aggregator.journal import AnyJournal, Journal, Unjournalled
from hocket_aggregator.journal.reader import segments
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.records import Records
from hocket_aggregator.metadata.store import Identity, Store
from hocket_aggregator.owner import Owner
from hocket_aggregator.pushes.intake import Intake
from hocket_aggregator.pushes.staging import Staging
from hocket_aggregator.recovery.recovery import Recovered, recover
from hocket_aggregator.roster import Registry, Roster
from hocket_aggregator.service import AggregatorService
from hocket_aggregator.shelf import FileShelf
from hocket_aggregator.size import is_small
from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.keeper import Keeper, Retention
from hocket_aggregator.snapshots.place import note_place
from hocket_aggregator.snapshots.snapshots import Snapshots
from hocket_aggregator.subscriptions import Subscriptions
from hocket_aggregator.tally import Tally
from hocket_aggregator.turn_log import log_turn

JOURNAL = "journal"
SHELF = "bases"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service puts up with, and what it keeps."""

    staged_bytes: int = 256 * 1024 * 1024
    staged_keep_s: float = 300.0
    bases_in_memory: int = IN_MEMORY
    retention: Retention = field(default_factory=Retention)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an aggregator is given besides its task. `chance` is uniform in [0, 1)."""

    data_dir: Path
    clock: Clock
    chance: Callable[[], float]
    registry: Registry | None = None
    limits: Limits = Limits()
    durable: bool = True  # false: acknowledge at once, and lose what no snapshot covers
    database: str = ""  # URL; empty: SQLite in the folder
    blobs: str = ""  # URL; empty: the folder


class Aggregator:
    """Serve `service` while all of `background()` runs."""

    def __init__(
        self,
        setup: Setup,
        around: Surroundings,
        store: Store,
        snapshots: Snapshots,
        recovered: Recovered,
        earlier: Earlier,
    ) -> None:
        clock, limits, terms = around.clock, around.limits, setup.terms
        dense_bytes = terms.down_bytes
        self.core: Core = recovered.core
        self.core.fleet.remember(earlier.devices)
        folder = around.data_dir / JOURNAL
        self.journal: AnyJournal
        if around.durable:
            self.journal = Journal.open(folder, self._refuse)
        else:
            self.journal = Unjournalled(max(segments(folder), default=0) + 1)
        self.staging = Staging(limits.staged_bytes, limits.staged_keep_s, clock.now, self.journal)
        for body in recovered.bodies:
            self.staging.restore(body.header, body.assembler, body.segment)
        self.subscriptions = Subscriptions()
        self.records = Records(store, dense_bytes, clock)
        self.tally = Tally(
            terms.name,
            setup.strategy.kind,
            dense_bytes,
            clock.now,
            earlier=earlier.status,
            pushed=earlier.pushed,
        )
        self.keeper = Keeper(
            snapshots,
            self.journal,
            folder,
            self.staging,
            clock,
            limits.retention,
            self.records.flush,
        )
        self.evaluator = Evaluator(setup.load_examine, self._report)
        sinks = (self.records, self.evaluator, self.keeper, self.subscriptions)
        self.owner = Owner(
            self.core,
            clock,
            (*(sink.on_turn for sink in sinks), log_turn),
            self.journal,
            counts=(self.tally.on_turn,),
            in_threads=not is_small(terms.travelling),
        )
        self.roster: Roster | None = None
        if around.registry is not None:
            self.roster = Roster(around.registry, self._tell, clock, around.chance)
        model = setup.sliceable()
        self.service = AggregatorService(
            terms=terms,
            model=model,
            owner=self.owner,
            intake=Intake(self.owner, terms, model, self.staging, self.records, self.roster),
            subscriptions=self.subscriptions,
            records=self.records,
            tally=self.tally,
            roster=self.roster,
        )

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What must run beside the server."""
        running = [
            self.journal.run(),
            self.owner.run(),
            self.records.run(self.status),
            self.evaluator.run(),
            self.keeper.run(self.owner),
        ]
        return running if self.roster is None else [*running, self.roster.run()]

    async def begin(self, store: Store, recovered: Recovered, clock: Clock) -> None:
        """Before anything runs: have the state on disk, and the version to begin with recorded."""
        if recovered.is_covered(journalled=not isinstance(self.journal, Unjournalled)):
            self.keeper.covers(self.core)
        await self.keeper.save(self.core, self.owner.newest_digest)
        await self._begin_at(store, clock)

    async def status(self) -> Status:
        """Where the task stands."""
        build = await self.owner.read(
            lambda core: self.tally.capture(core, self.owner.newest_digest)
        )
        return await asyncio.to_thread(build)

    def end_streams(self) -> None:
        """Let the endless streams come to their end."""
        self.subscriptions.close_all()
        self.records.end_watches()

    async def close(self) -> None:
        """Save what is left, and the newest state. Call it when nothing runs any more."""
        try:
            if self.owner.is_sound:
                await self.records.close(self._status())
                await self.keeper.save(self.core, self.owner.newest_digest)
            else:  # what the rules have come to is not to be stored
                await self.records.close()
        except HocketError as error:  # the journal has it all
            log.warning("not_saved", reason=error.reason, message=error.message)
        finally:
            await self.journal.close()

    async def _begin_at(self, store: Store, clock: Clock) -> None:
        """Record the version that the aggregator begins with, and have it evaluated."""
        first = self.core.newest
        known = await store.read(queries.version_record, first.version)
        parent = Version(first.version - FIRST_VERSION)
        self.records.begin_at(
            known or VersionRecord(first.version, parent, self.owner.newest_digest, clock.unix()),
            recorded=known is not None,
        )
        evaluated = await store.newest_evaluation()
        if evaluated is not None:
            self.core.handle(Evaluated(*evaluated), clock.now())
        if evaluated is None or evaluated[0] != first.version:
            self.evaluator.offer(first.version, first.model)
        log.info("version_resumed" if known else "version_begun", version=first.version)

    def _refuse(self, update_id: UpdateId, problem: StorageFull) -> None:
        self.staging.refuse(update_id, problem)

    def _status(self) -> Status:
        return self.tally.status(self.core, self.owner.newest_digest)

    async def _report(self, event: Evaluated) -> None:
        await self.owner.handle(event)

    async def _tell(self, event: DeviceSeen) -> None:
        await self.owner.handle(event)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the database knows of earlier lives."""

    status: Status | None
    devices: Mapping[DeviceId, DeviceStatus]

    @property
    def pushed(self) -> tuple[int, int]:
        """Bytes of accepted updates: as they travelled, and dense."""
        statuses = self.devices.values()
        return sum(s.wire_bytes for s in statuses), sum(s.dense_bytes for s in statuses)


@asynccontextmanager
async def open_aggregator(setup: Setup, around: Surroundings) -> AsyncIterator[Aggregator]:
    """An aggregator that goes on where its folder says that an earlier one ended.

    Raises StartupError when the folder cannot be used or holds another task's versions, and
    CorruptState when it is damaged.
    """
    _check_room(around.limits, setup.terms.max_update_bytes)
    name, manifest = setup.terms.name, setup.terms.manifest
    data_dir = around.data_dir
    store = await Store.open(data_dir, Identity(name, manifest.digest), around.database)
    try:
        blobs = open_blobs(around.blobs or data_dir)
        snapshots = Snapshots(blobs, name, manifest, setup.strategy)
        recovered = await recover(
            setup,
            store,
            snapshots,
            data_dir / JOURNAL,
            FileShelf(data_dir / SHELF),
            around.limits.bases_in_memory,
        )
        note_place(data_dir, around.blobs)
        status = await store.status()
        await store.save(recovered.records, status)
        earlier = Earlier(status, await store.tallies())
        aggregator = Aggregator(setup, around, store, snapshots, recovered, earlier)
        try:
            await aggregator.begin(store, recovered, around.clock)
            yield aggregator
        finally:
            await aggregator.close()
    finally:
        await store.close()


def _check_room(limits: Limits, max_update_bytes: int) -> None:
    if limits.staged_bytes < max_update_bytes:
        raise StartupError(
            f"AGGREGATOR_STAGED_BYTES_LIMIT is {limits.staged_bytes}, but one push of this model "
            f"may take {max_update_bytes}; allow at least as much"
        )

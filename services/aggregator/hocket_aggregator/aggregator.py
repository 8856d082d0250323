"""The aggregator put together around one task and one data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.coordinator import Coordinator
from hocket.core.events import DeviceSeen, Evaluated
from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.records import Status, VersionRecord
from hocket.core.strategy import Global
from hocket.errors import StartupError
from hocket_aggregator import queries
from hocket_aggregator.evaluation import Evaluator
from hocket_aggregator.intake import Intake
from hocket_aggregator.keeper import Keeper
from hocket_aggregator.models import Sliceable
from hocket_aggregator.owner import Core, Owner
from hocket_aggregator.records import Records
from hocket_aggregator.roster import Registry, Roster
from hocket_aggregator.service import AggregatorService
from hocket_aggregator.setup import Setup
from hocket_aggregator.snapshots import Snapshots
from hocket_aggregator.staging import Staging
from hocket_aggregator.store import Identity, Kept, Store
from hocket_aggregator.subscriptions import Subscriptions
from hocket_aggregator.tally import Tally
from hocket_aggregator.turn_log import log_turn

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service puts up with, and what it keeps."""

    staged_bytes: int = 256 * 1024 * 1024
    staged_keep_s: float = 300.0
    snapshot_every_s: float = 30.0
    snapshots_kept: int = 5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an aggregator is given besides its task. `chance` is uniform in [0, 1)."""

    data_dir: Path
    clock: Clock
    chance: Callable[[], float]
    registry: Registry | None = None
    limits: Limits = Limits()


class Aggregator:
    """Serve `service` while all of `background()` runs."""

    def __init__(
        self, setup: Setup, around: Surroundings, store: Store, first: Global[Tensor], kept: Kept
    ) -> None:
        clock, limits, terms = around.clock, around.limits, setup.terms
        dense_bytes = terms.manifest.dense_bytes
        self.core: Core = Coordinator.begin(setup.rules, setup.strategy, first, setup.slots())
        self.core.state.ledger = kept.ledger
        self.core.state.updates_accepted = kept.updates_accepted
        self.core.state.updates_rejected = kept.status.updates_rejected if kept.status else 0
        self.subscriptions = Subscriptions()
        self.records = Records(store, dense_bytes)
        self.tally = Tally(
            terms.name,
            setup.strategy.kind,
            dense_bytes,
            clock.now,
            earlier=kept.status,
            pushed=(kept.wire_bytes, kept.dense_bytes),
        )
        snapshots = Snapshots(around.data_dir, terms.name, terms.manifest, limits.snapshots_kept)
        self.keeper = Keeper(snapshots, self.records, clock, limits.snapshot_every_s)
        self.evaluator = Evaluator(setup.load_examine, self._report)
        sinks = (self.tally, self.records, self.evaluator, self.keeper, self.subscriptions)
        self.owner = Owner(self.core, clock, (*(sink.on_turn for sink in sinks), log_turn))
        self.roster: Roster | None = None
        if around.registry is not None:
            self.roster = Roster(around.registry, self._tell, clock, around.chance)
        model = Sliceable.of(setup.graph)
        self.staging = Staging(limits.staged_bytes, limits.staged_keep_s, clock.now)
        self.service = AggregatorService(
            terms=terms,
            model=model,
            owner=self.owner,
            intake=Intake(self.owner, terms, model, self.staging, self.roster),
            subscriptions=self.subscriptions,
            records=self.records,
            tally=self.tally,
            roster=self.roster,
        )

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What must run beside the server."""
        running = [
            self.owner.run(),
            self.records.run(self.status),
            self.evaluator.run(),
            self.keeper.run(self.owner),
        ]
        return running if self.roster is None else [*running, self.roster.run()]

    async def status(self) -> Status:
        """Where the task stands."""
        return await self.owner.read(lambda _: self._status())

    def end_streams(self) -> None:
        """Let the endless streams come to their end."""
        self.subscriptions.close_all()
        self.records.end_watches()

    async def close(self) -> None:
        """Save what is left, and the newest version. Call it when nothing runs any more."""
        await self.records.close(self._status())
        await self.keeper.save(self.core.newest)

    def _status(self) -> Status:
        return self.tally.status(self.core, self.owner.newest_digest)

    async def _report(self, event: Evaluated) -> None:
        await self.owner.handle(event)

    async def _tell(self, event: DeviceSeen) -> None:
        await self.owner.handle(event)


@asynccontextmanager
async def open_aggregator(setup: Setup, around: Surroundings) -> AsyncIterator[Aggregator]:
    """An aggregator that goes on from the newest snapshot in its folder.

    Raises StartupError when the folder cannot be used or holds another task's versions.
    """
    _check_room(around.limits, setup.terms.max_update_bytes)
    name, manifest = setup.terms.name, setup.terms.manifest
    store = await Store.open(around.data_dir, Identity(name, manifest.digest))
    try:
        kept_snapshots = around.limits.snapshots_kept
        stored = Snapshots(around.data_dir, name, manifest, kept_snapshots).newest()
        kept = await store.resume_at(stored.version if stored else Version(0))
        first = stored or Global(setup.first)
        aggregator = Aggregator(setup, around, store, first, kept)
        await _begin(aggregator, store, kept, around.clock)
        try:
            yield aggregator
        finally:
            await aggregator.close()
    finally:
        await store.close()


async def _begin(aggregator: Aggregator, store: Store, kept: Kept, clock: Clock) -> None:
    """Record the version that the aggregator begins with, and have it evaluated."""
    first = aggregator.core.newest
    if kept.versions_removed or kept.updates_removed:
        log.warning(
            "records_removed",
            after_version=first.version,
            versions=kept.versions_removed,
            updates=kept.updates_removed,
        )
    known = await store.read(queries.version_record, first.version)
    aggregator.records.begin_at(
        known
        or VersionRecord(
            first.version,
            Version(first.version - FIRST_VERSION),
            aggregator.owner.newest_digest,
            clock.unix(),
        ),
        recorded=known is not None,
    )
    if kept.evaluated is not None:
        aggregator.core.handle(Evaluated(*kept.evaluated), clock.now())
    if kept.evaluated is None or kept.evaluated[0] != first.version:
        aggregator.evaluator.offer(first.version, first.model)
    log.info("version_resumed" if known else "version_begun", version=first.version)


def _check_room(limits: Limits, max_update_bytes: int) -> None:
    if limits.staged_bytes < max_update_bytes:
        raise StartupError(
            f"AGGREGATOR_STAGED_BYTES_LIMIT is {limits.staged_bytes}, but one push of this model "
            f"may take {max_update_bytes}; allow at least as much"
        )

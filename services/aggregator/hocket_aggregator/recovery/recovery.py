"""What an aggregator finds in its folder when it starts, put together again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.ledger import Ledger
from hocket.core.records import UpdateRecord, VersionRecord
from hocket.core.strategy import Global
from hocket.core.update import Applied, Dropped
from hocket.core.versions import IN_MEMORY, Shelf
from hocket.errors import CorruptState
from hocket.learn.digest import digest_of
from hocket.task.setup import Setup
from hocket_aggregator.journal.entries import Closed, Settled
from hocket_aggregator.journal.reader import cut_torn_tail, read_entries, segments
from hocket_aggregator.metadata.store import Batch, Store
from hocket_aggregator.recovery.bodies import OpenBody
from hocket_aggregator.recovery.history import History, Lived, core_from, snapshot_of
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots

log = structlog.get_logger()


@dataclass(slots=True)
class Recovered:
    """The state, and what goes with it."""

    core: Coordinator[Tensor, Any]
    snapshot: Snapshot | None = None  # that it was rebuilt from; None: the task begins
    bodies: list[OpenBody] = field(default_factory=list)
    records: Batch = field(default_factory=Batch)  # of what came after the snapshot
    updates: int = 0  # lived through again

    def is_covered(self, *, journalled: bool) -> bool:
        """Whether the snapshot holds all, and says the truth of whether a journal follows it."""
        if self.snapshot is None or self.updates:
            return False
        if self.core.newest.version != self.snapshot.newest.version:  # a round was closed
            return False
        return self.snapshot.journalled == journalled


async def recover(
    setup: Setup,
    store: Store,
    snapshots: Snapshots,
    journal: Path,
    shelf: Shelf[Tensor],
    bases_in_memory: int = IN_MEMORY,
) -> Recovered:
    """The newest sound snapshot, and every update that the journal holds since.

    Raises CorruptState when records tell of versions that neither has.
    """
    cut_bytes = await asyncio.to_thread(cut_torn_tail, journal)
    if cut_bytes:
        log.warning("journal_cut", bytes=cut_bytes, reason="its last record was not whole")
    snapshot = await snapshots.newest()
    if snapshot is None:
        await _must_be_new(store, journal)
        return Recovered(core_from(setup, _beginning(setup), Ledger(), shelf, bases_in_memory))
    if not snapshot.journalled:
        await _go_back(store, snapshot)  # before the answers that are gone are read
    dense_bytes = setup.terms.down_bytes
    ledger = await store.ledger(min(snapshot.bases, default=snapshot.newest.version))
    lost = Batch()
    if await store.newest_version() < snapshot.newest.version:  # a database that was lost
        lost = await asyncio.to_thread(_index, journal, dense_bytes)
        for told in lost.updates:
            header = told.header
            ledger.note(header.update_id, header.device_id, header.base_version, told.outcome)
    history = History(
        setup,
        snapshot,
        journal,
        ledger=ledger,
        shelf=shelf,
        bases_in_memory=bases_in_memory,
    )
    recovered = Recovered(history.core, snapshot, records=lost)
    await asyncio.to_thread(_live, history, recovered, dense_bytes)
    recovered.bodies = list(history.bodies)
    log.info(
        "state_recovered",
        snapshot=snapshot.newest.version,
        version=history.core.newest.version,
        updates=recovered.updates,
        bodies=len(recovered.bodies),
    )
    await _agree(store, history.core.newest.version, journal)
    return recovered


def _beginning(setup: Setup) -> Snapshot:
    """Where a task begins."""
    first = Global(setup.first)
    core = Coordinator.begin(setup.rules, setup.strategy, first, setup.slots())
    digest = digest_of(first.model)
    return snapshot_of(core, digest, 0.0, segment=1, pieces_from=1, journalled=True)


def _live(history: History, recovered: Recovered, dense_bytes: int) -> None:
    for lived in history.live():
        recovered.updates += isinstance(lived.entry, Settled)
        _record(lived, recovered.records, dense_bytes)


def _index(journal: Path, dense_bytes: int) -> Batch:
    """Records of all that the journal tells, as far back as it reaches."""
    records, pending = Batch(), list[str]()
    for found in read_entries(journal, min(segments(journal), default=1)):
        match found.entry:
            case Settled(header, outcome) as entry:
                if not isinstance(outcome, Dropped):
                    pending.append(header.update_id)
                made = outcome.version if isinstance(outcome, Applied) else None
            case Closed(version) as entry:
                made = version
            case _:
                continue
        if made is None:
            lived = Lived(entry)
        else:
            lived = Lived(entry, made, tuple(pending))
            pending.clear()
        _record(lived, records, dense_bytes)
    return records


def _record(lived: Lived, records: Batch, dense_bytes: int) -> None:
    entry = lived.entry
    if isinstance(entry, Settled):
        records.updates.append(
            UpdateRecord(
                entry.header,
                entry.outcome,
                entry.wire_bytes,
                dense_bytes,
                entry.codec,
                entry.unix_s,
            )
        )
    if lived.version is not None:
        parent = Version(lived.version - FIRST_VERSION)
        records.versions.append(
            VersionRecord(lived.version, parent, entry.digest, entry.unix_s, lived.update_ids)
        )


async def _must_be_new(store: Store, journal: Path) -> None:
    """Without a snapshot there must be nothing else, either."""
    newest = await store.newest_version()
    # A start that was cut short has left segments, but nothing in them: nobody was served.
    first = min(segments(journal), default=1)
    blank = first == 1 and await asyncio.to_thread(_is_blank, journal)
    if newest > FIRST_VERSION or not blank:
        raise CorruptState(
            f"{journal.parent} tells of version {newest}, but no sound snapshot is left in it: "
            "restore the folder from a copy, or move it away to begin anew"
        )


def _is_blank(journal: Path) -> bool:
    return next(read_entries(journal, 1), None) is None


async def _go_back(store: Store, snapshot: Snapshot) -> None:
    """Where no journal followed a snapshot, what came after it never happened."""
    newest = snapshot.newest.version
    versions, updates = await store.forget_after(newest, snapshot.pending_ids)
    if versions or updates:
        log.warning("records_removed", after_version=newest, versions=versions, updates=updates)


async def _agree(store: Store, newest: Version, journal: Path) -> None:
    """What was recorded must have been rebuilt."""
    recorded = await store.newest_version()
    if recorded > newest:
        raise CorruptState(
            f"{journal.parent} tells of version {recorded}, but snapshot and journal lead to "
            f"version {newest} only: a file of {journal} is missing; restore it from a copy"
        )

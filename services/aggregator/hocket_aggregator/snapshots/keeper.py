"""Takes snapshots: at the start, every so often, at the task's end, and at the very end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from hocket.core.clock import Clock
from hocket.core.events import TaskFinished
from hocket.errors import HocketError
from hocket_aggregator.finishing import finished
from hocket_aggregator.job import Core
from hocket_aggregator.journal import AnyJournal, Unjournalled
from hocket_aggregator.journal.reader import drop_before
from hocket_aggregator.journal.retention import oldest_within
from hocket_aggregator.owner import Owner
from hocket_aggregator.pushes.staging import Staging
from hocket_aggregator.recovery.history import snapshot_of
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots
from hocket_aggregator.turn import Turn

log = structlog.get_logger()

AGAIN_S = 5.0  # after a snapshot that failed


@dataclass(frozen=True, slots=True)
class Retention:
    """How often, and what stays."""

    every_s: float = 30.0
    every_bytes: int = 4 << 30  # of journal
    kept: int = 5  # newest snapshots
    journal_bytes: int = 8 << 30  # of journal from which older versions can be rebuilt


class Keeper:
    """Saves the rules' state, and lets go of the journal that it covers."""

    def __init__(
        self,
        snapshots: Snapshots,
        journal: AnyJournal,
        folder: Path,
        staging: Staging,
        clock: Clock,
        retention: Retention,
        recorded: Callable[[], Awaitable[None]],
    ) -> None:
        self._snapshots = snapshots
        self._journal = journal
        self._folder = folder  # of the journal
        self._staging = staging
        self._clock = clock
        self._retention = retention
        self._recorded = recorded  # returns once the answers given so far are on record
        self._saved = -1  # updates that the newest snapshot covers
        self._due = asyncio.Event()
        self._saving = asyncio.Lock()

    def on_turn(self, turn: Turn) -> None:
        """Notice the task's end, and a long journal."""
        if self._journal.num_bytes >= self._retention.every_bytes or any(
            isinstance(effect, TaskFinished) and effect.first_time for effect in turn.effects
        ):
            self._due.set()

    def covers(self, core: Core) -> None:
        """A snapshot of this very state is there already."""
        self._saved = _settled(core)

    async def run(self, owner: Owner) -> None:
        """Save until cancelled. A snapshot that fails is tried again: the journal has it all."""
        failed = False
        while True:
            try:
                if failed:
                    await self._recorded()  # each attempt begins a segment: none while this fails
                await finished(self._save_from(owner))
                failed = False
            except HocketError as error:
                failed = True
                log.warning("snapshot_failed", reason=error.reason, message=error.message)
                await self._clock.sleep_until(self._clock.now() + AGAIN_S)
                continue
            await self._pause()

    async def save(self, core: Core, digest: str) -> None:
        """Save this state, which nobody changes meanwhile, unless it was saved already.

        Raises StorageFull or StorageFailed, also when the journal has not taken all that led to
        this state: nobody has had an answer to that, and it will be pushed again.
        """
        async with self._saving:
            if self._saved != _settled(core):
                await self._journal.all_synced()
                await self._store(self._taker()(core, digest), _settled(core))

    async def _save_from(self, owner: Owner) -> None:
        async with self._saving:
            take = self._taker()

            def work(core: Core, _: object) -> tuple[Snapshot, int] | None:
                if _settled(core) == self._saved:
                    return None
                return take(core, owner.newest_digest), _settled(core)

            taken = await owner.transact(work, heavy=True)
            if taken is not None:
                # What it covers is not read from the journal again, its answers neither: they
                # must be on record, or the same update would be taken for a new one.
                await self._recorded()
                await self._store(*taken)

    def _taker(self) -> Callable[[Core, str], Snapshot]:
        """Takes a snapshot in any thread; asked for on the event loop."""
        pieces_from = self._staging.oldest_segment
        unix_s = self._clock.unix()

        def take(core: Core, digest: str) -> Snapshot:
            # What is appended from here on comes after the snapshot, and to a new segment.
            segment = self._journal.rotate()
            return snapshot_of(
                core,
                digest,
                unix_s,
                segment=segment,
                pieces_from=min(pieces_from, segment),
                journalled=not isinstance(self._journal, Unjournalled),
            )

        return take

    async def _store(self, snapshot: Snapshot, settled: int) -> None:
        await self._snapshots.save(snapshot)
        self._saved = settled
        log.info("snapshot_saved", version=snapshot.newest.version, segment=snapshot.segment)
        try:
            limit_bytes = self._retention.journal_bytes
            oldest = await asyncio.to_thread(oldest_within, self._folder, limit_bytes)
            first = await self._snapshots.prune(self._retention.kept, oldest)
            await asyncio.to_thread(drop_before, self._folder, first)
        except OSError as error:  # more stays than needs to; the next snapshot tries again
            log.warning("journal_not_shortened", folder=str(self._folder), cause=str(error))

    async def _pause(self) -> None:
        """Until `every_s` have passed, or a snapshot is due for another reason."""
        until = self._clock.now() + self._retention.every_s
        passed = asyncio.ensure_future(self._clock.sleep_until(until))
        due = asyncio.ensure_future(self._due.wait())
        try:
            await asyncio.wait((passed, due), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._due.clear()
            for waiting in (passed, due):
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting


def _settled(core: Core) -> int:
    """Rises with whatever a snapshot would have to cover."""
    state = core.state
    return state.updates_accepted + state.updates_rejected + (state.finished is not None)

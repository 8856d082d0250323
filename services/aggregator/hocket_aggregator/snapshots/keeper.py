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
from hocket.core.ids import Version
from hocket.errors import HocketError
from hocket_aggregator.finishing import finished
from hocket_aggregator.job import Core
from hocket_aggregator.journal import AnyJournal, Unjournalled
from hocket_aggregator.journal.reader import drop_before, file_of, segments
from hocket_aggregator.journal.retention import replay_starts
from hocket_aggregator.owner import Owner
from hocket_aggregator.pushes.staging import Staging
from hocket_aggregator.recovery.history import snapshot_of
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots
from hocket_aggregator.turn import Turn

log = structlog.get_logger()

AGAIN_S = 5.0  # after a snapshot that failed
MUCH = 4  # times the bytes of bodies on their way: so that writing them again costs little beside

Covered = tuple[int, Version]


@dataclass(frozen=True, slots=True)
class Retention:
    """How often, and what stays."""

    every_s: float = 30.0
    every_bytes: int = 4 << 30  # of journal
    kept: int = 5  # newest snapshots
    journal_bytes: int = 8 << 30  # most of journal that stay to rebuild older versions from


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
        self._saved: Covered | None = None  # what the newest snapshot covers
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
        self._saved = _covered(core)

    async def run(self, owner: Owner) -> None:
        """Save until cancelled. A snapshot that fails is tried again: the journal has it all."""
        failed = False
        while True:
            try:
                if failed:
                    await self._recorded()  # each attempt begins a segment: none while this fails
                await finished(self._save_from(owner, anyway=await self._is_long()))
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
            if self._saved != _covered(core):
                await self._journal.all_synced()
                await self._store(self._taker()(core, digest), _covered(core))

    async def _save_from(self, owner: Owner, *, anyway: bool = False) -> None:
        """Save what is new; if nothing is, only if it is to be done `anyway`."""
        async with self._saving:
            take = self._taker()

            def work(core: Core, _: object) -> tuple[Snapshot, Covered] | None:
                if _covered(core) == self._saved and not anyway:
                    return None
                return take(core, owner.newest_digest), _covered(core)

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

    async def _is_long(self) -> bool:
        """Whether `every_bytes` of journal follow the newest snapshot, whatever came of them.

        Bodies that break off settle nothing, but only a snapshot lets go of their bytes. Those of
        earlier lives and of snapshots that failed count as well.
        """
        stored = await self._snapshots.stored()
        first = stored[-1].segment if stored else 0
        try:
            return await self._bytes_from(first) >= self._retention.every_bytes
        except OSError as error:  # the next look tries again
            log.warning("journal_not_measured", folder=str(self._folder), cause=str(error))
            return False

    async def _bytes_from(self, first: int) -> int:
        """Bytes of journal from that segment on. Raises OSError."""
        here, num_bytes = self._journal.segment, self._journal.num_bytes
        return num_bytes + await asyncio.to_thread(_bytes_between, self._folder, first, here)

    async def _store(self, snapshot: Snapshot, covered: Covered) -> None:
        await self._snapshots.save(snapshot)
        self._saved = covered
        log.info("snapshot_saved", version=snapshot.newest.version, segment=snapshot.segment)
        try:
            stored = await self._snapshots.stored()
            starts = [each.needs_from for each in stored if each.journalled]
            limit_bytes = self._retention.journal_bytes
            chosen = await asyncio.to_thread(replay_starts, self._folder, starts, limit_bytes)
            first = await self._snapshots.prune(self._retention.kept, chosen)
            await asyncio.to_thread(drop_before, self._folder, first)
            await self._carry_bodies()
        except OSError as error:  # more stays than needs to; the next snapshot tries again
            log.warning("journal_not_shortened", folder=str(self._folder), cause=str(error))

    async def _carry_bodies(self) -> None:
        """Let bodies that are long on their way hold back no more of the journal than its limits.

        The snapshots to come can do without the segments in which they began.
        """
        retention, staging = self._retention, self._staging
        half = retention.journal_bytes // 2  # so that replay still reaches back so far
        most = max(half, retention.every_bytes, MUCH * staging.num_bytes)
        if await self._bytes_from(staging.oldest_segment) > most:
            staging.carry()

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


def _covered(core: Core) -> Covered:
    """Differs where a snapshot has more to cover: a round's deadline settles nothing."""
    state = core.state
    settled = state.updates_accepted + state.updates_rejected + (state.finished is not None)
    return settled, core.newest.version


def _bytes_between(folder: Path, first: int, end: int) -> int:
    """Of the segments from `first` to the one before `end`."""
    between = [number for number in segments(folder) if first <= number < end]
    return sum(file_of(folder, number).stat().st_size for number in between)

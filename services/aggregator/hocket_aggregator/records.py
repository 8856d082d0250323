"""Records of versions and updates: written behind the work, in groups, and told to watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace

from torch import Tensor

from hocket.core.events import Evaluate, Evaluated, Pushed, Settled, VersionMade
from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.errors import NotFound, Overloaded, Unavailable
from hocket_aggregator import queries
from hocket_aggregator.finishing import finished
from hocket_aggregator.owner import Turn
from hocket_aggregator.store import Batch, Store

MAX_PENDING = 10_000  # versions that a watcher may lag behind
MAX_WATCHERS = 64
PAGE = 500

Describe = Callable[[], Awaitable[Status]]


class _Watcher:
    """What one watcher has not read yet; of a version only its latest record."""

    def __init__(self) -> None:
        self.pending: dict[Version, VersionRecord] = {}
        self.changed = asyncio.Event()
        self.ended = False

    def tell(self, record: VersionRecord) -> None:
        if len(self.pending) <= MAX_PENDING:
            self.pending[record.version] = record
        self.changed.set()


class Records:
    """A sink of the owner's turns. Reads see everything that was put before them.

    `describe` tells where the task stands; it is saved with each group.
    """

    def __init__(self, store: Store, dense_bytes: int) -> None:
        self._store = store
        self._dense_bytes = dense_bytes
        self._batch = Batch()
        self._put = 0  # changes put so far
        self._saved = 0
        self._work = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._watchers: set[_Watcher] = set()
        self._newest: VersionRecord | None = None
        self._unevaluated: dict[Version, VersionRecord] = {}
        self._ended = False

    def begin_at(self, record: VersionRecord, *, recorded: bool) -> None:
        """Go on from this version, which was `recorded` before or is recorded now."""
        self._newest = self._unevaluated[record.version] = record
        if not recorded:
            self._batch.versions.append(record)
            self._changed()

    def on_turn(self, turn: Turn) -> None:
        """Take down what happened."""
        event = turn.event
        if isinstance(event, Evaluated):
            self._evaluated(event)
        for effect in turn.effects:
            if isinstance(effect, Settled) and effect.first_time and isinstance(event, Pushed):
                self._batch.updates.append(
                    UpdateRecord(
                        effect.header,
                        effect.outcome,
                        event.update.wire_bytes,
                        self._dense_bytes,
                        event.update.codec,
                        turn.unix_s,
                    )
                )
                self._changed()
            elif isinstance(effect, VersionMade):
                self._made(effect, turn)
            elif isinstance(effect, Evaluate) and self._newest is not None:
                self._unevaluated[effect.version] = self._newest

    async def flush(self) -> None:
        """Return once everything put so far is on disk. Raises Unavailable at the very end."""
        if self._saved >= self._put:
            return
        if self._ended:
            raise _shutting_down()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, done))
        await done

    async def run(self, describe: Describe) -> None:
        """Save until cancelled; a group that has begun is finished. `close` saves the rest."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                status = await describe()
                await finished(self._save(status))
        finally:
            self._ended = True
            for _, done in self._waiting:
                if not done.done():
                    done.set_exception(_shutting_down())

    async def close(self, status: Status) -> None:
        """Save what is left, and where the task stood at the end. Call it after `run`."""
        await self._save(status)

    async def version(self, version: int) -> VersionRecord:
        """One version's record (0: the newest). Raises NotFound."""
        await self.flush()
        record = await self._store.read(queries.version_record, version)
        if record is None:
            raise NotFound(f"there is no version {version}; call ListVersions to see which are")
        return record

    async def versions(self, below: int | None, limit: int) -> list[VersionRecord]:
        """A page of versions in falling order."""
        await self.flush()
        return await self._store.read(queries.versions_below, below, limit)

    async def lineage(
        self, version: Version, before: int | None, limit: int
    ) -> tuple[list[UpdateRecord], int | None]:
        """A page of the updates behind a version, newest first, and where the next begins."""
        await self.flush()
        return await self._store.read(queries.lineage, version, before, limit)

    async def watch(self, after: int) -> AsyncGenerator[VersionRecord, None]:
        """Each version after `after`, and again when it has been evaluated, without end.

        Raises Overloaded for one watcher too many or one that lags too far behind.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Overloaded(f"{MAX_WATCHERS} watchers are served already; try again later", 10.0)
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            async for record in self._past(after):
                if watcher.pending.get(record.version) == record:
                    del watcher.pending[record.version]
                yield record
            while not watcher.ended:
                if len(watcher.pending) > MAX_PENDING:
                    raise Overloaded("this watcher reads too slowly; watch again from its last")
                pending, watcher.pending = watcher.pending, {}
                for record in pending.values():
                    if record.version > after:
                        yield record
                if not watcher.pending and not watcher.ended:
                    watcher.changed.clear()
                    await watcher.changed.wait()
        finally:
            self._watchers.discard(watcher)

    def end_watches(self) -> None:
        """Let every watcher come to its end."""
        for watcher in self._watchers:
            watcher.ended = True
            watcher.changed.set()

    async def _past(self, after: int) -> AsyncIterator[VersionRecord]:
        await self.flush()
        while page := await self._store.read(queries.versions_after, after, PAGE):
            for record in page:
                yield record
            after = page[-1].version

    def _made(self, effect: VersionMade[Tensor], turn: Turn) -> None:
        version = effect.made.version
        self._newest = VersionRecord(
            version,
            Version(version - FIRST_VERSION),
            turn.digests[version],
            turn.unix_s,
            effect.update_ids,
        )
        self._batch.versions.append(self._newest)
        self._tell(self._newest)

    def _evaluated(self, event: Evaluated) -> None:
        self._batch.evaluations[event.version] = event.evaluation
        record = self._unevaluated.get(event.version)
        for overtaken in [v for v in self._unevaluated if v <= event.version]:
            del self._unevaluated[overtaken]
        if record is None and self._newest is not None and self._newest.version == event.version:
            record = self._newest
        if record is None:
            self._changed()
        else:
            self._tell(replace(record, evaluation=event.evaluation))

    def _tell(self, record: VersionRecord) -> None:
        self._changed()
        for watcher in self._watchers:
            watcher.tell(record)

    def _changed(self) -> None:
        self._put += 1
        self._work.set()

    async def _save(self, status: Status) -> None:
        batch, self._batch = self._batch, Batch()
        put = self._put
        await self._store.save(batch, status)
        self._saved = put
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if wanted > put:
                self._waiting.append((wanted, done))
            elif not done.done():  # a caller that gave up has cancelled it
                done.set_result(None)


def _shutting_down() -> Unavailable:
    return Unavailable("the aggregator is shutting down; call again in a moment")

"""Who watches the versions come, and what each has not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hocket.core.ids import Version
from hocket.core.records import VersionRecord
from hocket.errors import Overloaded

MAX_PENDING = 10_000  # versions that a watcher may lag behind
MAX_WATCHERS = 64


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


class Watchers:
    """All of them."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def tell(self, record: VersionRecord) -> None:
        """A version was made, or evaluated."""
        for watcher in self._watchers:
            watcher.tell(record)

    def end(self) -> None:
        """Let every watcher come to its end."""
        for watcher in self._watchers:
            watcher.ended = True
            watcher.changed.set()

    async def watch(
        self, after: int, past: AsyncGenerator[VersionRecord, None]
    ) -> AsyncGenerator[VersionRecord, None]:
        """What `past` tells, which is read first, and then what is told of, above `after`.

        Raises Overloaded for one watcher too many or one that lags too far behind.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Overloaded(f"{MAX_WATCHERS} watchers are served already; try again later", 10.0)
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            async with aclosing(past) as records:
                async for record in records:
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

"""Takes snapshots: at the start, every so often, at the task's end, and at the very end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.events import TaskFinished
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket_aggregator.finishing import finished
from hocket_aggregator.owner import Owner, Turn
from hocket_aggregator.records import Records
from hocket_aggregator.snapshots import Snapshots

log = structlog.get_logger()


class Keeper:
    """Saves the newest version; the records that lead to it are on disk before it is."""

    def __init__(
        self, snapshots: Snapshots, records: Records, clock: Clock, every_s: float
    ) -> None:
        self._snapshots = snapshots
        self._records = records
        self._clock = clock
        self._every_s = every_s
        self._saved = Version(0)
        self._finished = asyncio.Event()

    def on_turn(self, turn: Turn) -> None:
        """Notice the task's end."""
        if any(isinstance(effect, TaskFinished) for effect in turn.effects):
            self._finished.set()

    async def run(self, owner: Owner) -> None:
        """Save until cancelled. Raises StartupError when the folder can no longer be written."""
        while True:
            newest = await owner.read(lambda core: core.newest)
            await self._records.flush()
            await finished(self.save(newest))
            await self._pause()

    async def save(self, newest: Global[Tensor]) -> None:
        """Save this version unless it was saved already."""
        if newest.version == self._saved:
            return
        await asyncio.to_thread(self._snapshots.save, newest)
        self._saved = newest.version
        log.info("snapshot_saved", version=newest.version)

    async def _pause(self) -> None:
        """Until `every_s` have passed, or the task has finished."""
        passed = asyncio.ensure_future(self._clock.sleep_until(self._clock.now() + self._every_s))
        finished = asyncio.ensure_future(self._finished.wait())
        try:
            await asyncio.wait((passed, finished), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._finished.clear()
            for waiting in (passed, finished):
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting

"""Who asked, and the sinks, hear of what was done once it lasts: in order, while more is done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hocket.hosting.failpoint import Failpoint, reach
from hocket_aggregator.job import Job
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.turn import Sink


class Telling:
    """Jobs that are done, in order, each with the ticket of what must be synced before it is told.

    Also a job that wrote nothing waits for those before it: it may have seen what they did. Those
    that wait at the same time share a sync. Their number needs no bound, as that of jobs to do.
    """

    def __init__(self, journal: AnyJournal, sinks: Sequence[Sink]) -> None:
        self._journal = journal
        self._sinks = sinks
        self._done: asyncio.Queue[tuple[Job, int | None] | None] = asyncio.Queue()
        self._untold: list[Job] = []

    def put(self, job: Job, ticket: int | None) -> None:
        """A job is done; it wrote what has that ticket, or nothing."""
        self._done.put_nowait((job, ticket))

    def end(self) -> None:
        """Nothing more will be put."""
        self._done.put_nowait(None)

    async def run(self) -> None:
        """Tell until the end. Raises StorageFailed when the journal can no longer be written."""
        while (done := await self._done.get()) is not None:
            job, ticket = done
            self._untold = [job]
            if ticket is not None:
                await self._journal.synced(ticket)
                reach(Failpoint.BEFORE_ACKNOWLEDGEMENT)
            if job.before_telling is not None and job.error is None:
                job.before_telling()
            for turn in job.turns:
                for sink in self._sinks:
                    sink(turn)
            if job.failure is None:
                job.tell()
                self._untold = []

    def give_up(self) -> None:
        """Have all that were not told hear that nothing comes of it any more."""
        while not self._done.empty():
            done = self._done.get_nowait()
            if done is not None:
                self._untold.append(done[0])
        for job in self._untold:
            job.give_up()

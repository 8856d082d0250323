"""What was done goes on in order: its versions get their names, the journal gets it, then all hear.

The name of a long model, its digest, takes a tenth of the time of the step that made it: where a
next step waits already, it runs meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hocket_aggregator.job import Job, shutting_down
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.journal.entries import Held
from hocket_aggregator.journal.turns import entries_of
from hocket_aggregator.telling import Telling
from hocket_aggregator.turn import Sink, Turn

_NAMER = ThreadPoolExecutor(1, thread_name_prefix="digest")
"""Its own, so that no digest waits for bodies that are decoded or models that are encoded."""


class Handing:
    """Jobs that are done, handed over one after the other."""

    def __init__(
        self,
        journal: AnyJournal,
        telling: Telling,
        counts: Sequence[Sink],
        digest: str,
        *,
        in_threads: bool,
    ) -> None:
        self.newest_digest = digest  # of the newest version that was handed over
        self._journal = journal
        self._telling = telling
        self._counts = counts
        self._in_threads = in_threads  # false: a digest takes no time
        self._done: asyncio.Queue[Job | None] = asyncio.Queue()
        self._in_hand: Job | None = None
        self._is_over = False
        self._unhanded = 0
        self._all_handed = asyncio.Event()
        self._all_handed.set()

    def put(self, job: Job) -> None:
        """A job is done. Where nothing is to be waited for it is handed over at once."""
        waits = self._unhanded > 0 or (self._in_threads and not job.is_named)
        if not waits and not self._is_over:
            job.name()
            self._hand_over(job)
            return
        self._unhanded += 1
        if not self._is_over:
            self._all_handed.clear()
        self._done.put_nowait(job)

    async def all_handed(self) -> None:
        """Return once all jobs put so far have been handed over; Unavailable if they never will."""
        await self._all_handed.wait()
        if self._is_over:
            raise shutting_down()

    def end(self) -> None:
        """Nothing more will be put."""
        self._done.put_nowait(None)

    async def run(self) -> None:
        """Hand over until the end."""
        try:
            while await self._hand_next():
                pass
        finally:
            self._is_over = True
            self._all_handed.set()

    def give_up(self) -> None:
        """Have all that were not handed over hear that nothing comes of it any more."""
        if self._in_hand is not None:
            self._in_hand.give_up()
        while not self._done.empty():
            job = self._done.get_nowait()
            if job is not None:
                job.give_up()

    async def _hand_next(self) -> bool:
        """A method, so that no job's vectors stay while it waits for another."""
        job = self._in_hand = await self._done.get()
        if job is None:
            return False
        if not job.is_named:
            await asyncio.get_running_loop().run_in_executor(_NAMER, job.name)
        self._hand_over(job)
        self._in_hand = None
        self._unhanded -= 1
        if not self._unhanded:
            self._all_handed.set()
        return True

    def _hand_over(self, job: Job) -> None:
        for turn in job.turns:
            for digest in turn.digests.values():
                self.newest_digest = digest
            for count in self._counts:
                count(turn)
        self._telling.put(job, self._append(job.turns))

    def _append(self, turns: Iterable[Turn]) -> int | None:
        """Have the journal write what must last; the ticket of what must be synced, if any."""
        ticket = None
        for entry in (entry for turn in turns for entry in entries_of(turn)):
            number = self._journal.append(entry)
            if not isinstance(entry, Held):  # a hold that is lost costs a training, not an update
                ticket = number
        return ticket

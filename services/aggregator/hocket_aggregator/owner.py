"""The one task that owns the coordinator: whatever happens to it goes through one queue.

Nothing interleaves with an event, so the rules need no lock, and the event loop never waits for a
server step: steps run in a thread while this task, and only this task, waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.coordinator import Coordinator
from hocket.core.events import Effect, Event, Pushed, Tick, VersionMade
from hocket.errors import HocketError, Unavailable
from hocket.hosting.failpoint import Failpoint, reach
from hocket_aggregator.digest import digest_of
from hocket_aggregator.finishing import finished
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.journal.entries import Held
from hocket_aggregator.journal.turns import entries_of
from hocket_aggregator.journal.unjournalled import Unjournalled
from hocket_aggregator.turn import Sink, Turn

log = structlog.get_logger()

R = TypeVar("R")
Core = Coordinator[Tensor, Any]
Take = Callable[[Event[Tensor]], list[Effect[Tensor]]]
"""Has the coordinator take an event in."""

MAX_BATCH = 32
MIN_TICK_S = 0.001  # so that a deadline which a tick does not move cannot spin the loop


@dataclass(slots=True)
class _Job:
    work: Callable[[Core, Take], Any]
    heavy: bool
    answer: asyncio.Future[Any] | None  # None: nobody waits
    turns: list[Turn] = field(default_factory=list)
    result: Any = None
    error: Exception | None = None


class Owner:
    """Runs work on the coordinator in the order in which it was asked for.

    The queue needs no bound: each asker waits for its answer, so it is no longer than the number
    of open calls. What must last is in the journal, synced, before anybody hears of it: then
    `sinks` are told of every turn, in order, and its asker is answered.
    """

    def __init__(
        self,
        coordinator: Core,
        clock: Clock,
        sinks: Iterable[Sink] = (),
        journal: AnyJournal | None = None,
        *,
        in_threads: bool = True,
    ) -> None:
        self.newest_digest = digest_of(coordinator.newest.model)
        self._core = coordinator
        self._clock = clock
        self._sinks = tuple(sinks)
        self._journal = journal or Unjournalled()
        self._in_threads = in_threads  # false: the model is so small that handing over takes longer
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._timer: asyncio.Task[None] | None = None
        self._armed: float | None = None
        self._last_tick: float | None = None  # the deadline of the latest tick
        self._closed = False

    async def handle(self, event: Event[Tensor]) -> list[Effect[Tensor]]:
        """Have an event taken in; raises what the coordinator raised."""
        return await self.transact(lambda _, take: take(event), heavy=isinstance(event, Pushed))

    async def read(self, look: Callable[[Core], R]) -> R:
        """Look at the coordinator between two events. What is returned must not change later."""
        return await self.transact(lambda core, _: look(core))

    async def transact(self, work: Callable[[Core, Take], R], *, heavy: bool = False) -> R:
        """Run `work` with nothing in between; `heavy` work runs in a thread.

        A caller that is cancelled only stops waiting: the work is done, once, all the same.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(_Job(work, heavy, answer))
        return await answer

    def post(self, event: Event[Tensor], unless: Callable[[], bool] | None = None) -> None:
        """Have an event taken in that nobody waits for, `unless` something is so by then."""

        def work(_: Core, take: Take) -> None:
            if unless is None or not unless():
                take(event)

        with contextlib.suppress(Unavailable):
            self._put(_Job(work, heavy=False, answer=None))

    async def run(self) -> None:
        """Own the coordinator until cancelled; work that has begun is finished first.

        Raises StorageFailed when the journal can no longer be written.
        """
        try:
            self._arm()
            while True:
                batch = [await self._jobs.get()]
                while len(batch) < MAX_BATCH and not self._jobs.empty():
                    batch.append(self._jobs.get_nowait())
                await finished(self._run_batch(batch))
                self._arm()
        finally:
            self._closed = True
            self._disarm()
            while not self._jobs.empty():
                _answer_with(self._jobs.get_nowait(), _shutting_down())

    async def _run_batch(self, batch: list[_Job]) -> None:
        try:
            ticket = await self._take_in(batch)
            if ticket is not None:  # one sync for all of them
                await self._journal.synced(ticket)
                reach(Failpoint.BEFORE_ACKNOWLEDGEMENT)
        except Exception:
            for job in batch:
                _answer_with(job, _shutting_down())
            raise
        for job in batch:
            for turn in job.turns:
                for sink in self._sinks:
                    sink(turn)
            _answer(job)

    async def _take_in(self, batch: Iterable[_Job]) -> int | None:
        ticket = None
        for job in batch:
            now, unix_s = self._clock.now(), self._clock.unix()
            if job.heavy and self._in_threads:
                await asyncio.to_thread(self._work, job, now, unix_s)
            else:
                self._work(job, now, unix_s)
            # Before the next job: a snapshot must find what it covers in the segments before it.
            ticket = self._append(job.turns) or ticket
        return ticket

    def _append(self, turns: Iterable[Turn]) -> int | None:
        """Have the journal write what must last; the ticket of what must be synced, if any."""
        ticket = None
        for entry in (entry for turn in turns for entry in entries_of(turn)):
            number = self._journal.append(entry)
            if not isinstance(entry, Held):  # a hold that is lost costs a training, not an update
                ticket = number
        return ticket

    def _work(self, job: _Job, now: float, unix_s: float) -> None:
        def take(event: Event[Tensor]) -> list[Effect[Tensor]]:
            effects = self._core.handle(event, now)
            made = [effect.made for effect in effects if isinstance(effect, VersionMade)]
            digests = {version.version: digest_of(version.model) for version in made}
            for digest in digests.values():
                self.newest_digest = digest
            job.turns.append(Turn(event, tuple(effects), now, unix_s, digests))
            return effects

        try:
            job.result = job.work(self._core, take)
        except Exception as error:  # noqa: BLE001 -- whoever asked gets it
            job.error = error

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise _shutting_down()
        self._jobs.put_nowait(job)

    def _arm(self) -> None:
        """One timer, for the moment at which waiting alone changes something."""
        deadline = self._core.next_deadline()
        if deadline == self._armed and self._timer is not None and not self._timer.done():
            return
        self._disarm()
        if deadline is not None:
            self._armed = deadline
            self._timer = asyncio.get_running_loop().create_task(self._tick_at(deadline))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._armed = None

    async def _tick_at(self, deadline: float) -> None:
        await self._clock.sleep_until(deadline)
        if self._last_tick == deadline:
            await self._clock.sleep_until(self._clock.now() + MIN_TICK_S)
        self._last_tick = deadline
        self.post(Tick())


def _answer(job: _Job) -> None:
    if job.error is not None:
        _answer_with(job, job.error)
    elif job.answer is not None and not job.answer.done():
        job.answer.set_result(job.result)


def _answer_with(job: _Job, error: Exception) -> None:
    if job.answer is None:
        if not isinstance(error, HocketError):
            raise error
        log.warning("event_refused", reason=error.reason, message=error.message)
    elif not job.answer.done():  # a caller that gave up has cancelled it
        job.answer.set_exception(error)


def _shutting_down() -> Unavailable:
    return Unavailable("the aggregator is shutting down; call again in a moment")

"""The one task that owns the coordinator: whatever happens to it goes through one queue.

Nothing interleaves with an event, so the rules need no lock, and the event loop never waits for a
server step: steps run in a thread while this task, and only this task, waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from torch import Tensor

from hocket.core.clock import Clock
from hocket.core.events import Effect, Event, Pushed, Settled, Tick, VersionMade
from hocket.core.plain import compact_json, outcome_values
from hocket.errors import HocketError, Unavailable
from hocket.learn.digest import digest_of, octets_of
from hocket_aggregator.finishing import finished
from hocket_aggregator.handing import Handing
from hocket_aggregator.job import Core, Job, Take, shutting_down
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.journal.unjournalled import Unjournalled
from hocket_aggregator.rules_failure import RulesFailure, doom
from hocket_aggregator.telling import Telling
from hocket_aggregator.turn import Sink, Turn

log = structlog.get_logger()

R = TypeVar("R")
YIELD_EVERY = 8  # jobs
MIN_TICK_S = 0.001  # so that a deadline which a tick does not move cannot spin the loop


class Owner:
    """Runs work on the coordinator in the order in which it was asked for.

    The queue needs no bound: each asker waits for its answer, so it is no longer than the number
    of open calls. What must last is in the journal, synced, before anybody hears of it: then
    `sinks` are told of every turn, in order, and its asker is answered. `counts` are told of a turn
    when it is done: what they know is for those who read, and so hear of it, in order.
    """

    def __init__(
        self,
        coordinator: Core,
        clock: Clock,
        sinks: Iterable[Sink] = (),
        journal: AnyJournal | None = None,
        *,
        counts: Iterable[Sink] = (),
        in_threads: bool = True,
    ) -> None:
        self._core = coordinator
        self._clock = clock
        journal = journal or Unjournalled()
        self._telling = Telling(journal, tuple(sinks))
        self._handing = Handing(
            journal,
            self._telling,
            tuple(counts),
            digest_of(coordinator.newest.model),
            in_threads=in_threads,
        )
        self._in_threads = in_threads  # false: the model is so small that a thread takes longer
        self._jobs: asyncio.Queue[Job | None] = asyncio.Queue()  # None: look whether to end
        self._ending = False
        self._timer: asyncio.Task[None] | None = None
        self._armed: float | None = None
        self._last_tick: float | None = None  # the deadline of the latest tick
        self._closed = False
        self._latest: Job | None = None
        self._is_sound = True

    @property
    def newest_digest(self) -> str:
        """That of the newest version, to work that does not run `ahead`."""
        return self._handing.newest_digest

    @property
    def is_sound(self) -> bool:
        """Whether the coordinator's state lasts, being what was told or will be once this ends."""
        return self._is_sound

    async def handle(self, event: Event[Tensor]) -> list[Effect[Tensor]]:
        """Have an event taken in; raises what the coordinator raised."""
        heavy = isinstance(event, Pushed)
        return await self.transact(lambda _, take: take(event), heavy=heavy, ahead=True)

    async def read(self, look: Callable[[Core], R]) -> R:
        """Look at the coordinator between two events. What is returned must not change later."""
        return await self.transact(lambda core, _: look(core))

    async def transact(
        self,
        work: Callable[[Core, Take], R],
        *,
        heavy: bool = False,
        ahead: bool = False,
        before_telling: Callable[[], None] | None = None,
    ) -> R:
        """Run `work` with nothing in between; `heavy` work runs in a thread.

        `ahead`: it may run before what was done earlier is in the journal and has its digests.
        `before_telling` is called when what was done before has been told, and this has not.
        A caller that is cancelled only stops waiting: the work is done, once, all the same.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(Job(work, heavy, ahead, answer, before_telling))
        return await answer

    def post(
        self,
        event: Event[Tensor],
        unless: Callable[[], bool] | None = None,
        *,
        heavy: bool = False,
    ) -> None:
        """Have an event taken in that nobody waits for, `unless` something is so by then."""

        def work(_: Core, take: Take) -> None:
            if unless is None or not unless():
                take(event)

        with contextlib.suppress(Unavailable):
            self._put(Job(work, heavy, ahead=True, answer=None))

    async def run(self) -> None:
        """Own the coordinator until cancelled; work that has begun is finished and told first.

        Raises StorageFailed when the journal can no longer be written, and RulesFailed when the
        rules broke over an event: no answer is given then that the journal does not hold.
        """
        working = asyncio.create_task(self._work_on())
        handing = asyncio.create_task(self._handing.run())
        telling = asyncio.create_task(self._telling.run())
        try:
            try:
                tasks = (working, handing, telling)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                failure = await finished(self._wind_up(working, handing, telling))
        finally:
            # In the step that raises, and not before: what comes of this must not fail before it.
            self._give_up()
        if failure is not None:
            raise failure

    async def _wind_up(
        self,
        working: asyncio.Task[None],
        handing: asyncio.Task[None],
        telling: asyncio.Task[None],
    ) -> BaseException | None:
        """End all; what made one of them fail."""
        self._ending = True
        self._jobs.put_nowait(None)
        await asyncio.wait((working,))
        self._handing.end()
        await asyncio.wait((handing,))
        self._telling.end()
        await asyncio.wait((telling,))
        tasks = (telling, handing, working)
        failures = [task.exception() for task in tasks if not task.cancelled()]
        failure = next((failure for failure in failures if failure is not None), None)
        if failure is not None:
            self._is_sound = False
        return failure

    def _give_up(self) -> None:
        """Have all who still wait hear that nothing comes of it, and whoever asks from now on."""
        self._closed = True
        self._telling.give_up()
        self._handing.give_up()
        if self._latest is not None:
            self._latest.give_up()
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None:
                job.give_up()

    async def _work_on(self) -> None:
        """Do one job after the other; the next while what was done is synced.

        It is told to end, never cancelled: a job is not left half done.
        """
        try:
            self._arm()
            for number in itertools.count(1):
                job = await self._jobs.get()
                if job is not None:
                    self._latest = job
                    if not job.ahead:
                        await self._handing.all_handed()
                if self._ending or job is None:
                    return
                now, unix_s = self._clock.now(), self._clock.unix()
                in_thread = job.heavy and self._in_threads
                if in_thread:
                    await asyncio.to_thread(self._work, job, now, unix_s)
                else:
                    self._work(job, now, unix_s)
                self._handing.put(job)
                if job.failure is not None:
                    raise job.failure.error
                if not in_thread and number % YIELD_EVERY == 0:  # a full queue does not by itself
                    await asyncio.sleep(0)
                self._arm()
        finally:
            self._disarm()

    def _work(self, job: Job, now: float, unix_s: float) -> None:
        def take(event: Event[Tensor]) -> list[Effect[Tensor]]:
            doomed = doom(self._core, event)
            try:
                effects = self._core.handle(event, now)
                turn = _turn(event, effects, now, unix_s)
            except HocketError:
                raise  # a refusal, which changes nothing
            except Exception as error:
                log.exception("rules_failed", taking=type(event).__name__)
                job.failure = RulesFailure.over(event, error, doomed)
                job.turns.append(job.failure.turn(now, unix_s))
                raise
            job.turns.append(turn)
            return effects

        try:
            job.result = job.work(self._core, take)
        except Exception as error:  # noqa: BLE001 -- whoever asked gets it
            job.error = error
        if self._jobs.empty():  # nothing could be done meanwhile
            job.name()

    def _put(self, job: Job) -> None:
        if self._closed:
            raise shutting_down()
        self._jobs.put_nowait(job)

    def _arm(self) -> None:
        """One timer, for the moment at which waiting alone changes something."""
        deadline = self._core.next_deadline()
        if deadline == self._armed and self._timer is not None and not self._timer.done():
            return
        self._disarm()
        if deadline is not None:
            self._armed = deadline
            closes = deadline == self._core.round_closes_at  # which is a server step
            self._timer = asyncio.get_running_loop().create_task(self._tick_at(deadline, closes))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._armed = None

    async def _tick_at(self, deadline: float, closes: bool) -> None:
        await self._clock.sleep_until(deadline)
        if self._last_tick == deadline:
            await self._clock.sleep_until(self._clock.now() + MIN_TICK_S)
        self._last_tick = deadline
        self.post(Tick(), heavy=closes)


def _turn(event: Event[Tensor], effects: list[Effect[Tensor]], now: float, unix_s: float) -> Turn:
    """What the rules made of an event. Raises ValueError for what cannot be written down."""
    for effect in effects:
        if isinstance(effect, Settled):
            compact_json(outcome_values(effect.outcome))
        elif isinstance(effect, VersionMade):
            octets_of(effect.made.model)
    return Turn(event, tuple(effects), now, unix_s)

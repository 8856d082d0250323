"""One device from start to end: joins, listens for triggers, trains, pushes, leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from hocket.core import participant_events as ev
from hocket.core.device import Caller
from hocket.core.ids import DeviceId
from hocket.core.participant import Participant, ParticipantRules, Phase
from hocket.core.sizing import size
from hocket.core.terms import Finished, TaskTerms
from hocket.errors import HocketError, TaskError, Unavailable, UnknownDevice
from hocket_device.ability import Ability
from hocket_device.courier import Courier
from hocket_device.keeper import Keeper
from hocket_device.learner import Learner
from hocket_device.lease import PASSING, LeaseHolder
from hocket_device.performer import Performer
from hocket_device.state import State

T = TypeVar("T")
Workshop = Callable[[TaskTerms, DeviceId], Learner]
"""Makes the learner for a task; the model and the examples are loaded already."""

STEADY_S = 5.0  # a stream that held for so long owes its break to something new

log = structlog.get_logger()


@dataclass(slots=True)
class Agent:
    """Everything of one device that lives on the event loop.

    Args:
        courier: the way to the aggregator.
        lease: the way to the registry.
        ability: what `lease` tells of the device.
        prepare: loads model and examples; runs in `thread` while the device joins.
        interrupt: makes training in `thread` end soon.
        thread: one worker.
        state: what was kept of an earlier life.
        state_dir: where to keep it.
        on_ready: called once, before the first trigger can come.
    """

    courier: Courier
    lease: LeaseHolder
    ability: Ability
    prepare: Callable[[], Workshop]
    interrupt: Callable[[], None]
    thread: Executor
    state: State
    state_dir: Path
    on_ready: Callable[[], None] = lambda: None
    _effects: asyncio.Queue[ev.Effect] = field(default_factory=asyncio.Queue)
    _gave_up: asyncio.Event = field(default_factory=asyncio.Event)  # subscribe anew to say so
    _said_busy: bool = False  # when it subscribed last

    async def run(self, stop: asyncio.Event, *, exit_when_finished: bool = True) -> None:
        """Take part until the task has finished or `stop` is set.

        Raises StaleIncarnation when a newer process of this device has joined, TaskError when
        model or data do not fit the task, and HocketError for what no retry mends.
        """
        try:
            async with asyncio.TaskGroup() as group:
                living = group.create_task(self._live(exit_when_finished=exit_when_finished))
                stopping = group.create_task(stop.wait())
                await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
                living.cancel()
                stopping.cancel()
        except BaseExceptionGroup as crashes:
            raise _first(crashes) from None
        finally:
            await self.lease.leave()

    async def _live(self, *, exit_when_finished: bool) -> None:
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._in_thread(self.prepare))
            await self.lease.join()
            keeping = group.create_task(self.lease.keep())
            terms = await self.courier.get_task()
            log.info("task_received", task=terms.name, model_values=terms.manifest.size)
            performer = await self._set_up(terms, await preparing)
            listening = group.create_task(self._listen(performer))
            try:
                reason = await self._act(performer)
                log.info("task_finished", reason=reason)
                if not exit_when_finished:
                    await keeping  # until it is cancelled
            finally:
                self.interrupt()
            keeping.cancel()
            listening.cancel()

    async def _set_up(self, terms: TaskTerms, workshop: Workshop) -> Performer:
        device_id = self.lease.caller.device_id
        learner = await self._in_thread(lambda: workshop(terms, device_id))
        costs = await self._in_thread(learner.probe)
        dropping = await self._in_thread(lambda: learner.dropping)
        self.ability.measured(costs, learner.num_examples, dropping)
        if dropping.nothing:
            log.info("whole_model", reason=dropping.nothing)
        log.info(
            "measured",
            examples=learner.num_examples,
            step_ms={
                line.keep: round(1e3 * line.step_s(terms.training.batch_size), 2) for line in costs
            },
        )
        await self._announce()
        await self.courier.time_round_trip()
        keeper = Keeper(self.state_dir, self.state, learner)
        task = f"{terms.name} {terms.manifest.digest}"
        await self._in_thread(lambda: keeper.open(task, device_id))
        participant = self._participant(terms, keeper, device_id)
        return Performer(terms, participant, learner, self.courier, keeper, self.thread)

    async def _announce(self) -> None:
        """Tell the registry what the device can do; the next heartbeat makes up for a failure."""
        try:
            await self.lease.renew(self.lease.caller)
        except PASSING as error:
            log.warning("heartbeat_failed", problem=error.message)

    def _participant(self, terms: TaskTerms, keeper: Keeper, device_id: DeviceId) -> Participant:
        """As it was left; at rest, or about to finish the push that an earlier life began."""
        kept = keeper.state.participant
        rules = ParticipantRules.of(terms)
        participant = (
            Participant(rules, device_id)
            if kept is None
            else Participant.from_dict(rules, device_id, kept)
        )
        if keeper.parcel is not None:
            self._tell(participant, ev.UnsettledPush())
        return participant

    async def _act(self, performer: Performer) -> str:
        """Carry effects out until the task is over; the reason.

        One after the other, but for the fresh model, which comes beside the training.
        """
        async with asyncio.TaskGroup() as group:
            asking: asyncio.Task[None] | None = None
            while True:
                effect = await self._effects.get()
                match effect:
                    case ev.Stop(reason):
                        await self._save(performer)
                        return reason
                    case ev.Rest(gave_up):
                        await self._rest(performer, gave_up=gave_up)
                    case ev.PullFresh():
                        asking = group.create_task(self._perform(performer, effect))
                    case ev.GiveUpFresh():
                        if asking is not None:
                            asking.cancel()
                            await asyncio.wait({asking})
                    case _:
                        await self._perform(performer, effect)

    async def _perform(self, performer: Performer, effect: ev.Effect) -> None:
        event = await performer.perform(effect)
        if event is not None:
            self._tell(performer.participant, event)

    def _tell(self, participant: Participant, event: ev.Event) -> None:
        for effect in participant.handle(event, self.courier.clock.now()):
            self._effects.put_nowait(effect)

    async def _rest(self, performer: Performer, *, gave_up: bool) -> None:
        """Between two trainings: keep what was learned, and say what the link carries.

        An aggregator that was told of a training when the device subscribed may have had its
        update before, and waits for another: it too must hear that there is none.
        """
        if gave_up or (self._said_busy and not performer.participant.busy):
            self._gave_up.set()
        await self._save(performer)
        await self.courier.time_round_trip()
        await self.lease.report_links([self.courier.link])

    async def _save(self, performer: Performer) -> None:
        """Keep all that followed from the last outcome; the outbox is empty from here on."""
        kept = performer.participant.to_dict()
        await self._in_thread(lambda: performer.keeper.try_to_commit(kept, None))

    async def _listen(self, performer: Performer) -> None:
        """Subscribe, and again whenever the stream breaks or the lease was taken anew."""
        self.on_ready()
        attempt = 0
        while not performer.participant.finishing:
            caller = self.lease.caller
            began = self.courier.clock.now()
            problem = await self._read_until_replaced(caller, performer.participant)
            if problem is None:
                continue
            if self.courier.clock.now() - began > STEADY_S:
                attempt = 0
            log.warning("subscription_broke", problem=problem.message, attempt=attempt)
            await self.courier.recover(caller, problem, attempt)
            attempt += 1
            if await self.courier.get_task() != performer.terms:
                raise TaskError(
                    "the aggregator came back with another task or other settings; "
                    "start this device anew"
                )

    async def _read_until_replaced(
        self, caller: Caller, participant: Participant
    ) -> HocketError | None:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(caller, participant))
            replaced = group.create_task(self.lease.replaced(caller))
            gave_up = group.create_task(self._gave_up.wait())
            await asyncio.wait({reading, replaced, gave_up}, return_when=asyncio.FIRST_COMPLETED)
            self._gave_up.clear()
            replaced.cancel()
            gave_up.cancel()
            if not reading.done():
                reading.cancel()
                return None
        return reading.result()

    async def _read(self, caller: Caller, participant: Participant) -> HocketError | None:
        """Hand on what the stream says; why it broke, or None when the task has finished."""
        try:
            self._said_busy = participant.busy
            subscribed = self.courier.aggregator.subscribe(caller, training=self._said_busy)
            async with aclosing(subscribed) as stream:
                async for said in stream:
                    if isinstance(said, Finished):
                        self._tell(participant, ev.FinishedTask(said.reason))
                        if participant.phase is Phase.STOPPED:
                            self.interrupt()
                        return None
                    log.info("triggered", trigger=said.trigger_id, busy=participant.busy)
                    self._tell(participant, ev.Triggered(said, self._able()))
        except (*PASSING, UnknownDevice) as error:
            return error
        return Unavailable("the aggregator ended the subscription")

    def _able(self) -> size.Ability:
        """What the device can do now, for the choice of its size."""
        link = self.courier.link
        return size.Ability(
            self.ability.now(),
            link.up_bytes_per_s,
            link.down_bytes_per_s,
            self.ability.keep,
            self.ability.dropping,
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def _first(crashes: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of a group's exceptions, a HocketError where there is any."""
    flat = [
        _first(crash) if isinstance(crash, BaseExceptionGroup) else crash
        for crash in crashes.exceptions
    ]
    return next((crash for crash in flat if isinstance(crash, HocketError)), flat[0])

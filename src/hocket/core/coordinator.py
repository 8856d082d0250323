"""The aggregator's rules: who is triggered, what becomes of each update, when the task ends.

A plain synchronous object. The services and the simulator drive the very same one.
"""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from hocket.core import events as ev
from hocket.core.device import Caller, Device, DeviceState
from hocket.core.fleet import NO_VERSION, Fleet, Member
from hocket.core.ids import Version
from hocket.core.past import Answered, BaseHeld, Ended, Past
from hocket.core.records import DevicePhase, DeviceStatus, Evaluation
from hocket.core.state import TaskState
from hocket.core.strategy import Global, Strategy
from hocket.core.terms import Finished
from hocket.core.triggering import CoordinatorRules, FixedSlot, SlotPolicy, Triggering
from hocket.core.update import Dropped, DropReason, Outcome, Update, UpdateHeader
from hocket.core.versions import Versions
from hocket.errors import CorruptState, UnknownVersion

P = TypeVar("P")
S = TypeVar("S")


class Coordinator(Generic[P, S]):
    """Events in, effects out. Raises HocketError from `handle` for what must be refused."""

    def __init__(
        self,
        rules: CoordinatorRules,
        strategy: Strategy[P, S],
        state: TaskState[P, S],
        slots: SlotPolicy | None = None,
    ) -> None:
        self.rules = rules
        self.strategy = strategy
        self.state = state
        self.slots: SlotPolicy = slots or FixedSlot()
        self.fleet = Fleet()
        self._triggering = Triggering(rules, self.fleet, self.slots, state)
        self._evaluated: tuple[Version, Evaluation] | None = None

    @classmethod
    def begin(
        cls,
        rules: CoordinatorRules,
        strategy: Strategy[P, S],
        first: Global[P],
        slots: SlotPolicy | None = None,
    ) -> Self:
        """At a task's very start."""
        versions = Versions(first, rules.staleness_limit)
        return cls(rules, strategy, TaskState(versions, strategy.init(first.model)), slots)

    @property
    def versions(self) -> Versions[P]:
        """The models that are kept."""
        return self.state.versions

    @property
    def finished(self) -> Finished | None:
        """Why the task has ended, if it has."""
        return self.state.finished

    @property
    def newest(self) -> Global[P]:
        """The newest global model."""
        return self.state.versions.newest

    @property
    def evaluated(self) -> tuple[Version, Evaluation] | None:
        """The newest version whose evaluation is known."""
        return self._evaluated

    def statuses(self, now: float) -> tuple[DeviceStatus, ...]:
        """Every device's part so far."""
        return self.fleet.statuses(now)

    def settled(self, header: UpdateHeader) -> Outcome | None:
        """The answer that this update_id got before, if any."""
        return self.state.ledger.outcome(header.update_id, header.device_id)

    def check(self, header: UpdateHeader) -> None:
        """Refuse, before its body is read, what would be refused afterwards.

        Raises UnknownDevice, StaleIncarnation or UnknownVersion.
        """
        self.fleet.admit(header_caller(header))
        if self.doomed(header) is None:
            self.versions.get(header.base_version)

    def offered(self, header: UpdateHeader) -> Outcome | None:
        """The answer to an update that needs no body: as it was told before, or dropped.

        None for any other, whose body may come. Raises as `check`.
        """
        before = self.settled(header)
        if before is not None:
            return before
        self.check(header)
        return self.doomed(header)

    def next_deadline(self) -> float | None:
        """When `handle(Tick(), now)` is next worth calling."""
        given_up = self.fleet.timeouts.first()
        deadlines = [] if given_up is None else [given_up]
        if self.finished is None:
            if (at := self._triggering.next_deadline()) is not None:
                deadlines.append(at)
            first_fired = self._triggering.first_fired
            if self.rules.stop.wall_s is not None and first_fired is not None:
                deadlines.append(first_fired + self.rules.stop.wall_s)
        return min(deadlines, default=None)

    def handle(self, event: ev.Event[P], now: float) -> list[ev.Effect[P]]:  # noqa: C901 -- a table
        """Take one event in; raises HocketError where the sender must be refused."""
        effects: list[ev.Effect[P]] = []
        match event:
            case ev.DeviceSeen(device):
                self._seen(device, now)
            case ev.Subscribed(caller, training):
                self._subscribed(self.fleet.admit(caller), training, now, effects)
            case ev.Unsubscribed(caller):
                self._unsubscribed(caller, now)
            case ev.BaseTaken(caller, version):
                self._base_taken(self.fleet.admit(caller), version, now)
            case ev.PushStarted(header):
                member = self.fleet.admit(header_caller(header))
                patience_s = self.rules.train_timeout_s
                member.work(DevicePhase.PUSHING, now, patience_s, header.base_version)
            case ev.PushBroken(header):
                self._push_broken(header, now)
            case ev.Refused(header):
                self._refused(header, now)
            case ev.Pushed(update):
                self._pushed(update, now, effects)
            case ev.Evaluated(version, evaluation):
                if self._evaluated is None or version >= self._evaluated[0]:
                    self._evaluated = (version, evaluation)
            case ev.Tick():
                self._give_up_the_silent(now)
        self._stop_if_due(now, effects)
        if self.finished is None:
            effects += self._triggering.due(now, self.newest.version)
        return effects

    def _seen(self, device: Device, now: float) -> None:
        known = self.fleet.find(device.device_id)
        reborn = known is not None and known.device.incarnation != device.incarnation
        member = self.fleet.see(device, now)
        if reborn:
            self._triggering.forget(device.device_id)
        if reborn or device.state is not DeviceState.ALIVE:
            self.versions.fall_silent(device.device_id)  # it may yet push what it has trained
            member.rest(now)
        elif member.subscribed and member.phase is DevicePhase.AWAY:
            member.rest(now)  # its lease goes on after all, and its stream never broke

    def _subscribed(
        self, member: Member, training: bool, now: float, effects: list[ev.Effect[P]]
    ) -> None:
        member.subscribe()
        if not training:
            self._rest(member, now)  # a trigger that broke off with the old stream is sent anew
        elif member.phase in (DevicePhase.AWAY, DevicePhase.IDLE):
            member.work(DevicePhase.TRAINING, now, self.rules.train_timeout_s)
        if self.finished is not None:
            effects.append(ev.TaskFinished(self.finished, first_time=False))

    def _unsubscribed(self, caller: Caller, now: float) -> None:
        member = self.fleet.find(caller.device_id)
        if member is None or member.stream_of != caller.incarnation:
            return  # an older incarnation's stream has nothing to say about the newer one
        member.unsubscribe()
        if member.phase is DevicePhase.IDLE:
            member.rest(now)  # one that was given up may yet push what it has trained

    def _base_taken(self, member: Member, version: Version, now: float) -> None:
        self.versions.hold(member.device.device_id, version)
        member.work(DevicePhase.TRAINING, now, self.rules.train_timeout_s, version)

    def _push_broken(self, header: UpdateHeader, now: float) -> None:
        member = self.fleet.find(header.device_id)
        if member is not None and member.phase is DevicePhase.PUSHING:
            member.enter(DevicePhase.TRAINING, now)

    def _refused(self, header: UpdateHeader, now: float) -> None:
        self.state.updates_rejected += 1
        member = self.fleet.find(header.device_id)
        if member is not None and member.caller == header_caller(header):
            member.count_refused()
            self._rest(member, now)

    def _pushed(self, update: Update[P], now: float, effects: list[ev.Effect[P]]) -> None:
        header = update.header
        before = self.settled(header)
        if before is not None:
            self._asked_again(header, now)
            effects.append(ev.Settled(header, before, first_time=False))
            return
        member = self.fleet.admit(header_caller(header))
        outcome = self.doomed(header) or self._fold(update, effects)
        self.state.settle(update, outcome)
        dense_bytes = self.rules.work.down_bytes
        member.count(outcome, header.train_loss, update.wire_bytes, dense_bytes)
        effects.append(ev.Settled(header, outcome, first_time=True))
        self._rest(member, now)

    def _asked_again(self, header: UpdateHeader, now: float) -> None:
        """A device that came back busy was busy with this: it has no other base, and rests now."""
        member = self.fleet.find(header.device_id)
        if member is None or member.caller != header_caller(header):
            return
        if member.phase is DevicePhase.TRAINING and member.base_version == NO_VERSION:
            member.rest(now)

    def doomed(self, header: UpdateHeader) -> Dropped | None:
        """The answer to an update that would be dropped whatever it holds; None for any other.

        Raises UnknownVersion for a base version that does not exist yet.
        """
        tau = self.newest.version - header.base_version
        if self.finished is not None:
            return Dropped(
                DropReason.TASK_FINISHED, f"the task is over: {self.finished.reason}", max(0, tau)
            )
        if tau < 0:
            raise UnknownVersion(
                f"base version {header.base_version} does not exist yet (newest is "
                f"{self.newest.version}); pull the model and train from it"
            )
        if tau > self.rules.staleness_limit:
            return Dropped(
                DropReason.TOO_STALE,
                f"base version {header.base_version} is {tau} versions old, the limit is "
                f"{self.rules.staleness_limit}; pull the newest model and train anew",
                tau,
            )
        return None

    def relive(self, past: Past[P]) -> list[ev.Effect[P]]:
        """Live through what an earlier life left, before the first event; what it made, again.

        Raises CorruptState when an update comes to something else than it came to then.
        """
        effects: list[ev.Effect[P]] = []
        match past:
            case Answered(update, outcome):
                again = outcome if isinstance(outcome, Dropped) else self._fold(update, effects)
                if again != outcome:
                    raise CorruptState(
                        f"update {update.header.update_id!r} came to {outcome}, and now comes to "
                        f"{again}: the stored state was written under other rules"
                    )
                self.state.settle(update, outcome)
                self.versions.release(update.header.device_id)
                effects.append(ev.Settled(update.header, outcome, first_time=True))
            case BaseHeld(device_id, version):
                self.versions.hold(device_id, version)
                self.versions.fall_silent(device_id)
            case Ended(finished):
                self.state.finished = finished
        return effects

    def _fold(self, update: Update[P], effects: list[ev.Effect[P]]) -> Outcome:
        header = update.header
        folded = self.state.fold(self.strategy, update)
        if header.refresh is not None and not isinstance(folded.outcome, Dropped):
            self._triggering.learn(header.device_id, header.refresh)
        if folded.made is not None:
            effects.append(ev.VersionMade(folded.made, folded.update_ids))
            if folded.made.version % self.rules.evaluate_every == 0:
                effects.append(ev.Evaluate(folded.made.version, folded.made.model))
        return folded.outcome

    def _rest(self, member: Member, now: float) -> None:
        self.versions.release(member.device.device_id)
        member.rest(now)

    def _give_up_the_silent(self, now: float) -> None:
        for device_id in self.fleet.timeouts.due(now):
            self.versions.fall_silent(device_id)
            self.fleet.member(device_id).rest(now)

    def _stop_if_due(self, now: float, effects: list[ev.Effect[P]]) -> None:
        if self.finished is not None:
            return
        first_fired = self._triggering.first_fired
        running_s = 0.0 if first_fired is None else now - first_fired
        evaluation = self._evaluated[1] if self._evaluated else None
        reason = self.rules.stop.reason(self.newest.version, evaluation, running_s)
        if reason is None:
            return
        self.state.finished = Finished(reason)
        effects.append(ev.TaskFinished(self.state.finished))
        if self._evaluated is None or self._evaluated[0] != self.newest.version:
            effects.append(ev.Evaluate(self.newest.version, self.newest.model))


def header_caller(header: UpdateHeader) -> Caller:
    """Who sent an update."""
    return Caller(header.device_id, header.incarnation)

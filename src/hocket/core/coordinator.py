"""The aggregator's rules: who is triggered, what becomes of each update, when the task ends.

A plain synchronous object. The services and the simulator drive the very same one.
"""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from hocket.core import events as ev
from hocket.core.device import Caller, Device, DeviceState
from hocket.core.fleet import NO_VERSION, Fleet, Member
from hocket.core.ids import Version
from hocket.core.past import Answered, BaseHeld, Ended, Past, RoundClosed
from hocket.core.records import DevicePhase, DeviceStatus, Evaluation
from hocket.core.round import Round
from hocket.core.state import Folded, TaskState
from hocket.core.strategy import Closing, Exchanging, Global, Strategy, Waiting
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
        self.fleet.round.asked |= state.contributors
        self._closing = strategy if isinstance(strategy, Closing) else None
        self._waits = isinstance(strategy, Waiting)
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

    def exchanged(self, version: Version) -> P | None:
        """What goes down with the base `version` besides the model; None for most rules.

        The rule has the vector of the newest version only, which is the only one that rounds take.
        Raises UnknownVersion for an older one.
        """
        if not isinstance(self.strategy, Exchanging):
            return None
        if version != self.newest.version:
            raise UnknownVersion(
                f"version {version} is over: the vector that this task exchanges with it is gone; "
                "pull the newest model and train from that",
                newest=str(self.newest.version),
            )
        down: P = self.strategy.down(self.state.memory)
        return down

    def settled(self, header: UpdateHeader) -> Outcome | None:
        """The answer that this update_id got before, if any."""
        return self.state.ledger.outcome(header.update_id, header.device_id)

    def check(self, header: UpdateHeader) -> None:
        """Refuse, before its body is read, what would be refused afterwards.

        Raises UnknownDevice, StaleIncarnation, UnknownVersion or InvalidUpdate.
        """
        member = self.fleet.admit(header_caller(header))
        if self.doomed(header) is None:
            self.versions.get(header.base_version)
            member.check_part(header)  # last: what is long settled may be on record, whatever it is

    def offered(self, header: UpdateHeader) -> Outcome | None:
        """The answer to an update that needs no body: as it was told before, or dropped.

        None for any other, whose body may come. Raises as `check`.
        """
        before = self.settled(header)
        if before is not None:
            return before
        self.check(header)
        return self.doomed(header)

    @property
    def round_closes_at(self) -> float | None:
        """When `handle(Tick(), now)` makes a version of what has come, if anything has."""
        if self.finished is not None or self._closing is None:
            return None
        return self._triggering.closes_at()

    def next_deadline(self) -> float | None:
        """When `handle(Tick(), now)` is next worth calling."""
        given_up = self.fleet.timeouts.first()
        deadlines = [] if given_up is None else [given_up]
        if self.finished is None:
            triggering = self._triggering
            ends_at = self.rules.stop.ends_at(triggering.first_fired)
            waiting = (triggering.next_deadline(), self.round_closes_at, ends_at)
            deadlines += [at for at in waiting if at is not None]
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
            case ev.BaseTaken():
                self._base_taken(self.fleet.admit(event.caller), event, now)
            case ev.PushStarted(header):
                member = self.fleet.admit(header_caller(header))
                patience_s = self.rules.train_timeout_s
                member.work(DevicePhase.PUSHING, now, patience_s, header.base_version)
                self._join_round(member, header.base_version, now)
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
                self._close_if_due(now, effects)
        self._stop_if_due(now, effects)
        if self.finished is None:
            effects += self._triggering.due(now, self.newest.version)
        return effects

    def _seen(self, device: Device, now: float) -> None:
        known = self.fleet.find(device.device_id)
        reborn = known is not None and known.device.incarnation != device.incarnation
        member = self.fleet.see(device, now)
        held = self.versions.held_by(device.device_id)
        if known is None and held is not None:
            member.held(held)
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
            self._join_round(member, self.versions.held_by(member.device.device_id), now)
        if self.finished is not None:
            effects.append(ev.TaskFinished(self.finished, first_time=False))

    def _unsubscribed(self, caller: Caller, now: float) -> None:
        member = self.fleet.find(caller.device_id)
        if member is None or member.stream_of != caller.incarnation:
            return  # an older incarnation's stream has nothing to say about the newer one
        member.unsubscribe()
        if member.phase is DevicePhase.IDLE:
            member.rest(now)  # one that was given up may yet push what it has trained

    def _base_taken(self, member: Member, taken: ev.BaseTaken, now: float) -> None:
        version = taken.version
        self.versions.hold(member.device.device_id, version)
        member.take(taken.spec, taken.why, version)
        member.work(DevicePhase.TRAINING, now, self.rules.train_timeout_s, version)
        self._join_round(member, version, now)

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
        doomed = self.doomed(header)
        if doomed is None:
            member.check_part(header)
        outcome = doomed or self._fold(update, effects)
        self.state.settle(update, outcome)
        if not isinstance(outcome, Dropped):
            self._triggering.accepted(header, outcome.version, now)
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
            case RoundClosed(version):
                if not self._close(effects) or self.newest.version != version:
                    raise CorruptState(
                        f"a deadline made version {version} of what had come, and now leads to "
                        f"version {self.newest.version}: the stored state was written under other "
                        "rules"
                    )
        return effects

    def _fold(self, update: Update[P], effects: list[ev.Effect[P]]) -> Outcome:
        header = update.header
        folded = self.state.fold(self.strategy, update)
        if header.refresh is not None and not isinstance(folded.outcome, Dropped):
            self._triggering.learn(header.device_id, header.refresh)
        if not isinstance(folded.outcome, Dropped):
            self.fleet.round.asked.add(header.device_id)
        self._note_version(folded, effects)
        return folded.outcome

    def _close(self, effects: list[ev.Effect[P]]) -> bool:
        """Whether a version came of what has come."""
        if self._closing is None:
            return False
        folded = self.state.close(self._closing)
        if folded is not None:
            self._note_version(folded, effects)
        return folded is not None

    def _note_version(self, folded: Folded[P], effects: list[ev.Effect[P]]) -> None:
        if folded.made is None:
            return
        if self._waits:  # else every update would begin a round
            self.fleet.round = Round()
        effects.append(ev.VersionMade(folded.made, folded.update_ids))
        if folded.made.version % self.rules.evaluate_every == 0:
            effects.append(ev.Evaluate(folded.made.version, folded.made.model))

    def _join_round(self, member: Member, base: Version | None, now: float) -> None:
        """Whoever works from the newest version is in its round, for whichever it was asked."""
        if base == self.newest.version:
            self.fleet.round.join(member.device.device_id, now)

    def _close_if_due(self, now: float, effects: list[ev.Effect[P]]) -> None:
        closes_at = self.round_closes_at
        if closes_at is not None and now >= closes_at and not self._close(effects):
            self.fleet.round.begin_anew(now)

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
        began = self._triggering.first_fired
        evaluation = self._evaluated[1] if self._evaluated else None
        reason = self.rules.stop.reason(self.newest.version, evaluation, now, began)
        if reason is None:
            return
        self.state.finished = Finished(reason)
        effects.append(ev.TaskFinished(self.state.finished))
        if self._evaluated is None or self._evaluated[0] != self.newest.version:
            effects.append(ev.Evaluate(self.newest.version, self.newest.model))


def header_caller(header: UpdateHeader) -> Caller:
    """Who sent an update."""
    return Caller(header.device_id, header.incarnation)

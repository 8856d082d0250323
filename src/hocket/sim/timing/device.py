"""A device whose part was recorded: what it did when is known, and only its learning is done anew.

The rules are the very same Participant; all of a training happens where its update arrived.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from torch import Tensor

from hocket.core import participant_events as pev
from hocket.core.device import Caller, Device, DeviceState
from hocket.core.ids import Incarnation, Version
from hocket.core.participant import Participant, ParticipantRules
from hocket.core.participant_header import header_of
from hocket.core.sizing.size import Ability
from hocket.core.strategy import Global
from hocket.core.terms import TaskTerms, Trigger
from hocket.core.update import Dropped, UpdateHeader
from hocket.errors import HocketError, NotFinite
from hocket.sim.fleet import DevicePlan
from hocket.sim.learner import Learner
from hocket.sim.result import Counts, DeviceCounts
from hocket.sim.server import Base, SimServer

ONLY = Incarnation(1)  # restarts of a device make no difference to what it learns


@dataclass(frozen=True, slots=True)
class Work:
    """One recorded training."""

    told: UpdateHeader  # of its update
    base: Base
    fresh: Global[Tensor] | None  # that it merged in mid-training
    began_s: float  # when it took its base
    now: float  # when its update was settled


class RecordedDevice:
    """Trains and pushes when it is told."""

    def __init__(
        self,
        plan: DevicePlan,
        terms: TaskTerms,
        rules: ParticipantRules,
        learner: Learner,
        server: SimServer,
        counts: Counts,
        since_s: float,
    ) -> None:
        self.plan = plan
        self.since_s = since_s  # that it is there
        self.caller = Caller(plan.device_id, ONLY)
        self.counts = DeviceCounts(plan.device_id, plan.device_class.name, plan.link.name)
        self.base: Base | None = None  # that it has taken
        self.held: Version | None = None  # and the number that this had in the history
        self.began_s = 0.0
        self._uncertain_bytes: int | None = None  # of that base, as counted
        self._terms, self._rules = terms, rules
        self._participant = Participant(rules, plan.device_id)
        self._learner = learner
        self._server = server
        self._all = counts

    def record(self) -> Device:
        """What a registry would tell of it when it is first there."""
        capability = self.plan.capability(self.since_s, self._learner.num_examples)
        return Device(self.plan.device_id, ONLY, DeviceState.ALIVE, capability)

    @property
    def down_bytes(self) -> int:
        """What travels to it for one model."""
        return self._learner.down_bytes

    def pulled(self) -> None:
        """Count a base that came down: of the size before, until its update says of which."""
        self._uncertain_bytes = self.down_bytes
        self._count_down(self.down_bytes)

    def _count_down(self, num_bytes: int) -> None:
        self.counts.bytes_down += num_bytes
        self._all.bytes_down += num_bytes

    def work(self, work: Work) -> None:
        """Train and push. Raises UnknownDevice or UnknownVersion as the rules do."""
        slot = 0 if work.told.refresh is None else work.told.refresh.slot
        refresh = replace(self._rules.refresh, fixed_slot=slot)
        self._participant.rules = replace(self._rules, refresh=refresh)
        self._all.triggers += 1
        trigger = Trigger(work.told.update_id, work.base.model.version, slot, 0.0)
        # The width is the recorded one, and what a rule derives from it must follow.
        ability = Ability(keep=max(work.told.spec.keep, default=1.0))
        events: deque[pev.Event] = deque([pev.Triggered(trigger, ability)])
        while events:
            for effect in self._participant.handle(events.popleft(), work.now):
                event = self._do(effect, work)
                if event is not None:
                    events.append(event)

    def _do(self, effect: pev.Effect, work: Work) -> pev.Event | None:
        learner = self._learner
        match effect:
            case pev.Pull(_, size):
                base = work.base
                recorded = replace(size, spec=work.told.spec)  # by what it could do then
                learner.take(recorded, self._participant.trainings)
                if self._uncertain_bytes is not None:
                    self._count_down(self.down_bytes - self._uncertain_bytes)
                    self._uncertain_bytes = None
                learner.start(base.model.model, base.exchanged)
                return pev.Pulled(base.model.version)
            case pev.TrainEpoch(epoch):
                return self._train(epoch, work)
            case pev.PullFresh():
                return self._pull_fresh(work)
            case pev.Merge(_, beta):
                return self._merge(beta, work)
            case pev.Push():
                return self._push(effect, work)
            case pev.PutBackResidual():
                learner.put_back()
            case pev.ForgetResidual():
                learner.forget()
        return None

    def _train(self, epoch: int, work: Work) -> pev.Event:
        self._learner.note(epoch, self.plan.device_class.shares.at(work.now))
        if not self._rules.sizing.watches_fisher:
            return pev.EpochDone()
        try:
            return pev.EpochDone(self._learner.fisher())
        except NotFinite:
            return self._failed()

    def _pull_fresh(self, work: Work) -> pev.Event:
        self._all.fresh_pulls += 1
        if work.fresh is None:
            return pev.FreshArrived(None)
        self._count_down(self.down_bytes)
        return pev.FreshArrived(work.fresh.version)

    def _merge(self, beta: float, work: Work) -> pev.Event:
        if work.fresh is None:
            raise RuntimeError("asked to merge a fresh model that was not pulled")
        try:
            report = self._learner.merge(work.fresh.model, beta)
        except NotFinite:
            return self._failed()
        self._all.merges += 1
        return pev.Merged(report.loss_before - report.loss_after, report.inner_product)

    def _push(self, push: pev.Push, work: Work) -> pev.Event:
        try:
            parcel = self._learner.finish()
        except NotFinite:
            return self._failed()
        self.counts.trainings += 1
        self._all.trainings += 1
        took_s = work.told.train_s
        self.counts.busy_s += took_s
        told = work.told
        made = header_of(push, self.caller, told.update_id, parcel.trained, self._terms)
        header = replace(made, train_s=took_s, spec=told.spec)
        payload = parcel.payload
        try:
            outcome = self._server.offer(header, payload.header)
            if outcome is None:
                self.counts.bytes_up += payload.header.wire_bytes
                self._all.bytes_up += payload.header.wire_bytes
                outcome = self._server.arrived(header, payload)
        except HocketError as error:
            self._all.updates_refused += 1
            return pev.PushRefused(error)
        self._learner.settled(work.now - work.began_s)
        if not isinstance(outcome, Dropped):
            self.counts.updates_accepted += 1
            self._learner.used()
        return pev.PushSettled(outcome)

    def _failed(self) -> pev.Event:
        """Training diverged."""
        self._all.failures += 1
        return pev.Failed()

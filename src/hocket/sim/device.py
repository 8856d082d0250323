"""One simulated device: its participant's effects carried out in virtual time.

What agent and performer do in a service, without waiting; the rules are the very same Participant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from hocket.core import participant_events as pev
from hocket.core.capability import Capability, CostLine
from hocket.core.ids import UpdateId, Version
from hocket.core.participant import Participant, ParticipantRules
from hocket.core.participant_header import header_of
from hocket.core.sizing.size import Ability
from hocket.core.strategy import Global
from hocket.core.terms import TaskTerms, Trigger
from hocket.core.update import Dropped
from hocket.errors import HocketError, NotFinite
from hocket.learn.training import PROBE_EXAMPLES
from hocket.sim.attendance import Attendance
from hocket.sim.calls import Answer, BasePull, FreshPull, Push
from hocket.sim.charge import batch_sizes, finish_at, jitter, work_s
from hocket.sim.courier import Network, SimCourier
from hocket.sim.fleet import DevicePlan
from hocket.sim.learner import Learner, Workshop
from hocket.sim.result import DeviceCounts
from hocket.sim.server import Base
from hocket.sim.tracer import Kind, Row

UNKNOWN = Capability(processor_share=0.0)  # no device's: it takes part with more than that


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all devices of a simulation share."""

    network: Network
    workshop: Workshop
    terms: TaskTerms
    rules: ParticipantRules
    lease_s: float
    seed: int


class SimDevice:
    """A device of the fleet. `come` and `go` say when it is there."""

    __slots__ = (
        "_around",
        "_attendance",
        "_capability",
        "_courier",
        "_fresh",
        "_fresh_began_s",
        "_learner",
        "_participant",
        "_pull_began_s",
        "_works_until_s",
        "counts",
        "plan",
    )

    def __init__(self, plan: DevicePlan, around: Surroundings) -> None:
        self.plan = plan
        self.counts = DeviceCounts(plan.device_id, plan.device_class.name, plan.link.name)
        self._around = around
        self._courier = SimCourier(plan, around.network, self.counts)
        self._attendance = Attendance(self._courier, around.workshop, around.lease_s)
        self._participant: Participant | None = None  # both made by the first trigger
        self._learner: Learner | None = None
        self._capability = UNKNOWN
        self._fresh: Global[Tensor] | None = None
        self._pull_began_s = 0.0
        self._fresh_began_s = 0.0
        self._works_until_s = 0.0  # as counted

    @property
    def busy(self) -> bool:
        """Whether a training is in flight."""
        return self._participant is not None and self._participant.busy

    @property
    def stream(self) -> int:
        """Number of the subscription that it listens on."""
        return self._attendance.stream

    @property
    def ahead_s(self) -> float:
        """Seconds of work that are counted already, and not over."""
        return max(0.0, self._works_until_s - self._around.network.agenda.now)

    # --- there or not

    def come(self) -> None:
        """It is there."""
        if not self._attendance.leaving:
            self._trace("come")
        self._attendance.come(busy=self.busy)

    def go(self) -> None:
        """It is gone, unless it finishes its training first."""
        if self.plan.mid_training == "finish" and self.busy:
            self._attendance.go_later()
            return
        self._trace("leave")
        self._attendance.go()

    # --- the participant

    def trigger(self, stream: int, trigger: Trigger) -> None:
        """A trigger has arrived on a stream; it is lost if the device listens there no more."""
        if self.stream == stream:
            if self._participant is None:
                self._participant = Participant(self._around.rules, self.plan.device_id)
                self._learner = self._around.workshop.learner(self.plan)
            self._tell(pev.Triggered(trigger, self._able()))

    def _able(self) -> Ability:
        """What it can do now, for the choice of its size."""
        plan, link, now = self.plan, self._courier.link, self._around.network.agenda.now
        if self._capability.processor_share != plan.device_class.shares.at(now):
            workshop = self._around.workshop
            typical = replace(plan, costs=workshop.lines(plan))
            self._capability = typical.capability(now, workshop.num_examples_of(plan))
        up, down = link.up_bytes_per_s, link.down_bytes_per_s
        return Ability(self._capability, up, down, plan.device_class.keep)

    def _tell(self, event: pev.Event) -> None:
        participant, learner = self._at_work()
        for effect in participant.handle(event, self._around.network.agenda.now):
            self._do(effect, participant, learner)

    def _do(self, effect: pev.Effect, participant: Participant, learner: Learner) -> None:
        match effect:
            case pev.Pull(_, size):
                self._pull_began_s = self._around.network.agenda.now
                learner.take(size, participant.trainings)
                call = BasePull(self._courier, size, learner.down_bytes, self._pulled)
                self._courier.begin(call)
            case pev.TrainEpoch(epoch):
                self._train(epoch, participant.trainings, learner)
            case pev.PullFresh(base):
                self._pull_fresh(base, learner)
            case pev.GiveUpFresh():
                self._courier.give_up()
            case pev.Merge(version, beta):
                self._merge(version, beta, learner)
            case pev.Push():
                self._push(effect, participant, learner)
            case pev.PutBackResidual():
                learner.put_back()
            case pev.ForgetResidual():
                learner.forget()
            case pev.Rest(gave_up):
                self._rest(gave_up=gave_up)

    def _pull_fresh(self, base: Version, learner: Learner) -> None:
        """A device that is away gets no answer, and trains on."""
        self._around.network.counts.fresh_pulls += 1
        self._fresh_began_s = self._around.network.agenda.now
        if self._courier.here:
            pull = FreshPull(self._courier, base, learner.down_bytes, self._fresh_came)
            self._courier.begin(pull)
        else:
            self._fresh_came(None)

    def _pulled(self, base: Base) -> None:
        _, learner = self._at_work()
        version = base.model.version
        learner.start(base.model.model, base.exchanged)
        seconds = self._around.network.agenda.now - self._pull_began_s
        self._trace("pull", version=version, bytes=learner.down_bytes, seconds=seconds)
        self._tell(pev.Pulled(version))

    def _fresh_came(self, fresh: Global[Tensor] | None) -> None:
        self._fresh = fresh
        seconds = self._around.network.agenda.now - self._fresh_began_s
        version = None if fresh is None else fresh.version
        if version is None:
            self._trace("fresh", seconds=seconds)
        else:
            _, learner = self._at_work()
            num_bytes = learner.down_bytes
            self._trace("fresh", version=version, bytes=num_bytes, seconds=seconds)
        self._tell(pev.FreshArrived(version))

    # --- work

    def _train(self, epoch: int, training: int, learner: Learner) -> None:
        """Charge an epoch now; whoever needs its result has it computed."""
        agenda, device_class = self._around.network.agenda, self.plan.device_class
        shares, now = device_class.shares, agenda.now
        share = shares.at(now)
        sizes = batch_sizes(learner.num_examples, self._around.terms.training.batch_size)
        uneven = jitter(
            device_class.jitter, self._around.seed, self.plan.device_id, training, epoch
        )
        costs = learner.costs(epoch, share, len(sizes))
        batches = list(zip(sizes, costs, strict=True))
        work = work_s(self._line, batches, self.plan.slowness * uneven)
        busy_s = work + (device_class.overhead_s if epoch == 1 else 0.0)
        end_s = finish_at(now, busy_s, shares)
        learner.note(epoch, share)
        self._count_work(now, end_s)
        agenda.at(end_s, partial(self._epoch_done, epoch, end_s - now))

    def _epoch_done(self, epoch: int, seconds: float) -> None:
        self._trace("epoch", slot=epoch, seconds=seconds)
        fisher = 0.0
        if self._around.rules.sizing.watches_fisher:
            _, learner = self._at_work()
            try:
                fisher = learner.fisher()
            except NotFinite:
                self._fail()
                return
        self._tell(pev.EpochDone(fisher))

    def _merge(self, version: int, beta: float, learner: Learner) -> None:
        """Mix the fresh model in. Judging both costs about a step on as many examples."""
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            raise RuntimeError("asked to merge a fresh model that was not pulled")
        try:
            report = learner.merge(fresh.model, beta)
        except NotFinite:
            self._fail()
            return
        reward = report.loss_before - report.loss_after
        self._around.network.counts.merges += 1
        self._trace("merge", version=version, weight=beta, reward=reward)
        agenda, shares = self._around.network.agenda, self.plan.device_class.shares
        examples = min(PROBE_EXAMPLES, learner.num_examples)
        end_s = finish_at(agenda.now, self._line.step_s(examples) * self.plan.slowness, shares)
        self._count_work(agenda.now, end_s)
        agenda.at(end_s, partial(self._tell, pev.Merged(reward, report.inner_product)))

    def _count_work(self, began_s: float, end_s: float) -> None:
        self.counts.busy_s += end_s - began_s
        self._works_until_s = end_s

    @property
    def _line(self) -> CostLine:
        """Seconds of its class's optimiser step at the width that it trains."""
        _, learner = self._at_work()
        keep = max(learner.spec.keep, default=1.0)
        line = Capability(self._around.workshop.lines(self.plan)).cost_at(keep)
        if line is None:
            raise RuntimeError(f"class {self.plan.device_class.name!r} has no costs")
        return line

    # --- the update

    def _push(self, push: pev.Push, participant: Participant, learner: Learner) -> None:
        try:
            parcel = learner.finish()
        except NotFinite:
            self._fail()
            return
        self.counts.trainings += 1
        self._around.network.counts.trainings += 1
        update_id = UpdateId(f"{self.plan.device_id}-{participant.trainings}")
        header = header_of(
            push,
            self._courier.caller,
            update_id,
            parcel.trained,
            self._around.terms,
        )
        self._trace("push", version=push.base_version, bytes=parcel.payload.header.wire_bytes)
        self._courier.begin(Push(self._courier, header, parcel, self._answered))

    def _answered(self, answer: Answer) -> None:
        if isinstance(answer, HocketError):
            self._around.network.counts.updates_refused += 1
            self._trace("settle", outcome=answer.reason.lower())
            self._tell(pev.PushRefused(answer))
        else:
            _, learner = self._at_work()
            learner.settled(self._around.network.agenda.now - self._pull_began_s)
            if not isinstance(answer, Dropped):
                self.counts.updates_accepted += 1
                learner.used()
            self._tell(pev.PushSettled(answer))

    def _fail(self) -> None:
        """Training diverged."""
        self._around.network.counts.failures += 1
        self._tell(pev.Failed())

    def _rest(self, *, gave_up: bool) -> None:
        """Between two trainings."""
        self._attendance.rested(gave_up=gave_up, busy=self.busy)
        if self._attendance.leaving and not self.busy:
            self.go()

    def _at_work(self) -> tuple[Participant, Learner]:
        if self._participant is None or self._learner is None:
            raise RuntimeError("told something before the first trigger")
        return self._participant, self._learner

    def _trace(self, kind: Kind, **facts: Any) -> None:
        network = self._around.network
        if network.tracer.wants(kind):
            training = self._participant.trainings if self._participant is not None else -1
            row = Row(kind, network.agenda.now, self.plan.device_id, training=training, **facts)
            network.tracer.row(row)

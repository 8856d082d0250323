"""A device's rules: when it pulls, trains, pulls afresh, merges, pushes and rests.

A plain synchronous object, told the time: events in, effects out. The device service and the
simulator drive the very same one; the tensors are theirs.

Liu, Che, Zhou, Jin, Dai, Dou, Valduriez. FedASMU: Efficient Asynchronous Federated Learning with
Dynamic Staleness-Aware Model Update. AAAI 2024. One extra download per training: after local epoch
`slot` the device asks for the fresh model. It trains on while that is on its way, and merges it
(Eq. 7) at the end of the epoch in which it came, unless nothing newer exists; one that comes after
the last epoch is given up. (Whether the paper's devices wait is unknown to us; idle ones gain
nothing.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from hocket.core import participant_events as ev
from hocket.core.chance import Stream
from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one
from hocket.core.refresh import RefreshControls
from hocket.core.sizing import Full, sizing_of
from hocket.core.sizing.size import WHOLE, Facts, Lesson, Size, Sizing
from hocket.core.slots import SlotTable
from hocket.core.terms import RefreshTerms, TaskTerms, Trigger
from hocket.core.update import Dropped, RefreshReport
from hocket.errors import DataError, NotFinite


class Phase(StrEnum):
    """What a participant waits for."""

    RESTING = "resting"  # a trigger
    PULLING = "pulling"  # its base
    TRAINING = "training"  # the end of an epoch
    MERGING = "merging"  # the merge
    PUSHING = "pushing"  # what becomes of its update
    STOPPED = "stopped"  # nothing


NO_VERSION = Version(0)
BUSY = frozenset(Phase) - {Phase.RESTING, Phase.STOPPED}


@dataclass(frozen=True, slots=True)
class ParticipantRules:
    """Settings of a participant; all of them are the aggregator's to say."""

    local_epochs: int
    refresh: RefreshTerms = field(default_factory=RefreshTerms)
    staleness_limit: int = 99  # a residual older than so many versions means nothing any more
    seed: int = 0
    sizing: Sizing = field(default_factory=Full)
    batch_size: int = 1
    model_bytes: int = 0  # of the whole model, as a pull brings it

    def __post_init__(self) -> None:
        at_least_one("training", "local_epochs", self.local_epochs)

    @classmethod
    def of(cls, terms: TaskTerms) -> ParticipantRules:
        """What a device of this task goes by. Raises TaskError for a sizing rule not known here."""
        return cls(
            terms.training.local_epochs,
            terms.refresh,
            terms.staleness_limit,
            terms.seed,
            sizing_of(terms.sizing),
            terms.training.batch_size,
            terms.down_bytes,
        )

    def num_steps(self, num_examples: int) -> int:
        """Optimiser steps of one training."""
        return self.local_epochs * -(-num_examples // self.batch_size)

    @property
    def last_slot(self) -> int:
        """What is asked for later would come too late; 0 where there is no slot at all."""
        return self.local_epochs - 1 if self.refresh.enabled else 0


@dataclass(slots=True)
class _Training:
    """The training in flight."""

    slot: int  # 0: no refresh
    size: Size = WHOLE
    facts: Facts | None = None  # that the size was chosen by
    fisher: float = 0.0  # the largest score so far
    base: Version = NO_VERSION
    epoch: int = 0  # the one that runs, or the last that ran
    epoch_began: float = 0.0
    train_s: float = 0.0
    asking: bool = False  # the fresh model is on its way
    fresh: Version = NO_VERSION  # has come, and is merged at the end of the epoch, or was
    merged: bool = False
    report: RefreshReport | None = None


class Participant:
    """One device's part in one task.

    An event that does not fit the present phase, such as the end of an epoch of a training given
    up, has no effects. A trigger while busy waits: the aggregator may have taken the update in and
    sent the next trigger before the outcome has arrived here.
    """

    def __init__(self, rules: ParticipantRules, device_id: DeviceId) -> None:
        self.rules = rules
        self.device_id = device_id
        self.phase = Phase.RESTING
        self.controls: RefreshControls = rules.refresh.rules.start()
        self.slots: SlotTable | None = None  # begins with the first merge
        self.trainings = 0  # begun so far
        self.learned_sizes: Mapping[str, Any] = {}  # the sizing rule's memory
        self._last_base: Version | None = None
        self._finished: str | None = None
        self._pending: ev.Triggered | None = None  # came while busy
        self._training = _Training(slot=0)

    @property
    def busy(self) -> bool:
        """Whether a trigger would be ignored."""
        return self.phase in BUSY

    @property
    def finishing(self) -> bool:
        """Whether no more triggers will come."""
        return self._finished is not None

    @property
    def slot(self) -> int:
        """After which epoch the training in flight asks for the fresh model; 0: never."""
        return self._training.slot

    @property
    def size(self) -> Size:
        """Of the training in flight, or the last one."""
        return self._training.size

    def handle(  # noqa: C901, PLR0911, PLR0912 -- a table
        self, event: ev.Event, now: float
    ) -> list[ev.Effect]:
        """Take one event in at `now` (seconds, never decreasing)."""
        match self.phase, event:
            case Phase.STOPPED, _:
                return []
            case _, ev.FinishedTask(reason):
                return self._finish(reason)
            case Phase.RESTING, ev.UnsettledPush():
                self.phase = Phase.PUSHING
                return [ev.PushAgain()]
            case Phase.RESTING, ev.Triggered():
                return self._begin(event)
            case Phase.PULLING, ev.Pulled(version):
                return self._pulled(version, now)
            case Phase.TRAINING, ev.EpochDone(fisher):
                return self._epoch_done(fisher, now)
            case Phase.TRAINING, ev.FreshArrived(version):
                self._fresh_arrived(version)
            case Phase.MERGING, ev.Merged(reward, inner_product):
                return self._merged(reward, inner_product, now)
            case Phase.PUSHING, ev.PushRefused(NotFinite()):
                return [ev.ForgetResidual(), *self._rest()]  # put back, it would never get through
            case Phase.PUSHING, ev.PushSettled(Dropped()) | ev.PushRefused():
                return [ev.PutBackResidual(), *self._rest()]
            case Phase.PUSHING, ev.PushSettled():
                return self._rest()
            case phase, ev.Failed() if phase in BUSY:
                return self._rest(gave_up=self._pending is None)
            case phase, ev.Triggered() if phase in BUSY:
                self._pending = event
        return []

    def to_dict(self) -> dict[str, Any]:
        """What must survive a restart, as JSON values.

        A training in flight does not, but its update may: then tell the next life of it by
        UnsettledPush.
        """
        return {
            "gamma": self.controls.gamma,
            "upsilon": self.controls.upsilon,
            "slots": None if self.slots is None else self.slots.to_dict(),
            "trainings": self.trainings,
            "last_base": self._last_base,
            "sizes": dict(self.learned_sizes),
        }

    @classmethod
    def from_dict(
        cls, rules: ParticipantRules, device_id: DeviceId, state: Mapping[str, Any]
    ) -> Participant:
        """Rebuild from `to_dict`, at rest. A table for another number of epochs is left out.

        Raises DataError when `state` is not such a dict.
        """
        participant = cls(rules, device_id)
        try:
            gamma, upsilon = float(state["gamma"]), float(state["upsilon"])
            table, last_base = state["slots"], state["last_base"]
            participant.trainings = int(state["trainings"])
            participant._last_base = None if last_base is None else Version(int(last_base))
            participant.learned_sizes = dict(state.get("sizes", {}))
        except (KeyError, TypeError, ValueError, OverflowError) as wrong:
            raise DataError(f"the state kept on disk is damaged ({wrong!r}); delete it") from None
        if not (0.0 <= gamma < math.inf and 0.0 <= upsilon <= 1.0):
            raise DataError(
                f"the state kept on disk is damaged (gamma {gamma}, upsilon {upsilon}); delete it"
            )
        participant.controls = replace(participant.controls, gamma=gamma, upsilon=upsilon)
        if table is not None:
            slots = SlotTable.from_dict(table)
            participant.slots = slots if slots.last_slot == rules.last_slot else None
        return participant

    def _begin(self, triggered: ev.Triggered) -> list[ev.Effect]:
        self.trainings += 1
        trigger, ability = triggered.trigger, triggered.ability
        facts = Facts(
            self.device_id,
            self.trainings,
            Version(trigger.version),
            ability,
            self.rules.num_steps(ability.capability.num_examples),
            self.rules.batch_size,
            self.rules.model_bytes,
            self.rules.seed,
        )
        size = self.rules.sizing.choose(facts, self.learned_sizes)
        self._training = _Training(self._choose_slot(trigger), size, facts)
        self.phase = Phase.PULLING
        return [ev.Pull(trigger, size)]

    def _choose_slot(self, trigger: Trigger) -> int:
        """The task's, else the device's own once it has a table, else the server's (1.5)."""
        if self.rules.refresh.fixed_slot:
            return min(self.rules.refresh.fixed_slot, self.rules.last_slot)
        if self.slots is not None:
            chance = Stream(self.rules.seed, "slot", self.device_id, self.trainings)
            return self.slots.choose(chance)
        return min(trigger.slot, self.rules.last_slot)

    def _pulled(self, version: Version, now: float) -> list[ev.Effect]:
        self._training.base = version
        last, self._last_base = self._last_base, version
        near = last is None or last <= version <= last + self.rules.staleness_limit
        forget: list[ev.Effect] = [] if near else [ev.ForgetResidual()]
        return forget + self._next_epoch(now)

    def _next_epoch(self, now: float) -> list[ev.Effect]:
        training = self._training
        if training.epoch == self.rules.local_epochs:
            self.phase = Phase.PUSHING
            self._learn_size()
            spec = training.size.spec
            push = ev.Push(training.base, training.train_s, training.report, spec)
            return [*self._give_up_fresh(), push]
        training.epoch += 1
        training.epoch_began = now
        self.phase = Phase.TRAINING
        return [ev.TrainEpoch(training.epoch)]

    def _learn_size(self) -> None:
        training = self._training
        if training.facts is not None:
            lesson = Lesson(training.size, training.train_s, training.fisher)
            rule, before = self.rules.sizing, self.learned_sizes
            self.learned_sizes = rule.learn(lesson, training.facts, before)

    def _epoch_done(self, fisher: float, now: float) -> list[ev.Effect]:
        training = self._training
        training.fisher = max(training.fisher, fisher)
        training.train_s += now - training.epoch_began
        if training.epoch == training.slot:
            training.asking = True
            return [ev.PullFresh(training.base), *self._next_epoch(now)]
        if training.fresh == NO_VERSION or training.merged:
            return self._next_epoch(now)
        training.merged = True
        self.phase = Phase.MERGING
        return [ev.Merge(training.fresh, self.controls.beta(training.fresh, training.base))]

    def _fresh_arrived(self, version: Version | None) -> None:
        training = self._training
        if training.asking and version is not None and version > training.base:
            training.fresh = version
        training.asking = False

    def _give_up_fresh(self) -> list[ev.Effect]:
        """What was asked for comes too late."""
        asking, self._training.asking = self._training.asking, False
        return [ev.GiveUpFresh()] if asking else []

    def _merged(self, reward: float, inner_product: float, now: float) -> list[ev.Effect]:
        """Learn from the merge; a loss that is not finite teaches nothing and is not reported."""
        training = self._training
        if math.isfinite(reward) and math.isfinite(inner_product):
            training.report = RefreshReport(training.slot, training.fresh, reward)
            self.controls = self.controls.learned(inner_product, training.fresh, training.base)
            if self.slots is None:
                self.slots = SlotTable(training.slot, self.rules.last_slot)
            self.slots.reward(reward)
        return self._next_epoch(now)

    def _finish(self, reason: str) -> list[ev.Effect]:
        """What is on its way is still settled; what is not is given up."""
        self._finished = reason
        return [] if self.phase is Phase.PUSHING else self._rest()

    def _rest(self, *, gave_up: bool = False) -> list[ev.Effect]:
        late = self._give_up_fresh()
        if self._finished is not None:
            self.phase = Phase.STOPPED
            return [*late, ev.Stop(self._finished)]
        self.phase = Phase.RESTING
        rest: list[ev.Effect] = [*late, ev.Rest(gave_up)]
        pending, self._pending = self._pending, None
        return rest if pending is None else rest + self._begin(pending)

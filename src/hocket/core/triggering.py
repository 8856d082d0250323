"""Sends idle devices to work: how many by the pace, which by the selection, with which slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from hocket.core.chance import Stream, stream_seed
from hocket.core.events import SendTrigger
from hocket.core.fleet import NO_VERSION, Fleet
from hocket.core.idle import Rest
from hocket.core.ids import DeviceId, Version
from hocket.core.records import DevicePhase
from hocket.core.scheduling import (
    AnyPace,
    AnySelection,
    Candidate,
    Estimates,
    Progress,
    Seen,
    Work,
)
from hocket.core.state import TaskState
from hocket.core.stop import Stop
from hocket.core.strategy import Memory
from hocket.core.terms import Trigger
from hocket.core.update import RefreshReport, UpdateHeader
from hocket.errors import CorruptState


class SlotPolicy(Protocol):
    """Who suggests the local epoch after which a device pulls afresh (FedASMU 1.5)."""

    def propose(self, seed: int) -> int:
        """A slot in 1..epochs-1; 0 for none."""
        ...

    def reinforce(self, slot: int, reward: float) -> None:
        """Learn from what a merge at `slot` gained."""
        ...

    def keep(self) -> Memory[Any]:
        """All that it has learned, so that `recall` gives it back bit for bit."""
        ...

    def recall(self, kept: Memory[Any]) -> None:
        """Become what `keep` was called on. Raises CorruptState for another policy's memory."""
        ...


@dataclass(frozen=True, slots=True)
class FixedSlot:
    """Always the same slot; 0 for none."""

    slot: int = 0

    def propose(self, seed: int) -> int:  # noqa: ARG002 -- chance changes nothing here
        """The slot."""
        return self.slot

    def reinforce(self, slot: int, reward: float) -> None:
        """A fixed slot learns nothing."""

    def keep(self) -> Memory[Any]:
        """Nothing."""
        return Memory()

    def recall(self, kept: Memory[Any]) -> None:
        """Raises CorruptState for anything but nothing."""
        if kept.facts or kept.tensors:
            raise CorruptState(
                "a learned slot policy is stored, but the task has a fixed slot: restore "
                "`kind` of [refresh] in the task file, or begin anew in another folder"
            )


@dataclass(frozen=True, slots=True)
class CoordinatorRules:
    """Settings of the coordinator."""

    pace: AnyPace
    selection: AnySelection
    work: Work
    stop: Stop = field(default_factory=Stop)
    staleness_limit: int = 99  # in versions (tau); older updates are dropped, older bases forgotten
    train_timeout_s: float = 600.0  # after this long a device in flight is given up
    evaluate_every: int = 1  # versions
    seed: int = 0


class IdleDevices:
    """The devices to choose from at one moment (a Pool)."""

    def __init__(self, ranks: Rest, fleet: Fleet, estimates: Estimates, now: float) -> None:
        self._ranks = ranks
        self._fleet = fleet
        self._estimates = estimates
        self._now = now

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, device_id: DeviceId) -> bool:
        return device_id in self._ranks

    def device_id(self, rank: int) -> DeviceId:
        """Whose rank it is."""
        return self._ranks.at(rank)

    def candidate(self, rank: int) -> Candidate:
        """The same device with what the registry measured of it."""
        member = self._fleet.member(self._ranks.at(rank))
        waited_s = self._now - member.last_triggered
        expected = self._estimates.expected_s(member.device)
        return Candidate(member.device.device_id, waited_s, expected)


class Triggering:
    """Who is asked to train, and when."""

    def __init__(
        self, rules: CoordinatorRules, fleet: Fleet, slots: SlotPolicy, state: TaskState[Any, Any]
    ) -> None:
        self.first_fired: float | None = None  # when the task's first trigger was sent
        self._rules = rules
        self._fleet = fleet
        self._slots = slots
        self._reported: set[DeviceId] = set()  # devices whose own Q-table has begun to learn
        self._last_fired: float | None = None
        self._state = state
        self._estimates = Estimates(rules.work)
        self._memory: Any = rules.selection.begin()  # of what the devices' updates were like

    def accepted(self, header: UpdateHeader, version: Version, now: float) -> None:
        """An update is, or will be, part of `version`: whoever selects may learn from it."""
        member = self._fleet.member(header.device_id)
        seen = Seen(
            header.device_id,
            header.num_examples,
            max(0.0, header.train_loss_rms or header.train_loss),
            max(0.0, now - member.last_triggered),
            version,
            now,
        )
        self._rules.selection.learn(self._memory, seen)

    def learn(self, device_id: DeviceId, report: RefreshReport) -> None:
        """A merge at the reported slot gained so much."""
        self._reported.add(device_id)
        self._slots.reinforce(report.slot, report.reward)

    def forget(self, device_id: DeviceId) -> None:
        """The device has started anew, maybe without its table: suggest slots again."""
        self._reported.discard(device_id)

    def next_deadline(self) -> float | None:
        """When waiting alone makes a trigger due."""
        if not self._fleet.idle:
            return None
        return self._rules.pace.next_deadline(self._progress(0.0))

    def closes_at(self) -> float | None:
        """When the round ends with what has come, whoever is still at work."""
        return self._rules.pace.closes_at(self._progress(0.0))

    def due(self, now: float, newest: Version) -> list[SendTrigger]:
        """Triggers to send now."""
        if self._fleet.round.began is None and self._state.contributors:
            self._fleet.round.began = now  # in an earlier life, or by whoever was late
        if not self._fleet.idle:
            return []
        count = self._rules.pace.due(self._progress(now))
        if count <= 0:
            return []
        idle = self._idle(now)
        if not idle:
            return []
        chance = Stream(self._rules.seed, "selection", self._state.triggers_sent)
        chosen = self._rules.selection.choose(idle, count, chance, self._memory)
        self._last_fired = now
        if self.first_fired is None:
            self.first_fired = now
        return [self._send(device_id, now, newest) for device_id in chosen]

    def _idle(self, now: float) -> IdleDevices:
        barred = self._rules.pace.barred(self._state.contributors, self._fleet.round.asked)
        ranks = self._fleet.idle.ranks_without(barred)
        return IdleDevices(ranks, self._fleet, self._estimates, now)

    def _send(self, device_id: DeviceId, now: float, newest: Version) -> SendTrigger:
        member = self._fleet.member(device_id)
        self._state.triggers_sent += 1
        slot = 0
        if device_id not in self._reported:
            slot = self._slots.propose(
                stream_seed(self._rules.seed, "slot", self._state.triggers_sent)
            )
        timeout_s = self._rules.train_timeout_s
        member.last_triggered = now
        member.work(DevicePhase.TRAINING, now, timeout_s, NO_VERSION)
        self._fleet.round.join(device_id, now)
        trigger = Trigger(f"{newest}-{self._state.triggers_sent}", newest, slot, timeout_s)
        return SendTrigger(member.caller, trigger)

    def _progress(self, now: float) -> Progress:
        given, turn = len(self._state.contributors), self._fleet.round
        return Progress(
            now,
            self._last_fired,
            self._fleet.num_in_flight,
            given,
            len(turn.working),
            len(turn.asked),
            turn.began,
        )

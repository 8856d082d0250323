"""What the fleet keeps count of, against going through all members, over histories of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from support.fuzzing import records
from support.scalar import WORK, caller, coordinator, device, update
from support.scalar_rules import Buffering
from support.steps import count_steps

from hocket.core import events as ev
from hocket.core.chance import Stream
from hocket.core.coordinator import Coordinator
from hocket.core.device import DeviceState
from hocket.core.fleet import Fleet, Member
from hocket.core.ids import DeviceId
from hocket.core.records import DevicePhase, DeviceStatus
from hocket.core.scheduling import (
    AnyPace,
    AnySelection,
    ByCapability,
    Candidate,
    Concurrent,
    Oort,
    Periodic,
    Pool,
    Rounds,
    Seen,
    Tifl,
    Uniform,
    expected_s,
)
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.triggering import CoordinatorRules
from hocket.core.update import Dropped
from hocket.errors import HocketError

Rules = Coordinator[float, Any]
TIMEOUT_S = 7.0
IN_FLIGHT = (DevicePhase.TRAINING, DevicePhase.PUSHING)


@dataclass
class Plainly:
    """Chooses by going through all idle devices, and holds the other way to that."""

    selection: Uniform | ByCapability
    rules: Rules | None = None
    now: float = 0.0
    chosen: int = 0

    @property
    def kind(self) -> str:
        return self.selection.kind

    def begin(self) -> None:
        """It remembers nothing."""

    def learn(self, memory: None, seen: Seen) -> None:
        """It remembers nothing."""

    def choose(self, pool: Pool, count: int, chance: Stream, memory: None) -> list[DeviceId]:
        idle = [pool.candidate(rank) for rank in range(len(pool))]
        assert self.rules is not None
        assert idle == plain_candidates(self.rules, self.now)
        assert [pool.device_id(rank) for rank in range(len(pool))] == [c.device_id for c in idle]
        names = [member.device.device_id for member in self.rules.fleet]
        assert [name for name in sorted(names) if name in pool] == [c.device_id for c in idle]
        same = Stream(7, "selection", self.rules.state.triggers_sent)
        weights = [1.0 for _ in idle]
        if isinstance(self.selection, ByCapability):
            weights = [(1.0 + c.waited_s) / (1.0 + (c.expected_s or 0.0)) for c in idle]
        plain = [c.device_id for c in same.weighted(idle, weights, count)]
        assert self.selection.choose(pool, count, chance, memory) == plain
        assert chance.random() == same.random()  # as many draws, too
        self.chosen += len(plain)
        return plain


def plain_candidates(c: Rules, now: float) -> list[Candidate]:
    barred = c.rules.pace.barred(c.state.contributors, c.fleet.round.asked)
    return [
        Candidate(m.device.device_id, now - m.last_triggered, expected_s(m.device, c.rules.work))
        for m in plain_idle(c)
        if m.device.device_id not in barred
    ]


def plain_idle(c: Rules) -> list[Member]:
    idle = [m for m in c.fleet if m.phase is DevicePhase.IDLE and m.willing]
    return sorted(idle, key=lambda member: member.device.device_id)


@dataclass
class Witness:
    """Remembers what the coordinator was told and what it answered."""

    rules: Rules
    timeouts: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def take(self, event: ev.Event[float], now: float) -> None:
        """Have the rules take the event in, and look at all that they keep count of."""
        before = {m.device.device_id: m.phase for m in self.rules.fleet}
        earlier = [(m, m.status) for m in self.rules.fleet]
        as_it_was = [repr(status) for _, status in earlier]
        try:
            effects = self.rules.handle(event, now)
        except HocketError:
            effects = []
        else:
            self._note(event, before, now)
        for effect in effects:
            self._hear(effect, now)
        assert as_it_was == [repr(status) for _, status in earlier]
        self.check(now)

    def _note(
        self, event: ev.Event[float], before: dict[DeviceId, DevicePhase], now: float
    ) -> None:
        match event:
            case ev.BaseTaken(who, _):
                self.timeouts[who.device_id] = now + TIMEOUT_S
            case ev.PushStarted(header):
                self.timeouts[header.device_id] = now + TIMEOUT_S
            case ev.Subscribed(who, True) if before[who.device_id] not in IN_FLIGHT:
                self.timeouts[who.device_id] = now + TIMEOUT_S

    def _hear(self, effect: ev.Effect[float], now: float) -> None:
        match effect:
            case ev.SendTrigger(who, _):
                self.timeouts[who.device_id] = now + TIMEOUT_S
            case ev.Settled(header, outcome, True):
                tally = self.refused if isinstance(outcome, Dropped) else self.accepted
                tally[header.device_id] = tally.get(header.device_id, 0) + 1

    def check(self, now: float) -> None:
        """Everything by going through all members."""
        fleet = self.rules.fleet
        idle = [member.device.device_id for member in plain_idle(self.rules)]
        assert [fleet.idle.at(rank) for rank in range(len(fleet.idle))] == idle
        busy = [m.device.device_id for m in fleet if m.phase in IN_FLIGHT]
        assert fleet.num_in_flight == len(busy) == len(fleet.timeouts)
        assert fleet.timeouts.first() == min((self.timeouts[who] for who in busy), default=None)
        for member in fleet:
            name, tally = member.device.device_id, self.accepted
            expected = (member.phase, member.base_version, tally.get(name, 0))
            status = member.status
            assert (status.phase, status.base_version, status.updates_accepted) == expected
            assert status.updates_rejected == self.refused.get(name, 0)
        waiting = self.rules.next_deadline()
        assert waiting is None or not busy or waiting <= min(self.timeouts[w] for w in busy)
        assert [s.device_id for s in self.rules.statuses(now)] == sorted(
            member.device.device_id for member in fleet
        )


def seen(name: str, step: int, c: Rules) -> ev.Event[float]:
    known = c.fleet.find(DeviceId(name))
    incarnation = 1 if known is None else known.device.incarnation + (step % 4 == 3)
    state = DeviceState.EXPIRED if step % 5 == 4 else DeviceState.ALIVE
    told = device(name, incarnation, step_s=0.1 * (step % 3), state=state, available=step % 6 != 5)
    return ev.DeviceSeen(told)


def spoken(name: str, c: Rules) -> int:
    known = c.fleet.find(DeviceId(name))
    return 1 if known is None else known.device.incarnation


ACTIONS: dict[str, Callable[[str, int, Rules], ev.Event[float]]] = {
    "seen": seen,
    "subscribed": lambda n, step, c: ev.Subscribed(caller(n, spoken(n, c)), step % 3 == 2),
    "unsubscribed": lambda n, _, c: ev.Unsubscribed(caller(n, spoken(n, c))),
    "base": lambda n, _, c: ev.BaseTaken(caller(n, spoken(n, c)), c.newest.version),
    "started": lambda n, _, c: ev.PushStarted(
        update(n, c.newest.version, incarnation=spoken(n, c)).header
    ),
    "broken": lambda n, _, c: ev.PushBroken(
        update(n, c.newest.version, incarnation=spoken(n, c)).header
    ),
    "pushed": lambda n, step, c: ev.Pushed(
        update(
            n,
            c.versions.holds.get(DeviceId(n), c.newest.version),
            update_id=f"{n}-{c.newest.version}-{step}",
            incarnation=spoken(n, c),
        )
    ),
    "tick": lambda *_: ev.Tick(),
}


def steps_of(scripts: list[bytes]) -> list[tuple[str, int, int]]:
    """What is done, by which device, and a number that decides the rest."""
    names = sorted(ACTIONS)
    return [(names[what % len(names)], who % 8, step % 60) for what, who, step in scripts]


@pytest.mark.parametrize("selection", [Uniform(), ByCapability()], ids=lambda s: s.kind)
@pytest.mark.parametrize(
    "pace", [Periodic(period_s=3.0, triggers=2), Concurrent(3), Rounds(4)], ids=lambda p: p.kind
)
@settings(max_examples=40)
@given(records(20, 60, 3).map(steps_of))
def test_counts_and_choices_are_those_of_going_through_all(
    pace: AnyPace, selection: Uniform | ByCapability, steps: list[tuple[str, int, int]]
) -> None:
    plainly = Plainly(selection)
    # AnySelection lists the kinds that a task file can name; the rules take any.
    kind = cast("Any", plainly)
    rules = CoordinatorRules(pace, kind, WORK, train_timeout_s=TIMEOUT_S, seed=7)
    c = plainly.rules = Coordinator.begin(rules, Buffering(goal=3), Global(0.0))
    witness, now = Witness(c), 0.0
    enlisted: list[ev.Event[float]] = [ev.DeviceSeen(device(f"d{n}")) for n in range(6)]
    enlisted += [ev.Subscribed(caller(f"d{n}")) for n in range(6)]
    for event in enlisted:
        witness.take(event, now)
    for action, number, step in steps:
        now += step % 4
        plainly.now = now
        witness.take(ACTIONS[action](f"d{number}", step, c), now)
    assert plainly.chosen


def test_a_status_in_hand_is_what_was_then() -> None:
    c = coordinator(pace=Concurrent(1))
    c.handle(ev.DeviceSeen(device("a")), 0.0)
    member = c.fleet.member(DeviceId("a"))
    away = member.status
    assert member.status is away  # built once for as long as nothing changes
    c.handle(ev.Subscribed(caller("a")), 1.0)
    assert (away.phase, member.status.phase) == (DevicePhase.AWAY, DevicePhase.TRAINING)


def test_every_change_of_a_member_is_counted_at_once() -> None:
    fleet = Fleet()
    member = fleet.see(device("a"), 0.0)
    member.enter(DevicePhase.IDLE, 1.0)
    assert (len(fleet.idle), fleet.num_in_flight) == (0, 0)  # nobody listens
    member.subscribe()
    assert fleet.idle.at(0) == "a"
    fleet.see(device("a", available=False), 2.0)
    assert len(fleet.idle) == 0
    fleet.see(device("a"), 2.0)
    assert len(fleet.idle) == 1
    member.unsubscribe()
    assert len(fleet.idle) == 0
    member.work(DevicePhase.TRAINING, 3.0, timeout_s=5.0)
    assert (fleet.num_in_flight, fleet.timeouts.first()) == (1, 8.0)
    assert member.status.updates_rejected == 0
    member.count_refused()
    assert member.status.updates_rejected == 1
    member.rest(4.0)
    assert (fleet.num_in_flight, fleet.timeouts.first()) == (0, None)


def test_a_device_has_a_part_once_it_has_pulled_one() -> None:
    c = coordinator()
    c.handle(ev.DeviceSeen(device("a")), 0.0)
    c.handle(ev.Subscribed(caller("a")), 0.0)
    member = c.fleet.member(DeviceId("a"))
    assert (member.status.spec, member.status.why) == (None, "")
    c.handle(ev.BaseTaken(caller("a"), c.newest.version), 0.0)
    assert (member.status.spec, member.status.why) == (FULL, "")
    half = SubmodelSpec((0.5,))
    c.handle(ev.BaseTaken(caller("a"), c.newest.version, half, "1/2: slow"), 0.0)
    assert (member.status.spec, member.status.why) == (half, "1/2: slow")


def test_a_device_of_an_earlier_life_goes_on_counting() -> None:
    c = coordinator()
    name = DeviceId("a")
    told = DeviceStatus(name, DevicePhase.AWAY, c.newest.version, 3, 2, 50, 70, 0.5, 0.25, 4)
    c.fleet.remember({name: told})
    c.handle(ev.DeviceSeen(device("a")), 0.0)
    status = c.fleet.member(name).status
    assert (status.updates_accepted, status.updates_rejected, status.last_tau) == (3, 2, 4)
    assert (status.wire_bytes, status.dense_bytes) == (50, 70)
    assert (status.last_train_loss, status.last_weight) == (0.5, 0.25)
    c.handle(ev.Subscribed(caller("a")), 0.0)
    c.handle(ev.BaseTaken(caller("a"), c.newest.version), 0.0)
    c.handle(ev.Pushed(update("a", 1)), 1.0)
    assert c.fleet.member(name).status.updates_accepted == 4


@pytest.mark.parametrize(
    "selection",
    [Uniform(), ByCapability(consider=20), Oort(consider=20), Tifl(consider=20)],
    ids=lambda s: s.kind,
)
@pytest.mark.parametrize(
    "pace", [Periodic(period_s=1.0, triggers=3), Concurrent(50), Rounds(50)], ids=lambda p: p.kind
)
def test_what_an_event_costs_does_not_grow_with_the_idle_devices(
    pace: AnyPace, selection: AnySelection
) -> None:
    few, many = (_busy(count, pace, selection) for count in (300, 3_000))
    assert count_steps(many) < 1.5 * count_steps(few)


def _busy(devices: int, pace: AnyPace, selection: AnySelection) -> Callable[[], None]:
    """Thirty updates, to be made among so many devices."""
    c = coordinator(pace=pace, selection=selection)
    for number in range(devices):
        c.handle(ev.DeviceSeen(device(f"d{number}")), 0.0)
    asked = [
        effect
        for number in range(devices)
        for effect in c.handle(ev.Subscribed(caller(f"d{number}")), 0.0)
    ]
    asked += c.handle(ev.Tick(), 1.0)
    names = [effect.caller.device_id for effect in asked if isinstance(effect, ev.SendTrigger)]

    def run() -> None:
        for turn in range(30):
            now, name = 2.0 + turn, names.pop(0)
            effects = c.handle(ev.BaseTaken(caller(name), c.newest.version), now)
            told = update(name, c.newest.version, update_id=str(turn))
            effects += c.handle(ev.PushStarted(told.header), now)
            effects += c.handle(ev.Pushed(told), now)
            assert c.next_deadline() is not None
            names.extend(e.caller.device_id for e in effects if isinstance(e, ev.SendTrigger))

    return run

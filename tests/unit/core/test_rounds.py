"""Rounds that end: over-selection, drop-out and deadlines."""

from __future__ import annotations

from typing import Any

import pytest
from support.scalar import WORK, Halfway, caller, device, update
from support.scalar_rules import Buffering

from hocket.core.coordinator import Coordinator
from hocket.core.device import DeviceState
from hocket.core.events import (
    BaseTaken,
    DeviceSeen,
    Effect,
    Evaluate,
    Event,
    Pushed,
    PushStarted,
    Refused,
    SendTrigger,
    Settled,
    Subscribed,
    TaskFinished,
    Tick,
    VersionMade,
)
from hocket.core.ids import DeviceId, Version
from hocket.core.ledger import Ledger
from hocket.core.past import Ended, Past, RoundClosed, past_of
from hocket.core.records import DevicePhase
from hocket.core.scheduling import AnyPace, Concurrent, Periodic, Progress, Rounds, Uniform
from hocket.core.state import TaskState
from hocket.core.stop import Stop
from hocket.core.strategy import Global, Memory, Strategy
from hocket.core.terms import Finished
from hocket.core.triggering import CoordinatorRules
from hocket.core.update import Buffered, Dropped, DropReason
from hocket.core.versions import Versions
from hocket.errors import CorruptState, TaskError

Rules = Coordinator[float, Any]


def rounds(
    pace: AnyPace,
    goal: int = 3,
    *,
    rule: Strategy[float, Any] | None = None,
    versions: int | None = None,
    train_timeout_s: float = 1_000.0,
) -> Rules:
    """A task whose rule takes updates of the newest version only."""
    return Coordinator.begin(
        CoordinatorRules(
            pace,
            Uniform(),
            WORK,
            Stop(versions=versions),
            train_timeout_s=train_timeout_s,
            seed=7,
        ),
        rule or Buffering(goal, rounds=True),
        Global(0.0),
    )


def enlist(c: Rules, names: str, now: float = 0.0) -> list[str]:
    """Have all of them come; who was triggered."""
    for name in names:
        c.handle(DeviceSeen(device(name, available=False)), now)
        c.handle(Subscribed(caller(name)), now)
    effects = [e for name in names for e in c.handle(DeviceSeen(device(name)), now)]
    return triggered(effects)


def triggered(effects: list[Effect[float]]) -> list[str]:
    return [e.caller.device_id for e in effects if isinstance(e, SendTrigger)]


def give(c: Rules, name: str, now: float, delta: float = 1.0) -> list[Effect[float]]:
    """Have the device take the newest version, and push what it made of it."""
    base = c.newest.version
    c.handle(BaseTaken(caller(name), base), now)
    return c.handle(Pushed(update(name, base, delta)), now)


def outcome(effects: list[Effect[float]]) -> object:
    return next(e.outcome for e in effects if isinstance(e, Settled))


def test_over_selection_triggers_so_many_cohorts() -> None:
    at = Progress(0.0, None, 0, 0)
    assert Rounds(10).due(at) == 10
    assert Rounds(10, over_selection=1.3).due(at) == 13
    assert Rounds(10, over_selection=1.1).due(at) == 11  # 10 * 1.1 is 11.000000000000002
    assert Rounds(3, over_selection=1.5).due(at) == 5  # 4.5 devices


def test_a_round_wants_what_is_missing_of_it_whoever_else_is_in_flight() -> None:
    at = Progress(0.0, 0.0, in_flight=9, contributed=2, in_round=3, asked=8)
    assert Rounds(10).due(at) == 5
    assert Rounds(10, deadline_s=5.0, replace_lost=False).due(at) == 2
    assert Rounds(4).due(at) == 0


def test_only_a_round_with_a_deadline_closes() -> None:
    at = Progress(20.0, 12.0, 4, 3, in_round=2, asked=5, round_began=12.0)
    assert Rounds(10, deadline_s=30.0).closes_at(at) == 42.0
    assert Rounds(10, deadline_s=30.0).closes_at(Progress(20.0, 12.0, 4, 3)) is None
    for pace in (Rounds(10), Periodic(), Concurrent()):
        assert pace.closes_at(at) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over_selection": 0.9}, r"pace\.over_selection is 0\.9"),
        ({"over_selection": float("nan")}, r"pace\.over_selection is nan"),
        ({"over_selection": float("inf")}, r"pace\.over_selection is inf"),
        ({"deadline_s": 0.0}, r"pace\.deadline_s is 0"),
        ({"deadline_s": float("inf")}, r"pace\.deadline_s is inf"),
        ({"replace_lost": False}, r"pace\.replace_lost is false and pace\.deadline_s is not set"),
    ],
)
def test_a_round_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Rounds(**settings)


def test_late_ones_are_dropped_and_do_not_shrink_the_next_round() -> None:
    c = rounds(Rounds(2, over_selection=1.5), goal=2)
    first = enlist(c, "abcdefg")
    assert len(first) == 3
    for name in first:
        c.handle(BaseTaken(caller(name), Version(1)), 1.0)
    c.handle(Pushed(update(first[0], 1)), 2.0)
    effects = c.handle(Pushed(update(first[1], 1)), 2.0)
    second = triggered(effects)
    assert c.newest.version == 2
    assert len(second) == 3  # though one of the first round is still at work
    assert first[2] not in second
    late = c.handle(Pushed(update(first[2], 1)), 3.0)
    dropped = outcome(late)
    assert isinstance(dropped, Dropped)
    assert dropped.reason is DropReason.ROUND_OVER
    assert triggered(late) == []  # nor does it make the round larger


def test_a_late_one_that_takes_the_newest_version_is_in_its_round() -> None:
    c = rounds(Rounds(2, over_selection=1.5), goal=2)
    first = enlist(c, "abcd")
    give(c, first[0], 1.0)
    second = triggered(give(c, first[1], 1.0))
    assert len(second) == 3  # of four, one is late
    c.handle(BaseTaken(caller(first[2]), Version(2)), 2.0)
    gone = c.handle(DeviceSeen(device(second[0], state=DeviceState.EXPIRED)), 3.0)
    assert triggered(gone) == []  # three are at work on it all the same


@pytest.mark.parametrize("loss", ["given up", "expired", "refused"])
@pytest.mark.parametrize("replace_lost", [True, False])
def test_a_lost_device_is_replaced_or_the_round_goes_on_with_fewer(
    loss: str, replace_lost: bool
) -> None:
    pace = Rounds(3, deadline_s=500.0, replace_lost=replace_lost)
    c = rounds(pace, train_timeout_s=100.0)
    first = enlist(c, "abcdef")
    for name in first[1:]:
        c.handle(BaseTaken(caller(name), Version(1)), 50.0)
    lost: dict[str, list[Event[float]]] = {
        "given up": [Tick()],
        "expired": [DeviceSeen(device(first[0], state=DeviceState.EXPIRED))],
        "refused": [
            BaseTaken(caller(first[0]), Version(1)),
            Refused(update(first[0], 1).header),
        ],
    }
    effects = [effect for event in lost[loss] for effect in c.handle(event, 100.0)]
    assert len(triggered(effects)) == replace_lost
    for name in first[1:]:
        give(c, name, 120.0)
    assert c.newest.version == 1  # two of three
    effects = c.handle(Tick(), 500.0)
    assert c.newest == Global(1.0, Version(2))
    assert len(triggered(effects)) == 3


def test_without_replacement_nobody_is_asked_twice_for_a_version() -> None:
    c = rounds(Rounds(3, deadline_s=60.0, replace_lost=False))
    first = enlist(c, "ab")
    assert sorted(first) == ["a", "b"]  # the fleet is smaller than the round
    c.handle(BaseTaken(caller("a"), Version(1)), 1.0)
    assert triggered(c.handle(Refused(update("a", 1).header), 2.0)) == []
    assert enlist(c, "c", now=3.0) == ["c"]  # the third that was still to be asked
    assert enlist(c, "d", now=3.0) == []


def test_a_deadline_makes_a_version_of_what_has_come() -> None:
    c = rounds(Rounds(3, deadline_s=60.0))
    first = enlist(c, "abcd", now=10.0)
    assert (c.next_deadline(), c.round_closes_at) == (70.0, 70.0)
    c.handle(BaseTaken(caller(first[2]), Version(1)), 11.0)
    told = outcome(give(c, first[0], 20.0, delta=4.0))
    assert told == Buffered(Version(2), 1 / 3, 0, 1, 3)
    give(c, first[1], 30.0, delta=8.0)
    assert triggered(c.handle(Tick(), 69.0)) == []
    assert c.newest.version == 1
    effects = c.handle(Tick(), 70.0)
    ids = (f"{first[0]}-1", f"{first[1]}-1")
    assert effects[0] == VersionMade(Global(6.0, Version(2)), ids)  # the mean of those two
    assert effects[1] == Evaluate(Version(2), 6.0)
    assert len(triggered(effects)) == 3  # the next round begins at once
    assert c.round_closes_at == 130.0
    late = outcome(c.handle(Pushed(update(first[2], 1)), 71.0))
    assert isinstance(late, Dropped)
    assert late.reason is DropReason.ROUND_OVER


def test_answers_that_nobody_can_ask_for_after_a_deadline_are_forgotten() -> None:
    c = rounds(Rounds(3, deadline_s=60.0))
    c.state.ledger = Ledger(entries=1)
    for name in enlist(c, "abc")[:2]:
        give(c, name, 1.0)
    assert len(c.state.ledger) == 2  # version 1 may yet be pushed from
    c.handle(Tick(), 60.0)
    assert len(c.state.ledger) == 1


def test_a_full_round_needs_no_deadline_and_the_next_one_has_its_own() -> None:
    c = rounds(Rounds(2, deadline_s=60.0), goal=2)
    first = enlist(c, "abcd")
    give(c, first[0], 5.0)
    second = give(c, first[1], 5.0)
    assert len(triggered(second)) == 2
    assert c.round_closes_at == 65.0
    assert not [e for e in c.handle(Tick(), 60.0) if isinstance(e, VersionMade)]


def test_a_round_in_which_nothing_came_begins_anew_and_asks_again() -> None:
    c = rounds(Rounds(2, deadline_s=60.0, replace_lost=False), goal=2)
    first = enlist(c, "ab")
    c.handle(BaseTaken(caller(first[0]), Version(1)), 1.0)
    c.handle(DeviceSeen(device(first[1], state=DeviceState.EXPIRED)), 2.0)
    c.handle(DeviceSeen(device(first[1])), 3.0)  # it is back, but lost to this round
    assert c.fleet.member(DeviceId(first[1])).phase is DevicePhase.IDLE
    effects = c.handle(Tick(), 60.0)
    assert [type(e) for e in effects] == [SendTrigger]
    assert triggered(effects) == [first[1]]
    assert c.round_closes_at == 120.0  # the other one still trains, and has as long again
    c.handle(Pushed(update(first[0], 1, 3.0)), 70.0)
    c.handle(Tick(), 120.0)
    assert c.newest == Global(3.0, Version(2))


def test_a_round_that_nobody_is_left_of_waits_without_a_deadline() -> None:
    c = rounds(Rounds(2, deadline_s=60.0), goal=2)
    first = enlist(c, "ab")
    for name in first:
        c.handle(DeviceSeen(device(name, state=DeviceState.EXPIRED)), 1.0)
    assert c.handle(Tick(), 60.0) == []
    assert c.next_deadline() is None  # no clock need tick for an empty fleet
    c.handle(DeviceSeen(device("a")), 100.0)
    assert c.round_closes_at == 160.0


def test_a_rule_that_cannot_close_has_no_deadline() -> None:
    c = rounds(Rounds(2, deadline_s=60.0), rule=Halfway(), train_timeout_s=100.0)
    enlist(c, "ab")
    assert (c.round_closes_at, c.next_deadline()) == (None, 100.0)
    assert c.handle(Tick(), 60.0) == []


def test_with_a_rule_that_waits_for_nobody_so_many_are_in_flight_as_the_cohort_says() -> None:
    c = rounds(Rounds(2), rule=Halfway())
    first = enlist(c, "abcdef")
    assert len(first) == 2
    for _ in range(3):
        assert len(triggered(give(c, first.pop(0), 1.0))) == 1
        first = [str(m.device.device_id) for m in c.fleet if m.phase is DevicePhase.TRAINING]
        assert len(first) == 2


def test_the_task_may_end_with_a_closed_round() -> None:
    c = rounds(Rounds(2, deadline_s=60.0), goal=2, versions=2)
    give(c, enlist(c, "abc")[0], 1.0)
    tick = Tick()
    effects = c.handle(tick, 60.0)
    assert [type(e) for e in effects] == [VersionMade, Evaluate, TaskFinished, Evaluate]
    ended = Ended(Finished("version 2 of 2 reached"))
    assert past_of(tick, effects) == [RoundClosed(Version(2)), ended]
    assert (c.round_closes_at, c.handle(Tick(), 120.0)) == (None, [])


def past_from(c: Rules, events: list[tuple[Event[float], float]]) -> list[Past[float]]:
    return [past for event, now in events for past in past_of(event, c.handle(event, now))]


def test_a_closed_round_is_lived_through_again() -> None:
    c = rounds(Rounds(3, deadline_s=60.0))
    first = enlist(c, "abcd")
    past = past_from(
        c,
        [
            (BaseTaken(caller(first[0]), Version(1)), 1.0),
            (Pushed(update(first[0], 1, 2.5)), 2.0),
            (Tick(), 60.0),
        ],
    )
    assert past[-1] == RoundClosed(Version(2))
    reborn = rounds(Rounds(3, deadline_s=60.0))
    effects = [effect for each in past for effect in reborn.relive(each)]
    assert effects[-2:] == [
        VersionMade(Global(2.5, Version(2)), (f"{first[0]}-1",)),
        Evaluate(Version(2), 2.5),
    ]
    assert reborn.newest == c.newest
    assert (reborn.state.pending_ids, reborn.state.contributors) == ([], set())


@pytest.mark.parametrize("rule", [Buffering(3, rounds=True), Halfway()], ids=lambda r: r.kind)
def test_a_closed_round_in_which_nothing_came_is_corrupt_state(rule: Any) -> None:
    c = rounds(Rounds(3, deadline_s=60.0), rule=rule)
    with pytest.raises(CorruptState, match=r"version 2 .* leads to version 1.* other rules"):
        c.relive(RoundClosed(Version(2)))
    with pytest.raises(CorruptState, match="version 1 of what had come"):
        c.relive(RoundClosed(Version(1)))


def test_a_closed_round_of_another_version_is_corrupt_state() -> None:
    c = rounds(Rounds(3, deadline_s=60.0))
    give(c, enlist(c, "a")[0], 1.0)
    with pytest.raises(CorruptState, match=r"version 7 .* leads to version 2"):
        c.relive(RoundClosed(Version(7)))


def after_a_restart(contributors: str, pace: AnyPace, goal: int = 4) -> Rules:
    """An earlier life took updates of version 1 from these, and a device trains from it."""
    rule = Buffering(goal, rounds=True)
    versions = Versions(Global(0.0), 5)
    versions.restore({}, {DeviceId("x"): Version(1)})
    kept = Memory({"fill": len(contributors)}, {"total": float(len(contributors))})
    state = TaskState(
        versions,
        rule.recall(kept, 0.0),
        Ledger(),
        contributors=set(map(DeviceId, contributors)),
    )
    rules = CoordinatorRules(pace, Uniform(), WORK, train_timeout_s=1_000.0, seed=7)
    return Coordinator(rules, rule, state)


@pytest.mark.parametrize("replace_lost", [True, False])
def test_a_round_goes_on_after_a_restart(replace_lost: bool) -> None:
    c = after_a_restart("ab", Rounds(4, deadline_s=60.0, replace_lost=replace_lost))
    c.handle(DeviceSeen(device("x")), 5.0)
    c.handle(Subscribed(caller("x"), training=True), 5.0)
    asked = enlist(c, "abcde", now=6.0)
    assert len(asked) == 1  # two gave theirs, one still trains for it
    assert asked[0] in "cde"
    c.handle(PushStarted(update("x", 1).header), 7.0)
    assert outcome(c.handle(Pushed(update("x", 1)), 7.0)) == Buffered(Version(2), 0.25, 0, 3, 4)


def test_the_deadline_of_a_round_counts_anew_after_a_restart() -> None:
    c = after_a_restart("ab", Rounds(4, deadline_s=60.0))
    assert c.round_closes_at is None
    c.handle(Tick(), 5.0)  # nobody is there, but a part of the round is
    assert c.round_closes_at == 65.0
    c.handle(Tick(), 65.0)
    assert c.newest == Global(1.0, Version(2))

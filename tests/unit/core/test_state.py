"""What a task has come to, what of it is kept, and living through it again."""

from __future__ import annotations

from typing import Any

import pytest
from support.scalar import caller, coordinator, device, update
from support.scalar_rules import Buffering, Mixing, RunningMean

from hocket.core import events as ev
from hocket.core.coordinator import Coordinator
from hocket.core.device import DeviceState
from hocket.core.ids import Version
from hocket.core.past import Answered, BaseHeld, Ended, past_of
from hocket.core.records import DevicePhase
from hocket.core.state import TaskState
from hocket.core.stop import Stop
from hocket.core.strategy import Global
from hocket.core.terms import Finished
from hocket.core.update import Applied, Buffered, Dropped, DropReason, RefreshReport
from hocket.core.versions import Versions
from hocket.errors import CorruptState, NotFinite, UnknownVersion

Core = Coordinator[float, Any]


def begun(goal: int = 2) -> tuple[TaskState[float, Any], Buffering]:
    rule = Buffering(goal)
    return TaskState(Versions(Global(0.0), 5), rule.init(0.0)), rule


def enlisted(*names: str, slots: RunningMean | None = None, stop: Stop | None = None) -> Core:
    core = coordinator(slots=slots, stop=stop)
    for name in names:
        core.handle(ev.DeviceSeen(device(name)), 0.0)
        core.handle(ev.Subscribed(caller(name)), 0.0)
    return core


def test_updates_wait_together_and_become_one_version_that_names_them() -> None:
    state, rule = begun()
    first = state.fold(rule, update("a", 1, 2.0))
    assert isinstance(first.outcome, Buffered)
    assert (first.made, state.pending_ids, state.contributors) == (None, ["a-1"], {"a"})
    second = state.fold(rule, update("b", 1, 4.0))
    assert second.made == Global(3.0, Version(2))  # the mean of 2 and 4, both fresh
    assert second.update_ids == ("a-1", "b-1")
    assert (state.pending_ids, state.contributors) == ([], set())
    assert state.versions.newest == second.made


def test_what_cannot_be_folded_in_leaves_no_trace() -> None:
    state, rule = begun()
    state.fold(rule, update("a", 1, 2.0))
    kept = rule.keep(state.memory)
    with pytest.raises(UnknownVersion):
        state.fold(rule, update("b", 3))
    with pytest.raises(NotFinite):
        state.fold(rule, update("b", 1, float("nan")))
    assert rule.keep(state.memory) == kept
    assert (state.pending_ids, state.contributors) == (["a-1"], {"a"})


def test_answers_are_counted_by_what_they_are() -> None:
    state, _ = begun()
    state.settle(update("a", 1), Applied(Version(2), 0.5, 0))
    state.settle(update("b", 1), Dropped(DropReason.TOO_STALE, "train anew", 9))
    assert (state.updates_accepted, state.updates_rejected, len(state.ledger)) == (1, 1, 2)


def test_of_an_event_all_is_kept_that_cannot_be_had_otherwise() -> None:
    core = enlisted("a", stop=Stop(versions=2))
    taken: ev.Event[float] = ev.BaseTaken(caller("a"), Version(1))
    assert past_of(taken, core.handle(taken, 0.0)) == [BaseHeld(caller("a").device_id, Version(1))]
    pushed = ev.Pushed(update("a", 1))
    outcome = Applied(Version(2), 0.5, 0)
    ended = Ended(Finished("version 2 of 2 reached"))
    assert past_of(pushed, core.handle(pushed, 1.0)) == [Answered(pushed.update, outcome), ended]
    assert past_of(pushed, core.handle(pushed, 2.0)) == []  # the same answer again
    tick: ev.Event[float] = ev.Tick()
    assert past_of(tick, core.handle(tick, 3.0)) == []


def test_a_life_lived_through_again_comes_to_the_same() -> None:
    report = RefreshReport(1, Version(1), 0.5)
    slots, again = RunningMean(), RunningMean()
    core = enlisted("a", "b", slots=slots)
    past = []
    events: list[ev.Event[float]] = [
        ev.BaseTaken(caller("a"), Version(1)),
        ev.BaseTaken(caller("b"), Version(1)),
        ev.Pushed(update("a", 1, 3.0, refresh=report)),
    ]
    for event in events:
        past += past_of(event, core.handle(event, 1.0))
    reborn = coordinator(slots=again)
    effects = [effect for entry in past for effect in reborn.relive(entry)]
    assert ev.VersionMade(core.newest, ("a-1",)) in effects
    assert reborn.newest == core.newest == Global(1.5, Version(2))
    assert reborn.versions.retained == core.versions.retained == (1, 2)
    assert reborn.versions.holds == {"b": 1}
    assert again.mean == slots.mean == 0.25 * 1.5
    assert reborn.settled(update("a", 1).header) == Applied(Version(2), 0.5, 0)


def test_the_end_of_a_task_outlives_it() -> None:
    core = coordinator()
    core.relive(Ended(Finished("enough")))
    assert core.finished == Finished("enough")
    assert isinstance(core.doomed(update("a", 1).header), Dropped)


def test_an_update_that_comes_to_something_else_now_is_corrupt_state() -> None:
    core = coordinator()
    with pytest.raises(CorruptState, match=r"'a-1' came to .* other rules"):
        core.relive(Answered(update("a", 1), Applied(Version(2), 0.25, 0)))


def test_a_dropped_update_is_answered_again_though_its_values_are_gone() -> None:
    core = coordinator()
    dropped = Dropped(DropReason.ROUND_OVER, "train anew", 3)
    assert core.relive(Answered(update("a", 1), dropped)) == [
        ev.Settled(update("a", 1).header, dropped, first_time=True)
    ]
    assert core.newest.version == 1
    assert core.settled(update("a", 1).header) == dropped


def test_a_base_given_up_outlives_the_end_of_its_devices_stream() -> None:
    core = enlisted("a", "b")
    core.handle(ev.BaseTaken(caller("a"), Version(1)), 0.0)
    core.handle(ev.Tick(), 60.0)
    core.handle(ev.Unsubscribed(caller("a")), 61.0)
    core.handle(ev.Pushed(update("b", 1)), 62.0)
    assert core.versions.retained == (1, 2)


def test_a_device_whose_lease_goes_on_after_all_is_sent_to_work_on_its_old_stream() -> None:
    core = enlisted("a")
    core.handle(ev.Subscribed(caller("a")), 1.0)
    core.handle(ev.DeviceSeen(device("a", state=DeviceState.EXPIRED)), 2.0)
    assert core.statuses(2.0)[0].phase is DevicePhase.AWAY
    effects = core.handle(ev.DeviceSeen(device("a")), 3.0)  # the registry lost the end of its lease
    assert [e.caller for e in effects if isinstance(e, ev.SendTrigger)] == [caller("a")]


def test_a_device_that_only_asks_for_its_answer_again_is_free_at_once() -> None:
    core = coordinator()
    core.relive(Answered(update("a", 1), Applied(Version(2), 0.5, 0)))
    core.handle(ev.DeviceSeen(device("a")), 0.0)
    core.handle(ev.Subscribed(caller("a"), training=True), 0.0)  # it lacks the answer
    effects = core.handle(ev.Pushed(update("a", 1)), 1.0)
    assert [type(effect) for effect in effects] == [ev.Settled, ev.SendTrigger]


def test_a_late_copy_of_a_push_does_not_disturb_the_next_training() -> None:
    core = enlisted("a", "b")
    core.handle(ev.BaseTaken(caller("a"), Version(1)), 0.0)
    core.handle(ev.Pushed(update("a", 1)), 1.0)
    core.handle(ev.BaseTaken(caller("a"), Version(2)), 2.0)
    core.handle(ev.Pushed(update("a", 1)), 3.0)
    core.handle(ev.Pushed(update("b", 2)), 4.0)
    assert core.versions.retained == (2, 3)
    assert core.statuses(4.0)[0].phase is DevicePhase.TRAINING


def test_rules_that_remember_nothing_are_kept_as_nothing() -> None:
    kept = Mixing().keep(None)
    assert (dict(kept.facts), dict(kept.tensors)) == ({}, {})

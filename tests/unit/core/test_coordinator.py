"""The aggregator's rules, as a specification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.scalar import caller, coordinator, device, update

from hocket.core.capability import Capability
from hocket.core.coordinator import Coordinator
from hocket.core.device import DeviceState
from hocket.core.events import (
    BaseTaken,
    DeviceSeen,
    Effect,
    Evaluate,
    Evaluated,
    Pushed,
    PushStarted,
    Refused,
    SendTrigger,
    Settled,
    Subscribed,
    TaskFinished,
    Tick,
    Unsubscribed,
    VersionMade,
)
from hocket.core.ids import Version
from hocket.core.records import DevicePhase, Evaluation
from hocket.core.scheduling import ByCapability, Periodic, Rounds
from hocket.core.stop import Stop
from hocket.core.strategy import Memory
from hocket.core.update import Applied, Dropped, DropReason, RefreshReport
from hocket.errors import InvalidUpdate, StaleIncarnation, UnknownDevice, UnknownVersion

Rules = Coordinator[float, None]


def enlist(c: Rules, *names: str, now: float = 0.0) -> list[Effect[float]]:
    effects: list[Effect[float]] = []
    for name in names:
        effects += c.handle(DeviceSeen(device(name)), now)
        effects += c.handle(Subscribed(caller(name)), now)
    return effects


def triggered(effects: list[Effect[float]]) -> list[str]:
    return [e.caller.device_id for e in effects if isinstance(e, SendTrigger)]


def take(c: Rules, name: str, now: float = 0.0) -> int:
    version = c.newest.version
    c.handle(BaseTaken(caller(name), version), now)
    return version


def test_a_push_makes_the_next_version_and_tells_its_weight_and_staleness() -> None:
    c = coordinator()
    enlist(c, "a", "b")
    take(c, "a")
    take(c, "b")
    c.handle(Pushed(update("a", 1, 4.0)), 1.0)
    effects = c.handle(Pushed(update("b", 1, 8.0)), 2.0)
    settled = next(e for e in effects if isinstance(e, Settled))
    assert settled.outcome == Applied(Version(3), 0.5, tau=1)
    made = next(e for e in effects if isinstance(e, VersionMade))
    assert made.update_ids == ("b-1",)
    assert c.newest.model == 0.5 * 2.0 + 0.5 * 8.0
    assert any(isinstance(e, Evaluate) and e.version == 3 for e in effects)


def test_the_same_update_id_gets_the_first_answer_and_changes_nothing() -> None:
    c = coordinator()
    enlist(c, "a")
    take(c, "a")
    first = c.handle(Pushed(update("a", 1, 4.0)), 1.0)
    again = c.handle(Pushed(update("a", 1, 400.0)), 2.0)
    one = next(e for e in first if isinstance(e, Settled))
    two = next(e for e in again if isinstance(e, Settled))
    assert (one.outcome, one.first_time, two.first_time) == (two.outcome, True, False)
    assert c.newest.version == 2
    assert c.state.updates_accepted == 1


def test_another_devices_update_id_is_refused() -> None:
    c = coordinator()
    enlist(c, "a", "b")
    take(c, "a")
    c.handle(Pushed(update("a", 1, update_id="x")), 1.0)
    take(c, "b")
    with pytest.raises(InvalidUpdate, match="another device"):
        c.handle(Pushed(update("b", 2, update_id="x")), 1.0)


@pytest.mark.parametrize(
    ("name", "incarnation", "error"),
    [("ghost", 1, UnknownDevice), ("a", 1, StaleIncarnation), ("gone", 1, UnknownDevice)],
)
def test_strangers_and_ghosts_are_refused(name: str, incarnation: int, error: type) -> None:
    c = coordinator()
    c.handle(DeviceSeen(device("a", incarnation=2)), 0.0)
    c.handle(DeviceSeen(device("gone", state=DeviceState.EXPIRED)), 0.0)
    before = c.newest
    with pytest.raises(error, match=r"join|stop"):
        c.handle(Pushed(update(name, 1, incarnation=incarnation)), 1.0)
    assert c.newest is before


def test_a_base_of_the_future_and_a_forgotten_base_are_refused() -> None:
    c = coordinator()
    enlist(c, "a", "b")
    take(c, "a")
    c.handle(Pushed(update("a", 1)), 1.0)
    with pytest.raises(UnknownVersion, match="does not exist yet"):
        c.handle(Pushed(update("b", 9)), 1.0)
    with pytest.raises(UnknownVersion, match="pull the newest"):
        c.check(update("b", 1).header)


def test_an_update_at_the_limit_counts_and_one_beyond_it_is_dropped() -> None:
    c = coordinator(staleness_limit=2)
    enlist(c, "slow", "slower", "quick")
    take(c, "slow")
    take(c, "slower")
    for _ in range(2):
        c.handle(Pushed(update("quick", take(c, "quick"))), 1.0)
    at_limit = c.handle(Pushed(update("slow", 1)), 2.0)
    assert any(isinstance(e, Settled) and isinstance(e.outcome, Applied) for e in at_limit)
    before = c.newest
    effects = c.handle(Pushed(update("slower", 1)), 3.0)
    outcome = next(e.outcome for e in effects if isinstance(e, Settled))
    assert isinstance(outcome, Dropped)
    assert (outcome.reason, outcome.tau) == (DropReason.TOO_STALE, 3)
    assert "train anew" in outcome.message
    assert c.newest is before
    assert c.state.updates_rejected == 1


def test_bases_are_kept_while_somebody_trains_on_them_and_no_longer() -> None:
    c = coordinator(staleness_limit=50)
    names = [f"d{i}" for i in range(20)]
    enlist(c, "slow", *names)
    take(c, "slow")
    for name in names:
        c.handle(Pushed(update(name, take(c, name))), 1.0)
    assert list(c.versions.retained) == [1, 21]
    c.handle(Pushed(update("slow", 1)), 2.0)
    assert list(c.versions.retained) == [22]


def test_a_silent_device_is_given_up_and_its_base_kept_until_it_is_too_stale() -> None:
    c = coordinator(train_timeout_s=60, staleness_limit=2)
    enlist(c, "a", "b")
    take(c, "a")
    c.handle(Pushed(update("b", take(c, "b"))), 1.0)
    assert list(c.versions.retained) == [1, 2]
    assert c.next_deadline() == 60.0
    c.handle(Unsubscribed(caller("a")), 59.0)
    c.handle(Tick(), 60.0)
    assert c.fleet.member(caller("a").device_id).status.phase is DevicePhase.AWAY
    assert list(c.versions.retained) == [1, 2]
    for _ in range(2):
        newest = take(c, "b")
        c.handle(Pushed(update("b", newest, update_id=f"b{newest}")), 61.0)
    assert list(c.versions.retained) == [4]


def test_periodic_triggers_so_many_idle_devices_each_period() -> None:
    c = coordinator(pace=Periodic(period_s=10, triggers=2))
    first = triggered(enlist(c, "a", "b", "c", "d", "e"))
    assert len(first) == 1  # only one was there when the period began
    assert c.next_deadline() == 10.0
    second = triggered(c.handle(Tick(), 10.0))
    assert len(second) == 2
    assert not set(first) & set(second)
    assert triggered(c.handle(Tick(), 19.9)) == []


def test_rounds_ask_each_device_once_and_replace_a_lost_one() -> None:
    c = coordinator(pace=Rounds(cohort=3), train_timeout_s=60)
    in_round = triggered(enlist(c, "a", "b", "c", "d"))
    assert len(in_round) == 3
    spare = ({"a", "b", "c", "d"} - set(in_round)).pop()
    c.handle(DeviceSeen(device(in_round[0], state=DeviceState.EXPIRED)), 5.0)
    effects = c.handle(Tick(), 5.0)
    assert triggered(effects) in ([spare], [])  # sent with the loss itself, or by the tick after
    assert c.fleet.member(caller(spare).device_id).status.phase is DevicePhase.TRAINING


def test_unwilling_and_busy_devices_are_not_triggered() -> None:
    c = coordinator()
    c.handle(DeviceSeen(device("off", available=False)), 0.0)
    assert triggered(c.handle(Subscribed(caller("off")), 0.0)) == []
    assert triggered(c.handle(DeviceSeen(device("off")), 1.0)) == ["off"]
    assert triggered(c.handle(Tick(), 2.0)) == []


def test_a_reborn_device_must_subscribe_again_before_it_is_asked() -> None:
    c = coordinator()
    enlist(c, "a")
    take(c, "a")
    assert triggered(c.handle(DeviceSeen(device("a", incarnation=2)), 1.0)) == []
    with pytest.raises(StaleIncarnation):
        c.handle(Subscribed(caller("a", 1)), 1.0)
    assert triggered(c.handle(Subscribed(caller("a", 2)), 1.0)) == ["a"]


def test_a_device_that_subscribes_idle_is_triggered_anew_and_a_training_one_is_not() -> None:
    c = coordinator()
    assert triggered(enlist(c, "a")) == ["a"]
    assert triggered(c.handle(Subscribed(caller("a")), 1.0)) == ["a"]  # the trigger was lost
    take(c, "a")
    assert triggered(c.handle(Subscribed(caller("a"), training=True), 2.0)) == []
    assert c.statuses(3.0)[0].base_version == 1
    assert triggered(c.handle(Subscribed(caller("a")), 4.0)) == ["a"]  # it gave the training up
    assert c.statuses(5.0)[0].base_version == 0  # nothing is held for it


def test_a_device_in_training_is_waited_for_by_an_aggregator_that_has_just_started() -> None:
    c = coordinator(train_timeout_s=60)
    c.handle(DeviceSeen(device("a")), 0.0)
    assert triggered(c.handle(Subscribed(caller("a"), training=True), 1.0)) == []
    assert triggered(c.handle(Tick(), 61.0)) == ["a"]


def test_an_old_incarnations_stream_ending_says_nothing_of_the_new_one() -> None:
    c = coordinator()
    enlist(c, "a")
    c.handle(DeviceSeen(device("a", incarnation=2)), 1.0)
    c.handle(Subscribed(caller("a", 2)), 1.0)
    c.handle(Unsubscribed(caller("a", 1)), 2.0)
    assert c.fleet.member(caller("a").device_id).subscribed


def test_an_unsound_update_is_counted_and_frees_the_device() -> None:
    c = coordinator()
    enlist(c, "a")
    take(c, "a")
    c.handle(PushStarted(update("a", 1).header), 1.0)
    again = c.handle(Refused(update("a", 1).header), 2.0)
    assert triggered(again) == ["a"]
    assert c.state.updates_rejected == 1
    assert c.statuses(2.0)[0].updates_rejected == 1


def test_the_task_ends_once_and_later_updates_are_dropped() -> None:
    c = coordinator(stop=Stop(accuracy=0.9))
    enlist(c, "a", "b")
    take(c, "a")
    take(c, "b")
    c.handle(Pushed(update("a", 1)), 1.0)
    effects = c.handle(Evaluated(Version(1), Evaluation(0.1, 0.95)), 2.0)
    assert any(isinstance(e, TaskFinished) for e in effects)
    assert any(isinstance(e, Evaluate) and e.version == 2 for e in effects)  # the last one too
    late = c.handle(Pushed(update("b", 1)), 3.0)
    outcome = next(e.outcome for e in late if isinstance(e, Settled))
    assert isinstance(outcome, Dropped)
    assert outcome.reason is DropReason.TASK_FINISHED
    told = c.handle(Subscribed(caller("a")), 4.0)
    assert [type(e) for e in told] == [TaskFinished]


def test_stop_by_time_counts_from_the_first_trigger() -> None:
    c = coordinator(stop=Stop(wall_s=30), train_timeout_s=600)
    c.handle(Tick(), 0.0)
    assert c.next_deadline() is None
    enlist(c, "a", now=100.0)
    assert c.next_deadline() == 130.0
    assert not c.finished
    c.handle(Tick(), 130.0)
    assert c.finished


def test_the_deadline_that_stop_by_time_names_is_the_one_that_ends_the_task() -> None:
    """0.3 + 0.6 - 0.3 is less than 0.6 in binary."""
    c = coordinator(stop=Stop(wall_s=0.6), train_timeout_s=600)
    enlist(c, "a", now=0.3)
    ends_at = c.next_deadline()
    assert ends_at == 0.3 + 0.6
    c.handle(Tick(), ends_at)
    assert c.finished
    assert c.next_deadline() != ends_at


class Recorder:
    """A slot policy that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, float]] = []

    def propose(self, seed: int) -> int:
        return 3 if seed else 0

    def reinforce(self, slot: int, reward: float) -> None:
        self.told.append((slot, reward))

    def keep(self) -> Memory[Any]:
        return Memory({"told": self.told})

    def recall(self, kept: Memory[Any]) -> None:
        self.told = kept.facts["told"]


def test_the_server_suggests_a_slot_until_the_device_has_learned_of_its_own() -> None:
    slots = Recorder()
    c = coordinator(slots=slots)
    [first] = [e for e in enlist(c, "a") if isinstance(e, SendTrigger)]
    assert first.trigger.slot == 3
    take(c, "a")
    report = RefreshReport(slot=3, version=Version(1), reward=0.25)
    effects = c.handle(Pushed(update("a", 1, refresh=report)), 1.0)
    [second] = [e for e in effects if isinstance(e, SendTrigger)]
    assert second.trigger.slot == 0
    assert slots.told == [(3, 0.25)]


def test_a_device_started_anew_is_suggested_slots_again() -> None:
    c = coordinator(slots=Recorder())
    enlist(c, "a")
    take(c, "a")
    report = RefreshReport(slot=3, version=Version(1), reward=0.25)
    c.handle(Pushed(update("a", 1, refresh=report)), 1.0)
    c.handle(DeviceSeen(device("a", incarnation=2)), 2.0)
    [sent] = [e for e in c.handle(Subscribed(caller("a", 2)), 2.0) if isinstance(e, SendTrigger)]
    assert sent.trigger.slot == 3


def test_who_is_chosen_does_not_depend_on_who_came_first() -> None:
    chosen = []
    for names in ("abcdefgh", "hgfedcba"):
        c = coordinator(pace=Periodic(period_s=10, triggers=1))
        enlist(c, "z", *names)  # z is there when the first period begins
        chosen.append(triggered(c.handle(Tick(), 10.0)))
    assert chosen[0] == chosen[1] != []


def test_a_crowd_of_idle_devices_is_looked_at_only_when_triggers_are_due() -> None:
    looked_at: list[int] = []

    class Noticed(Capability):
        def training_s(self, num_steps: int, *_: float) -> float:
            looked_at.append(num_steps)
            return 1.0

    c = coordinator(pace=Periodic(period_s=10, triggers=1), selection=ByCapability())
    for number in range(20):
        c.handle(DeviceSeen(replace(device(f"d{number}"), capability=Noticed())), 0.0)
        c.handle(Subscribed(caller(f"d{number}")), 0.0)
    looked_at.clear()
    c.handle(Tick(), 9.0)
    assert not looked_at
    c.handle(Tick(), 10.0)
    assert len(looked_at) == 19  # one trains

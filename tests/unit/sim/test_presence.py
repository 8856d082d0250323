"""Presence: by hand, against the plans themselves, and by chance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.sim.agenda import Agenda
from hocket.sim.fleet import Availability, FleetFile, Roster
from hocket.sim.fleet.availability import AnyAvailability, OnOff, PlannedTimes, Windows
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.steps import Steps
from hocket.sim.presence import Presence


@dataclass
class Watch:
    """A fleet's presence, and what was told of it."""

    times: AnyAvailability | None = None
    devices: int = 1
    agenda: Agenda = field(default_factory=Agenda)
    told: list[tuple[float, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        named = self.times.name if self.times else ""
        fleet = FleetFile(
            devices=self.devices,
            classes=(DeviceClass("phone", per_example_s=0.02, availability=named),),
            availabilities=(self.times,) if self.times else (),
        )
        self.roster = Roster(fleet, seed=4)
        self.presence = Presence(self.agenda, self.came, self.went)

    def begin(self, index: int = 0, availability: Availability | None = None) -> bool:
        plan = self.roster.plan(index)
        if availability is not None:
            plan = replace(plan, availability=availability)
        return self.presence.begin(index, plan)

    def came(self, index: int) -> None:
        assert self.presence.is_here(index)
        self.told.append((self.agenda.now, "came", index))

    def went(self, index: int) -> None:
        assert not self.presence.is_here(index)
        self.told.append((self.agenda.now, "went", index))

    def run(self, until_s: float) -> None:
        self.agenda.at(until_s, lambda: None)
        self.agenda.run(lambda: self.agenda.now >= until_s)


def test_by_hand_a_plan_that_starts_over() -> None:
    watch = Watch(Windows("x", ((10.0, True), (5.0, False))))
    assert watch.begin()
    here = {4.0: 4.0, 10.0: 10.0, 12.0: 10.0, 16.0: 11.0, 25.5: 20.0, 31.0: 21.0}
    for moment, here_s in here.items():
        watch.run(moment)
        assert watch.presence.here_s(0) == pytest.approx(here_s)
    assert watch.told == [
        (10.0, "went", 0),
        (15.0, "came", 0),
        (25.0, "went", 0),
        (30.0, "came", 0),
    ]


def test_one_who_never_goes_away_takes_nothing_on_the_agenda() -> None:
    watch = Watch(devices=3)
    assert [watch.begin(index) for index in range(3)] == [True] * 3
    assert len(watch.agenda) == 0
    watch.run(7.5)
    assert [watch.presence.here_s(index) for index in range(3)] == [7.5] * 3
    assert watch.presence.is_here(2)
    assert not watch.told


def test_a_plan_that_ends_leaves_nothing_on_the_agenda() -> None:
    watch = Watch()
    assert not watch.begin(0, PlannedTimes(Steps([0.0, 3.0, 4.0, 8.0]), [False, True, True, False]))
    watch.agenda.run(lambda: False)
    assert watch.told == [(3.0, "came", 0), (8.0, "went", 0)]
    watch.run(20.0)
    assert watch.presence.here_s(0) == 5.0
    assert not watch.presence.is_here(0)


def test_each_device_has_one_entry_at_a_time() -> None:
    watch = Watch(OnOff("x", 3.0, 2.0), devices=50)
    for index in range(50):
        watch.begin(index)
    while watch.agenda.now < 20.0:
        assert len(watch.agenda) == 50
        watch.agenda.run(iter((False, True)).__next__)
    assert len(watch.told) > 200


@given(st.lists(st.floats(0.01, 60.0), min_size=1, max_size=6), st.permutations(range(5)))
def test_it_says_at_any_moment_what_the_plans_say(waits: list[float], order: list[int]) -> None:
    watch = Watch(OnOff("x", 3.0, 2.0, start_on=0.5), devices=5)
    plans = [watch.roster.plan(index) for index in range(5)]
    for index in order:
        assert watch.begin(index) == plans[index].availability.at(0.0)
    for wait_s in waits:
        watch.run(watch.agenda.now + wait_s)
        for index, plan in enumerate(plans):
            assert watch.presence.is_here(index) == plan.availability.at(watch.agenda.now)
    turns = [what for _, what, index in watch.told if index == 0]
    assert all(one != other for one, other in pairwise(turns))


def test_devices_are_there_as_much_of_the_time_as_they_should() -> None:
    watch = Watch(OnOff("x", 30.0, 10.0), devices=200)
    for index in range(200):
        watch.begin(index)
    watch.run(2000.0)
    here_s = [watch.presence.here_s(index) for index in range(200)]
    # By renewal theory the share of one has variance 2 (30 * 10)^2 / 40^3 / 2000: 0.037 squared.
    assert sum(here_s) / 200 / 2000.0 == pytest.approx(0.75, abs=4 * 0.037 / 200**0.5)
    stays, since_s = dict.fromkeys(range(200), 0.0), dict.fromkeys(range(200), 0.0)
    here = {index: watch.roster.plan(index).availability.at(0.0) for index in range(200)}
    for moment, what, index in [*watch.told, *((2000.0, "end", index) for index in range(200))]:
        stays[index] += (moment - since_s[index]) * here[index]
        since_s[index], here[index] = moment, what == "came"
    assert here_s == pytest.approx(list(stays.values()))


def test_a_change_that_changes_nothing_is_not_told() -> None:
    class Flickering:  # gone and back at the same moment, as an exponential time of 0 would be
        def at(self, at_s: float) -> bool:
            return at_s < 9.0

        def next_change(self, after_s: float) -> float | None:
            return next((change for change in (4.0, 9.0) if change > after_s), None)

    watch = Watch()
    assert watch.begin(0, Flickering())
    watch.agenda.run(lambda: False)
    assert watch.told == [(9.0, "went", 0)]
    assert watch.presence.here_s(0) == 9.0


def test_nobody_is_followed_twice() -> None:
    watch = Watch(devices=3)
    watch.begin(2)
    assert not watch.presence.is_here(0)  # not followed yet
    with pytest.raises(ValueError, match="device 2 is followed already"):
        watch.begin(2)
    assert watch.begin(0)

"""What the figures are drawn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.simulated import devices, rows, scenario, tally_of

from hocket.sim.fleet import read_roster
from hocket.sim.result import Counts
from hocket.sim.tally import BINS, Tally, Timeline
from hocket.sim.tracer import Row


def test_a_short_timeline_has_a_part_for_each_second() -> None:
    line = Timeline()
    for at_s, amount in ((0.0, 1.0), (0.9, 2.0), (3.0, 4.0)):
        line.add(at_s, amount)
    assert line.width_s == 1.0
    assert line.amounts == [3.0, 0.0, 0.0, 4.0]


def test_a_long_one_has_wider_parts() -> None:
    line = Timeline()
    for second in range(2 * BINS + 2):
        line.add(float(second), 1.0)
    assert line.width_s == 4.0
    assert line.amounts == [4.0] * (BINS // 2) + [2.0]


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.integers(1, 100)), max_size=60))
def test_nothing_is_lost_and_the_parts_stay_few(added: list[tuple[float, int]]) -> None:
    line = Timeline()
    for at_s, amount in added:
        line.add(at_s, amount)
    assert len(line.amounts) <= BINS
    plain = Counter[int]()
    for at_s, amount in added:
        plain[int(at_s / line.width_s)] += amount
    assert {at: amount for at, amount in enumerate(line.amounts) if amount} == dict(plain)


def test_staleness_is_counted_by_class_for_what_was_accepted() -> None:
    tally = Tally({"a": "quick", "b": "slow"}.__getitem__)
    tally.row(Row("settle", 1.0, "a", tau=0, outcome="applied"))
    tally.row(Row("settle", 2.0, "b", tau=3, outcome="buffered"))
    tally.row(Row("settle", 3.0, "b", tau=3, outcome="applied"))
    tally.row(Row("settle", 4.0, "b", tau=99, outcome="too_stale"))
    assert tally.taus == {"quick": {0: 1}, "slow": {3: 2}}


def test_bytes_are_those_that_were_counted_since_the_row_before() -> None:
    counts, tally = Counts(), Tally(str)
    tally.follow(counts)
    counts.bytes_down = 500
    tally.row(Row("pull", 0.5, "a"))
    counts.bytes_down, counts.bytes_up = 600, 50
    tally.row(Row("break", 2.5, "a"))
    tally.row(Row("fresh", 3.5, "a"))
    assert tally.down.amounts == [500.0, 0.0, 100.0]
    assert tally.up.amounts == [0.0, 0.0, 50.0]
    assert not tally.wants("epoch")


def test_a_fleet_s_devices_are_known_by_their_class(tmp_path: Path) -> None:
    fleet = scenario(tmp_path).fleet
    roster = read_roster(fleet, 7)
    tally = Tally.of(fleet, roster)
    for number in range(6):
        tally.row(Row("settle", 1.0, f"device-{number}", tau=number, outcome="applied"))
    for number in range(6):
        assert tally.taus[roster.plan(number).device_class.name][number] == 1


def test_the_example_comes_to_what_it_says() -> None:
    tally = tally_of(rows(10), devices(6))
    assert sum(tally.down.amounts) == 40_000
    assert sum(tally.up.amounts) == 10_000
    assert sum(counts.total() for counts in tally.taus.values()) == 10

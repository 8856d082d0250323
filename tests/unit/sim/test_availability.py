"""When devices are there: by chance, by plan, by a CSV trace; and what is said of a wrong trace."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId
from hocket.core.schedule import Schedule
from hocket.errors import DataError
from hocket.sim.fleet import Availability, read_fleet, read_roster
from hocket.sim.fleet.availability import OnOff, Windows
from hocket.sim.fleet.csv_trace import Trace, read_trace
from hocket.sim.fleet.links import SteadyRates
from hocket.sim.fleet.steps import Steps

FLEETS = Path(__file__).parents[3] / "examples" / "fleets"
HEADER = "device,at_s,available,up_bytes_per_s,down_bytes_per_s\n"
AB = {DeviceId("a"): 0, DeviceId("b"): 1}


def changes(availability: Availability, count: int) -> list[float]:
    moments = [0.0]
    while len(moments) <= count and (change := availability.next_change(moments[-1])) is not None:
        moments.append(change)
    return moments[1:]


# --- by chance


def test_on_and_off_last_as_long_on_average_as_they_should() -> None:
    times = OnOff("x", 30.0, 10.0, start_on=1.0).of_device(1, "a")
    assert times.at(0.0)
    moments = [0.0, *changes(times, 8000)]
    lengths = [after - before for before, after in pairwise(moments)]
    on, off = lengths[::2], lengths[1::2]
    assert sum(on) / len(on) == pytest.approx(30.0, rel=0.05)
    assert sum(off) / len(off) == pytest.approx(10.0, rel=0.05)
    # An exponential time is longer than its mean with chance 1/e.
    assert sum(length > 30.0 for length in on) / len(on) == pytest.approx(1 / math.e, abs=0.03)


def test_as_many_are_there_at_first_as_ever_after() -> None:
    kind = OnOff("x", 30.0, 10.0)
    devices = [kind.of_device(1, f"d{number}") for number in range(2000)]
    for moment in (0.0, 5.0, 1000.0):
        there = sum(times.at(moment) for times in devices) / len(devices)
        assert there == pytest.approx(0.75, abs=0.04)


def test_an_answer_does_not_depend_on_what_was_asked_before() -> None:
    kind = OnOff("x", 3.0, 1.0)
    chance = Stream(1, "asking")
    moments = [100.0 * chance.random() for _ in range(200)]
    asked = kind.of_device(4, "a")
    for moment in moments:
        fresh = kind.of_device(4, "a")
        assert asked.at(moment) == fresh.at(moment)
        assert asked.next_change(moment) == kind.of_device(4, "a").next_change(moment)
    assert changes(kind.of_device(4, "b"), 3) != changes(kind.of_device(4, "a"), 3)
    assert changes(kind.of_device(5, "a"), 3) != changes(kind.of_device(4, "a"), 3)


# --- by plan


def test_windows_repeat() -> None:
    times = Windows("x", ((5.0, True), (3.0, True), (2.0, False))).of_device(1, "a")
    assert changes(times, 4) == [8.0, 10.0, 18.0, 20.0]
    assert [times.at(moment) for moment in (0.0, 7.9, 8.0, 9.9, 10.0, 18.0)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_plan_that_never_changes_has_no_next_change() -> None:
    for steps in (((5.0, True),), ((5.0, False), (1.0, False))):
        assert Windows("x", steps).of_device(1, "a").next_change(2.0) is None


def test_a_random_phase_is_the_device_s_own() -> None:
    kind = Windows("x", ((6.0, True), (4.0, False)), phase="random")
    firsts = [kind.of_device(1, f"d{number}").next_change(0.0) for number in range(500)]
    assert len(set(firsts)) == 500
    there = sum(kind.of_device(1, f"d{number}").at(0.0) for number in range(500))
    assert there / 500 == pytest.approx(0.6, abs=0.07)


PLANS = st.lists(st.tuples(st.floats(0.01, 50.0), st.booleans()), min_size=1, max_size=6).map(tuple)


@given(PLANS, st.floats(0.0, 1e4), st.sampled_from(["same", "random"]))
def test_what_is_said_of_a_change_holds_at_that_very_moment(
    steps: tuple[tuple[float, bool], ...], after_s: float, phase: str
) -> None:
    kind = Windows("x", steps, phase="random" if phase == "random" else "same")
    times = kind.of_device(1, "a")
    change = times.next_change(after_s)
    if change is None:
        assert len({on for _, on in steps}) == 1
        return
    assert change > after_s
    assert times.at(change) != times.at(after_s)
    assert times.at(math.nextafter(change, 0.0)) == times.at(after_s)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_windows_say_what_a_device_s_own_schedule_says(
    steps: list[tuple[int, bool]], at_s: int
) -> None:
    times = Windows("x", tuple(steps)).of_device(1, "a")
    schedule = Schedule(default=True, steps=steps)
    assert times.at(at_s) == schedule.at(at_s)
    assert times.at(at_s + 0.5) == schedule.at(at_s + 0.5)


# --- by a trace


def read(folder: Path, rows: str, repeat_s: float = 0.0) -> Trace:
    file = folder / "trace.csv"
    file.write_text(rows)
    return read_trace(file, AB, repeat_s)


def test_a_row_holds_until_the_device_s_next_one(tmp_path: Path) -> None:
    rows = "a,0,1,10,20\nb,0,0,,\na,5,1,10,20\nb,7,1,3,\na,8,0,0,0\n\na,9.5,1,,40\n"
    trace = read(tmp_path, HEADER + rows)
    a, b = trace.availability(0), trace.availability(1)
    assert [a.at(moment) for moment in (0.0, 7.9, 8.0, 9.5, 1e9)] == [True, True, False, True, True]
    assert changes(a, 9) == [8.0, 9.5]
    assert changes(b, 9) == [7.0]
    rates = trace.rates(0, SteadyRates(1.0, 2.0))
    assert [rates.at(moment) for moment in (0.0, 6.0, 8.0, 9.5)] == [
        (10.0, 20.0),
        (10.0, 20.0),
        (0.0, 0.0),
        (1.0, 40.0),
    ]
    assert rates.next_change(0.0) == 8.0  # not at 5, where the row says the same once more
    assert rates.next_change(9.5) is None
    assert trace.rates(1, SteadyRates(1.0, math.inf)).at(7.0) == (3.0, math.inf)


def test_a_trace_may_start_over(tmp_path: Path) -> None:
    trace = read(tmp_path, HEADER + "a,0,1,1,1\na,6,0,,\nb,0,1,,\n", repeat_s=10.0)
    assert changes(trace.availability(0), 4) == [6.0, 10.0, 16.0, 20.0]
    assert trace.availability(1).next_change(3.0) is None
    assert trace.rates(0, SteadyRates(2.0, 2.0)).next_change(6.0) == 10.0


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=20, unique=True), st.floats(0.0, 1.2e4))
def test_steps_are_found_as_by_going_through_them(starts: Sequence[float], at_s: float) -> None:
    ordered = [0.0, *sorted(starts)]
    steps = Steps(ordered)
    assert steps.at(at_s) == bisect.bisect_right(ordered, at_s) - 1
    following = [moment for moment in ordered if moment > at_s]
    found = steps.next_start(at_s)
    assert found == ((following[0], ordered.index(following[0])) if following else None)


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ("c,0,1,,\n", 2, "device is 'c'; the fleet has no such device"),
        ("a,0,1,,\na,5,1,,\na,4,1,,\n", 4, "at_s of 'a' is 4 after 5; sort each device's rows"),
        ("a,0,1,,\na,5,1,,\na,5,0,,\n", 4, "at_s of 'a' is 5 after 5; sort each device's rows"),
        ("a,3,1,,\n", 2, "the first row of 'a' is at 3 s, which leaves a gap; let it begin at 0"),
        ("a,-1,1,,\n", 2, "the first row of 'a' is at -1 s"),
        ("a,soon,1,,\n", 2, "at_s is 'soon'; it must be a finite number"),
        ("a,inf,1,,\n", 2, "at_s is 'inf'; it must be a finite number"),
        ("a,0,1,-5,\n", 2, "up_bytes_per_s is -5"),
        ("a,0,0,,-5\n", 2, "down_bytes_per_s is -5; it must be at least 0"),
        ("a,0,1,0,\n", 2, "up_bytes_per_s is 0 while the device is there; it must be above 0"),
        ("a,0,1,,nan\n", 2, "down_bytes_per_s is 'nan'; it must be a finite number"),
        ("a,0,yes,,\n", 2, "available is 'yes'; write 1 (there) or 0 (away)"),
        ("a,0,1,\n", 2, "4 cells; the header names 5 columns"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(
    tmp_path: Path, rows: str, line: int, message: str
) -> None:
    with pytest.raises(DataError) as wrong:
        read(tmp_path, HEADER + rows)
    assert wrong.value.message.startswith(f"{tmp_path / 'trace.csv'}, line {line}: {message}")


def test_a_trace_that_is_wrong_as_a_whole_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    with pytest.raises(DataError, match=r"line 1: the columns are device, at; they must be device"):
        read(tmp_path, "device,at\n")
    with pytest.raises(DataError, match=r"trace\.csv has no row of 'b' .*needs one at 0 s"):
        read(tmp_path, HEADER + "a,0,1,,\n")
    with pytest.raises(DataError, match=r"trace\.csv has no row of 'a' \(devices without rows: 2"):
        read(tmp_path, "")
    with pytest.raises(DataError, match=r"until 6 s, but trace\.repeat_s is 6; make it larger"):
        read(tmp_path, HEADER + "a,0,1,,\nb,0,1,,\nb,6,0,,\n", repeat_s=6.0)
    with pytest.raises(DataError, match=r"trace\.csv cannot be read"):
        read(tmp_path, HEADER + 'a,0,1,,"\n')
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"trace\.csv cannot be read"):
        read_trace(file, AB)
    with pytest.raises(DataError, match=r"there is no trace file .*absent\.csv"):
        read_trace(tmp_path / "absent.csv", AB)


def test_the_commuters_come_and_go_each_day() -> None:
    roster = read_roster(read_fleet(FLEETS / "commuters.toml"))
    plan = roster.plan(0)
    # At home until 7:00, on the way for half an hour, at work until 17:00.
    assert plan.rates.at(0.0) == (1e6, 5e6)
    assert plan.rates.at(7 * 3600.0) == (40e3, 200e3)
    day = changes(plan.availability, 2)
    assert day == [7.5 * 3600.0, 17 * 3600.0]
    assert plan.availability.next_change(day[-1]) == 86400.0 + day[0]
    assert plan.mid_training == "vanish"


def test_a_trace_that_excel_has_saved_is_read(tmp_path: Path) -> None:
    text = (FLEETS / "commuters.csv").read_text(encoding="utf-8")
    devices = {DeviceId(f"device-{number}"): number for number in range(6)}
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    plain, saved = (
        read_trace(file, devices, 86400.0)
        for file in (FLEETS / "commuters.csv", tmp_path / "t.csv")
    )
    assert saved.at_s.tolist() == plain.at_s.tolist()

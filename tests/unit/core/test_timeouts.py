"""Who is given up, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.steps import count_steps

from hocket.core.ids import DeviceId
from hocket.core.timeouts import Timeouts

A, B = DeviceId("a"), DeviceId("b")
TIMES = st.integers(0, 20).map(float)
CHANGES = st.tuples(st.sampled_from(["set", "clear", "first", "due"]), st.integers(0, 5), TIMES)


@given(st.lists(CHANGES, max_size=80))
def test_it_answers_as_going_through_all_does(changes: list[tuple[str, int, float]]) -> None:
    timeouts, plain = Timeouts(), dict[DeviceId, float]()
    for change, number, at in changes:
        name = DeviceId(f"d{number}")
        match change:
            case "set":
                timeouts.set(name, at)
                plain[name] = at
            case "clear":
                timeouts.clear(name)
                plain.pop(name, None)
            case "first":
                assert timeouts.first() == min(plain.values(), default=None)
            case "due":
                late = {who: plain.pop(who) for who in list(plain) if plain[who] <= at}
                given_up = timeouts.due(at)
                assert sorted(given_up) == sorted(late)
                assert [late[who] for who in given_up] == sorted(late.values())
        assert len(timeouts) == len(plain)


def test_a_time_that_is_put_off_or_called_off_is_not_met() -> None:
    timeouts = Timeouts()
    timeouts.set(A, 5.0)
    timeouts.set(B, 6.0)
    timeouts.set(A, 9.0)
    assert timeouts.due(8.0) == [B]
    assert timeouts.first() == 9.0
    timeouts.clear(A)
    assert timeouts.first() is None
    assert timeouts.due(99.0) == []


def test_a_time_that_is_drawn_nearer_counts_at_once() -> None:
    timeouts = Timeouts()
    timeouts.set(A, 9.0)
    timeouts.set(A, 5.0)
    assert timeouts.first() == 5.0
    assert timeouts.due(5.0) == [A]
    timeouts.set(A, 9.0)
    assert timeouts.due(9.0) == [A]


def test_putting_off_one_of_many_costs_what_one_of_few_does() -> None:
    def crowd(count: int) -> Timeouts:
        timeouts = Timeouts()
        for number in range(count):
            timeouts.set(DeviceId(f"d{number}"), float(number))
        return timeouts

    def put_off(timeouts: Timeouts) -> None:
        for number in range(50):
            timeouts.set(DeviceId(f"d{number}"), 1e6 + number)
            assert timeouts.first() == number + 1

    few, many = crowd(100), crowd(10_000)
    assert count_steps(lambda: put_off(many)) < 1.5 * count_steps(lambda: put_off(few))


def test_a_device_that_comes_and_goes_waits_in_the_queue_once() -> None:
    timeouts = Timeouts()
    timeouts.set(B, 1.0)
    for turn in range(1_000):
        timeouts.set(A, 600.0 + turn)
        timeouts.clear(A)
    timeouts.set(A, 9_999.0)
    assert count_steps(lambda: timeouts.due(9_999.0)) < 1_000

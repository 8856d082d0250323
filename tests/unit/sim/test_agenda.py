"""The agenda: what happens when, in which order."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.sim.agenda import Agenda, Entry


def never() -> bool:
    return False


def noting(log: list[str], name: str) -> Callable[[], None]:
    return lambda: log.append(name)


def test_what_is_due_first_happens_first_and_equal_times_in_order_of_scheduling() -> None:
    agenda, log = Agenda(), list[str]()
    for when, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        agenda.at(when, noting(log, name))
    agenda.run(never)
    assert log == ["a", "b", "c", "d"]
    assert (agenda.now, agenda.handled, len(agenda)) == (2.0, 4, 0)


def test_what_happens_may_schedule_more_even_for_the_same_time() -> None:
    agenda, log = Agenda(), list[float]()

    def again() -> None:
        log.append(agenda.now)
        if len(log) < 4:
            agenda.after(0.5 if len(log) % 2 else 0.0, again)

    agenda.after(1.0, again)
    agenda.run(never)
    assert log == [1.0, 1.5, 1.5, 2.0]


def test_it_stops_between_two_entries_and_goes_on() -> None:
    agenda, log = Agenda(), list[str]()
    for when in (1.0, 2.0, 3.0):
        agenda.at(when, noting(log, f"{when}"))
    agenda.run(lambda: len(log) == 2)
    assert (log, agenda.now) == (["1.0", "2.0"], 2.0)
    agenda.run(never)
    assert log == ["1.0", "2.0", "3.0"]


def test_a_cancelled_entry_does_not_happen_and_no_time_passes_for_it() -> None:
    agenda, log = Agenda(), list[str]()
    entry = agenda.at(5.0, noting(log, "cancelled"))
    done = agenda.at(1.0, noting(log, "done"))
    agenda.cancel(entry)
    agenda.cancel(entry)
    assert len(agenda) == 1
    agenda.run(never)
    agenda.cancel(done)  # too late, and no harm
    assert (log, agenda.now, agenda.handled, len(agenda)) == (["done"], 1.0, 1, 0)


@pytest.mark.parametrize("when", [0.5, -1.0, math.nan])
def test_nothing_is_scheduled_for_the_past(when: float) -> None:
    agenda = Agenda()
    agenda.at(1.0, lambda: None)
    agenda.run(never)
    with pytest.raises(ValueError, match="not at or after now"):
        agenda.at(when, lambda: None)
    with pytest.raises(ValueError, match="not at or after now"):
        agenda.after(-0.1, lambda: None)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300))
def test_it_does_what_a_sorted_list_does(plan: list[tuple[int, bool]]) -> None:
    agenda, log = Agenda(), list[int]()

    def add(when: int, number: int) -> Entry:
        return agenda.at(when, lambda: log.append(number))

    entries = [add(when, number) for number, (when, _) in enumerate(plan)]
    for entry, (_, cancelled) in zip(entries, plan, strict=True):
        if cancelled:
            agenda.cancel(entry)
    kept = [number for number, (_, cancelled) in enumerate(plan) if not cancelled]
    assert len(agenda) == len(kept)
    agenda.run(never)
    assert log == sorted(kept, key=lambda number: plan[number][0])


def test_cancelled_entries_do_not_pile_up() -> None:
    agenda = Agenda()
    for when in range(100):
        agenda.at(1e6 + when, lambda: None)
    for when in range(10_000):
        agenda.cancel(agenda.at(when, lambda: None))
    assert len(agenda) == 100
    assert len(agenda._heap) < 300
    assert heapq.nsmallest(1, agenda._heap)[0][0] < 1e6 + 1

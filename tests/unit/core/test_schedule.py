from __future__ import annotations

import pytest

from hocket.core.schedule import Schedule


@pytest.mark.parametrize(
    ("elapsed_s", "value", "next_change_s"),
    [(0.0, "a", 10.0), (9.5, "a", 0.5), (10.0, "b", 5.0), (14.0, "b", 1.0), (31.0, "a", 9.0)],
)
def test_a_schedule_holds_each_value_for_its_time_and_repeats(
    elapsed_s: float, value: str, next_change_s: float
) -> None:
    schedule = Schedule("none", ((10.0, "a"), (5.0, "b")))
    assert schedule.at(elapsed_s) == value
    assert schedule.next_change_s(elapsed_s) == pytest.approx(next_change_s)


def test_without_steps_a_schedule_never_changes() -> None:
    schedule = Schedule(0.5)
    assert (schedule.at(1e9), schedule.next_change_s(1e9)) == (0.5, None)

from __future__ import annotations

import pytest

from hocket.core.backoff import backoff


@pytest.mark.parametrize(
    ("attempt", "expected_s"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 15.0)]
)
def test_the_longest_wait_doubles_up_to_the_cap(attempt: int, expected_s: float) -> None:
    assert backoff(attempt, lambda: 1.0) == expected_s


def test_the_wait_is_jittered_all_the_way_down() -> None:
    assert backoff(3, lambda: 0.0) == 0.0
    assert backoff(3, lambda: 0.25) == 1.0


def test_a_device_away_for_weeks_still_gets_a_number() -> None:
    assert backoff(1_000_000, lambda: 1.0, longest_s=30.0) == 30.0

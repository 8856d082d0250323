"""The pure core in an unreliable world, 300 times; `support.schedules` says what happens there."""

from __future__ import annotations

import pytest
from support.schedules import Tally, run_schedule

SHARES, SCHEDULES = 10, 300


@pytest.mark.parametrize("share", range(SHARES))
def test_every_promise_is_kept_whatever_fails(share: int) -> None:
    tally = Tally()
    for seed in range(share, SCHEDULES, SHARES):
        run_schedule(seed, tally)
    # A schedule in which nothing happens proves nothing.
    assert tally.checks["schedules with progress"] == SCHEDULES // SHARES
    for fault in ("messages dropped", "messages duplicated", "messages delayed", "device crashes"):
        assert tally.faults[fault] > 100
    for fault in ("aggregator crashes", "registry crashes", "clock jumps forward"):
        assert tally.faults[fault] > 10
    for check in ("answers: Applied", "answers: Buffered", "answers: again", "bad input refused"):
        assert tally.checks[check] > 20
    assert tally.checks["rebuilds"] > 500

"""The pure core in an unreliable world; `support.schedules` says what happens there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.limits import LIMIT_S
from support.schedules import Schedule, Tally, replay_command, run_schedule
from support.simulated_disk import Disk

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("seed", range(8))
def test_every_promise_is_kept_whatever_fails(seed: int) -> None:
    tally = Tally()
    run_schedule(seed, tally)
    assert tally.checks["schedules with progress"] == 1
    assert tally.faults["messages dropped"] > 0


def test_a_seed_gives_the_same_steps_each_time() -> None:
    traces = []
    for _ in range(2):
        schedule = Schedule(11)
        schedule.run()
        traces.append((schedule.world.trace, schedule.reference.models))
    assert traces[0] == traces[1]
    assert len(traces[0][0]) > 20


class Careless(Disk):
    def sync(self) -> None:
        """Forget to."""


def test_an_answer_before_the_sync_is_found_out() -> None:
    with pytest.raises(AssertionError, match="not durable") as broken:
        run_schedule(3, Tally(), Careless)
    assert replay_command(3) in str(broken.value)


def test_the_command_runs_what_it_is_told_and_prints_the_counts() -> None:
    command = [sys.executable, "tests/support/schedules.py", "--from", "7", "--count", "2"]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    assert "2  schedules with progress" in ran.stdout
    assert "2 schedules in" in ran.stdout

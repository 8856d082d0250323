"""How long a simulated round takes of which only some devices are part."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.simulations import fleet, ready, task, traced

SECONDS_EACH = {"quick": 0.01, "slow": 0.07}  # of an example


def test_a_round_takes_as_long_as_the_slowest_of_those_that_are_part_of_it() -> None:
    """Not of as many that come first in the fleet, as in WHALE-FL's public code (3.5 no. 3)."""
    classes = [{"name": name, "per_example_s": s} for name, s in SECONDS_EACH.items()]
    rounds = {"kind": "rounds", "cohort": 2}
    some_task = task(strategy={"kind": "fedavg", "cohort": 2}, pace=rounds)
    some_fleet = fleet(6, classes=classes, stop={"versions": 20})
    result, rows = traced(some_task, some_fleet)
    shards = ready(some_task, some_fleet).shards
    training_s: dict[str, float] = {
        device.device_id: 2 * shards.size(at) * SECONDS_EACH[device.device_class]
        for at, device in enumerate(result.devices)
    }
    times = [0.0, *(row.at_s for row in rows.of("version") if row.version > 1)]
    slowest = []
    for began_s, ended_s in pairwise(times):
        cohort = {row.device for row in rows.of("settle") if began_s < row.at_s <= ended_s}
        assert len(cohort) == 2
        slowest.append(max(training_s[device] for device in cohort))
        assert ended_s - began_s == pytest.approx(slowest[-1], abs=0.01)
    assert len({round(one, 3) for one in slowest}) > 1

"""Simulations that are known to the last number, without an engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global
from hocket.sim.fleet import read_fleet
from hocket.sim.result import Counts, DeviceCounts, Point, Result, Wall
from hocket.sim.scenario import Scenario, scenario_of
from hocket.sim.tally import Tally
from hocket.sim.tracer import Row
from hocket.task import default_task

FLEET = """
name = "tiny"
devices = 6
[[class]]
name = "quick"
per_example_s = 0.001
[[class]]
name = "slow <&>"
per_example_s = 0.01
[[link]]
name = "wire"
up_bytes_per_s = 1_000_000.0
[stop]
virtual_s = 7200.0
[run]
targets = [0.5, 0.9]
"""


def scenario(folder: Path, fleet: str = FLEET, seed: int = 7) -> Scenario:
    file = folder / "tiny.toml"
    file.write_text(fleet)
    return scenario_of(default_task(), read_fleet(file), seed=seed)


def devices(count: int, classes: Sequence[str] = ("quick", "slow <&>")) -> list[DeviceCounts]:
    """Device k is of class k, trained k times for ten seconds, and was there for a hundred."""
    return [
        DeviceCounts(
            DeviceId(f"device-{number}"),
            classes[number % len(classes)],
            "wire",
            number,
            number,
            10.0 * (number % 10),
            100.0,
            1000 * number,
            4000 * number,
        )
        for number in range(count)
    ]


def curve(points: int = 24) -> tuple[Point, ...]:
    """Rises from 0.1 to 0.8 in steps of 300 s."""
    return tuple(
        Point(300.0 * n, Version(n + 1), 0.8 - 0.7 * math.exp(-n / 4), 2.0 * math.exp(-n / 4))
        for n in range(points)
    )


def result(folder: Path, *, points: int = 24, count: int = 6) -> Result:
    return Result(
        scenario=scenario(folder),
        reason="7200 s are over",
        virtual_s=7200.0,
        curve=curve(points),
        counts=Counts(
            triggers=20, trainings=18, fresh_pulls=9, merges=4, updates_accepted=16,
            updates_dropped=1, updates_refused=2, failures=1, breaks=3, bytes_up=16_000,
            bytes_down=70_000, tau_sum=40, tau_max=9,
        ),
        devices=devices(count),
        newest=Global(torch.arange(4.0), Version(17)),
        wall=Wall(10.0, 7.0, 1.0, 5_000),
    )  # fmt: skip


def rows(updates: int = 60, device_count: int = 6, apart_s: float = 120.0) -> list[Row]:
    """One device after the other pulls 4,000 bytes, pushes 1,000 and is accepted."""
    found: list[Row] = []
    for number in range(updates):
        name, at_s = f"device-{number % device_count}", number * apart_s
        found += [
            Row("pull", at_s, name, number + 1, 0, 4000, 1.5),
            Row("push", at_s + 40.0, name, number + 1, 0, 1000),
            Row("settle", at_s + 60.0, name, number + 1, 0, tau=number % 9, weight=0.25,
                loss=1.5, outcome="applied", update_id=f"{name}-{number}"),
        ]  # fmt: skip
    return found


def tally_of(rows: Sequence[Row], members: Sequence[DeviceCounts]) -> Tally:
    """What it comes to when a pull costs 4,000 bytes and an update 1,000."""
    counts = Counts()
    tally = Tally({str(member.device_id): member.device_class for member in members}.__getitem__)
    tally.follow(counts)
    for row in rows:
        counts.bytes_down += 4000 * (row.kind == "pull")
        counts.bytes_up += 1000 * (row.kind == "settle")
        if tally.wants(row.kind):
            tally.row(row)
    return tally

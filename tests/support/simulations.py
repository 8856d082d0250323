"""Small scenarios: a task on scikit-learn's digits and a handful of devices, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hocket.sim.fleet import FleetFile
from hocket.sim.preparing import Prepared, prepare
from hocket.sim.result import Result
from hocket.sim.scenario import scenario_of
from hocket.sim.simulation import Simulation
from hocket.sim.tracer import Kind, Row
from hocket.task import Task
from hocket.task.document import parse_document

PHONE = {"name": "phone", "per_example_s": 0.01}


def task(**tables: Any) -> Task:
    """A small MLP on 200 digits, trained for two epochs; `tables` replace those of the same name.

    Every update is mixed in as it comes, and nobody refreshes in mid-training.
    """
    document: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "model": {
            "function": "hocket.learn.models:mlp",
            "arguments": {"inputs": 64, "classes": 10, "hidden": [16]},
        },
        "data": {"kind": "digits", "limit": 200},
        "partition": {"kind": "iid"},
        "training": {"local_epochs": 2, "batch_size": 8, "learning_rate": 0.1},
        "strategy": {"kind": "fedasync"},
        "pace": {"kind": "concurrent", "devices": 3},
        "refresh": {"kind": "none"},
        "submodel": {"kind": "full"},
        "evaluation": {"limit": 50, "every_versions": 10},
    }
    return parse_document(document | tables, Task, Path("small.toml"))


def fleet(
    devices: int | None = 4, *, classes: Sequence[dict[str, Any]] = (PHONE,), **tables: Any
) -> Any:
    """Phones that take 10 ms for an example, on links without limits, for 20 s."""
    document: dict[str, Any] = {
        "devices": devices,
        "seed": 5,
        "class": list(classes),
        "stop": {"virtual_s": 20.0},
        "run": {"batched": "off"},  # trying whether the model stacks takes seconds
    }
    return parse_document(document | tables, FleetFile, Path("fleet.toml"))


@dataclass
class Rows:
    """A tracer that remembers."""

    rows: list[Row] = field(default_factory=list)

    def wants(self, kind: Kind) -> bool:
        return kind in Kind.__args__  # type: ignore[attr-defined]  # a Literal's words

    def row(self, row: Row) -> None:
        self.rows.append(row)

    def of(self, *kinds: Kind, device: str | None = None) -> list[Row]:
        return [r for r in self.rows if r.kind in kinds and device in {None, r.device}]


def stopwatch() -> float:
    return 0.0


def simulation(
    some_task: Task, some_fleet: FleetFile, *, seed: int | None = None, **options: Any
) -> Simulation:
    return Simulation(ready(some_task, some_fleet, seed=seed), stopwatch=stopwatch, **options)


def ready(some_task: Task, some_fleet: FleetFile, *, seed: int | None = None) -> Prepared:
    return prepare(scenario_of(some_task, some_fleet, seed=seed))


def traced(
    some_task: Task, some_fleet: FleetFile, *, seed: int | None = None
) -> tuple[Result, Rows]:
    rows = Rows()
    return simulation(some_task, some_fleet, seed=seed, tracer=rows).run(), rows


def with_stop(some_fleet: FleetFile, **values: Any) -> FleetFile:
    return replace(some_fleet, stop=replace(some_fleet.stop, **values))

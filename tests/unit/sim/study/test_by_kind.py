"""Strategies by kind on a fleet: what they begin from, and when they are judged."""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pytest

from hocket.core.refresh import RefreshRules
from hocket.core.scheduling import Periodic, Rounds
from hocket.errors import TaskError
from hocket.learn.strategies import AnyStrategy, FedASMU, FedAsync, FedAvg, FedBuff, FedNova
from hocket.sim.fleet import read_fleet
from hocket.sim.scenario import Scenario
from hocket.sim.study.jobs import Row
from hocket.sim.study.planning import Plan
from hocket.sim.study.reading import study_of
from hocket.sim.study.run_job import JobRunner
from hocket.sim.study.scenarios import scenario_for

FLEET = """
devices = 4
examples_per_device = 20
task = "mine.toml"
[[class]]
name = "quick"
per_example_s = 0.01
"""
TASK = """
seed = 1
[model]
function = "hocket.learn.models:digits_cnn"
arguments = { classes = 10 }
[data]
kind = "digits"
[training]
local_epochs = 2
batch_size = 20
learning_rate = 0.1
[strategy]
kind = "fedasmu"
mu_alpha = 7.0
iota0 = 0.9
[pace]
kind = "periodic"
period_s = 1.0
triggers = 2
[evaluation]
limit = 50
[refresh]
kind = "fixed"
slot = 1
[refresh.rules]
mu_beta = 3.0
"""
STOP = "[stop]\nvirtual_s = 10.0\n"


def plan(folder: Path, kinds: list[str], more: str = STOP) -> Plan:
    (folder / "mine.toml").write_text(TASK)
    (folder / "fleet.toml").write_text(FLEET + more)
    return Plan(study_of(read_fleet(folder / "fleet.toml"), kinds, (1,)))


def scenarios(made: Plan) -> dict[str, Scenario]:
    return {job.method: scenario_for(job) for job in made.report_jobs({})}


def test_methods_of_unequal_rates_are_judged_at_the_same_times(tmp_path: Path) -> None:
    """A version of each update, and one of every four: 10 s / 50 is the time between two."""
    made = plan(tmp_path, ["fedasync", "fedbuff"])
    ticks = count()
    run = JobRunner(lambda: float(next(ticks)))
    rows: dict[str, Row] = {job.method: run(job) for job in made.report_jobs({})}
    assert rows["fedasync"].versions >= 3 * rows["fedbuff"].versions > 0
    times = {kind: [point.at_s for point in row.curve] for kind, row in rows.items()}
    assert times["fedasync"] == times["fedbuff"]
    assert {round(0.2 * number, 9) for number in range(1, 50)} <= {
        round(at_s, 9) for at_s in times["fedbuff"]
    }


def test_a_fleet_s_own_times_go_before(tmp_path: Path) -> None:
    made = plan(tmp_path, ["fedasync"], STOP + "[evaluation]\nevery_s = 3.0\n")
    assert made.report_jobs({})[0].settings.evaluate_every_s is None
    assert scenarios(made)["fedasync"].fleet.evaluation.every_s == 3.0


def test_without_any_times_it_is_said_what_to_set(tmp_path: Path) -> None:
    made = plan(tmp_path, ["fedasync"], "[stop]\nversions = 3\n")
    with pytest.raises(TaskError, match=r"fleet\.toml .* set every_s under \[evaluation\]"):
        made.report_jobs({})


def test_every_kind_begins_from_its_own_defaults(tmp_path: Path) -> None:
    """Though the task names one of them, with settings of its own."""
    found = scenarios(plan(tmp_path, ["fedasmu", "fedasync", "fedbuff", "fedavg"]))
    assert found["fedasmu"].task.strategy == FedASMU()
    assert found["fedasync"].task.strategy == FedAsync()
    assert found["fedbuff"].task.strategy == FedBuff(goal=4)
    assert found["fedavg"].task.strategy == FedAvg(cohort=4)
    assert found["fedbuff"].task.pace == Periodic(1.0, 2)  # the task's
    assert found["fedavg"].task.pace == Rounds(4)


def test_a_kind_begins_from_its_defaults_in_tables_of_the_task_s_own_kind_too(
    tmp_path: Path,
) -> None:
    own = """kind = "fedavg"
parts = { mean = "moved" }
server = { kind = "adam", beta1 = 0.5 }
"""
    settings = 'kind = "fedasmu"\nmu_alpha = 7.0\niota0 = 0.9\n'
    made = plan(tmp_path, ["fedavg", "fednova"])
    (tmp_path / "mine.toml").write_text(TASK.replace(settings, own))
    found = scenarios(made)
    assert found["fedavg"].task.strategy == FedAvg(cohort=4)
    assert found["fednova"].task.strategy == FedNova(cohort=4)


def test_only_fedasmu_s_devices_refresh(tmp_path: Path) -> None:
    kinds = [of_kind(option) for option in get_args(AnyStrategy)]
    found = scenarios(plan(tmp_path, kinds))
    assert {kind for kind in kinds if found[kind].task.refresh_terms.enabled} == {"fedasmu"}
    assert found["fedasmu"].task.refresh.kind == "learned"
    assert found["fedasmu"].task.refresh.rules == RefreshRules()


def of_kind(option: Any) -> str:
    return str({field.name: field.default for field in fields(option)}["kind"])


@pytest.mark.parametrize(("devices", "counted"), [(4, 4), (30, 10)])
def test_no_kind_waits_for_more_updates_than_there_are_devices(
    tmp_path: Path, devices: int, counted: int
) -> None:
    kinds = [of_kind(option) for option in get_args(AnyStrategy)]
    made = plan(tmp_path, kinds)
    file = tmp_path / "fleet.toml"
    file.write_text((FLEET + STOP).replace("devices = 4", f"devices = {devices}"))
    made = Plan(study_of(read_fleet(file), kinds, (1,)))
    found = scenarios(made)
    waited_for = {
        kind: getattr(one.task.strategy, name)
        for kind, one in found.items()
        for name in ("cohort", "goal", "minimum")
        if hasattr(one.task.strategy, name)
    }
    assert len(waited_for) == 9
    assert set(waited_for.values()) == {counted}
    cohorts = {one.task.pace.cohort for one in found.values() if isinstance(one.task.pace, Rounds)}
    assert cohorts == {counted}

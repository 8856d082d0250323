"""Study files, what is said about wrong ones, and the jobs that they mean."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_jobs import row

from hocket.core.scheduling import Periodic, Rounds
from hocket.errors import TaskError
from hocket.learn.strategies import FedASMU, FedAsync, FedAvg, Scaffold
from hocket.sim.fleet import read_fleet
from hocket.sim.study.foretelling import Speed, foretell
from hocket.sim.study.jobs import Failure, Job, Made, Row
from hocket.sim.study.planning import Plan
from hocket.sim.study.reading import is_study, read_study, study_of
from hocket.sim.study.scenarios import scenario_for
from hocket.sim.study.study import (
    Claims,
    Contrast,
    Dataset,
    Method,
    Scale,
    Study,
    TargetRule,
    Tuning,
)
from hocket.sim.study.sweeping import measured_s
from hocket.sim.study.tuning import choose, fixed

EXAMPLES = Path(__file__).parents[4] / "examples"
PROOF = EXAMPLES / "studies" / "fedasmu.toml"

FLEET = """
devices = 20
examples_per_device = 50
[[class]]
name = "quick"
per_example_s = 0.01
[stop]
virtual_s = 100.0
"""
STUDY = """
seeds = [11, 12]
compared = "ours"
grid = { training.learning_rate = [0.1, 0.2] }
[changes]
refresh.kind = "none"
pace = { kind = "periodic", period_s = 5.0, triggers = 2 }
[tuning]
seed = 1
horizon = 0.5
[[dataset]]
name = "small"
fleet = "fleet.toml"
virtual_s = 40.0
evaluations = 8
[[method]]
name = "ours"
changes = { strategy = { kind = "fedasmu" }, refresh.kind = "learned" }
grid = [{ strategy.mu_alpha = 1.0 }, { strategy.mu_alpha = 2.0 }]
[[method]]
name = "ours alone"
follows = "ours"
changes = { refresh.kind = "none" }
[[method]]
name = "rounds"
changes = { strategy.kind = "fedavg", strategy.cohort = 5, pace = { kind = "rounds", cohort = 5 } }
[scale.large]
horizon = 3.0
devices = 30
seeds = [5]
tuned = false
changes = { pace.period_s = 50.0 }
rounds = { pace.deadline_s = 90.0 }
"""


def write(folder: Path, text: str = STUDY) -> Path:
    (folder / "fleet.toml").write_text(FLEET)
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def plan(folder: Path, text: str = STUDY, scale: str = "", seeds: tuple[int, ...] = ()) -> Plan:
    return Plan(read_study(write(folder, text)), scale, seeds)


def report(made: Plan, method: str, chosen: dict[tuple[str, str], int | None]) -> list[Job]:
    return [job for job in made.report_jobs(chosen) if job.method == method]


def test_a_study_is_known_from_a_fleet(tmp_path: Path) -> None:
    assert is_study(write(tmp_path))
    assert not is_study(tmp_path / "fleet.toml")
    assert read_study(tmp_path / "mine.toml").name == "mine"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("horizon = 0.5", "horizn = 0.5", r"unknown key tuning\.horizn.*'horizon'"),
        ("seeds = [11, 12]", "seeds = [11, 1]", r"seeds has 1, the seed of \[tuning\]"),
        ("seeds = [11, 12]", "seeds = [11, 11]", "seeds has 11 twice"),
        ("seeds = [11, 12]", "seeds = []", "seeds"),
        ("seeds = [5]", "seeds = [1]", r"scale\.large\.seeds has 1, the seed of \[tuning\]"),
        ('compared = "ours"', 'compared = "theirs"', "compared names 'theirs'.*ours alone"),
        ('follows = "ours"', 'follows = "us"', r"method\[1\]\.follows names 'us'"),
        ('follows = "ours"', 'follows = "ours"\ngrid = [{ seed = 2 }]', "a grid of its own"),
        ('name = "ours alone"', 'name = "ours"', r"method\[1\]\.name is 'ours' a second time"),
        ("[0.1, 0.2]", "0.1", r"grid\.training\.learning_rate is 0\.1; write .* as an array"),
        ("virtual_s = 40.0", "virtual_s = -1.0", r"dataset\[0\]\.virtual_s"),
        ("tuned = false", 'methods = ["x"]', r"scale\.large\.methods names 'x'"),
        ("[scale.large]", '[claims]\nsource = "us"\n[scale.large]', "claims.*nothing is claimed"),
    ],
)
def test_a_wrong_study_is_told_by_file_and_key(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in STUDY
    with pytest.raises(TaskError, match=said) as error:
        read_study(write(tmp_path, STUDY.replace(before, after, 1)))
    assert "mine.toml" in error.value.message


def test_what_a_person_chooses_is_checked_likewise(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"--seeds has 1, the seed of \[tuning\]"):
        plan(tmp_path, seeds=(1, 2))
    with pytest.raises(TaskError, match="no scale 'huge'; choose large"):
        plan(tmp_path, scale="huge")
    alone = STUDY.replace("tuned = false", 'methods = ["ours alone"]')
    with pytest.raises(TaskError, match="follows 'ours', which scale 'large' leaves out"):
        plan(tmp_path, alone, scale="large")


def test_every_point_is_tuned_with_a_seed_and_a_horizon_of_its_own(tmp_path: Path) -> None:
    """Two learning rates times the two points of ours, times none of the rounds."""
    jobs = plan(tmp_path).tuning_jobs()
    assert {(job.settings.seed, job.settings.virtual_s) for job in jobs} == {(1, 20.0)}
    assert {job.settings.evaluate_every_s for job in jobs} == {5.0}
    tried = [
        (
            job.method,
            job.settings.changes["training.learning_rate"],
            job.settings.changes.get("strategy.mu_alpha"),
        )
        for job in jobs
    ]
    assert tried == [
        ("ours", 0.1, 1.0),
        ("ours", 0.1, 2.0),
        ("ours", 0.2, 1.0),
        ("ours", 0.2, 2.0),
        ("rounds", 0.1, None),
        ("rounds", 0.2, None),
    ]


def test_reported_runs_take_the_chosen_point_and_so_do_followers(tmp_path: Path) -> None:
    made, chosen = plan(tmp_path), {("small", "ours"): 3, ("small", "rounds"): 1}
    for method, refreshes in [("ours", True), ("ours alone", False)]:
        jobs = report(made, method, {**chosen})
        assert [job.settings.seed for job in jobs] == [11, 12]
        scenario = scenario_for(jobs[0])
        assert scenario.task.strategy == FedASMU(mu_alpha=2.0, iota0=0.12)  # the built-in task's
        assert scenario.task.training.learning_rate == 0.2
        assert scenario.task.refresh_terms.enabled is refreshes
        assert (scenario.seed, scenario.virtual_s) == (11, 40.0)
        assert scenario.fleet.evaluation.every_s == 5.0
        assert scenario.task.pace == Periodic(5.0, 2)
    (rounds, _) = report(made, "rounds", {**chosen})
    assert scenario_for(rounds).task.pace == Rounds(5)  # nothing of the study's own pace is left
    assert scenario_for(rounds).task.strategy == FedAvg(5)


def test_a_method_of_which_every_point_failed_is_not_reported(tmp_path: Path) -> None:
    jobs = plan(tmp_path).report_jobs({("small", "ours"): None})
    assert {job.method for job in jobs} == {"rounds"}  # its follower has no point either


def test_a_scale_changes_what_it_names(tmp_path: Path) -> None:
    made = plan(tmp_path, scale="large")
    assert made.tuning_jobs() == []
    ours, _, rounds = made.report_jobs({})
    scenario = scenario_for(ours)
    assert (scenario.seed, scenario.virtual_s, scenario.fleet.num_devices) == (5, 120.0, 30)
    assert scenario.task.pace == Periodic(50.0, 2)
    assert scenario_for(rounds).task.pace == Rounds(5, deadline_s=90.0)


def test_another_text_of_a_file_is_another_job(tmp_path: Path) -> None:
    before = plan(tmp_path).report_jobs({})[0].settings.key
    assert plan(tmp_path).report_jobs({})[0].settings.key == before
    file = write(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET + "versions = 7\n")
    assert Plan(read_study(file)).report_jobs({})[0].settings.key != before


def test_notes_are_read_and_make_no_other_job(tmp_path: Path) -> None:
    before = [job.settings.key for job in plan(tmp_path).report_jobs({})]
    noted = plan(tmp_path, 'notes = ["chosen by hand"]\n' + STUDY)
    assert noted.study.notes == ("chosen by hand",)
    assert [job.settings.key for job in noted.report_jobs({})] == before


def test_what_is_fixed_beside_the_grid_is_what_is_neither_tried_nor_a_default() -> None:
    study = read_study(PROOF)
    found = {
        name: fixed(study, Scale(), study.method(name))
        for name in ("FedASMU", "FedASMU-DA", "FedAvg", "ASO-Fed")
    }
    mine = {
        "strategy.sigma0": 0.5,
        "refresh.kind": "learned",
        "refresh.rules.mu_beta": 5.0,
    }
    assert found["FedASMU"] == mine
    controls = ("eta_lambda", "eta_sigma", "eta_iota")
    assert found["FedASMU-DA"] == mine | {f"strategy.{name}": 0.0 for name in controls}
    # pace.over_selection is tried, and a cohort of 10 is FedAvg's own
    assert found["FedAvg"] == {"pace.kind": "rounds", "pace.cohort": 10, "pace.deadline_s": 30.0}
    assert found["ASO-Fed"] == {}


def ended(at_s: float, wall_s: float) -> Row:
    """A run that ended so many seconds after a certain one."""
    return replace(row(0.5), wall_s=wall_s, made=Made("a", "b", "c", 1.8e9 + at_s))


def test_wall_time_is_measured_and_no_pause_counts() -> None:
    """0 to 100 and 10 to 50 s at once; 30 s later 130 to 180 s; 820 s later 1000 to 1010 s."""
    runs = [ended(1010, 10), ended(100, 100), ended(50, 40), ended(180, 50)]
    assert measured_s(runs) == pytest.approx(180 + 10)
    assert measured_s([*runs, row(0.5)]) is None  # nobody knows when


def test_strategies_on_a_fleet_are_a_study_too(tmp_path: Path) -> None:
    fleet = read_fleet(write(tmp_path).with_name("fleet.toml"))
    made = Plan(study_of(fleet, ["fedasync", "fedavg", "ca2fl"], (1, 2)))
    assert made.tuning_jobs() == []
    assert made.calibration_jobs() == []
    jobs = made.report_jobs({})
    scenarios = [scenario_for(job) for job in jobs]
    assert [scenario.seed for scenario in scenarios] == [1, 2] * 3
    assert [scenario.virtual_s for scenario in scenarios] == [100.0] * 6
    assert scenarios[0].task.strategy == FedAsync()
    assert isinstance(scenarios[2].task.pace, Rounds)
    assert jobs[4].settings.changes["strategy.devices"] == 20
    with pytest.raises(TaskError, match=r"no strategy 'fedsync'; choose .*fedasync"):
        study_of(fleet, ["fedsync"], (1,))


def test_a_strategy_is_told_how_many_devices_the_scale_has(tmp_path: Path) -> None:
    text = STUDY.replace('strategy.kind = "fedavg", ', 'strategy.kind = "scaffold", ')
    rounds = report(plan(tmp_path, text, scale="large"), "rounds", {})[0]
    changes = dict(rounds.settings.changes) | {"codec.kind": "raw", "submodel.kind": "full"}
    assert changes["strategy.devices"] == 30
    assert Scaffold(devices=30).devices == changes["strategy.devices"]


def test_the_best_last_evaluations_are_chosen_and_failures_never() -> None:
    late, early = row(0.1, 0.1, 0.8), row(0.9, 0.5, 0.5)
    assert choose([early, late], 1) == 1
    assert choose([early, late], 3) == 0
    assert choose([Failure("it broke"), early, early], 2) == 1
    assert choose([Failure("it broke"), row()], 2) is None


def test_what_a_job_will_take_is_foretold_by_pace_and_fleet(tmp_path: Path) -> None:
    """Periodic: 40 s / 5 s x 2 trainings. A round: 50 examples x 3 epochs x 0.01 s = 1.5 s."""
    ours, _, _, _, rounds, _ = plan(tmp_path).report_jobs({})
    told = foretell(ours, {"small": Speed(0.5, 0.25)})
    assert (told.trainings, told.evaluations) == (16.0, 8.0)
    assert told.wall_s == 16 * 0.5 + 8 * 0.25
    assert foretell(rounds, {}).trainings == pytest.approx(40 / (3 * 4 * 16 * 0.01) * 5)


@pytest.mark.parametrize("scale", sorted(read_study(PROOF).scales))
def test_every_point_of_the_proof_is_a_task(scale: str) -> None:
    made = Plan(read_study(PROOF), scale)
    seed = made.run_seeds[0]
    report = [job for job in made.report_jobs({}) if job.settings.seed == seed]
    jobs = [*made.tuning_jobs(), *report]
    for job in jobs:
        scenario = scenario_for(job)
        pulls = scenario.task.refresh_terms.enabled
        assert pulls == (job.method in {"FedASMU", "FedASMU-DA", "FedASMU middle"}), job.name
        rounds = isinstance(scenario.task.pace, Rounds)
        assert rounds == (job.method in {"FedAvg", "FedProx", "SCAFFOLD", "FedNova", "MOON"})
    points = {(job.dataset, job.method): 0 for job in made.tuning_jobs()}
    for job in made.tuning_jobs():
        points[job.dataset, job.method] += 1
    assert len(set(points.values())) == 1  # the same budget for each
    assert read_study(PROOF).tuning.seed not in made.run_seeds


def test_the_proof_compares_what_it_says() -> None:
    study, text = read_study(PROOF), PROOF.read_text()
    assert re.search("Seventeen ways to train", text)
    assert len(study.methods) == 17
    speeds = [
        known.lines[0].per_example_s
        for known in read_fleet(EXAMPLES / "fleets" / "proof.toml").all_classes
    ]
    assert max(speeds) >= 5 * min(speeds)


def test_the_page_on_studies_has_every_key_with_its_default_and_no_other() -> None:
    page = (EXAMPLES.parent / "docs" / "studies.md").read_text()
    tables = {"### Top level": Study, "### `[[dataset]]`": Dataset, "### `[[method]]`": Method,
              "### `[tuning]`": Tuning, "### `[targets]`": TargetRule, "### `[claims]`": Claims,
              "### `[[contrast]]`": Contrast, "### `[scale.NAME]`": Scale}  # fmt: skip
    own = {"datasets", "methods", "scales", "tuning", "targets", "claims", "contrasts", "origin"}
    for heading, table in tables.items():
        part = page.split(f"{heading}\n")[1].split("\n### ")[0]
        rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", part, re.MULTILINE))
        left_out = own if table is Study else set[str]()
        known = {f.name: as_written(f) for f in fields(table) if f.name not in left_out}
        if table is Study:
            known["name"] = "the file's name"
        assert rows == known, heading


def as_written(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return f"`{json.dumps(field.default_factory())}`"
    if field.default is MISSING:
        return "required"
    return "not set" if field.default is None else f"`{json.dumps(field.default)}`"

"""`hocket compare` with processes: workers that fail and die, and a small study from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from support.commands import interrupted
from support.fake_jobs import crashing, row, seeded
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.cli.compare.processes import Processes
from hocket.sim.study.jobs import Failure, Outcome

STUDY = Path(__file__).parents[2] / "examples" / "studies" / "fedasmu.toml"


def test_a_lost_worker_s_job_is_run_once_more_and_the_others_go_on(tmp_path: Path) -> None:
    """Seed 1 kills its worker once, seed 2 each time, seed 3 fails."""
    fleet = str(tmp_path / "fleet.toml")
    jobs = [replace(seeded(seed), fleet_file=fleet) for seed in (1, 2, 3, 4, 5)]
    told: dict[int, Outcome] = {}
    with Processes(2, crashing) as engine:
        engine.run(jobs, lambda job, outcome: told.update({job.settings.seed: outcome}))
    assert told == {
        1: row(0.1, 0.2, 0.401),
        2: Failure("its worker process ended with exit code 3, 2 times over"),
        3: Failure("ZeroDivisionError: a bug"),
        4: row(0.1, 0.2, 0.404),
        5: row(0.1, 0.2, 0.405),
    }


def smoke(folder: Path) -> list[str]:
    report = ["--report", str(folder / "docs" / "fedasmu.md"), "--format", "json"]
    return ["compare", str(STUDY), "--scale", "smoke", "--out", str(folder / "out"), *report]


def test_the_smoke_scale_of_the_proof_runs_from_end_to_end(tmp_path: Path) -> None:
    said = interrupted("[1/6]", *smoke(tmp_path))  # the first tuning job has ended
    assert "stopped; the same command goes on where it was" in said
    jobs = tmp_path / "out" / "jobs"
    kept = {file: file.stat().st_mtime_ns for file in jobs.glob("*.json")}
    assert 2 <= len(kept) < 8  # the one that measured the machine is among them
    assert not (tmp_path / "docs").exists()

    first = CliRunner().invoke(app, smoke(tmp_path))
    assert first.exit_code == 0, first.output
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    rows = json.loads(first.stdout)
    assert rows == json.loads((tmp_path / "docs" / "fedasmu.json").read_text())
    methods = {"FedAvg", "FedAsync polynomial", "FedASMU", "FedASMU-FA"}
    assert {(r["dataset"], r["method"], r["seed"]) for r in rows} == {
        ("digits", method, seed) for method in methods for seed in (11, 12)
    }
    assert all(r["versions"] > 1 and r["bytes_up"] > 0 < r["bytes_down"] for r in rows)
    assert any(r["virtual_s_to_target"] is not None for r in rows)
    assert {r["method"] for r in rows if r["merges"]} == {"FedASMU"}
    text = (tmp_path / "docs" / "fedasmu.md").read_text()
    assert "On digits the final accuracy of FedASMU is" in text

    again = CliRunner().invoke(app, smoke(tmp_path))
    assert again.stdout == first.stdout
    assert "(8 were run before)" in again.stderr

"""Histories on the command line: recorded, written from a journal, and lived through again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hocket_aggregator.aggregator import Limits as ServiceLimits
from hocket_aggregator.recovery.origin import Origin
from hocket_aggregator.snapshots.keeper import Retention
from support.commands import hocket
from support.histories import exported
from support.lives import aggregating, digests, train

from hocket.cli.history import write_history
from hocket.errors import CorruptState, NotFound
from hocket.sim.history import read_history
from hocket.sim.reliving import relive

TASK = """
name = "small"
seed = 1
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [8] }
[data]
kind = "digits"
limit = 100
[training]
local_epochs = 2
batch_size = 16
learning_rate = 0.1
[strategy]
kind = "fedasmu"
[evaluation]
limit = 50
[pace]
kind = "concurrent"
devices = 2
"""
FLEET = """
devices = 3
seed = 9
task = "task.toml"
[[class]]
name = "quick"
per_example_s = 0.01
[stop]
versions = 8
"""
LINES = "entries.jsonl"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a task and a fleet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOCKET_DATA", raising=False)
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "fleet.toml").write_text(FLEET)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command says in JSON."""
    assert hocket(*arguments, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("here")
def test_a_recorded_simulation_is_lived_through_again(capsys: pytest.CaptureFixture[str]) -> None:
    rate = ("--set", "strategy.mu_alpha=3.0")
    made = told(capsys, "simulate", "fleet.toml", "--record", *rate)
    folder = str(Path(made["folder"]) / "history")
    again = told(capsys, "replay", "--history", folder)
    assert again["equal"]
    assert again["digest"] == made["digest"]
    assert (again["version"], again["versions"]) == (8, 7)
    assert hocket("replay", "--history", folder) == 0
    assert "every version as recorded, bit for bit" in capsys.readouterr().out
    assert hocket("replay", "--history", folder, "--task", "task.toml") == 1  # not what was set
    assert f"{folder}, line 1: version 1 had digest" in capsys.readouterr().err


@pytest.mark.parametrize("named", [True, False])
def test_a_run_of_another_seed_is_replayed_on_the_same_examples(
    named: bool, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the fleet file names the task, or the history alone does."""
    more = ("--seed", "5", "--set", "data.limit=60")
    made = told(capsys, "simulate", "fleet.toml", "--record", *more)
    folder = str(Path(made["folder"]) / "history")
    again = told(capsys, "replay", "--history", folder)
    assert (again["equal"], again["digest"]) == (True, made["digest"])
    if not named:
        (here / "fleet.toml").write_text(FLEET.replace('task = "task.toml"', ""))
    limit = more[2:] if named else ()  # else it is in the history's own task
    trained = told(capsys, "simulate", "fleet.toml", "--replay", folder, *limit)
    assert trained["digest"] == made["digest"]
    assert trained["seed"] == made["seed"] == 5
    other = told(capsys, "simulate", "fleet.toml", "--replay", folder, "--seed", "6", *limit)
    assert other["digest"] != made["digest"]


@pytest.mark.usefixtures("here")
def test_a_difference_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    made = told(capsys, "simulate", "fleet.toml", "--record")
    file = Path(made["folder"]) / "history" / LINES
    file.write_text(file.read_text().replace(made["digest"], "0" * 16))
    assert hocket("replay", "--history", str(file.parent), "--format", "json") == 1
    said = capsys.readouterr()
    assert "version 8 had digest 0000000000000000, and now comes to" in said.err
    assert f"{file.parent}, line " in said.err
    assert not json.loads(said.out)["equal"]
    file.write_text(file.read_text().replace('"held"', '"sold"'))
    assert hocket("replay", "--history", str(file.parent)) == 1
    assert "which no entry has" in capsys.readouterr().err


def test_a_fleet_file_may_ask_for_the_history(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = told(capsys, "simulate", "fleet.toml")
    assert not (Path(plain["folder"]) / "history").exists()
    (here / "fleet.toml").write_text(FLEET + "[run]\nrecord = true\n")
    asked = told(capsys, "simulate", "fleet.toml")
    assert (Path(asked["folder"]) / "history" / LINES).is_file()
    assert asked["digest"] == plain["digest"]


def test_a_recorded_timing_is_simulated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = told(capsys, "simulate", "fleet.toml", "--record")
    history = str(Path(made["folder"]) / "history")
    again = told(capsys, "simulate", "fleet.toml", "--replay", history)
    assert again["digest"] == made["digest"]
    assert again["mean_tau"] == made["mean_tau"] > 0
    assert (Path(again["folder"]) / "report.html").is_file()
    (here / "others.toml").write_text(FLEET.replace("devices = 3", "devices = 40"))
    others = told(capsys, "simulate", "others.toml", "--replay", history, "--record")
    assert others["mean_tau"] == made["mean_tau"]
    known = read_history(Path(others["folder"]) / "history")
    assert relive_whole(capsys, known.folder)["digest"] == others["digest"]
    before = sorted(Path("runs").iterdir())
    assert hocket("simulate", "fleet.toml", "--replay", "nowhere") == 1
    assert "there is no history in nowhere" in capsys.readouterr().err
    assert sorted(Path("runs").iterdir()) == before
    waiting = ("--strategy", "fedbuff", "--set", "strategy.goal=2")
    fewer = told(capsys, "simulate", "fleet.toml", "--replay", history, *waiting)
    assert fewer["versions"] < made["versions"]
    assert "not as many versions behind as recorded" in fewer["finished_reason"]
    assert "behind" not in again["finished_reason"]


@pytest.mark.usefixtures("here")
def test_options_that_do_not_go_together_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("replay", "--history", "h", "--version", "3"),
        ("export", "--history", "h", "--version", "3"),
        ("export", "--data-dir", "data"),
    ):
        assert hocket(*arguments) == 1
        assert "--history" in capsys.readouterr().err


def relive_whole(capsys: pytest.CaptureFixture[str], folder: Path) -> Any:
    return told(capsys, "replay", "--history", str(folder))


# --- from an aggregator's folder


def test_a_journal_is_written_as_a_history(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = here / "data"
    known = asyncio.run(trained(data))
    (here / "tiny.toml").write_text(TINY)
    Origin(str(here / "tiny.toml"), str(here)).write(data)
    capsys.readouterr()
    wanted = ("export", "--data-dir", str(data), "--history", "h")
    assert told(capsys, *wanted) == {"updates": 6, "versions": 6, "path": "h"}
    assert relive_whole(capsys, Path("h"))["digest"] == known[7]
    assert hocket(*wanted) == 1
    assert "h is there already" in capsys.readouterr().err
    assert hocket("export", "--data-dir", "nothing", "--task", "tiny.toml", "--history", "n") == 1
    assert "no journal is in nothing" in capsys.readouterr().err
    assert not [path for path in here.iterdir() if path.name.strip(".").startswith("n")]


TINY = """
name = "tiny"
seed = 3
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [12] }
[data]
kind = "digits"
[training]
local_epochs = 5
batch_size = 32
learning_rate = 0.05
"""


async def trained(data: Path) -> dict[int, str]:
    """Two lives of an aggregator; the digests of its versions."""
    async with aggregating(data) as running:
        await train(running, 3)
    async with aggregating(data) as running:
        await train(running, 3, first=3)
        return await digests(running)


async def test_a_running_aggregators_history_goes_as_far_as_it_has_come(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "data") as running:
        for count in (2, 4):
            await train(running, 2, first=count - 2)
            history = exported(running.setup, tmp_path / "data", tmp_path / f"h{count}")
            relived = relive(running.setup, history)
            assert relived.difference is None
            assert (relived.updates, relived.digest) == (count, await running.digest())


async def test_a_journal_whose_beginning_is_gone_is_no_history(tmp_path: Path) -> None:
    limits = ServiceLimits(retention=Retention(every_s=1e9, journal_bytes=0))
    async with aggregating(tmp_path / "data", limits=limits) as running:
        for first in (0, 2):
            await train(running, 2, first)
            await running.aggregator.keeper._save_from(running.aggregator.owner)
        with pytest.raises(NotFound, match="begins at segment"):
            write_history(running.setup, tmp_path / "data", tmp_path / "h")
    assert not (tmp_path / "h").exists()


async def test_a_damaged_journal_leaves_no_history(tmp_path: Path) -> None:
    async with aggregating(tmp_path / "data") as running:
        await train(running, 3)
        setup = running.setup
    [segment, *_] = sorted((tmp_path / "data" / "journal").iterdir())
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    segment.write_bytes(damaged)
    with pytest.raises(CorruptState, match=segment.name):
        write_history(setup, tmp_path / "data", tmp_path / "h")
    assert names_in(tmp_path) == ["data"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())

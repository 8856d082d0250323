"""`hocket simulate` from its files to the run's folder, and what it says of wrong files.

Long by its list of wrong files: each must leave the same empty folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from support.commands import hocket

from hocket.sim.fleet import read_fleet
from hocket.task import load_task

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORTER_S = {"hundred": 30.0, "commuters": 900.0}

TASK = """
seed = 1
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [8] }
[data]
kind = "digits"
limit = 300
[training]
local_epochs = 2
batch_size = 16
learning_rate = 0.1
[evaluation]
limit = 100
[pace]
kind = "periodic"
period_s = 5.0
triggers = 2
"""

FLEET = """
devices = 6
task = "task.toml"
[[class]]
name = "quick"
per_example_s = 0.002
[[class]]
name = "slow"
per_example_s = 0.02
jitter = 0.1
[[link]]
name = "wire"
up_bytes_per_s = 5_000.0
down_bytes_per_s = 20_000.0
rtt_s = 0.05
loss = 0.2
[evaluation]
every_s = 10.0
[stop]
virtual_s = 60.0
[run]
targets = [0.12, 0.999]
"""

TRACE = """device,at_s,available,up_bytes_per_s,down_bytes_per_s
device-0,0,1,,
device-1,0,1,9000,9000
"""

PAIR = """
devices = 2
task = "task.toml"
[[class]]
name = "quick"
per_example_s = 0.002
[trace]
file = "trace.csv"
[stop]
virtual_s = 20.0
"""

INTERRUPTED = """
import os
import signal

from torch import nn


class Interrupted(nn.Sequential):
    calls = 0

    def forward(self, inputs):
        Interrupted.calls += 1
        if Interrupted.calls == 40:
            os.kill(os.getpid(), signal.{signal})
        return super().forward(inputs)


def net():
    return Interrupted(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a task and a fleet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOCKET_DATA", raising=False)
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "fleet.toml").write_text(FLEET)
    return tmp_path


def latest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs/latest/summary.json").read_text())
    return found


def without_wall(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in {"wall_s", "wall"}}


@pytest.mark.usefixtures("here")
def test_a_run_leaves_numbers_trace_figures_and_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert hocket("simulate", "fleet.toml", "--seed", "5") == 0
    told = capsys.readouterr()
    assert "never" in told.out
    assert "runs/latest/report.html" in told.out
    assert "hocket: test accuracy 0.999 was never reached; the best was 0." in told.err

    folder = Path("runs/latest").resolve()
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures",
        "report.html",
        "summary.json",
        "trace.parquet",
    ]
    assert folder.name.startswith("fleet-fedasmu-5-")
    assert sorted(path.name for path in Path("runs").iterdir()) == [folder.name, "latest"]
    page = (folder / "report.html").read_text()
    assert "made by <code>hocket simulate fleet.toml --seed 5</code> with seed 5" in page
    assert "60 s of virtual time are over" in page

    summary = latest()
    assert summary["command"] == "hocket simulate fleet.toml --seed 5"
    assert summary["virtual_s"] == 60.0
    assert summary["targets"]["0.999"] is None
    assert summary["updates_accepted"] > 5
    assert [point[0] for point in summary["curve"]] == [10.0 * n for n in range(7)]
    assert set(summary["devices"]) == {f"device-{number}" for number in range(6)}


@pytest.mark.usefixtures("here")
def test_the_trace_tells_what_the_summary_adds_up() -> None:
    assert hocket("simulate", "fleet.toml") == 0
    summary = latest()
    file = parquet.ParquetFile("runs/latest/trace.parquet")
    assert file.schema_arrow.metadata[b"command"] == b"hocket simulate fleet.toml"
    rows = file.read().to_pylist()
    assert [row["at_s"] for row in rows] == sorted(row["at_s"] for row in rows)
    counted = {kind: sum(row["kind"] == kind for row in rows) for kind in ("trigger", "break")}
    assert counted == {"trigger": summary["triggers"], "break": summary["breaks"]}
    taus = [row["tau"] for row in rows if row["outcome"] == "applied"]
    assert len(taus) == summary["updates_accepted"]
    assert sum(taus) / len(taus) == pytest.approx(summary["mean_tau"])
    assert max(row["version"] or 0 for row in rows) == summary["versions"]
    judged = [(row["at_s"], row["version"]) for row in rows if row["kind"] == "evaluate"]
    assert judged == [(at_s, version) for at_s, version, *_ in summary["curve"]]


@pytest.mark.usefixtures("here")
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    assert hocket("simulate", "fleet.toml", "--seed", "5") == 0
    first, trace = latest(), Path("runs/latest/trace.parquet").read_bytes()
    assert hocket("simulate", "fleet.toml", "--seed", "5") == 0
    assert without_wall(latest()) == without_wall(first)
    assert Path("runs/latest/trace.parquet").read_bytes() == trace
    assert hocket("simulate", "fleet.toml", "--seed", "6") == 0
    assert latest()["digest"] != first["digest"]


@pytest.mark.usefixtures("here")
def test_answers_as_json_are_the_summary_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hocket("simulate", "fleet.toml", "--trace", "none", "--format", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("folder") == str(Path("runs") / Path("runs/latest").resolve().name)
    assert answer == latest()
    assert not Path("runs/latest/trace.parquet").exists()


@pytest.mark.usefixtures("here")
def test_task_strategy_and_settings_can_be_chosen() -> None:
    Path("other.toml").write_text(f'name = "other"\n{TASK}')
    chosen = ["--task", "other.toml", "--strategy", "fedbuff", "--set", "strategy.goal=3"]
    more = ["--set", "stop.versions=3", "--trace", "updates", "--runs", "kept"]
    fleet = FLEET.replace("virtual_s = 60.0", "").replace('"task.toml"', '"missing.toml"')
    Path("fleet.toml").write_text(fleet)
    assert hocket("simulate", "fleet.toml", *chosen, *more) == 0
    summary = json.loads(Path("kept/latest/summary.json").read_text())
    assert (summary["task"], summary["strategy"]) == ("other", "fedbuff")
    assert summary["versions"] == 3
    assert 6 <= summary["updates_accepted"] <= 8  # three for each version made
    kinds = parquet.read_table("kept/latest/trace.parquet")["kind"].to_pylist()
    assert set(kinds) == {"settle", "version", "evaluate"}
    assert not Path("runs").exists()


ABSENT = """
[[availability]]
name = "never"
kind = "windows"
steps = [[1.0, false]]
[[link]]"""


def test_a_run_in_which_nobody_trained_says_why(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = FLEET.replace("[[link]]", ABSENT).replace(
        "\njitter", '\navailability = "never"\njitter'
    )
    absent = absent.replace("[[class]]", '[[class]]\navailability = "never"', 1)
    short = FLEET.replace("virtual_s = 60.0", "virtual_s = 0.01")
    diverging = ["--set", "training.learning_rate=1e30"]
    for text, more, why in (
        (absent, [], "no device was ever there; see [[availability]]"),
        (short, [], "0.01 s of virtual time were too short"),
        (FLEET, diverging, "that began diverged; lower training.learning_rate"),
    ):
        (here / "fleet.toml").write_text(text)
        assert hocket("simulate", "fleet.toml", *more) == 0
        assert "hocket: no training ended: " in (said := capsys.readouterr().err)
        assert why in said
    (here / "fleet.toml").write_text(FLEET)
    assert hocket("simulate", "fleet.toml") == 0
    assert "no training ended" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["hundred", "commuters"])
def test_the_examples_run(name: str, here: Path) -> None:
    text = (EXAMPLES / "fleets" / f"{name}.toml").read_text(encoding="utf-8")
    assert "[evaluation]\nevery_s" in text
    shorter = re.sub(r"(?m)^virtual_s = .*$", f"virtual_s = {SHORTER_S[name]}", text)
    shorter = shorter.replace("../digits.toml", str(EXAMPLES / "digits.toml"))
    shorter = shorter.replace("commuters.csv", str(EXAMPLES / "fleets" / "commuters.csv"))
    (here / "short.toml").write_text(shorter)
    assert hocket("simulate", "short.toml", "--set", "training.local_epochs=1") == 0
    summary = latest()
    assert summary["virtual_s"] == SHORTER_S[name]
    assert 3 < summary["updates_accepted"] < 40


def test_the_commuters_need_a_minute_or_two() -> None:
    """Six phones in two days, by what each training costs at the least."""
    fleet = read_fleet(EXAMPLES / "fleets" / "commuters.toml")
    task = load_task(EXAMPLES / "digits.toml")
    (phone,) = fleet.all_classes
    assert fleet.examples_per_device is not None
    epoch_s = fleet.examples_per_device * phone.lines[0].per_example_s
    trainings = fleet.stop.virtual_s / (epoch_s * task.training.local_epochs) * fleet.num_devices
    assert trainings < 3000
    assert fleet.stop.virtual_s / (fleet.evaluation.every_s or 1.0) < 100


@pytest.mark.usefixtures("here")
def test_data_is_looked_for_where_hocket_data_says(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np  # noqa: PLC0415 -- of this test only

    chance = np.random.default_rng(0)
    inputs = chance.random((200, 64), dtype=np.float32)
    labels = chance.integers(0, 10, 200)
    (here / "elsewhere").mkdir()
    np.savez(here / "elsewhere" / "mine.npz", train_images=inputs, train_labels=labels)
    source = 'kind = "npz"\npath = "mine.npz"\ntest_share = 0.2'
    task = TASK.replace('kind = "digits"\nlimit = 300', source)
    Path("task.toml").write_text(task)
    assert hocket("simulate", "fleet.toml") == 1
    assert not Path("runs").exists()
    monkeypatch.setenv("HOCKET_DATA", str(here / "elsewhere"))
    assert hocket("simulate", "fleet.toml") == 0


WRONG = {
    "unknown key in the fleet": (
        {"fleet.toml": FLEET.replace("devices = 6", "devices = 6\nspede = 1")},
        [],
        ["fleet.toml", "unknown key spede"],
    ),
    "unknown key in the task": (
        {"task.toml": TASK.replace("batch_size", "batchsize")},
        [],
        ["task.toml", "unknown key training.batchsize (did you mean 'batch_size'?)"],
    ),
    "unknown key set": (
        {},
        ["--strategy", "fedasync", "--set", "strategy.alpa=1"],
        ["unknown key strategy.alpa (did you mean 'alpha'?)"],
    ),
    "unknown strategy": ({}, ["--strategy", "fedbuf"], ["'fedbuf'", "did you mean 'fedbuff'?"]),
    "negative bandwidth": (
        {"fleet.toml": FLEET.replace("5_000.0", "-5_000.0")},
        [],
        ["fleet.toml", "link[0].up_bytes_per_s is -5000.0"],
    ),
    "trace with a gap": (
        {"fleet.toml": PAIR, "trace.csv": TRACE.replace("device-1,0,", "device-1,7,")},
        [],
        ["trace.csv, line 3", "leaves a gap"],
    ),
    "trace without a device": (
        {"fleet.toml": PAIR, "trace.csv": TRACE.rsplit("device-1", 1)[0]},
        [],
        ["trace.csv has no row of 'device-1'"],
    ),
    "trace not sorted": (
        {"fleet.toml": PAIR, "trace.csv": TRACE + "device-1,9,0,,\ndevice-1,8,1,,\n"},
        [],
        ["trace.csv, line 5", "sort each device's rows by time"],
    ),
    "negative bandwidth in a trace": (
        {"fleet.toml": PAIR, "trace.csv": TRACE.replace("9000,9000", "9000,-1")},
        [],
        ["trace.csv, line 3", "down_bytes_per_s is -1"],
    ),
    "trace missing": ({"fleet.toml": PAIR}, [], ["trace.csv", "check trace.file"]),
    "fleet missing": ({}, [], ["nowhere.toml"]),
    "task missing": ({}, ["--task", "nowhere.toml"], ["nowhere.toml"]),
    "no TOML": ({"fleet.toml": "devices = = 6"}, [], ["fleet.toml", "line 1"]),
    "missing data": (
        {"task.toml": TASK.replace('kind = "digits"', 'kind = "npz"\npath = "gone.npz"')},
        [],
        ["gone.npz"],
    ),
    "too little data": (
        {"fleet.toml": f"examples_per_device = 9000\n{FLEET}"},
        [],
        ["examples_per_device"],
    ),
    "more epochs than can be counted": (
        {},
        ["--set", f"training.local_epochs={10**20}"],
        ["training", f"local_epochs is {10**20}", "1000000"],
    ),
    "more in a batch than can be counted": (
        {},
        ["--set", f"training.batch_size={10**20}"],
        ["training", f"batch_size is {10**20}", "1000000000"],
    ),
    "an empty npz": (
        {
            "task.toml": TASK.replace('kind = "digits"', 'kind = "npz"\npath = "empty.npz"'),
            "empty.npz": "",
        },
        [],
        ["empty.npz cannot be read as .npz"],
    ),
    "nothing that ends it": (
        {"fleet.toml": FLEET.replace("virtual_s = 60.0", "")},
        [],
        ["nothing would end the simulation: set stop.virtual_s"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_named_and_leaves_nothing(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, options, words = WRONG[name]
    for file, text in files.items():
        (here / file).write_text(text)
    fleet = "nowhere.toml" if name == "fleet missing" else "fleet.toml"
    assert hocket("simulate", fleet, *options) == 1
    told = capsys.readouterr()
    assert told.err.startswith("hocket: ")
    assert "Traceback" not in told.err
    for word in words:
        assert word in told.err
    assert told.out == ""
    assert not (here / "runs").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").write_text("a file")
    assert hocket("simulate", "fleet.toml") == 1
    assert "a run's folder cannot be made in runs: File exists" in capsys.readouterr().err
    assert (here / "runs").read_text() == "a file"


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_leaves_nothing(
    signal: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / f"stopped_by_{signal}.py").write_text(INTERRUPTED.replace("{signal}", signal))
    model = f'function = "stopped_by_{signal}:net"'
    task = TASK.replace('function = "hocket.learn.models:mlp"', model)
    task = task.replace("arguments = { inputs = 64, classes = 10, hidden = [8] }", "")
    (here / "task.toml").write_text(task)
    assert hocket("simulate", "fleet.toml") == 130
    assert "stopped before the end: nothing is kept of this run" in capsys.readouterr().err
    assert list((here / "runs").iterdir()) == []

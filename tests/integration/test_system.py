"""`hocket up` and what looks into it, as a person types them: real processes, real ports."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from support.limits import LIMIT_S

from hocket.cli.system import free_port

FLEET = """
[[device]]
name = "quick"

[[device]]
name = "slow"
processor_share = 0.5
up_bytes_per_s = 400000
down_bytes_per_s = 800000
"""
TASK = """
name = "small-digits"
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [16] }
[data]
kind = "digits"
[training]
local_epochs = 2
batch_size = 32
learning_rate = 0.1
[pace]
kind = "concurrent"
devices = 2
[stop]  # so that a test that waits for the wrong thing fails
wall_s = 900.0
"""
HOCKET = [sys.executable, "-c", "from hocket.cli import main; main()"]


def hocket(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    done = subprocess.run(
        [*HOCKET, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def answer(*arguments: str | Path) -> Any:
    """What a command says in JSON."""
    return json.loads(hocket(*arguments, "--format", "json").stdout)


@contextmanager
def up(folder: Path, registry: int, aggregator: int) -> Iterator[subprocess.Popen[str]]:
    """A system that is stopped by Ctrl-C, as a person would."""
    (folder / "fleet.toml").write_text(FLEET)
    (folder / "task.toml").write_text(TASK)
    command = [*HOCKET, "up", "--home", str(folder / "home"), "--until-done"]
    command += ["--fleet", str(folder / "fleet.toml"), "--task", str(folder / "task.toml")]
    command += ["--registry-port", str(registry), "--aggregator-port", str(aggregator)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_until(process: subprocess.Popen[str], told: str) -> str:
    """Read what it prints until a line matches."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(told, line):
            return seen
    raise AssertionError(f"it ended with {process.wait()} before it said {told!r}:\n{seen}")


def test_a_system_from_start_to_stop(tmp_path: Path) -> None:
    registry, aggregator = free_port(), free_port()
    home = tmp_path / "home"
    with up(tmp_path, registry, aggregator) as system:
        lines_until(system, r"version +([2-9]|[1-9]\d+)  accuracy 0.* 2 devices")

        status = answer("status", "--home", home)
        assert status["task"] == "small-digits"
        assert status["version"] >= 2
        elsewhere = (
            "--registry",
            f"127.0.0.1:{registry}",
            "--aggregator",
            f"127.0.0.1:{aggregator}",
        )
        assert answer("status", *elsewhere)["task"] == "small-digits"

        devices = answer("devices", "--home", home)
        assert [device["device_id"] for device in devices] == ["quick", "slow"]
        assert devices[0]["capability"]["costs"]  # measured
        assert {device["width"] for device in devices} <= {1.0, None}  # one may still pull
        told = [device["why"] for device in devices if device["width"]]
        assert told
        assert all(why.startswith("whole model: it has no layer") for why in told)
        assert "why this size" in hocket("devices", "--home", home).stdout

        newest = answer("versions", "--home", home)[0]["version"]
        told = answer("lineage", newest, "--home", home)
        assert {update["outcome"]["kind"] for update in told} == {"applied"}
        assert max(update["outcome"]["version"] for update in told) == newest

        exported = answer("export", "--home", home, "-o", tmp_path / "live.safetensors")
        assert exported["version"] >= newest
        nowhere = hocket("export", "--home", home, "-o", tmp_path / "no" / "folder", code=1)
        assert "cannot be written" in nowhere.stderr
        checks = {check["check"]: check["result"] for check in answer("doctor", "--home", home)}
        assert (checks["registry"], checks["aggregator"]) == ("ok", "ok")

        for command in ("status", "devices", "versions", "lineage", "doctor"):
            assert hocket(command, "--home", home).stdout

        taken = hocket("up", "--home", tmp_path / "other", "--registry-port", str(registry), code=1)
        assert "cannot be listened on" in taken.stderr
        assert "--registry-port" in taken.stderr

        children = child_processes(system.pid)
        assert len(children) == 4
        system.send_signal(signal.SIGINT)
        assert system.wait(LIMIT_S) == 0
        assert not any(alive(child) for child in children)

    stopped = answer("status", "--home", home)
    assert stopped["version"] >= newest
    assert {d["device_id"]: d["state"] for d in answer("devices", "--home", home)} == {
        "quick": "left",
        "slow": "left",
    }
    assert any(device["why"] for device in answer("devices", "--home", home))
    assert answer("versions", "--home", home)[0]["version"] == stopped["version"]
    assert answer("lineage", stopped["version"], "--home", home, "--limit", "3")
    hocket("export", "--home", home, "-o", tmp_path / "stopped.safetensors")
    live, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("live", "stopped"))
    assert {name: values.shape for name, values in live.items()} == {
        name: values.shape for name, values in last.items()
    }
    assert sum(values.size for values in last.values()) == 64 * 16 + 16 + 16 * 10 + 10
    missing = hocket("export", "--home", home, "--version", "99999", code=1)
    assert "99999" in missing.stderr


def test_a_service_that_ends_by_itself_ends_the_system_with_its_words(tmp_path: Path) -> None:
    with up(tmp_path, free_port(), free_port()) as system:
        lines_until(system, r"version +\d+ ")
        ready = json.loads((tmp_path / "home" / "aggregator.ready.json").read_text())
        children = child_processes(system.pid)
        os.kill(ready["pid"], signal.SIGKILL)
        assert system.wait(LIMIT_S) == 1
        assert system.stdout is not None
        assert "aggregator ended with exit code -9" in system.stdout.read()
        assert not any(alive(child) for child in children)


def test_a_killed_command_leaves_nobody_behind(tmp_path: Path) -> None:
    with up(tmp_path, free_port(), free_port()) as system:
        lines_until(system, r"version +\d+ ")
        children = [os.pidfd_open(child) for child in child_processes(system.pid)]
        system.kill()
        for child in children:
            assert select.select([child], [], [], LIMIT_S)[0]  # readable once it has ended
            os.close(child)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status"], "hocket up"),
        (["status", "--aggregator", "127.0.0.1:1"], "is it running?"),
        (["up", "--task", "nowhere.toml"], "nowhere.toml"),
        (["up", "--fleet", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hocket(*arguments, code=1)
    assert done.stderr.startswith("hocket: ")
    assert told in done.stderr


def child_processes(pid: int) -> list[int]:
    """Processes that a process has started, as the system tells."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in told.split()]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""The aggregator as an operator meets it: a command, its variables, its signals, its status."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
from hocket_aggregator.recovery.reader import read_status
from support.process import logged, python, running

from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel

COMMAND = python("-m", "hocket_aggregator")


def variables(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "AGGREGATOR_LISTEN": "127.0.0.1:0",
        "AGGREGATOR_DATA_DIR": str(tmp_path / "data"),
        "AGGREGATOR_READY_FILE": str(tmp_path / "ready.json"),
        "PYTHONPATH": str(Path(__file__).parents[2] / "services" / "aggregator"),
        **more,
    }


async def test_it_says_where_it_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    async with running(COMMAND, variables(tmp_path)) as process:
        serving = await logged(process, "serving")
        said = json.loads(ready.read_text(encoding="utf-8"))
        assert said["address"] == serving["address"]
        assert said["pid"] == process.pid
        async with open_channel(said["address"]) as channel:
            terms = await AggregatorClient(channel).get_task()
            assert terms.name == "digits"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert not ready.exists()
    assert read_status(tmp_path / "data").version == 1


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"AGGREGATOR_SNAPSHOTS_KEPT": "0"}, 2, "AGGREGATOR_SNAPSHOTS_KEPT is '0'"),
        ({"AGGREGATOR_LISTEN": "nowhere"}, 2, "AGGREGATOR_LISTEN is 'nowhere'"),
        ({"AGGREGATOR_TASK": "missing.toml"}, 1, "missing.toml"),
    ],
)
async def test_wrong_settings_are_one_line(
    tmp_path: Path, wrong: dict[str, str], status: int, says: str
) -> None:
    async with running(COMMAND, variables(tmp_path, **wrong)) as process:
        _, err = await process.communicate()
        assert process.returncode == status
        assert err.decode().startswith("hocket-aggregator: ")
        assert says in err.decode()
        assert err.decode().count("\n") == 1


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = variables(tmp_path, AGGREGATOR_LISTEN=f"127.0.0.1:{port}")
        async with running(COMMAND, env) as process:
            _, err = await process.communicate()
    last = err.decode().splitlines()[-1]
    assert process.returncode == 1
    assert last.startswith("hocket-aggregator: port")
    assert "AGGREGATOR_LISTEN" in last

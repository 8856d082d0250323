"""The registry as an operator meets it: a command, its variables, its signals, its exit status."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import aclosing
from pathlib import Path

import pytest
from support.process import logged, python, running

from hocket.core.capability import Capability
from hocket.core.device import DeviceState
from hocket.errors import Unavailable
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import Joined, RegistryClient

COMMAND = python("-m", "hocket_registry")


def variables(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "REGISTRY_LISTEN": "127.0.0.1:0",
        "REGISTRY_DATA_DIR": str(tmp_path / "data"),
        "REGISTRY_READY_FILE": str(tmp_path / "ready.json"),
        **more,
    }


async def join(address: str, name: str) -> Joined:
    async with open_channel(address) as channel:
        return await RegistryClient(channel, address).join(Capability(), name)


async def refused(env: dict[str, str]) -> tuple[int | None, str]:
    async with running(COMMAND, env) as process:
        out, err = await process.communicate()
        assert out == b""
        return process.returncode, err.decode()


async def test_it_says_where_it_serves_and_ends_on_sigterm_with_everything_kept(
    tmp_path: Path,
) -> None:
    ready = tmp_path / "ready.json"
    async with running(COMMAND, variables(tmp_path)) as process:
        serving = await logged(process, "serving")
        said = json.loads(ready.read_text(encoding="utf-8"))
        assert said["address"] == serving["address"] == f"127.0.0.1:{said['port']}"
        assert said["pid"] == process.pid
        await join(said["address"], "pi")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert not ready.exists()
    async with running(COMMAND, variables(tmp_path)) as process:
        address = str((await logged(process, "serving"))["address"])
        assert (await join(address, "pi")).incarnation == 2
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_a_kill_loses_no_answered_join(tmp_path: Path) -> None:
    async with running(COMMAND, variables(tmp_path)) as process:
        address = str((await logged(process, "serving"))["address"])
        joined = await join(address, "pi")
        process.kill()
        await process.wait()
    async with running(COMMAND, variables(tmp_path)) as process:
        address = str((await logged(process, "serving"))["address"])
        async with open_channel(address) as channel:
            client = RegistryClient(channel, address)
            await client.heartbeat(joined.caller)  # the lease lives on
            (device,) = [device async for device in client.list_devices()]
            assert (device.device_id, device.state) == ("pi", DeviceState.ALIVE)


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, err = await refused(variables(tmp_path, REGISTRY_LISTEN=f"127.0.0.1:{port}"))
    assert code == 1
    assert err.startswith(f"hocket-registry: port {port} is in use")
    assert err.count("\n") == 1


async def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should be", encoding="utf-8")
    code, err = await refused(variables(tmp_path))
    assert code == 1
    assert err.startswith(f"hocket-registry: cannot write to {tmp_path / 'data'}")
    assert err.count("\n") == 1


async def test_a_ready_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ready = tmp_path / "file" / "ready.json"
    code, err = await refused(variables(tmp_path, REGISTRY_READY_FILE=str(ready)))
    assert code == 1
    assert f"hocket-registry: cannot write {ready}" in err
    assert "Traceback" not in err


async def test_a_wrong_setting_is_said_in_one_line(tmp_path: Path) -> None:
    code, err = await refused(variables(tmp_path, REGISTRY_LEASE_S="soon"))
    assert code == 2
    assert err.startswith("hocket-registry: REGISTRY_LEASE_S is 'soon': ")
    assert err.count("\n") == 1
    assert not (tmp_path / "data").exists()


async def test_watchers_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """They are sent away; a stream that was cut off at the end of the grace would not say so."""
    async with running(COMMAND, variables(tmp_path)) as process:
        address = str((await logged(process, "serving"))["address"])
        async with (
            open_channel(address) as channel,
            aclosing(RegistryClient(channel, address).watch()) as watch,
        ):
            await anext(watch)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(Unavailable, match="watch again from your last revision"):
                await anext(watch)
            assert await process.wait() == 0

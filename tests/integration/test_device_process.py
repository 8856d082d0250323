"""The device as a process of its own, as its owner starts it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from support.limits import LIMIT_S
from support.process import logged, python, running
from support.site import WIDE, aggregator, kept, site, until

from hocket.core.payload import CodecId
from hocket.core.terms import EncodingTerms
from hocket.hosting import failpoint
from hocket.hosting.failpoint import Failpoint
from hocket.hosting.folder import take_folder
from hocket.task import load_task

DEVICES = str(Path(__file__).parents[2] / "services" / "device")
NOWHERE = "127.0.0.1:9"  # the port of the discard service, which nobody runs
ENV = {"PYTHONPATH": DEVICES, "DEVICE_REGISTRY": NOWHERE, "DEVICE_AGGREGATOR": NOWHERE}


async def test_a_device_that_finds_no_registry_keeps_trying_until_it_is_told_to_stop(
    tmp_path: Path,
) -> None:
    env = ENV | {"DEVICE_STATE_DIR": str(tmp_path)}
    async with (
        asyncio.timeout(LIMIT_S),
        running(python("-m", "hocket_device"), env) as process,
    ):
        line = await logged(process, "join_failed")
        assert NOWHERE in str(line["problem"])
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("variables", "status", "said"),
    [
        ({"DEVICE_KEEP": "2"}, 2, "DEVICE_KEEP is '2'"),
        ({"DEVICE_TASK": "/nowhere/hocket.toml"}, 1, "/nowhere/hocket.toml"),
        ({"DEVICE_STATE_DIR": "/dev/null/state"}, 1, "DEVICE_STATE_DIR"),
    ],
    ids=["setting", "task file", "state folder"],
)
async def test_what_keeps_a_device_from_starting_is_said_in_one_line(
    tmp_path: Path, variables: dict[str, str], status: int, said: str
) -> None:
    env = ENV | {"DEVICE_STATE_DIR": str(tmp_path), "DEVICE_LOG_LEVEL": "error"} | variables
    async with asyncio.timeout(LIMIT_S), running(python("-m", "hocket_device"), env) as process:
        _, errors = await process.communicate()
        assert process.returncode == status
    [line] = errors.decode().splitlines()
    assert line.startswith("hocket-device: ")
    assert said in line


async def test_two_processes_never_share_a_state_folder(tmp_path: Path) -> None:
    env = ENV | {"DEVICE_STATE_DIR": str(tmp_path)}
    with take_folder(tmp_path, "device", "DEVICE_STATE_DIR"):
        async with asyncio.timeout(LIMIT_S), running(python("-m", "hocket_device"), env) as process:
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"another device uses {tmp_path}" in errors.decode()


async def test_a_push_is_finished_whatever_moment_the_device_is_killed_at(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    fake = aggregator(load_task(file), encoding=EncodingTerms(CodecId.RAW))
    async with site(tmp_path, fake) as s, asyncio.timeout(4 * LIMIT_S):
        env = ENV | {
            "DEVICE_REGISTRY": s.registry_address,
            "DEVICE_AGGREGATOR": s.aggregator_address,
            "DEVICE_STATE_DIR": str(tmp_path / "d1"),
            "DEVICE_DEVICE_ID": "d1",
            "DEVICE_TASK": str(file),
            "DEVICE_SHARDS": "20",
        }
        fake.trigger()
        for place in (Failpoint.OUTBOX_WRITTEN, Failpoint.MID_PUSH, Failpoint.OUTCOME_KNOWN):
            doomed = env | {failpoint.VARIABLE: f"{place}:1"}
            async with running(python("-m", "hocket_device"), doomed) as process:
                assert await process.wait() == -signal.SIGKILL
            assert kept(tmp_path / "d1")["outbox"] > 0
        async with running(python("-m", "hocket_device"), env) as process:
            await until(lambda: kept(tmp_path / "d1")["outbox"] == 0)
            fake.finish()
            assert await process.wait() == 0
    update = fake.taken.get_nowait()
    assert fake.taken.empty()
    assert fake.push_ids == [update.header.update_id] * 3
    state = kept(tmp_path / "d1")
    assert (state["participant"]["trainings"], state["tally"]["updates_accepted"]) == (1, 1)


async def test_the_process_joins_before_torch_is_loaded() -> None:
    program = "import sys, hocket_device.__main__; print('torch' in sys.modules)"
    async with asyncio.timeout(LIMIT_S), running(python("-c", program), ENV) as process:
        out, _ = await process.communicate()
    assert out.decode().split() == ["False"]

"""examples/custom_client, as somebody runs it who has the protos, grpcio and numpy, not Hocket."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
import sysconfig
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.limits import LIMIT_S
from support.process import logged, python, running

from hocket.core.device import DeviceState
from hocket.core.records import DevicePhase
from hocket.core.update import Applied
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_client"

# Python without `site` sees no editable install, so that `hocket` can only be the stubs; torch
# lies beside numpy and is blocked by name. At the end the process tells what it has imported.
GUARDED = """
import atexit, json, runpy, sys
for name in ("torch", "hocket_registry", "hocket_aggregator", "hocket_device"):
    sys.modules[name] = None
report = sys.argv.pop(1)
def tell():
    loaded = {n: getattr(m, "__file__", None) for n, m in sys.modules.items() if m is not None}
    with open(report, "w") as file:
        json.dump({n: f for n, f in loaded.items() if n.split(".")[0] == "hocket"}, file)
atexit.register(tell)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As README.md says."""
    folder = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(file) for file in (ROOT / "protos").rglob("*.proto"))
    options = [f"-I{ROOT / 'protos'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run(python("-m", "grpc_tools.protoc", *options, *protos), check=True)
    return folder


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As README.md says, but in this process, which has loaded torch already."""
    file = tmp_path_factory.mktemp("data") / "mine.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["softmax.py", str(file)])
        runpy.run_path(str(EXAMPLE / "softmax.py"), run_name="__main__")
    return file


@dataclass(frozen=True, slots=True)
class System:
    registry: str
    aggregator: str


@asynccontextmanager
async def serving(service: str, env: dict[str, str]) -> AsyncIterator[str]:
    """The address of a service in a process of its own."""
    async with running(python("-m", service), env) as process:
        address = str((await logged(process, "serving"))["address"])
        draining = asyncio.create_task(drained(process))
        try:
            yield address
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[str]:
    env = {"REGISTRY_LISTEN": "127.0.0.1:0", "REGISTRY_DATA_DIR": str(folder / "registry")}
    async with serving("hocket_registry", env) as address:
        yield address


@asynccontextmanager
async def system(folder: Path) -> AsyncIterator[System]:
    async with registry(folder) as at_registry:
        env = {
            "AGGREGATOR_LISTEN": "127.0.0.1:0",
            "AGGREGATOR_REGISTRY": at_registry,
            "AGGREGATOR_DATA_DIR": str(folder / "aggregator"),
            "AGGREGATOR_TASK": str(EXAMPLE / "task.toml"),
        }
        async with serving("hocket_aggregator", env) as at_aggregator:
            yield System(at_registry, at_aggregator)


async def drained(process: Process) -> None:
    """Read what the process logs, so that a full pipe never stops it."""
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


@dataclass(frozen=True, slots=True)
class Run:
    code: int | None
    out: list[str]
    err: str


async def run_client(at: System, stubs: Path, shard: Path, report: Path, *options: str) -> Run:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    command = [
        *(sys.executable, "-S", "-c", GUARDED, str(report), str(EXAMPLE / "client.py")),
        *(str(shard), "--registry", at.registry, "--aggregator", at.aggregator),
        *options,
    ]
    env = {"PYTHONPATH": ":".join([str(stubs), *sorted(paths)])}
    async with asyncio.timeout(LIMIT_S), running(command, env) as process:
        out, err = await process.communicate()
    return Run(process.returncode, out.decode().splitlines(), err.decode())


async def test_it_trains_with_nothing_of_ours_and_is_acknowledged(
    tmp_path: Path, stubs: Path, shard: Path
) -> None:
    report = tmp_path / "imported.json"
    async with (
        system(tmp_path) as at,
        open_channel(at.registry) as to_registry,
        open_channel(at.aggregator) as to_aggregator,
    ):
        aggregator = AggregatorClient(to_aggregator)
        before = await evaluated(aggregator, 1)
        run = await run_client(at, stubs, shard, report, "--rounds", "2", "--name", "pi")
        assert run.code == 0, run.err
        after = await evaluated(aggregator, 3)
        lineage = [update async for update in aggregator.get_lineage()]
        status = await aggregator.get_status()
        (device,) = [each async for each in RegistryClient(to_registry).list_devices()]

    assert run.out[0] == "joined as pi, incarnation 1"
    acknowledged = [line for line in run.out if line.startswith("acknowledged: ")]
    assert [line.rpartition(" with weight ")[0] for line in acknowledged] == [
        "acknowledged: applied as version 2",
        "acknowledged: applied as version 3",
    ]
    assert run.out[-1] == "left"
    # What the aggregator says of it.
    assert status.version == 3
    assert before < 0.3
    assert after > 0.6
    assert [
        (u.header.device_id, u.header.base_version, u.header.num_examples) for u in lineage
    ] == [
        ("pi", 2, 300),
        ("pi", 1, 300),
    ]
    assert all(isinstance(update.outcome, Applied) for update in lineage)
    assert [(d.device_id, d.phase) for d in status.devices] == [("pi", DevicePhase.AWAY)]
    assert device.state is DeviceState.LEFT
    # Every module of that name came from the stubs, and there are only the contract's.
    imported: dict[str, str | None] = json.loads(report.read_text(encoding="utf-8"))
    assert set(imported) >= {"hocket.v1.aggregator_pb2", "hocket.v1.registry_pb2_grpc"}
    files = [Path(file) for file in imported.values() if file is not None]
    assert {file.parent for file in files} == {stubs / "hocket" / "v1"}


async def test_it_says_why_it_is_refused(tmp_path: Path, stubs: Path, shard: Path) -> None:
    async with registry(tmp_path) as address:
        at = System(address, address)
        run = await run_client(at, stubs, shard, tmp_path / "report", "--name", "no spaces, please")
    assert run.code == 1
    assert run.err.startswith("refused: INVALID_REQUEST: device_id is 'no spaces, please'")


async def evaluated(aggregator: AggregatorClient, version: int) -> float:
    """The accuracy of a version, once it is known."""
    async with asyncio.timeout(LIMIT_S):
        async for record in aggregator.watch_versions(version - 1):
            if record.version == version and record.evaluation is not None:
                return record.evaluation.test_accuracy
    raise AssertionError(f"version {version} was never evaluated")


def test_its_data_are_nobody_else_s(shard: Path) -> None:
    """The held-out digits would be worth nothing if the client had trained on them."""
    images = runpy.run_path(str(EXAMPLE / "softmax.py"))["images"]
    with np.load(shard) as arrays:
        mine = {row.tobytes() for row in arrays["inputs"]}
    others = {row.tobytes() for split in ("train", "test") for row in images(split)[0]}
    assert len(mine) == 300
    assert not mine & others

"""The registry needs neither torch nor numpy: not to run, and not to be installed."""

from __future__ import annotations

import re
import signal
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.process import logged, python, running

from hocket.core.capability import Capability
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

WITHOUT_TORCH = """
import sys

class Absent:
    names = ("torch", "numpy", "hocket.learn", "hocket.task")

    def find_spec(self, name, path=None, target=None):
        if any(name == absent or name.startswith(absent + ".") for absent in self.names):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
from hocket_registry.__main__ import main
status = main()
present = sorted(name for name in Absent.names if name in sys.modules)
print("present:", present)
sys.exit(status)
"""


async def test_it_serves_where_torch_and_numpy_are_absent(tmp_path: Path) -> None:
    env = {"REGISTRY_LISTEN": "127.0.0.1:0", "REGISTRY_DATA_DIR": str(tmp_path)}
    async with running(python("-c", WITHOUT_TORCH), env) as process:
        address = str((await logged(process, "serving"))["address"])
        async with open_channel(address) as channel:
            client = RegistryClient(channel, address)
            joined = await client.join(Capability(), "pi")
            await client.leave(joined.caller)
            assert [device.device_id async for device in client.list_devices()] == ["pi"]
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
        assert process.returncode == 0
    assert out.decode().strip() == "present: []"


def needed_by(distribution: str) -> set[str]:
    """Every distribution that installing this one brings along, its own name included."""
    found: set[tuple[str, str]] = set()
    left = [(distribution, "")]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
                left += [(needed, each) for each in ("", *requirement.extras)]
    return {name for name, _ in found}


@pytest.mark.parametrize("distribution", ["hocket", "hocket-registry"])
def test_installing_it_brings_neither_torch_nor_numpy(distribution: str) -> None:
    needed = needed_by(distribution)
    assert {"hocket", "grpcio", "protobuf"} <= needed
    assert not needed & {"torch", "numpy", "scikit-learn", "safetensors", "matplotlib"}


def test_the_device_does_bring_torch() -> None:
    """Or the test above could not fail."""
    assert "torch" in needed_by("hocket-device")

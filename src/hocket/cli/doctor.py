"""`hocket doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import typer

from hocket.cli.inspect import AggregatorOption, HomeOption, RegistryOption
from hocket.cli.output import Format, FormatOption, in_bytes, print_json, print_table
from hocket.cli.source import Source, open_source
from hocket.cli.where import System, find, home_folder
from hocket.core.device import DeviceFilter, DeviceState
from hocket.errors import HocketError, NotFound

LOW_DISK_BYTES = 2 * 1024**3
PACKAGES = {
    "hocket_registry": "pip install ./services/registry in a checkout",
    "hocket_aggregator": "pip install ./services/aggregator in a checkout",
    "hocket_device": "pip install ./services/device in a checkout",
    "torch": "pip install '.[torch]' in a checkout",
    "matplotlib": "pip install '.[report]' in a checkout",
    "pymoo": "pip install '.[search]' in a checkout",
}


class Result(Enum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    check: str
    result: Result
    found: str
    what_to_do: str = ""


def doctor(
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check this machine and the system; exits with 1 if something must be mended."""
    checks = [*_machine(home_folder(home)), *_system(home, registry, aggregator)]
    if output is Format.JSON:
        print_json(checks)
    else:
        rows = [[c.check, c.result.value, c.found, c.what_to_do] for c in checks]
        print_table("", ["check", "result", "", "what to do"], rows)
    if any(check.result is Result.FAILED for check in checks):
        raise typer.Exit(1)


def _machine(folder: Path) -> Iterator[Check]:
    python = platform.python_version()
    supported = sys.version_info >= (3, 11)
    yield Check("python", _result(supported), python, "" if supported else "use 3.11 or newer")
    for package, remedy in PACKAGES.items():
        there = importlib.util.find_spec(package) is not None
        yield Check(
            package,
            Result.OK if there else Result.NOTE,
            "installed" if there else "not installed",
            "" if there else remedy,
        )
    yield Check("processors", Result.OK, str(os.cpu_count()))
    yield _disk(folder)


def _disk(folder: Path) -> Check:
    at = folder.absolute()
    while not at.exists():
        at = at.parent
    if not os.access(at, os.W_OK):
        return Check("disk", Result.FAILED, f"{at} is not writable", "choose another --home")
    free = shutil.disk_usage(at).free
    enough = free >= LOW_DISK_BYTES
    remedy = "" if enough else "make room, or choose another --home"
    return Check("disk", Result.OK if enough else Result.NOTE, f"{in_bytes(free)} free", remedy)


def _system(home: Path | None, registry: str | None, aggregator: str | None) -> list[Check]:
    try:
        system = find(home, registry, aggregator)
    except NotFound as none:
        return [Check("system", Result.NOTE, "none here", none.message)]
    state = "up" if system.is_up else "stopped"
    where = f"{state}: registry {system.registry}, aggregator {system.aggregator}"
    return [Check("system", Result.OK, where), *asyncio.run(_services(system))]


async def _services(system: System) -> list[Check]:
    async with open_source(system) as source:
        return [await _registry(source), await _aggregator(source, system)]


async def _registry(source: Source) -> Check:
    try:
        devices = await source.devices(DeviceFilter())
    except HocketError as error:
        return Check("registry", Result.FAILED, error.message, "start it, or see its log")
    alive = sum(device.state is DeviceState.ALIVE for device in devices)
    found = f"{len(devices)} devices, {alive} alive"
    if alive:
        return Check("registry", Result.OK, found)
    return Check("registry", Result.NOTE, found, "start devices, or see their logs")


async def _aggregator(source: Source, system: System) -> Check:
    try:
        status = await source.status()
    except HocketError as error:
        return Check("aggregator", Result.FAILED, error.message, "start it, or see its log")
    found = f"task {status.task}, version {status.version}, {status.updates_accepted} updates"
    if status.updates_rejected > status.updates_accepted:
        remedy = "most updates are rejected: see `hocket lineage` and the aggregator's log"
        return Check("aggregator", Result.NOTE, found, remedy)
    if system.is_up and not status.updates_accepted:
        return Check("aggregator", Result.NOTE, found, "no update has come yet: give it a minute")
    return Check("aggregator", Result.OK, found)


def _result(passed: bool) -> Result:
    return Result.OK if passed else Result.FAILED

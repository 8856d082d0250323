"""Which devices `hocket up` starts: their speed, link and size, from a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hocket.errors import TaskError

Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, config=CLOSED)
class FleetDevice:
    """One device. What is not given is not limited."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    processor_share: Share = 1.0  # of one core, enforced by resting between mini-batches
    share_schedule: tuple[tuple[Seconds, Share], ...] = ()  # over and over
    available_schedule: tuple[tuple[Seconds, bool], ...] = ()  # willing to train, likewise
    up_bytes_per_s: Rate = 0.0  # 0: unlimited
    down_bytes_per_s: Rate = 0.0
    memory_bytes: Annotated[int, Field(ge=0)] = 0  # 0: what the machine has
    keep: Share = 1.0  # share of each layer that it pulls, trains and pushes

    def environment(self) -> dict[str, str]:
        """The device service's settings."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        env = {f"DEVICE_{name.upper()}": json.dumps(value) for name, value in given.items()}
        return env | {"DEVICE_DEVICE_ID": self.name}


@dataclass(frozen=True, slots=True, config=CLOSED)
class Fleet:
    """A fleet file."""

    device: Annotated[tuple[FleetDevice, ...], Field(min_length=1)]


def demo_fleet() -> tuple[FleetDevice, ...]:
    """The six devices of `hocket demo`."""
    with resources.as_file(resources.files("hocket") / "fleets" / "demo.toml") as path:
        return load_fleet(path)


def load_fleet(path: Path) -> tuple[FleetDevice, ...]:
    """Read a fleet file. Raises TaskError that names file, device and key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise TaskError(f"the fleet file {path} cannot be read: {cause}") from cause
    except tomllib.TOMLDecodeError as cause:
        raise TaskError(f"the fleet file {path} is not valid TOML: {cause}") from cause
    except RecursionError as cause:
        raise TaskError(f"the fleet file {path} nests arrays too deep") from cause
    try:
        fleet = TypeAdapter(Fleet).validate_python(document).device
    except ValidationError as wrong:
        found = wrong.errors()
        told = [e for e in found if e["type"] != "too_short"] or found  # it follows from others
        lines = [f"{path}: {_key(e['loc'])}: {e['msg']}" for e in told]
        raise TaskError("\n".join(lines)) from None
    for name, count in Counter(device.name for device in fleet).items():
        if count > 1:
            raise TaskError(f"{path}: {count} devices are named {name!r}; names must differ")
    return fleet


def _key(location: tuple[str | int, ...]) -> str:
    """('device', 2, 'keep') as 'device 3, keep'."""
    parts = [str(part + 1) if isinstance(part, int) else part for part in location]
    return " ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])

"""What can happen to the registry's membership, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hocket.core.capability import Capability
from hocket.core.device import Caller, Device
from hocket.core.link import Link


@dataclass(frozen=True, slots=True)
class Join:
    """A device asks for a lease. An empty `device_id` asks for a name too."""

    device_id: str
    capability: Capability = field(default_factory=Capability)
    labels: Mapping[str, str] = field(default_factory=dict)
    unix_s: float = 0.0  # the wall clock's time, for people


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A device is still there; None: it can do what it could before."""

    caller: Caller
    capability: Capability | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A device gives its lease back."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """A device measured links; they replace what was known of the same peers."""

    caller: Caller
    links: Sequence[Link]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: leases may have ended."""


Event: TypeAlias = Join | Heartbeat | Leave | ReportLinks | Tick


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease began."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Superseded:
    """A live incarnation ended because its device joined again."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease was prolonged."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Departed:
    """A lease was given back."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease ended in silence."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Changed:
    """A device differs visibly from before; `device.revision` is new."""

    device: Device


Effect: TypeAlias = Granted | Superseded | Renewed | Departed | Expired | Changed

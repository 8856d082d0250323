"""The registry's rules with nobody around them, and what is read off their effects."""

from __future__ import annotations

from dataclasses import replace

from hocket.core.capability import Capability, CostLine
from hocket.core.chance import Stream
from hocket.core.device import Caller, Device
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.membership import Membership
from hocket.core.membership_events import Changed, Effect

LEASE_S = 10.0
IDLE = Capability(costs=(CostLine(1.0, 0.01, 0.001),), num_examples=100)
BUSY = replace(IDLE, available=False, processor_share=0.2)


def members(**options: int) -> Membership:
    return Membership(LEASE_S, Stream(7, "ids"), **options)


def caller(name: str, incarnation: int = 1) -> Caller:
    return Caller(DeviceId(name), Incarnation(incarnation))


def changed(effects: list[Effect]) -> list[Device]:
    return [effect.device for effect in effects if isinstance(effect, Changed)]


def ids(devices: list[Device]) -> list[str]:
    return [device.device_id for device in devices]

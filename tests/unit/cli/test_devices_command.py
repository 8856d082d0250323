"""`hocket devices`: which size each device works at, and why; nothing of whoever never pulled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.commands import hocket

from hocket.cli import inspect
from hocket.core.capability import Capability
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.records import DevicePhase, DeviceStatus
from hocket.core.submodel import FULL, SubmodelSpec

NAMES = ("half", "new", "whole", "unheard")
PARTS = {
    "half": (SubmodelSpec((0.5,)), "1/2: slow"),
    "new": (None, ""),
    "whole": (FULL, "full: ok"),
}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of four devices, and an aggregator that knows three of them."""
    devices = [
        Device(DeviceId(name), Incarnation(1), DeviceState.ALIVE, Capability()) for name in NAMES
    ]
    parts = {
        DeviceId(name): DeviceStatus(
            DeviceId(name), DevicePhase.IDLE, Version(0), spec=spec, why=why
        )
        for name, (spec, why) in PARTS.items()
    }

    def ask(*_: Any) -> Any:
        return devices, parts

    monkeypatch.setattr(inspect, "ask", ask)


@pytest.mark.usefixtures("shown")
def test_programs_are_told_null_where_nothing_was_pulled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hocket("devices", "--registry", "nobody:1", "--format", "json") == 0
    told = {each["device_id"]: each for each in json.loads(capsys.readouterr().out)}
    assert {name: (each["width"], each["why"]) for name, each in told.items()} == {
        "half": (0.5, "1/2: slow"),
        "new": (None, ""),
        "whole": (1.0, "full: ok"),
        "unheard": (None, ""),
    }


@pytest.mark.usefixtures("shown")
def test_people_are_shown_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert hocket("devices", "--registry", "nobody:1") == 0
    _, _, sizes = capsys.readouterr().out.partition("why this size")
    rows = [line.split(maxsplit=2) for line in sizes.splitlines() if line.strip()]
    assert [(row[0], row[1]) for row in rows] == [
        ("half", "0.5"),
        ("new", "-"),
        ("whole", "1"),
        ("unheard", "-"),
    ]

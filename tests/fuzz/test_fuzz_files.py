"""Every file that a person or a device writes, with anything in it: a valid value or a typed error.

Each reader is given `fuzzing.INPUTS` inputs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch
from hocket_device.residual import load_residual, save_residual
from hocket_device.state import FILE, State, load_state, save_state
from hypothesis import given
from support.codecs import seeded
from support.fuzzing import FIXED, accepts, scripts, tampered

from hocket.cli.fleet import FleetDevice, load_fleet
from hocket.core.ids import DeviceId
from hocket.core.participant import Participant, ParticipantRules
from hocket.core.refresh import RefreshRules
from hocket.core.slots import SlotTable
from hocket.core.submodel import FULL
from hocket.core.terms import RefreshTerms
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.task.reading import load_task
from hocket.task.task import Task


def fuzz_file(file: Path, sound: list[bytes], read: Callable[[], object]) -> int:
    """Have `read` read the file with anything in it; how often it made sense."""
    sensible = 0

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal sensible
        file.write_bytes(tampered(sound[script[-1] % len(sound)], script))
        sensible += accepts(read)

    decode()
    return sensible


def test_task_files(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    whole = resources.files("hocket").joinpath("tasks/digits.toml").read_bytes()
    rates = b'[submodel]\nkind = "distreal"\nrates = [0.5, [0.1]]\n'
    small = b'[model]\nfunction = "m:f"\n[data]\nkind = "digits"\n' + rates
    deep = b"[model]\nfunction='m:f'\narguments=" + b"[" * 300 + b"]" * 300 + b"\n"
    digits = [
        small + b"[stop]\nversions = " + number for number in (b"9" * 5000, b"0x" + b"f" * 5000)
    ]
    sound = [whole, small, small, deep, *digits]
    read: list[Task] = []
    sensible = fuzz_file(file, sound, lambda: read.append(load_task(file)))
    assert sensible == len(read) > 0


def test_fleet_files(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    whole = resources.files("hocket").joinpath("fleets/demo.toml").read_bytes()
    small = b'[[device]]\nname = "a"\nkeep = 0.5\nshare_schedule = [[1.0, 0.5]]\n'
    read: list[tuple[FleetDevice, ...]] = []
    sensible = fuzz_file(file, [whole, small, small], lambda: read.append(load_fleet(file)))
    assert sensible == len(read) > 0


def test_state_files_of_devices(tmp_path: Path) -> None:
    rules = ParticipantRules(4, RefreshTerms(enabled=True, rules=RefreshRules()))
    kept = Participant(rules, DeviceId("a"))
    kept.slots = SlotTable(2, 3)
    save_state(State("a", "task", kept.to_dict()), tmp_path)
    file = tmp_path / FILE
    sound = file.read_bytes()
    deep = sound.replace(b'"task"', b'"x": ' + b"[" * 5000 + b"]" * 5000 + b', "task"')

    def read() -> None:
        state = load_state(tmp_path)
        assert isinstance(state.device_id, str)
        assert isinstance(state.tally.bytes_up, int)
        if state.participant is not None:
            Participant.from_dict(rules, DeviceId("a"), state.participant)

    assert fuzz_file(file, [sound, sound, sound, deep], read) > 0


def test_residual_files_of_devices(tmp_path: Path) -> None:
    file = tmp_path / "residual.safetensors"
    whole = ErrorFeedback(residual=torch.randn(20, generator=seeded()), part=("1f", FULL))
    save_residual(whole, file)
    sound = file.read_bytes()
    header = struct.pack("<Q", 2**62) + sound[8:]

    def read() -> None:
        feedback = ErrorFeedback()
        load_residual(feedback, file)
        assert feedback.residual is not None
        assert (feedback.residual.dtype, feedback.residual.dim()) == (torch.float32, 1)

    assert fuzz_file(file, [sound, sound, sound, header], read) > 0

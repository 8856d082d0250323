"""Fleet files: what they say, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hocket.cli.fleet import demo_fleet, load_fleet
from hocket.errors import TaskError


def test_the_demo_fleet_is_six_clearly_different_devices() -> None:
    fleet = demo_fleet()
    assert len({device.name for device in fleet}) == 6
    shares = sorted(device.processor_share for device in fleet)
    links = sorted(device.up_bytes_per_s for device in fleet)
    assert shares[-1] / shares[0] >= 5
    assert links[0] > 0
    assert links[-1] / links[0] >= 5


def test_a_device_becomes_the_settings_of_its_service(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        '[[device]]\nname = "a"\nprocessor_share = 0.5\nshare_schedule = [[5, 0.2]]\nkeep = 0.25\n'
    )
    [device] = load_fleet(path)
    environment = device.environment()
    assert environment["DEVICE_DEVICE_ID"] == "a"
    assert float(environment["DEVICE_PROCESSOR_SHARE"]) == 0.5
    assert json.loads(environment["DEVICE_SHARE_SCHEDULE"]) == [[5, 0.2]]
    assert float(environment["DEVICE_KEEP"]) == 0.25


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "device"),
        ("devices = 3", "devices"),
        ('[[device]]\nname = "a"\nspeed = 3', "device 1, speed"),
        ('[[device]]\nname = "a"\n[[device]]\nname = "b"\nkeep = 0', "device 2, keep"),
        ('[[device]]\nname = "a"\nup_bytes_per_s = -1', "device 1, up_bytes_per_s"),
        ('[[device]]\nname = "a b"', "device 1, name"),
        ('[[device]]\nname = "a"\n[[device]]\nname = "a"', "2 devices are named 'a'"),
        ("[[device]", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_by_device_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(TaskError) as wrong:
        load_fleet(path)
    assert str(path) in wrong.value.message
    assert told in wrong.value.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nowhere\.toml cannot be read"):
        load_fleet(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "text", ["device = 1", "x = " + "[" * 5000 + "]" * 5000, "[device]\nname=1"]
)
def test_fleet_files_that_are_toml_and_no_fleet(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(TaskError):
        load_fleet(file)

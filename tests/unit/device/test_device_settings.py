from __future__ import annotations

from pathlib import Path

import pytest
from hocket_device.__main__ import COMMAND, PURPOSE
from hocket_device.settings import Settings

from hocket.hosting.settings import WrongSettings, help_text, read_settings


def test_variables_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE_DEVICE_ID", "attic.pi-4")
    monkeypatch.setenv("DEVICE_KEEP", "0.5")
    monkeypatch.setenv("DEVICE_SHARE_SCHEDULE", "[[10, 1.0], [5, 0.25]]")
    monkeypatch.setenv("DEVICE_AVAILABLE_SCHEDULE", "[[60, true], [30, false]]")
    monkeypatch.setenv("DEVICE_LABELS", '{"room": "attic"}')
    monkeypatch.setenv("HOCKET_DATA", "/data:/more")
    settings = read_settings(Settings)
    assert settings.device_id == "attic.pi-4"
    assert settings.keep == 0.5
    assert settings.share_schedule == ((10.0, 1.0), (5.0, 0.25))
    assert settings.available_schedule == ((60.0, True), (30.0, False))
    assert settings.labels == {"room": "attic"}
    assert settings.data_roots == (Path("/data"), Path("/more"))


def test_the_devices_own_data_folders_come_before_those_of_everyone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOCKET_DATA", "/everyone")
    monkeypatch.setenv("DEVICE_DATA_ROOTS", "/mine")
    assert read_settings(Settings).data_roots == (Path("/mine"),)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEVICE_PROCESSOR_SHARE", "0"),
        ("DEVICE_PROCESSOR_SHARE", "1.5"),
        ("DEVICE_KEEP", "half"),
        ("DEVICE_DEVICE_ID", "a b"),
        ("DEVICE_REGISTRY", "localhost"),
        ("DEVICE_LABELS", "attic"),
        ("DEVICE_SHARE_SCHEDULE", "[[10, 1.0"),
        ("DEVICE_UP_BYTES_PER_S", "-1"),
        ("DEVICE_SHARE_SCHEDULE", "[[0, 1.0]]"),
        ("DEVICE_SHARDS", "0"),
        ("DEVICE_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(WrongSettings, match=variable):
        read_settings(Settings)


def test_a_shard_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE_SHARD", "4")
    monkeypatch.setenv("DEVICE_SHARDS", "4")
    with pytest.raises(WrongSettings, match="counted from 0"):
        read_settings(Settings)


def test_every_setting_is_explained() -> None:
    text = help_text(Settings, COMMAND, PURPOSE)
    assert all(f"DEVICE_{name.upper()} " in text for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())

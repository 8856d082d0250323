from __future__ import annotations

from pathlib import Path

import pytest
from hocket_registry.__main__ import COMMAND, PURPOSE, main
from hocket_registry.settings import Settings

from hocket.hosting.settings import WrongSettings, help_text, read_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"REGISTRY_{name.upper()}", raising=False)


def test_the_defaults_fit_each_other() -> None:
    settings = read_settings(Settings)
    assert (settings.listen, settings.lease_s, settings.heartbeat_s) == ("127.0.0.1:50051", 15, 5)
    assert settings.ready_file is None


def test_variables_are_read_and_an_empty_one_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGISTRY_LISTEN", "[::]:0")
    monkeypatch.setenv("REGISTRY_DATA_DIR", "/var/lib/hocket")
    monkeypatch.setenv("REGISTRY_READY_FILE", "")
    settings = read_settings(Settings)
    assert settings.listen == "[::]:0"
    assert settings.data_dir == Path("/var/lib/hocket")
    assert settings.ready_file is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE_S", "soon", "REGISTRY_LEASE_S is 'soon': Input should be a valid number"),
        ("LEASE_S", "nan", "REGISTRY_LEASE_S is 'nan': Input should be"),
        ("LEASE_S", "-1", "REGISTRY_LEASE_S is '-1': Input should be greater than 0"),
        ("HEARTBEAT_S", "7.5", "REGISTRY_HEARTBEAT_S is 7.5 and REGISTRY_LEASE_S is 15: the"),
        ("LISTEN", "here", "REGISTRY_LISTEN is 'here': write host:port"),
        ("LISTEN", ":50051", "REGISTRY_LISTEN is ':50051': write host:port"),
        ("LISTEN", "localhost:65536", "REGISTRY_LISTEN is 'localhost:65536': write host:port"),
        ("MAX_WATCHERS", "0", "REGISTRY_MAX_WATCHERS is '0': Input should be greater than"),
        ("LOG_LEVEL", "loud", "REGISTRY_LOG_LEVEL is 'loud': Input should be 'debug', 'info'"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"REGISTRY_{name}", value)
    with pytest.raises(WrongSettings) as refused:
        read_settings(Settings)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_help_names_every_variable_with_its_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hocket-registry", "--help"])
    assert main() == 0
    shown = capsys.readouterr().out
    assert shown == help_text(Settings, COMMAND, PURPOSE)
    for name in Settings.model_fields:
        assert f"  REGISTRY_{name.upper()} " in shown
    assert "[127.0.0.1:50051]" in shown


def test_any_other_argument_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hocket-registry", "--port", "1"])
    assert main() == 2
    assert "takes no arguments" in capsys.readouterr().err

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hocket.obs.logging import configure

PROGRAM = """
import structlog
from hocket.obs.logging import configure
configure("registry", {level!r})
log = structlog.get_logger()
log.debug("lease_renewed")
log.info("device_joined", device="d1")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("internal_error")
"""


def lines_of(level: str) -> list[dict[str, object]]:
    """What a fresh process writes to stderr, which is no terminal there."""
    program = PROGRAM.format(level=level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_line_is_json_and_names_its_service() -> None:
    joined, failed = lines_of("info")
    assert joined.pop("timestamp")
    expected = {"event": "device_joined", "device": "d1", "level": "info", "service": "registry"}
    assert joined == expected
    assert failed["event"] == "internal_error"
    assert "ZeroDivisionError" in json.dumps(failed["exception"])


def test_the_level_decides_what_is_written() -> None:
    assert [line["event"] for line in lines_of("error")] == ["internal_error"]
    assert len(lines_of("debug")) == 3


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is none of debug, info"):
        configure("registry", "loud")


def test_a_command_warns_on_stderr() -> None:
    program = """
import structlog
from hocket.obs.logging import configure_command
configure_command("hocket")
structlog.get_logger().info("snapshot_saved", version=3)
structlog.get_logger().warning("snapshot_damaged", snapshot="3-1.json", cause="no such blob")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b""
    told = "hocket: warning: snapshot_damaged: snapshot 3-1.json, cause no such blob\n"
    assert done.stderr.decode() == told

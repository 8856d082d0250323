"""How `hocket bench slicing` comes to its figures."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from hocket.cli.bench.slicing import row
from hocket.cli.bench.slicing_worker import measure

WORK = 9216 + 294_912 + 32_768 + 640  # multiply-accumulates of the digits network
HALF = 4608 + 73_728 + 16_384 + 640


def job(**changes: Any) -> dict[str, Any]:
    usual = {"model": "digits_cnn", "input_shape": [1, 8, 8], "batch": 4, "steps": 1, "drop": 0.5}
    return usual | changes


def test_the_work_that_is_left_is_counted_and_the_rest_is_timed() -> None:
    told = asyncio.run(measure(job(measure="time")))
    assert told["macs"] == WORK
    assert told["macs_share"] == pytest.approx(HALF / WORK)
    assert told["step_s"] > 0 < told["part_s"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells on Linux only")
def test_the_memory_of_a_step_grows_with_its_examples() -> None:
    few, many = (
        asyncio.run(measure(job(measure="memory", batch=n)))["peak_bytes"] for n in (64, 4096)
    )
    values = 4096 * (16 + 32) * 8 * 8  # of what the convolutions put out, kept for the way back
    assert many > 4 * values
    assert few < many / 4


def test_a_row_says_what_is_saved() -> None:
    told = {
        "macs": 265_000_000,
        "macs_share": 0.25,
        "step_s": 1.0,
        "part_s": 0.4,
        "saved_time": 0.6,
        "peak_bytes": 2 << 20,
        "part_bytes": 1 << 20,
        "saved_memory": 0.5,
    }
    assert row("net", told) == ["net", "265", "25.0%", "1 s", "0.4 s", "60.0%", "2.0 MiB", "50.0%"]

"""How `hocket bench slicing` comes to its figures."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.live_memory import peak_tensor_bytes
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.cli.bench.slicing import LEAST_SAVED, NETS, met, row
from hocket.cli.bench.slicing_worker import Steps, measure

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


def test_the_most_that_is_alive_at_once_is_counted() -> None:
    """Two tensors of 1,000 floats at a time, of three; views and what was there count nothing."""
    there = torch.zeros(5000)

    def work() -> torch.Tensor:
        first = there[:1000] * 2.0
        second = first.view(10, 100) * 2.0
        del first
        return second + 1.0

    assert peak_tensor_bytes(work) == 2 * 4 * 1000


@pytest.mark.parametrize("model", NETS)
def test_a_step_on_half_of_the_filters_has_tensors_of_little_more_than_half_the_bytes(
    model: str,
) -> None:
    """Counted, not measured: half of each layer's outputs, a quarter of its weights."""
    steps = Steps(job(model=model, input_shape=NETS[model], batch=8))
    assert steps.macs(0.0) > 50e6
    whole, part = (peak_tensor_bytes(partial(steps.take, drop)) for drop in (0.0, 0.5))
    assert part <= (1 - LEAST_SAVED) * whole


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
    shown = ["net", "265", "25.0%", "1 s", "0.4 s", "60.0%", "2.0 MiB", "50.0%"]
    assert row("net", told | {"met": True}) == [*shown, "both 40%", "met"]
    assert row("net", told | {"met": False}) == [*shown, "both 40%", "missed"]
    assert row("net", told | {"met": None}) == [*shown, "-", "-"]


@pytest.mark.parametrize(
    ("drop", "macs", "time", "memory", "verdict"),
    [
        (0.5, 50_000_000, 0.4, 0.4, True),
        (0.5, 265_000_000, 0.39, 0.9, False),
        (0.5, 265_000_000, 0.9, 0.39, False),
        (0.5, 49_999_999, 0.0, 0.0, None),
        (0.25, 265_000_000, 0.1, 0.1, None),
    ],
)
def test_of_half_the_filters_of_a_large_net_both_savings_are_asked_for(
    drop: float, macs: int, time: float, memory: float, verdict: bool | None
) -> None:
    assert met(drop, macs, time, memory) is verdict


@pytest.mark.parametrize(
    ("part_s", "part_bytes", "arguments", "code"),
    [
        (0.5, 500, [], 0),
        (0.7, 500, [], 1),
        (0.5, 700, [], 1),
        (0.7, 700, ["--drop", "0.25"], 0),
    ],
    ids=["both saved", "too little time", "too little memory", "nothing is asked"],
)
def test_the_command_fails_where_less_is_saved_than_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    part_s: float,
    part_bytes: int,
    arguments: list[str],
    code: int,
) -> None:
    """Its workers' answers are made up: of the whole net, a second and 1,000 bytes."""

    async def answer(_worker: str, job: dict[str, Any], _log: Path) -> dict[str, Any]:
        if job["measure"] == "time":
            return {"macs": 10**8, "macs_share": 0.25, "step_s": 1.0, "part_s": part_s}
        return {"peak_bytes": part_bytes if job["drop"] else 1000}

    monkeypatch.setattr(sys.modules[met.__module__], "run_worker", answer)
    ran = CliRunner().invoke(app, ["bench", "slicing", "--format", "json", *arguments])
    assert ran.exit_code == code
    verdicts = [told["met"] for told in json.loads(ran.stdout)["models"].values()]
    assert verdicts == [None if arguments else code == 0] * len(NETS)

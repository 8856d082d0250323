"""What a person sees while a system runs, on wide screens and narrow ones."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.runs import run

from hocket.cli.dashboard import Dashboard, Lines


def drawn(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    finished = run()
    with Dashboard(console) as dashboard:
        dashboard.show(finished.status, finished.devices)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rpartition("╭")[2]  # the last frame


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
def test_it_fits_the_screen(width: int) -> None:
    text = drawn(width)
    assert "version 3" in text
    assert "96.00%" in text
    rows = [line for line in text.splitlines() if "slow" in line or "quick" in line]
    assert len(rows) == 2  # nothing wraps
    assert "…" not in text


def test_a_wide_screen_shows_what_a_narrow_one_leaves_out() -> None:
    assert "loss" in drawn(140)
    assert "loss" not in drawn(80)


def test_lines_say_the_same_without_a_screen() -> None:
    console = Console(file=io.StringIO(), width=200)
    finished = run()
    lines = Lines(console)
    lines.show(finished.status, finished.devices)
    lines.show(finished.status, finished.devices)  # said once and for all
    assert isinstance(console.file, io.StringIO)
    line, end = console.file.getvalue().splitlines()
    assert end == "the task has ended: version 3 of 3 reached"
    assert "version    3  accuracy 0.9600" in line
    assert "2 devices" in line

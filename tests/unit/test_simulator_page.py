"""docs/simulator.md is held against the code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args

from typer.core import TyperGroup
from typer.main import get_command

from hocket.cli.app import app
from hocket.sim.fleet import read_fleet
from hocket.sim.trace import TYPES
from hocket.sim.tracer import Kind, Row
from hocket.task import load_task

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_option_is_on_the_page_and_no_other() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    options = {
        name
        for known in group.commands["simulate"].params
        for name in known.opts
        if name.startswith("--")
    }
    rows = re.findall(r"^\| `(--[a-z]+)", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(options - {"--help"})


def test_every_column_and_kind_of_the_trace_is_on_the_page() -> None:
    table = section("What a run leaves behind").split("| column")[1]
    columns = [name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
               for name in re.findall(r"`(\w+)`", row)]  # fmt: skip
    assert sorted(columns) == sorted(TYPES) == sorted(field.name for field in fields(Row))
    kinds = re.search(r"^\| `kind` \| (.*) \|$", table, re.MULTILINE)
    assert kinds is not None
    assert set(re.findall(r"`(\w+)`", kinds[1])) == set(get_args(Kind))


def test_the_smallest_fleet_shown_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "fleet.toml").write_text(shown)
    fleet = read_fleet(tmp_path / "fleet.toml")
    assert (fleet.num_devices, len(fleet.all_classes), len(fleet.all_links)) == (100, 5, 4)
    assert fleet.stop.virtual_s == 7200.0


def test_every_table_of_a_fleet_file_is_on_the_page() -> None:
    example = ROOT / "examples" / "fleets" / "hundred.toml"
    text = re.sub(r"^# (?=\[)", "", example.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tables = set(re.findall(r"^\[+(\w+)\]+", text, re.MULTILINE))
    assert "device" in tables
    assert tables <= set(re.findall(r"`\[+(\w+)\]+`", section("The fleet file")))
    assert tomllib.loads(example.read_text(encoding="utf-8"))["name"] == "hundred"


def test_the_example_fleets_name_tasks_that_can_be_read() -> None:
    fleets = [read_fleet(file) for file in (ROOT / "examples" / "fleets").glob("*.toml")]
    tasks = [load_task(fleet.task_file) for fleet in fleets if fleet.task_file is not None]
    assert "digits" in {task.name for task in tasks}

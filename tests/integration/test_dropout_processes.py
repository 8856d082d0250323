"""`hocket dropout search` with processes of its own, and a Ctrl-C in the middle of it."""

from __future__ import annotations

import json
from pathlib import Path

from support.commands import interrupted
from support.searching import tiny_task
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.task import load_task
from hocket.task.dropout_table import read_dropout_table
from hocket.task.setup import set_up


def command(folder: Path, out: str) -> list[str]:
    few = ["--population", "4", "--grid", "2", "--steps", "1", "--examples", "60"]
    fewer = ["--generations", "1", "--snapshots", "0", "--training-steps", "1"]
    place = ["--task", str(folder / "tiny.toml"), "--out", str(folder / out), "--jobs", "1"]
    return ["dropout", "search", "--scale", "quick", *few, *fewer, *place]


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    tiny_task(tmp_path)
    said = interrupted("generation 1/1", *command(tmp_path, "out"))  # the first was tried
    assert "stopped; the same command goes on where it was" in said
    jobs = tmp_path / "out" / "jobs"
    kept = {file: file.stat().st_mtime_ns for file in jobs.glob("*.json")}
    assert len(kept) >= 4
    assert not (tmp_path / "out" / "table.toml").exists()
    assert not list((tmp_path / "out").rglob("*.partial"))

    done = CliRunner().invoke(app, [*command(tmp_path, "out"), "--format", "json"])
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    numbers = json.loads(done.stdout)
    rows = read_dropout_table(tmp_path / "out" / "table.toml").row
    assert [row["cost"] for row in numbers["rows"]] == [row.cost for row in rows]

    again = CliRunner().invoke(app, command(tmp_path, "out"))
    assert again.exit_code == 0, again.output
    assert "generation 1/1: 4 vectors, 4 tried before" in again.stderr
    assert "uniform vectors beside the row that costs no more" in again.stdout

    file = tmp_path / "tiny.toml"
    lines = again.stdout.rstrip().rsplit("\n", 4)[1:]
    assert lines[0] == f"for devices to choose from the table, put into {file}:"
    file.write_text(file.read_text() + "\n".join(lines[1:]))  # as somebody who believes it
    assert set_up(load_task(file)).terms.dropout_rows == tuple(row.drop for row in rows)

"""`hocket replay` of a data folder: what it says of the record that it compares with."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from hocket_aggregator.recovery.origin import Origin
from support.aggregating import aggregating
from support.commands import hocket

TINY = """
name = "tiny"
seed = 3
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [12] }
[data]
kind = "digits"
"""


async def trained(data: Path) -> str:
    async with aggregating(data) as running:
        await running.push_from("a")
        return await running.digest()


@pytest.fixture
def data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A stopped aggregator's folder at version 2, and the digest of that."""
    folder = tmp_path / "data"
    digest = asyncio.run(trained(folder))
    (tmp_path / "tiny.toml").write_text(TINY)
    Origin(str(tmp_path / "tiny.toml"), str(tmp_path)).write(folder)
    capsys.readouterr()
    return folder, digest


def test_a_version_on_record_is_compared_with_it(
    data: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, digest = data
    replay = ("replay", "--data-dir", str(folder))
    assert hocket(*replay, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["digest"], told["recorded_digest"], told["equal"]) == (digest, digest, True)
    assert hocket(*replay) == 0
    assert "as recorded, bit for bit" in capsys.readouterr().out
    with sqlite3.connect(folder / "aggregator.db") as database:
        database.execute("UPDATE versions SET digest = '0123456789abcdef' WHERE version = 2")
    database.close()
    assert hocket(*replay, "--format", "json") == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["recorded_digest"], told["equal"]) == ("0123456789abcdef", False)
    assert "was recorded with digest 0123456789abcdef" in said.err


def test_a_version_that_is_not_on_record_is_not_said_to_be_as_recorded(
    data: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, digest = data
    for file in folder.glob("aggregator.db*"):
        file.unlink()
    replay = ("replay", "--data-dir", str(folder))
    assert hocket(*replay, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["digest"]) == (2, digest)
    assert (told["recorded_digest"], told["equal"]) == (None, None)
    assert hocket(*replay) == 0
    said = capsys.readouterr().out
    assert f"not on record in {folder}" in said
    assert "bit for bit" not in said

"""A stopped aggregator whose snapshots are in S3-compatible storage: they are read from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.aggregator import Surroundings, open_aggregator
from hocket_aggregator.recovery.reader import read_versions, snapshot_versions
from hocket_aggregator.recovery.replay import replay
from hocket_aggregator.snapshots.place import NOTE, place_of
from safetensors.torch import load_file
from support.aggregating import LIMITS, TASK
from support.clock import ManualClock
from support.s3 import Bucket, s3_server
from typer.testing import CliRunner

from hocket.cli.app import app
from hocket.cli.where import System
from hocket.errors import NotFound, StorageFailed
from hocket.learn.flat import views
from hocket.task.setup import set_up

URL = "s3://bucket/runs/one"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with s3_server() as (bucket, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A system that has been stopped."""
    System("127.0.0.1:1", "127.0.0.1:2", tmp_path).write()
    return tmp_path


def run_once(data_dir: Path, blobs: str) -> dict[str, Any]:
    """An aggregator that begins its task and ends; the first version's values, by name."""

    async def begin_and_end() -> None:
        around = Surroundings(data_dir, ManualClock(), lambda: 0.5, limits=LIMITS, blobs=blobs)
        async with open_aggregator(setup, around):
            pass

    setup = set_up(TASK)
    asyncio.run(begin_and_end())
    return dict(views(setup.first, setup.terms.manifest))


def export(home: Path, to: Path, version: int = 0) -> Any:
    arguments = ["export", "--home", home, "-o", to, "--version", version, "--format", "json"]
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_model_is_read_from_there(s3: Bucket, home: Path, tmp_path: Path) -> None:
    data_dir = home / "aggregator"
    values = run_once(data_dir, URL)
    assert "runs/one/versions/1.safetensors" in s3.blobs
    assert not (data_dir / "versions").exists()
    exported = export(home, tmp_path / "model.safetensors")
    assert exported.exit_code == 0, exported.exception
    assert json.loads(exported.stdout)["version"] == 1
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == values.keys()
    assert all(torch.equal(found[name], values[name]) for name in values)
    assert [v.retained for v in read_versions(data_dir)] == [True]
    assert asyncio.run(replay(set_up(TASK), data_dir)).version == 1


def test_a_version_that_is_not_there_is_told_with_those_that_are(
    s3: Bucket,  # noqa: ARG001 -- the storage
    home: Path,
    tmp_path: Path,
) -> None:
    run_once(home / "aggregator", URL)
    missing = export(home, tmp_path / "model.safetensors", version=77)
    assert isinstance(missing.exception, NotFound)
    assert f"version 77 has no snapshot in {URL}; take one of 1" in missing.exception.message
    assert not (tmp_path / "model.safetensors").exists()


def test_storage_that_cannot_be_read_is_named_with_what_to_do(
    s3: Bucket, home: Path, tmp_path: Path
) -> None:
    run_once(home / "aggregator", URL)
    s3.refuse = True
    refused = export(home, tmp_path / "model.safetensors")
    assert isinstance(refused.exception, StorageFailed)
    assert f"are in {URL}, which cannot be read" in refused.exception.message
    assert "AWS_ACCESS_KEY_ID" in refused.exception.message
    assert not list(tmp_path.glob("model*"))
    assert [v.retained for v in read_versions(home / "aggregator")] == [False]


def test_the_note_follows_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    run_once(data_dir, "elsewhere")
    assert place_of(data_dir) == tmp_path / "elsewhere"
    monkeypatch.chdir("/")
    assert snapshot_versions(data_dir) == [1]
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    for folder in ("snapshots", "versions", "tensors"):
        if (tmp_path / "gone" / folder).exists():
            (tmp_path / "gone" / folder).rename(data_dir / folder)
    run_once(data_dir, "")
    assert place_of(data_dir) == data_dir
    assert not (data_dir / NOTE).exists()
    assert snapshot_versions(data_dir) == [1]

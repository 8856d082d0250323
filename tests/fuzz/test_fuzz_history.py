"""A damaged history: read and lived through, it gives entries or typed errors, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from support.fuzzing import FIXED, scripts, tampered, typed
from support.histories import recorded
from support.simulations import fleet, task

from hocket.errors import CorruptState, NotFound, TaskError
from hocket.sim.history import History, read_history
from hocket.sim.history.entries import BODIES_FILE, ENTRIES_FILE
from hocket.sim.reliving import Relived, relive
from hocket.task.setup import Setup, set_up

FEW = settings(FIXED, max_examples=300)
Sample = tuple[Setup, bytes, bytes]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A setup, and a sound history's two files."""
    folder = tmp_path_factory.mktemp("sound")
    small = task(strategy={"kind": "fedbuff", "goal": 2}, codec={"kind": "int8"})
    result, _ = recorded(small, fleet(2, stop={"versions": 3}), folder)
    setup = set_up(result.scenario.task)
    return setup, (folder / ENTRIES_FILE).read_bytes(), (folder / BODIES_FILE).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tampered")


def lived(setup: Setup, folder: Path) -> Relived | None:
    def life() -> Relived:
        history: History = read_history(folder)
        return relive(setup, history)

    return typed(life, CorruptState, NotFound, TaskError)


@given(scripts)
@FEW
def test_tampered_lines(sample: Sample, folder: Path, script: bytes) -> None:
    setup, lines, bodies = sample
    (folder / ENTRIES_FILE).write_bytes(tampered(lines, script))
    (folder / BODIES_FILE).write_bytes(bodies)
    lived(setup, folder)


@given(scripts)
@FEW
def test_tampered_bodies(sample: Sample, folder: Path, script: bytes) -> None:
    setup, lines, bodies = sample
    (folder / ENTRIES_FILE).write_bytes(lines)
    damaged = tampered(bodies, script)
    (folder / BODIES_FILE).write_bytes(damaged)
    relived = lived(setup, folder)
    if damaged[: len(bodies)] != bodies:
        assert relived is None or relived.difference is not None


@given(scripts)
@FEW
def test_tampered_values(sample: Sample, folder: Path, script: bytes) -> None:
    """Sound lines in which one number or text is another."""
    setup, lines, bodies = sample
    stored = [json.loads(line) for line in lines.splitlines()]
    replace_one(stored[script[0] % len(stored)], script[1:])
    (folder / ENTRIES_FILE).write_text("".join(json.dumps(line) + "\n" for line in stored))
    (folder / BODIES_FILE).write_bytes(bodies)
    lived(setup, folder)


def replace_one(table: Any, script: bytes) -> None:
    """Walk down by the script's bytes, and put another value in place of what is there."""
    values = [0, -1, 1, 2**63, 2**64, 1e300, 0.5, "", "x" * 9, None, True, [], {}]
    while True:
        at = script[0] if script else 0
        keys = list(table) if isinstance(table, dict) else list(range(len(table)))
        if not keys:
            return
        key = keys[at % len(keys)]
        below = table[key]
        script = script[1:]
        if isinstance(below, (dict, list)) and len(script) > 1:
            table = below
            continue
        table[key] = values[(script[0] if script else 7) % len(values)]
        return

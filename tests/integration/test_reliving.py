"""Histories lived through again: what is equal, what is told where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.histories import recorded
from support.simulations import fleet, task

from hocket.core.ids import Version
from hocket.core.update import Applied, Dropped
from hocket.errors import CorruptState, TaskError
from hocket.sim.history import Closed, Entry, History, HistoryWriter, Settled, read_history
from hocket.sim.reliving import relive
from hocket.task.setup import Setup, set_up

ROUNDS: dict[str, Any] = {
    "strategy": {"kind": "fedavg", "cohort": 3},
    "pace": {"kind": "rounds", "cohort": 3, "over_selection": 1.4, "deadline_s": 2.0},
}
UNEQUAL = (
    {"name": "quick", "per_example_s": 0.005},
    {"name": "slow", "per_example_s": 0.08, "share": 2.0},
)


def small(folder: Path) -> tuple[Setup, History]:
    """A few updates of two devices."""
    result, history = recorded(task(), fleet(2, stop={"versions": 6}), folder)
    return set_up(result.scenario.task), history


def told_otherwise(
    history: History, folder: Path, change: Callable[[int, Entry], Entry | None]
) -> History:
    """The history with entries changed, or left out, by their number."""
    with HistoryWriter(folder, history.beginning) as writer:
        for number, found in enumerate(history.entries()):
            entry = change(number, found.entry)
            if entry is not None:
                writer.add(entry)
    return read_history(folder)


def test_rounds_that_a_deadline_closed_come_out_the_same(tmp_path: Path) -> None:
    devices = fleet(6, classes=UNEQUAL, stop={"versions": 8})
    result, history = recorded(task(**ROUNDS), devices, tmp_path / "h")
    kept = [found.entry for found in history.entries()]
    assert sum(isinstance(entry, Closed) for entry in kept) > 1
    assert any(isinstance(e, Settled) and isinstance(e.outcome, Dropped) for e in kept)
    relived = relive(set_up(result.scenario.task), history)
    assert relived.difference is None
    assert (relived.version, relived.digest) == (result.newest.version, result.digest)
    assert relived.versions == sum(
        isinstance(entry, (Settled, Closed)) and entry.digest != "" for entry in kept
    )


def test_each_strategy_with_a_memory_comes_out_the_same(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": "fadas", "goal": 2},
        {"kind": "ca2fl", "goal": 2, "devices": 3},
        {"kind": "port"},
    ]
    for strategy in kinds:
        folder, few = tmp_path / strategy["kind"], {"kind": "digits", "limit": 60}
        rule = task(strategy=strategy, data=few)
        result, history = recorded(rule, fleet(3, stop={"versions": 4}), folder)
        relived = relive(set_up(result.scenario.task), history)
        assert relived.difference is None, strategy
        assert relived.digest == result.digest


def test_another_outcome_is_told_with_its_line(tmp_path: Path) -> None:
    setup, history = small(tmp_path / "h")

    def heavier(_: int, entry: Entry) -> Entry:
        if isinstance(entry, Settled) and isinstance(entry.outcome, Applied):
            return replace(entry, outcome=replace(entry.outcome, weight=0.75))
        return entry

    first = next(f.line for f in history.entries() if isinstance(f.entry, Settled))
    relived = relive(setup, told_otherwise(history, tmp_path / "other", heavier))
    assert relived.difference is not None
    assert relived.difference.line == first
    assert "weight=0.75" in relived.difference.message
    assert relived.versions == 0


def test_another_digest_is_told_with_its_version(tmp_path: Path) -> None:
    setup, history = small(tmp_path / "h")
    made: list[str] = []

    def wrong_once(_: int, entry: Entry) -> Entry:
        if isinstance(entry, Settled) and entry.digest:
            made.append(entry.digest)
            if len(made) == 3:
                return replace(entry, digest="0" * 16)
        return entry

    relived = relive(setup, told_otherwise(history, tmp_path / "other", wrong_once))
    assert relived.difference is not None
    assert f"version 4 had digest {'0' * 16}, and now comes to {made[2]}" in (
        relived.difference.message
    )
    assert (relived.version, relived.versions) == (4, 2)


def test_a_version_too_few_or_too_many_is_told(tmp_path: Path) -> None:
    setup, history = small(tmp_path / "h")

    def silent(_: int, entry: Entry) -> Entry:
        return replace(entry, digest="") if isinstance(entry, Settled) else entry

    relived = relive(setup, told_otherwise(history, tmp_path / "silent", silent))
    assert relived.difference is not None
    assert relived.difference.message == "version 2 is made here, where none was"
    waiting = set_up(task(strategy={"kind": "fedbuff", "goal": 2}, seed=setup.task.seed))
    relived = relive(waiting, history)
    assert relived.difference is not None


def test_what_cannot_be_lived_through_is_damage(tmp_path: Path) -> None:
    setup, history = small(tmp_path / "h")

    def bodiless(_: int, entry: Entry) -> Entry:
        return replace(entry, payload=None) if isinstance(entry, Settled) else entry

    with pytest.raises(CorruptState, match=r"entries.jsonl, line \d+: .* are missing"):
        relive(setup, told_otherwise(history, tmp_path / "bodiless", bodiless))

    def from_the_future(_: int, entry: Entry) -> Entry:
        if not isinstance(entry, Settled):
            return entry
        return replace(entry, header=replace(entry.header, base_version=Version(99)))

    with pytest.raises(CorruptState, match="UNKNOWN_VERSION"):
        relive(setup, told_otherwise(history, tmp_path / "future", from_the_future))


def test_a_history_of_another_model_is_refused(tmp_path: Path) -> None:
    _, history = small(tmp_path / "h")
    wider = task()
    wider = replace(wider, model=replace(wider.model, arguments={"inputs": 64, "classes": 10}))
    with pytest.raises(TaskError, match="laid out otherwise"):
        relive(set_up(wider), history)

"""A simulation that trains several devices at once comes to what it comes to one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.simulations import fleet, simulation, task

from hocket.sim.batching import Batched
from hocket.sim.result import Result

STOP = {"versions": 40}


def run(batched: str, **tables: Any) -> Result:
    busy = task(pace={"kind": "concurrent", "devices": 8}, **tables)
    slow = {"name": "slow", "per_example_s": 0.01, "spread": 0.3, "jitter": 0.1}
    return simulation(busy, fleet(12, classes=[slow], stop=STOP, run={"batched": batched})).run()


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were trained at once, each time."""
    counted: list[int] = []
    plain = Batched.run

    def counting(self: Batched, jobs: Any) -> Any:
        counted.append(len(jobs))
        return plain(self, jobs)

    monkeypatch.setattr(Batched, "run", counting)
    return counted


def test_it_is_the_same_history_but_for_rounding(together: list[int]) -> None:
    one_by_one = run("off")
    assert together == []
    at_once = run("auto")
    assert max(together) > 4
    assert at_once.counts == one_by_one.counts
    assert at_once.virtual_s == one_by_one.virtual_s
    torch.testing.assert_close(at_once.newest.model, one_by_one.newest.model, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bits(together: list[int]) -> None:
    assert run("auto").digest == run("auto").digest
    assert together


def test_what_drops_filters_is_trained_one_by_one(together: list[int]) -> None:
    """Whatever the fleet file says."""
    tables = {"model": {"function": "hocket.learn.models:digits_cnn"}}
    half = {"kind": "distreal", "rates": [0.5]}
    run(
        "on",
        **tables,
        submodel=half,
        training={"local_epochs": 1, "batch_size": 16, "learning_rate": 0.1},
    )
    assert together == []

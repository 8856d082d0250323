"""Histories of parts of a model: every way of weighing them gives the same bits again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.histories import entries, recorded
from support.simulations import fleet, task

from hocket.sim.history import Settled
from hocket.sim.reliving import relive
from hocket.task.setup import set_up

ROUNDS = {"kind": "rounds", "cohort": 2}
CLASSES = (
    {"name": "quick", "per_example_s": 0.01},
    {"name": "slow", "per_example_s": 0.04, "keep": 0.5},
)


@pytest.mark.parametrize(
    "tables",
    [
        {"strategy": {"kind": "fedbuff", "goal": 2, "denominator": "received"}},
        {"strategy": {"kind": "fedasync", "staleness_of": "entry"}},
        {"strategy": {"kind": "fedasmu", "staleness_of": "entry"}},
        {
            "strategy": {
                "kind": "fednova",
                "cohort": 2,
                "parts": {"weights": "width", "damped": True},
            },
            "pace": ROUNDS,
        },
        {
            "strategy": {
                "kind": "fedavg",
                "cohort": 2,
                "parts": {"mean": "moved"},
                "server": {"kind": "adam"},
            },
            "pace": ROUNDS,
        },
    ],
    ids=lambda tables: tables["strategy"]["kind"],
)
def test_parts_of_unequal_devices_come_out_the_same(tables: dict[str, Any], tmp_path: Path) -> None:
    """Devices of two widths and of few classes each, with a masked loss and static norm."""
    told = task(
        model={"function": "support.normed_net:normed"},
        data={"kind": "digits", "limit": 60},
        partition={"kind": "dirichlet", "alpha": 0.3},
        training={
            "local_epochs": 1,
            "batch_size": 8,
            "learning_rate": 0.1,
            "norm": "static",
            "masked_loss": "zero",
        },
        submodel={"kind": "heterofl"},
        **tables,
    )
    result, history = recorded(told, fleet(4, classes=CLASSES, stop={"versions": 5}), tmp_path)
    headers = [entry.header for entry in entries(history) if isinstance(entry, Settled)]
    assert len({header.spec for header in headers}) == 2
    assert any(0 < len(header.labels) < 10 for header in headers)
    relived = relive(set_up(result.scenario.task), history)
    assert relived.difference is None
    assert (relived.version, relived.digest) == (result.newest.version, result.digest)

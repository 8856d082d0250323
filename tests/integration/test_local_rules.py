"""Client halves in virtual time: what devices keep and measure, and that seeds still decide all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.simulations import PHONE, fleet, simulation, task

from hocket.errors import ModelError

ROUNDS = {"kind": "rounds", "cohort": 2}
STOP = {"virtual_s": 1000.0, "versions": 3}


def final(**strategy: Any) -> torch.Tensor:
    some = task(strategy={"cohort": 2, **strategy}, pace=ROUNDS)
    return simulation(some, fleet(2, stop=STOP)).run().newest.model


@pytest.mark.parametrize("kind", ["fedprox", "moon"])
def test_a_rule_of_weight_0_is_fedavg_and_another_weight_is_not(kind: str) -> None:
    average = final(kind="fedavg")
    models = [final(kind=kind, mu=5.0) for _ in range(2)]
    assert torch.equal(final(kind=kind, mu=0.0), average)
    assert torch.equal(*models)
    assert not torch.allclose(models[0], average, atol=1e-3)


def by_aso_fed(rtt_s: float, versions: int) -> torch.Tensor:
    """One device, so that its link decides nothing but how long its trainings take."""
    link = {"name": "l", "up_bytes_per_s": 1e9, "down_bytes_per_s": 1e9, "rtt_s": rtt_s}
    some = fleet(1, link=[link], stop={"virtual_s": 1000.0, "versions": versions})
    aso_fed = task(strategy={"kind": "asofed", "devices": 1}, data={"kind": "digits", "limit": 50})
    return simulation(aso_fed, some).run().newest.model


def test_aso_fed_steps_by_the_delay_that_a_device_has_measured() -> None:
    """Not in its first training, before which it has measured none."""
    assert torch.equal(by_aso_fed(0.0, versions=2), by_aso_fed(10.0, versions=2))
    near, far = by_aso_fed(0.0, versions=3), by_aso_fed(10.0, versions=3)
    assert not torch.allclose(near, far, atol=1e-4)
    assert torch.equal(far, by_aso_fed(10.0, versions=3))


def test_a_narrow_class_is_refused_before_anything_runs() -> None:
    narrow = fleet(3, classes=[{**PHONE, "keep": 0.5}])
    with pytest.raises(ModelError, match="share of"):
        simulation(task(strategy={"kind": "moon", "cohort": 3}), narrow)

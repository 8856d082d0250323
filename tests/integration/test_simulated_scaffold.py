"""SCAFFOLD in virtual time: its second vector travels, is charged, and stays in step."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from support.simulations import PHONE, fleet, simulation, task
from torch import Tensor

from hocket.core.events import Pushed, Settled
from hocket.core.ids import DeviceId
from hocket.core.update import Dropped
from hocket.learn.flat import manifest_of
from hocket.learn.strategies.scaffold import VARIATE
from hocket.sim.server import Turn

LINK = {"name": "lte", "up_bytes_per_s": 20_000.0, "down_bytes_per_s": 40_000.0, "loss": 0.1}
UNEQUAL = [PHONE, {"name": "board", "per_example_s": 0.05}]
ROUNDS = {"kind": "rounds", "cohort": 2, "over_selection": 1.5}
SCAFFOLD = {"kind": "scaffold", "cohort": 2, "devices": 4}


@pytest.mark.parametrize("staleness", [99, 0])
def test_what_devices_keep_and_the_servers_c_stay_in_step_through_losses_and_drops(
    staleness: int,
) -> None:
    """A device's c_i is the sum of its changes that were accepted, and c their sum over N.

    With a limit of 0 each device that sat out a round forgets its residual, but never c_i.
    """
    taken: dict[DeviceId, list[Tensor]] = defaultdict(list)

    def note(turn: Turn) -> None:
        if isinstance(turn.event, Pushed) and turn.event.update.extra is not None:
            update = turn.event.update
            (outcome,) = [e.outcome for e in turn.effects if isinstance(e, Settled)]
            if not isinstance(outcome, Dropped):
                taken[update.header.device_id].append(turn.event.update.extra.clone())

    some_task = task(strategy=SCAFFOLD, pace=ROUNDS, limits={"staleness": staleness})
    some_fleet = fleet(classes=UNEQUAL, link=[LINK], stop={"versions": 8, "virtual_s": 1e4})
    running = simulation(some_task, some_fleet, sinks=(note,))
    result = running.run()
    assert result.counts.updates_dropped > 0
    assert result.counts.breaks > 0
    core = running.server.core
    c = core.exchanged(core.newest.version)
    assert c is not None
    sums = {name: torch.stack(changes).sum(0) for name, changes in taken.items()}
    assert torch.allclose(torch.stack(list(sums.values())).sum(0) / 4, c, atol=1e-5)
    assert len(sums) >= 2
    zero = torch.zeros_like(c)
    for device in running._devices:
        memory = getattr(device._learner, "_memory", None)
        if memory is None:
            continue
        own = sums.get(device.plan.device_id, zero)
        known = [kept.get(VARIATE, zero) for kept in (memory.kept, memory.before)]
        assert any(torch.allclose(own, one, atol=1e-4) for one in known)


def test_both_vectors_are_charged() -> None:
    pulled = {}
    for kind in ("fedavg", "scaffold"):
        strategy = {"kind": kind, "cohort": 2} | ({"devices": 2} if kind == "scaffold" else {})
        some_task = task(strategy=strategy, pace={"kind": "rounds", "cohort": 2})
        result = simulation(some_task, fleet(2, stop={"versions": 4})).run()
        pulled[kind] = result.counts.bytes_down
    dense = manifest_of(task().build_model()).dense_bytes
    assert pulled == {"fedavg": 6 * dense, "scaffold": 12 * dense}

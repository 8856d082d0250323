"""Everything that a simulation needs, read before it begins: whatever can be wrong shows here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hocket.core.sizing.size import part_of
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.sim.fleet import Roster, read_roster
from hocket.sim.scenario import Scenario
from hocket.sim.shards import Shards, read_held_out, read_pool, read_shards
from hocket.sim.torch_device import torch_device
from hocket.task.setup import Examine, Setup, set_up


@dataclass(frozen=True)
class Prepared:
    """A scenario, ready to be simulated once.

    The shards and the blueprint's module are where torch trains; what the server holds is not.
    """

    scenario: Scenario
    setup: Setup
    roster: Roster
    blueprint: Blueprint
    shards: Shards
    examine: Examine


def prepare(
    scenario: Scenario,
    *,
    pool: Examples | None = None,
    held_out: Examples | None = None,
    device: torch.device | None = None,
) -> Prepared:
    """Read trace and data, build the model, and check that all of it fits.

    `pool` and `held_out` spare reading the examples again: what `read_examples` and
    `read_held_out` gave for the same task, fleet and data seed. `device` takes the place of the
    one that the fleet file names.

    Raises TaskError, DataError, ModelError, or InvalidRequest for dropout rows that do not fit.
    """
    task, fleet = scenario.task, scenario.fleet
    there = torch_device(fleet.run.device) if device is None else device
    setup = set_up(task)
    module = task.build_model()
    blueprint = Blueprint.of(module, setup.terms)
    for device_class in fleet.all_classes:
        blueprint.plan(part_of(device_class.keep))
    read = read_examples(scenario) if pool is None else pool
    shards = read_shards(
        task,
        fleet.num_shards,
        examples_per_device=fleet.examples_per_device,
        data_seed=scenario.data_seed,
        pool=blueprint.laid_out(read),  # once, not for each training
    )
    some = shards.of(0)
    task.check_fit(module, some)
    for device_class in fleet.all_classes:
        blueprint.table(part_of(device_class.keep), some.input_shape)
    measured = any(device_class.macs for device_class in fleet.all_classes)
    roster = read_roster(fleet, scenario.seed, blueprint.macs(some.input_shape) if measured else 0)
    judged = read_held_out(task, data_seed=scenario.data_seed) if held_out is None else held_out
    training = None
    if setup.statistics:
        training = read.take(task.choose_for_statistics(len(read), scenario.data_seed))
    examine = setup.load_examine(judged, there, training=training)
    module.to(there)  # last: on the CPU it was tried how its examples had best lie
    return Prepared(scenario, setup, roster, blueprint, shards.to(there), examine)


def read_examples(scenario: Scenario) -> Examples:
    """All training examples of a scenario: the same for every seed. Raises DataError."""
    fleet = scenario.fleet
    each = fleet.examples_per_device
    total = None if each is None else each * fleet.num_shards
    return read_pool(scenario.task, total=total, data_seed=scenario.data_seed)

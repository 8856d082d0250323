"""Devices of a simulation at their own sizes: what they pull, train, push, and are charged."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from support.simulations import fleet, ready, simulation, task, traced

from hocket.core.events import BaseTaken
from hocket.core.sizing.size import part_of
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.learn.submodels.plan import plan_of
from hocket.sim.simulation import Simulation

CNN: dict[str, Any] = {
    "model": {"function": "hocket.learn.models:digits_cnn"},
    "data": {"kind": "digits", "limit": 40},
    "training": {"local_epochs": 1, "batch_size": 10, "learning_rate": 0.05},
}
QUICK, SLOW = ({"name": name, "per_example_s": s} for name, s in (("quick", 0.05), ("slow", 0.5)))
DEADLINE_S = 2.0  # ten examples: 0.5 s and 5 s at full width
WORK = 9216 + 294_912 + 32_768 + 640  # multiply-accumulates: two convolutions, two linear layers
QUARTER = (2304 + 18_432 + 8192 + 640) / WORK
KINDS = [
    {"kind": "heterofl", "deadline_s": DEADLINE_S},
    {"kind": "heterofl", "mode": "dynamic"},
    {"kind": "fedrolex", "deadline_s": DEADLINE_S},
    {"kind": "federated-dropout", "deadline_s": DEADLINE_S},
    {"kind": "fjord", "deadline_s": DEADLINE_S},
    {"kind": "whale", "half_window": 0, "delay": 0, "scale": 0.2},
    {"kind": "distreal"},
]
BRIEF = fleet(4, classes=[QUICK, SLOW], stop={"virtual_s": 8.0})


def bases_of(running: Simulation) -> list[BaseTaken]:
    """Every base that is taken from now on."""
    taken: list[BaseTaken] = []
    take = running.server.take

    def watched(event: Any, *rest: Any) -> Any:
        if isinstance(event, BaseTaken):
            taken.append(event)
        return take(event, *rest)

    setattr(running.server, "take", watched)  # noqa: B010 - listens in, and hands on
    return taken


def specs_by_device(submodel: dict[str, Any], **tables: Any) -> dict[str, list[SubmodelSpec]]:
    told = {"stop": {"virtual_s": 12.0}} | tables
    running = simulation(task(**CNN, submodel=submodel), fleet(4, classes=[QUICK, SLOW], **told))
    taken = bases_of(running)
    result = running.run()
    assert result.newest.version > 5
    classes = {device.device_id: device.device_class for device in result.devices}
    specs: dict[str, list[SubmodelSpec]] = {"quick": [], "slow": []}
    for base in taken:
        specs[classes[base.caller.device_id]].append(base.spec)
    return specs


@cache
def digest_of_the_whole_model() -> str:
    return simulation(task(**CNN), BRIEF).run().digest


@pytest.mark.parametrize("submodel", KINDS, ids=lambda rule: "-".join(map(str, rule.values())))
def test_every_rule_trains_and_the_same_seed_gives_the_same_bits(submodel: dict[str, Any]) -> None:
    some_task = task(**CNN, submodel=submodel)
    first, again = (simulation(some_task, BRIEF).run() for _ in range(2))
    assert first.digest == again.digest
    assert first.counts == again.counts
    assert first.newest.version > 5
    assert first.counts.failures == first.counts.updates_refused == 0
    whole = digest_of_the_whole_model()
    assert first.digest != whole or submodel["kind"] == "distreal"  # nobody is throttled


def test_a_slow_device_takes_the_width_that_ends_in_time() -> None:
    """Work of the digits network falls to 0.283 at half the filters, to 0.088 at a quarter."""
    specs = specs_by_device({"kind": "heterofl", "deadline_s": DEADLINE_S})
    assert set(specs["quick"]) == {SubmodelSpec()}
    assert set(specs["slow"]) == {part_of(0.5)}
    tighter = specs_by_device({"kind": "heterofl", "deadline_s": 1.0})
    assert set(tighter["slow"]) == {part_of(0.25)}


def test_a_width_between_the_halvings_is_charged_its_own_work() -> None:
    """Six tenths of 16 and 32 filters are 10 and 20: 0.421 of the work, 2.1 s of the slow one."""
    work = (10 * 576 + 10 * 20 * 576 + 20 * 16 * 64 + 640) / WORK
    assert work == pytest.approx(0.421, abs=1e-3)
    assert set(specs_by_device({"kind": "fjord", "deadline_s": 2.2})["slow"]) == {part_of(0.6)}
    assert set(specs_by_device({"kind": "fjord", "deadline_s": 2.0})["slow"]) == {part_of(0.4)}


def test_windows_roll_with_the_version_and_random_parts_are_never_the_same() -> None:
    rolled = specs_by_device({"kind": "fedrolex", "deadline_s": DEADLINE_S})["slow"]
    assert {spec.rule for spec in rolled} == {ChannelRule.ROLLING}
    assert len({spec.seed for spec in rolled}) > 2
    drawn = specs_by_device({"kind": "federated-dropout", "deadline_s": DEADLINE_S})["slow"]
    assert len(set(drawn)) == len(drawn) > 2


def test_a_part_costs_its_own_bytes_and_its_own_time() -> None:
    link = {"name": "l", "up_bytes_per_s": 1e5, "down_bytes_per_s": 1e5}
    some_fleet = fleet(1, classes=[SLOW | {"keep": 0.25}], link=[link])
    some_task = task(**CNN, submodel={"kind": "full"})
    _, rows = traced(some_task, some_fleet)
    prepared = ready(some_task, some_fleet)
    setup = prepared.setup
    part = plan_of(setup.graph, part_of(0.25)).sliced_manifest.dense_bytes
    assert part < 0.3 * setup.terms.manifest.dense_bytes
    assert {row.bytes for row in rows.of("pull")} == {part}
    assert all(0.4 * part < row.bytes < part for row in rows.of("push"))  # packed
    pull, epoch = rows.of("pull")[0], rows.of("epoch")[0]
    assert pull.seconds == pytest.approx(part / 1e5)
    assert epoch.seconds == pytest.approx(0.5 * prepared.shards.size(0) * QUARTER)


def test_ordered_widths_are_charged_mini_batch_by_mini_batch() -> None:
    """Each of five mini-batches takes one of the widths' work: no two epochs need be alike."""
    some_fleet = fleet(1, classes=[QUICK], stop={"virtual_s": 25.0})
    data = {"data": {"kind": "digits", "limit": 50, "test_share": 0.2}}
    whole, ordered = (
        [
            row.seconds
            for row in traced(task(**CNN | data, submodel={"kind": kind}), some_fleet)[1].of(
                "epoch"
            )
        ]
        for kind in ("full", "fjord")
    )
    assert len(set(whole)) == 1
    assert len(set(ordered)) > len(ordered) / 2
    assert max(ordered) <= whole[0] * 1.001
    assert min(ordered) > 0.04 * whole[0]  # a fifth of the width, all of the time, would be less


def test_whale_begins_small_and_grows_with_what_there_is_to_learn() -> None:
    specs = specs_by_device(
        {"kind": "whale", "half_window": 0, "delay": 1, "scale": 3.0, "reference_s": 1.0},
        stop={"virtual_s": 12.0},
    )
    small = part_of(0.0625)
    assert specs["quick"][0] == specs["slow"][0] == small
    widths = Counter(max(spec.keep, default=1.0) for spec in specs["quick"])
    assert len(widths) > 1
    assert max(widths) > 0.25
    slow = [max(spec.keep, default=1.0) for spec in specs["slow"]]
    assert sum(slow) / len(slow) < sum(k * n for k, n in widths.items()) / widths.total()

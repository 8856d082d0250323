"""A simulation whose training and evaluation lie in another memory comes to the very same bits.

The second device rounds like the CPU, so what is left to differ is what was drawn, in what order,
and whether all that meets lies in one memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.second_device import BACKEND, SECOND, SecondDevice
from support.simulations import PHONE, fleet, stopwatch, task
from torch import Tensor

from hocket.core.submodel import SubmodelSpec
from hocket.learn.data import Examples
from hocket.learn.global_chance import drawing_from
from hocket.learn.layout import layout_for
from hocket.learn.models import cifar_cnn, digits_cnn
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of
from hocket.learn.training import LocalTrainer, TrainingRules, evaluate
from hocket.sim.preparing import Prepared, prepare, read_examples
from hocket.sim.result import Result
from hocket.sim.scenario import scenario_of
from hocket.sim.simulation import Simulation

ROUNDS = {"pace": {"kind": "rounds", "cohort": 2}}
CNN = {"model": {"function": "hocket.learn.models:digits_cnn"}}
FEW = {"data": {"kind": "digits", "limit": 32}, "evaluation": {"limit": 20}}
TRAINING = {"local_epochs": 2, "batch_size": 8, "learning_rate": 0.05}
STOP = {"virtual_s": 1000.0, "versions": 4}
NARROW = [PHONE, {"name": "narrow", "per_example_s": 0.01, "keep": 0.5}]

SCENES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "momentum": (
        {"training": {**TRAINING, "momentum": 0.9, "gradient_clip_norm": 1.0}},
        {},
    ),
    "a merge in mid-training": (
        {
            "strategy": {"kind": "fedasmu"},
            "refresh": {"kind": "fixed", "slot": 1},
            "training": {**TRAINING, "local_epochs": 3},
        },
        {"stop": {"virtual_s": 1000.0, "versions": 6}, "class": [{**PHONE, "jitter": 0.5}]},
    ),
    "dropped filters of half a network": (
        {**CNN, "submodel": {"kind": "distreal"}, "training": {**TRAINING, "momentum": 0.9}},
        {"class": [dict(one, processor_share=0.5) for one in NARROW]},
    ),
    "a lossy codec that remembers": ({"codec": {"kind": "topk", "ratio": 0.1}}, {}),
    "fedprox": ({"strategy": {"kind": "fedprox", "cohort": 2, "mu": 0.1}, **ROUNDS}, {}),
    "scaffold": ({"strategy": {"kind": "scaffold", "cohort": 2, "devices": 2}, **ROUNDS}, {}),
    "moon": ({"strategy": {"kind": "moon", "cohort": 2}, **ROUNDS}, {}),
    "asofed": ({"strategy": {"kind": "asofed", "devices": 2}}, {}),
    "together": ({"pace": {"kind": "concurrent", "devices": 6}}, {"run": {"batched": "on"}}),
    "awkward": ({"model": {"function": "support.awkward_model:Awkward"}}, {}),
}


def prepared_on(device: torch.device, tables: dict[str, Any], of_fleet: dict[str, Any]) -> Prepared:
    num_devices = 6 if "run" in of_fleet else 2
    classes = of_fleet.get("class", [PHONE])
    others = {name: table for name, table in of_fleet.items() if name != "class"}
    some_fleet = fleet(num_devices, classes=classes, **({"stop": STOP} | others))
    return prepare(scenario_of(task(**(FEW | tables)), some_fleet), device=device)


def run(prepared: Prepared) -> Result:
    return Simulation(prepared, stopwatch=stopwatch).run()


@pytest.mark.parametrize(("tables", "of_fleet"), SCENES.values(), ids=SCENES.keys())
def test_the_same_bits_from_another_memory(
    tables: dict[str, Any], of_fleet: dict[str, Any]
) -> None:
    here = run(prepared_on(torch.device("cpu"), tables, of_fleet))
    with SecondDevice() as device:
        prepared = prepared_on(SECOND, tables, of_fleet)
        assert prepared.shards.of(0).inputs.device == SECOND
        before = device.operations
        there = run(prepared)
    assert device.operations - before > 100 * there.counts.trainings
    assert there.newest.model.device.type == "cpu"
    assert there.counts == here.counts
    assert there.counts.updates_accepted >= 3
    assert (there.counts.merges > 0) == ("refresh" in tables)
    assert there.curve == here.curve
    assert torch.equal(there.newest.model, here.newest.model)


def test_tensors_of_two_memories_must_not_meet() -> None:
    """What the tests above rely on."""
    with SecondDevice():
        ours, theirs = torch.ones(3), torch.ones(3, device=SECOND)
        meetings: list[Callable[[], Tensor]] = [
            lambda: ours + theirs,
            lambda: theirs[torch.tensor([0, 1])],
            lambda: torch.cat((ours, theirs)),
            lambda: theirs.index_select(0, torch.tensor([1])),
        ]
        for meet in meetings:
            with pytest.raises(RuntimeError, match="cpu and stand_in_gpu"):
                meet()
        with pytest.raises(RuntimeError, match="numpy"):
            theirs.numpy()
        assert torch.equal((theirs + ours.to(SECOND)).cpu(), torch.full((3,), 2.0))


def test_the_devices_own_generator_is_seeded_and_put_back() -> None:
    """As for a model's own dropout layers, which on a GPU draw there."""
    before = BACKEND.generator.get_state()
    states = []
    for seed in (4, 5, 4):
        with drawing_from(seed, SECOND):
            states.append(BACKEND.generator.get_state())
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[1])
    assert torch.equal(BACKEND.generator.get_state(), before)


def test_the_layout_is_the_same_wherever_the_model_lies() -> None:
    net = cifar_cnn()
    with SecondDevice():
        assert layout_for(net.to(SECOND), (3, 32, 32)) is torch.channels_last


def some_examples() -> Examples:
    chance = torch.Generator().manual_seed(2)
    labels = torch.randint(10, (20,), generator=chance)
    return Examples(torch.randn(20, 3, 32, 32, generator=chance), labels)


def test_on_the_cpu_nothing_is_copied() -> None:
    cpu = torch.device("cpu")
    scenario = prepared_on(cpu, {}, {}).scenario
    pool = read_examples(scenario)
    shards = prepare(replace(scenario, fleet=replace(scenario.fleet, data_shards=1)), pool=pool)
    assert shards.shards.of(0).inputs.data_ptr() == pool.inputs.data_ptr()
    assert shards.shards.to(cpu) is shards.shards
    plan = plan_of(channel_graph(digits_cnn()), SubmodelSpec((0.5,)))
    assert plan.index_on(cpu) is plan.index


@pytest.mark.parametrize(
    "name", ["cpu", *(f"cuda:{at}" for at in range(torch.cuda.device_count()))]
)
def test_a_step_on_each_device_of_this_machine_is_the_cpus_within_rounding(name: str) -> None:
    """Trivial where there is no GPU."""
    rules = TrainingRules(local_epochs=1, batch_size=10, learning_rate=0.05, momentum=0.9)
    found = []
    for device in (torch.device("cpu"), torch.device(name)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            net = cifar_cnn()
        first = torch.cat([tensor.detach().flatten() for tensor in net.parameters()])
        data = some_examples().to(device)
        trainer = LocalTrainer(net.to(device), rules, data.inputs, data.labels)
        trainer.start(first)
        chance = torch.Generator().manual_seed(1)
        losses = [trainer.step(at, None, chance).mean for at in trainer.epoch_batches(chance)]
        trainer.merge(first, 0.5)
        after = trainer.weights().cpu()
        assert trainer.vector.device.type == device.type
        found.append((losses, evaluate(net, after, data.inputs, data.labels)[0], after))
    ours, theirs = found
    assert theirs[0] == pytest.approx(ours[0], rel=1e-3)
    assert theirs[1] == pytest.approx(ours[1], rel=1e-3)
    torch.testing.assert_close(theirs[2], ours[2], rtol=1e-3, atol=1e-4)

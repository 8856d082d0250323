"""Averages of parts of a model: the numbers of HeteroFL, FjORD, FedRolex and CoCoFL."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_nets import PlainNet, shake
from support.strategies import Server, bits, push, server, vector
from torch import Tensor, nn

from hocket.core.strategy import Global
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import Update
from hocket.errors import TaskError
from hocket.learn.flat import flatten
from hocket.learn.strategies import FedAsync, FedAvg, FedBuff, FedNova, FedProx
from hocket.learn.strategies.parts import Parts
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)
EQUAL, DAMPED = Parts(weights="equal"), Parts(weights="equal", damped=True)
MOVED = Parts(weights="equal", mean="moved")
BLOCK = torch.zeros(4, 4)
BLOCK[:2, :2] = 1  # what a device of rate 1/2 holds of a 4x4 tensor


def of_part(value: float, device: str, examples: int = 1, held: Tensor | None = None) -> Any:
    """A 4x4 tensor of 0 of which the device returns `value` wherever it holds it."""
    mask = torch.ones(4, 4) if held is None else held
    flat = None if held is None else held.reshape(-1)
    return push(mask.reshape(-1) * value, device=device, examples=examples, held=flat)


def averaged(rule: Any, *updates: Update[Tensor]) -> tuple[float, float]:
    """In the top left block and elsewhere, which must be all one each."""
    aggregator = server(rule, *([0.0] * 16))
    for each in updates:
        aggregator.take(each)
    assert aggregator.now.version == 2
    model = aggregator.now.model.reshape(4, 4)
    inside, outside = model[BLOCK > 0], model[BLOCK == 0]
    assert len(set(inside.tolist())) == len(set(outside.tolist())) == 1
    return inside[0].item(), outside[0].item()


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [(EQUAL, 2.0, 1.0), (Parts(), 2.5, 1.0), (DAMPED, 2.0, 0.5), (MOVED, 2.0, 1.0)],
)
def test_the_published_example(parts: Parts, inside: float, outside: float) -> None:
    """A returns 1 everywhere, of 100 examples; B, of half the width, 3 in its block, of 300."""
    updates = of_part(1, "a", 100), of_part(3, "b", 300, BLOCK)
    for rule in (FedAvg(2, parts), FedProx(2, parts=parts), FedNova(2, parts=parts)):
        assert averaged(rule, *updates) == (inside, outside)


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [
        (EQUAL, 2.0, 0.5),
        (MOVED, 2.0, 1.0),
        (Parts(), 2.5, 0.25),
        (Parts(mean="moved"), 2.5, 1.0),
        (replace(MOVED, damped=True), 2.0, 0.5),
    ],
)
def test_a_zero_counts_where_it_is_held_or_not_at_all(
    parts: Parts, inside: float, outside: float
) -> None:
    """The published example, but that B returns the whole tensor, of 0 outside of its block."""
    updates = of_part(1, "a", 100), push(BLOCK.reshape(-1) * 3, device="b", examples=300)
    for rule in (FedAvg(2, parts), FedProx(2, parts=parts), FedNova(2, parts=parts)):
        assert averaged(rule, *updates) == (inside, outside)


@pytest.mark.parametrize(("parts", "inside"), [(EQUAL, 3.0), (DAMPED, 1.5)])
def test_of_a_tensor_that_one_of_two_returns_the_rest_stays(parts: Parts, inside: float) -> None:
    updates = of_part(7, "a", held=torch.zeros(4, 4)), of_part(3, "b", held=BLOCK)
    assert averaged(FedAvg(cohort=2, parts=parts), *updates) == (inside, 0.0)


def test_by_width_a_device_counts_as_its_share_of_channels() -> None:
    """1 at full width against 3 at half of it: (1 + 3 / 2) / (3 / 2); of two layers the mean."""
    for keep in ((0.5,), (0.25, 0.75)):
        narrow = of_part(3, "b", 300, BLOCK)
        spec = SubmodelSpec(keep)
        update = Update(replace(narrow.header, spec=spec), narrow.delta, narrow.held)
        inside, outside = averaged(FedAvg(2, Parts("width")), of_part(1, "a", 100), update)
        assert inside == pytest.approx(5 / 3, rel=1e-6)
        assert outside == 1.0


def test_a_device_that_keeps_next_to_nothing_still_counts() -> None:
    update = of_part(3, "a", held=BLOCK)
    tiny = Update(replace(update.header, spec=SubmodelSpec((1e-300,))), update.delta, update.held)
    assert averaged(FedAvg(1, Parts("width")), tiny) == (3.0, 0.0)


def test_each_channel_is_counted_by_who_holds_it() -> None:
    """64 channels, one device for each level: 0-3 five times, 4-7: 4, 8-15: 3, 16-31: 2, else 1."""
    conv = nn.Conv2d(1, 64, 1)
    graph = channel_graph(nn.Sequential(conv, nn.Flatten(), nn.Linear(64, 2)))
    rule = FedAvg(cohort=6, parts=DAMPED)
    memory = rule.init(torch.zeros(graph.manifest.size))
    now = Global(torch.zeros(graph.manifest.size))
    for level in LEVELS:
        delta, held = part(graph, SubmodelSpec((level,)), now.model)
        memory = rule.step(now, memory, push(delta, device=str(level), held=held), delta).memory
    assert memory.counts is not None
    counted = memory.counts.per_entry()
    assert isinstance(counted, Tensor)
    channels = counted[graph.manifest.offsets[1] :][:64]
    assert channels.tolist() == [5] * 4 + [4] * 4 + [3] * 8 + [2] * 16 + [1] * 32


def part(graph: Any, spec: SubmodelSpec, trained: Tensor) -> tuple[Tensor, Tensor | None]:
    """What an update of this part holds of a whole trained vector."""
    plan = plan_of(graph, spec)
    delta, held = plan.scatter(plan.extract(trained).clone())
    return delta, held


@given(
    tiers=st.lists(st.sampled_from([0.2, 0.4, 0.6, 0.8, 1.0]), min_size=1, max_size=6),
    examples=st.lists(st.integers(1, 500), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_of_nested_parts_it_is_fjords_block_rule(
    tiers: list[float], examples: list[int], seed: int
) -> None:
    """From the widest tier down, each block is overwritten by the mean of who is that wide."""
    chance = np.random.default_rng(seed)
    old = chance.normal(size=(10, 5)).astype(np.float32)
    models = chance.normal(size=(len(tiers), 10, 5)).astype(np.float32)
    after = old.astype(np.float64)
    for p in sorted(set(tiers), reverse=True):
        wide = [i for i, tier in enumerate(tiers) if tier >= p]
        rows, columns = math.ceil(p * 10 - 1e-9), math.ceil(p * 5 - 1e-9)
        block = np.average(models[wide], axis=0, weights=[examples[i] for i in wide])
        after[:rows, :columns] = block[:rows, :columns]

    aggregator = Server(FedAvg(cohort=len(tiers)), Global(torch.from_numpy(old.reshape(-1))))
    for i, p in enumerate(tiers):
        mask = np.zeros((10, 5), np.float32)
        mask[: math.ceil(p * 10 - 1e-9), : math.ceil(p * 5 - 1e-9)] = 1
        delta, held = (torch.from_numpy(x.reshape(-1)) for x in ((models[i] - old) * mask, mask))
        aggregator.take(push(delta, device=str(i), examples=examples[i], held=held))
    assert np.allclose(aggregator.now.model.numpy().reshape(10, 5), after, atol=1e-5)


PARTS = [
    Parts(weights, damped, mean)  # type: ignore[arg-type]
    for weights, damped, mean in product(
        ("examples", "equal", "width"), (False, True), ("held", "moved")
    )
]
AVERAGES: list[Any] = [
    *(FedAvg(cohort=3, parts=parts) for parts in PARTS),
    *(FedNova(cohort=3, parts=parts) for parts in PARTS),
    FedBuff(goal=3),
    FedBuff(goal=3, denominator="received"),
    FedAsync(),
    FedAsync(staleness_of="entry"),
]
NET = PlainNet((4, 6, 5), maps=8)
GRAPH = channel_graph(NET)
shake(NET)
START = flatten(NET)

specs = st.builds(
    SubmodelSpec,
    st.sampled_from(LEVELS).map(lambda level: (level,)),
    st.sampled_from([ChannelRule.LEADING, ChannelRule.RANDOM]),
    st.integers(0, 9),
)


@pytest.mark.parametrize("rule", AVERAGES, ids=lambda rule: f"{rule.kind}{AVERAGES.index(rule)}")
@given(chosen=st.lists(specs, min_size=3, max_size=3))
@settings(max_examples=10)
def test_parts_that_come_back_unchanged_leave_the_model_as_it_was(
    rule: Any, chosen: list[SubmodelSpec]
) -> None:
    aggregator = Server(rule, Global(START))
    for device, spec in zip("abc", chosen, strict=True):
        delta, held = part(GRAPH, spec, torch.zeros_like(START))
        aggregator.take(push(delta, base=aggregator.now.version, device=device, held=held))
    assert aggregator.now.version > 1
    assert bits(aggregator.now.model) == bits(START)


@pytest.mark.parametrize("parts", PARTS)
def test_parts_of_rate_one_are_averaged_as_the_whole_is_bit_for_bit(parts: Parts) -> None:
    chance = torch.Generator().manual_seed(1)
    deltas = [torch.randn(len(START), generator=chance) for _ in range(3)]
    ends = []
    for rate in ((), (1.0,)):
        aggregator = Server(FedAvg(cohort=3, parts=parts), Global(START))
        for device, (trained, examples) in enumerate(zip(deltas, (3, 7, 11), strict=True)):
            delta, held = part(GRAPH, SubmodelSpec(rate), trained)
            aggregator.take(push(delta, device=str(device), examples=examples, held=held))
        ends.append(aggregator.now.model)
    weights = [3, 7, 11] if parts.weights == "examples" else [1, 1, 1]
    plain = sum(w * d.double() for w, d in zip(weights, deltas, strict=True)) / sum(weights)
    assert bits(ends[0]) == bits(ends[1]) == bits((plain + START.double()).float())


def test_a_buffer_divides_by_all_or_by_those_that_hold_an_entry() -> None:
    """Deltas 2 and 4 of entry 0, only 4 of entry 1: of K = 2, or of one."""
    by_all, by_holders = FedBuff(goal=2), FedBuff(goal=2, denominator="received")
    for rule, expected in ((by_all, 2.0), (by_holders, 4.0)):
        aggregator = server(rule, 0.0, 0.0)
        aggregator.take(push(vector(2, 0), device="a", held=vector(1, 0)))
        aggregator.take(push(vector(4, 4), device="b"))
        assert aggregator.now.model.tolist() == [3.0, expected]


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(TaskError, match=r"parts\.weights is 'age'; choose 'examples'"):
        Parts(weights="age")  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"parts\.mean is 'all'; choose 'held', 'moved'"):
        Parts(mean="all")  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"fedbuff\.denominator is 'all'"):
        FedBuff(denominator="all")  # type: ignore[arg-type]

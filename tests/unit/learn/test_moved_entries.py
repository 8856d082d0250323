"""The mean over the updates that moved an entry (FIARSE's), against numpy and the other mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Server, bits, push, server, vector
from torch import Tensor

from hocket.core.strategy import Global
from hocket.core.update import Update
from hocket.learn.sparse import sparse_vector
from hocket.learn.strategies import FedAvg, FedNova
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import Adam, Average, Sgd

MOVED = Parts(mean="moved")
SERVERS = (Average(), Sgd(lr=0.5, momentum=0.9), Adam())
SIZE = 7
seeds = st.integers(0, 999)


def sparse_of(delta: Tensor, more: int) -> Tensor:
    """As a codec of few values has it, which may send one that is 0: at place `more`."""
    there = delta.ne(0)
    there[more] = True
    places = there.nonzero()[:, 0]
    return sparse_vector(places, delta[places], len(delta))


def run(rule: Any, rounds: list[list[Update[Tensor]]]) -> Server:
    aggregator = server(rule, *np.linspace(-1, 1, SIZE).tolist())
    for updates in rounds:
        for update in updates:
            header = replace(update.header, base_version=aggregator.now.version)
            aggregator.take(replace(update, header=header))
    return aggregator


@given(seed=seeds)
@settings(max_examples=25)
def test_it_is_fiarses_step(seed: int) -> None:
    """The sum of the differences over how many are not 0; 0 / 0 is 0; times a learning rate."""
    chance = np.random.default_rng(seed)
    deltas = chance.normal(size=(4, SIZE)) * (chance.random((4, SIZE)) < 0.4)
    start = chance.normal(size=SIZE)
    rule = FedAvg(4, Parts("equal", mean="moved"), Sgd(lr=0.25))
    aggregator = Server(rule, Global(torch.from_numpy(start).float()))
    for number, delta in enumerate(deltas):
        aggregator.take(push(torch.from_numpy(delta).float(), device=str(number)))
    with np.errstate(invalid="ignore"):
        mean = np.nan_to_num(deltas.sum(axis=0) / (deltas != 0).sum(axis=0))
    assert np.allclose(aggregator.now.model.numpy(), start + 0.25 * mean, atol=1e-6)


@pytest.mark.parametrize("optimizer", SERVERS, ids=lambda each: each.kind)
@pytest.mark.parametrize("damped", [False, True])
@given(seed=seeds)
@settings(max_examples=10)
def test_where_no_held_difference_is_zero_it_is_the_mean_over_holders(
    optimizer: Any, damped: bool, seed: int
) -> None:
    """Bit for bit, over two rounds of whole updates and parts."""
    chance = torch.Generator().manual_seed(seed)
    rounds = []
    for _ in range(2):
        updates = []
        for number in range(3):
            held = None if number == 0 else torch.rand(SIZE, generator=chance).gt(0.5).float()
            delta = torch.rand(SIZE, generator=chance).add_(0.1).mul_(1 if held is None else held)
            update = push(delta, device=str(number), examples=1 + number, held=held)
            updates.append(update)
        rounds.append(updates)
    one, other = (
        run(FedAvg(3, Parts(damped=damped, mean=mean), optimizer), rounds)
        for mean in ("held", "moved")
    )
    assert one.now.version == other.now.version == 3
    assert bits(one.now.model) == bits(other.now.model)


@pytest.mark.parametrize("optimizer", SERVERS, ids=lambda each: each.kind)
@pytest.mark.parametrize("rule", [FedAvg(3, MOVED), FedNova(3, parts=MOVED)], ids=lambda r: r.kind)
@given(seed=seeds)
@settings(max_examples=10)
def test_a_delta_of_few_values_counts_as_the_same_one_with_its_zeros(
    rule: Any, optimizer: Any, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    dense, sparse = [], []
    for number in range(3):
        delta = chance.normal(size=SIZE) * (chance.random(SIZE) < 0.5)
        update = push(torch.from_numpy(delta).float(), device=str(number), steps=2**number)
        dense.append(update)
        few = sparse_of(update.delta, int(chance.integers(SIZE)))
        sparse.append(replace(update, delta=few))
    rule = replace(rule, server=optimizer)
    ends = [run(rule, [updates, updates]).now for updates in (dense, sparse)]
    assert ends[0].version == ends[1].version == 3
    assert bits(ends[0].model) == bits(ends[1].model)


def test_what_nobody_moved_stays_and_is_no_gradient_of_zero() -> None:
    """Entry 1: all hold it and none moved it, so momentum does not move it on either."""
    aggregator = server(FedAvg(2, MOVED, Sgd(momentum=0.5)), 10.0, 10.0)
    for base, delta in ((1, vector(4, 4)), (2, vector(4, 0))):
        for device in "ab":
            aggregator.take(push(delta, base=base, device=device))
    assert aggregator.now.model.tolist() == [10.0 + 4 + 6, 14.0]

"""Shards: what a service's devices would hold, from one reading of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hocket.errors import DataError
from hocket.learn.data import AnyPartition, Digits, Dirichlet, Examples, Iid, Whole
from hocket.sim.shards import read_held_out, read_pool, read_shards
from hocket.task import Task
from hocket.task.rules import ModelRef

MODEL = ModelRef("hocket.learn.models.mlp:mlp")
TASK = Task(MODEL, Digits(limit=400), seed=5)


def rows(examples: Examples) -> set[bytes]:
    pixels: NDArray[np.float32] = examples.inputs.numpy()
    return {row.tobytes() for row in pixels}


@pytest.mark.parametrize("rule", [Dirichlet(0.3), Iid(), Whole()], ids=repr)
def test_a_shard_is_what_a_services_device_gets(rule: AnyPartition) -> None:
    task = replace(TASK, partition=rule)
    shards = read_shards(task, 7, examples_per_device=None, data_seed=task.seed)
    for shard in range(7):
        device = task.train_examples(shard, 7)
        assert torch.equal(shards.of(shard).inputs, device.inputs)
        assert torch.equal(shards.of(shard).labels, device.labels)
        assert shards.size(shard) == len(device)
    assert len(shards) == 7


def test_a_shard_is_made_once_and_the_whole_is_never_copied() -> None:
    pool = read_pool(TASK, total=None, data_seed=5)
    shards = read_shards(TASK, 4, examples_per_device=None, data_seed=5, pool=pool)
    assert shards.of(2) is shards.of(2)
    whole = replace(TASK, partition=Whole())
    own = read_shards(whole, 100_000, examples_per_device=None, data_seed=5, pool=pool)
    assert own.of(3) is pool
    assert own.of(99_999) is pool


def test_the_fleet_says_how_many_examples_there_are() -> None:
    """Its word goes before the task's limit, which is 400."""
    shards = read_shards(TASK, 10, examples_per_device=60, data_seed=5)
    assert sum(shards.size(shard) for shard in range(10)) == 600


def test_seeds_share_one_pool_and_share_it_out_anew() -> None:
    pool = read_pool(TASK, total=300, data_seed=5)
    of = [
        read_shards(replace(TASK, seed=seed), 3, examples_per_device=100, data_seed=5, pool=pool)
        for seed in (11, 12)
    ]
    parts = [[rows(shards.of(shard)) for shard in range(3)] for shards in of]
    assert parts[0] != parts[1]
    assert set.union(*parts[0]) == set.union(*parts[1]) == rows(pool)
    alone = read_shards(replace(TASK, seed=12), 3, examples_per_device=100, data_seed=5)
    assert torch.equal(alone.of(1).inputs, of[1].of(1).inputs)


def test_what_is_held_out_is_in_no_pool_of_any_seed() -> None:
    task = Task(MODEL, Digits(), seed=5)
    other = replace(task, seed=11)
    pool = read_pool(other, total=None, data_seed=5)
    tests = read_held_out(other, data_seed=5)
    assert len(pool) + len(tests) == 1797
    assert not rows(pool) & rows(tests)
    assert torch.equal(tests.inputs, task.test_examples().inputs)


@pytest.mark.parametrize("given", [False, True])
def test_too_few_examples_are_refused(given: bool) -> None:
    pool = read_pool(TASK, total=None, data_seed=5) if given else None
    with pytest.raises(DataError, match=r"asks for 50000 .* but there are .*examples_per_device"):
        read_shards(TASK, 100, examples_per_device=500, data_seed=5, pool=pool)


def test_more_shards_than_examples_are_refused() -> None:
    with pytest.raises(DataError, match="400 training examples cannot be shared among 401"):
        read_shards(TASK, 401, examples_per_device=None, data_seed=5)


def test_shards_keep_the_pools_memory_layout() -> None:
    pixels = torch.randn(40, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    pool = Examples(pixels, torch.arange(40) % 10)
    shards = read_shards(TASK, 4, examples_per_device=10, data_seed=5, pool=pool)
    shard = shards.of(1).inputs
    assert shard.is_contiguous(memory_format=torch.channels_last)
    assert not shard.is_contiguous()

"""A fleet's training examples: read once, and shared out by the task's partition."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data import Examples, load
from hocket.task import Task


class Shards:
    """Who holds which of the examples in `pool`.

    Args:
        pool: all training examples.
        indices: of each shard's examples in the pool, ascending, on the CPU.
    """

    def __init__(self, pool: Examples, indices: list[Tensor]) -> None:
        self._pool, self._indices = pool, indices
        self._made: dict[int, Examples] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def size(self, shard: int) -> int:
        """Number of examples of a shard, counted from 0."""
        return len(self._indices[shard])

    def to(self, device: torch.device) -> Shards:
        """The same in this device's memory: themselves if they are there."""
        there = self._pool.to(device)
        return self if there.inputs is self._pool.inputs else Shards(there, self._indices)

    def of(self, shard: int) -> Examples:
        """A shard's examples, in the pool's memory layout: always the same object."""
        if shard not in self._made:
            chosen = self._indices[shard]
            whole = len(chosen) == len(self._pool)  # each has all of them: no copy for each
            self._made[shard] = self._pool if whole else self._pool.take(chosen)
        return self._made[shard]


def read_pool(task: Task, *, total: int | None, data_seed: int) -> Examples:
    """All training examples that exist in a simulation, decoded.

    `total` of them are chosen by `data_seed` (the task's [data] limit if None), which says as
    well which are held out: one pool serves all seeds of a task.

    Raises DataError for data that is missing, malformed or less than `total`.
    """
    source = task.data if total is None else replace(task.data, limit=total)
    pool = load(source, "train", seed=data_seed, lookup=task.origin.lookup)
    _check_total(pool, total)
    return pool


def read_held_out(task: Task, *, data_seed: int) -> Examples:
    """The examples to evaluate on: disjoint from every pool of the same `data_seed`.

    With the task's own seed as `data_seed` those of a service. Raises DataError.
    """
    return replace(task, seed=data_seed).test_examples()


def read_shards(
    task: Task,
    num_shards: int,
    *,
    examples_per_device: int | None,
    data_seed: int,
    pool: Examples | None = None,
) -> Shards:
    """Share the examples out among `num_shards` by the task's partition and seed.

    Without `examples_per_device`, and with the task's own seed as `data_seed`, shard k is what
    `Task.train_examples(k, num_shards)` gives to a service's device. With it there are
    `examples_per_device * num_shards` examples in all. `pool` spares reading them again: what
    `read_pool` made for the same total and `data_seed`, in any memory layout.

    Raises DataError as `read_pool` does, and where there are too few for so many shards.
    """
    total = None if examples_per_device is None else examples_per_device * num_shards
    if pool is None:
        pool = read_pool(task, total=total, data_seed=data_seed)
    _check_total(pool, total)
    return Shards(pool, task.partition.shares(pool.labels, num_shards, task.seed))


def _check_total(pool: Examples, total: int | None) -> None:
    if total is not None and len(pool) != total:
        raise DataError(
            f"the fleet asks for {total} training examples (examples_per_device times the number "
            f"of shards), but there are {len(pool)}; lower examples_per_device or data_shards"
        )

"""Who holds which examples, when one data set stands for many devices' own data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hocket.core.chance import stream_seed
from hocket.errors import DataError

MIN_EXAMPLES = 8  # a device with fewer could hardly fill one batch

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Label skew: each class is shared out in proportions drawn from Dirichlet(alpha, ..., alpha).

    Hsu, Qi, Brown. Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification. 2019. arXiv:1909.06335 (here per class, as in most later work). Small alpha
    means strong skew. Shards below `MIN_EXAMPLES` are filled up from the largest.
    """

    alpha: float = 0.5
    kind: Literal["dirichlet"] = "dirichlet"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < float("inf"):
            raise DataError(f"partition.alpha is {self.alpha}; it must be above 0 and finite")

    def indices(self, labels: Tensor, shards: int, shard: int, seed: int) -> Tensor:
        """Ascending indices into `labels` (N,) of shard `shard` out of `shards`.

        The shards are disjoint and cover everything, whoever asks. Raises DataError.
        """
        _check(len(labels), shards, shard)
        return self.shares(labels, shards, seed)[shard]

    def shares(self, labels: Tensor, shards: int, seed: int) -> list[Tensor]:
        """The indices of every shard. Raises DataError."""
        _check(len(labels), shards)
        chance = _chance(seed, "dirichlet")
        parts: list[list[Indices]] = [[] for _ in range(shards)]
        targets = labels.numpy()
        for label in np.unique(targets):
            members = chance.permutation(np.flatnonzero(targets == label))
            bounds = np.cumsum(chance.dirichlet(np.full(shards, self.alpha)))[:-1]
            cuts = np.rint(bounds * len(members)).astype(np.int64)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
        held = _fill_up([chance.permutation(np.concatenate(part)) for part in parts])
        return [torch.from_numpy(np.sort(part)) for part in held]


@dataclass(frozen=True, slots=True)
class Iid:
    """Equal shares of one shuffle: every device sees the same mix of classes."""

    kind: Literal["iid"] = "iid"

    def indices(self, labels: Tensor, shards: int, shard: int, seed: int) -> Tensor:
        """Ascending indices of one shard; sizes differ by one at most. Raises DataError."""
        _check(len(labels), shards, shard)
        return self.shares(labels, shards, seed)[shard]

    def shares(self, labels: Tensor, shards: int, seed: int) -> list[Tensor]:
        """The indices of every shard. Raises DataError."""
        _check(len(labels), shards)
        order = _chance(seed, "iid").permutation(len(labels))
        return [torch.from_numpy(np.sort(part)) for part in np.array_split(order, shards)]


@dataclass(frozen=True, slots=True)
class Whole:
    """Nothing is shared out: each device's data is its own, and it uses all of it."""

    kind: Literal["whole"] = "whole"

    def indices(self, labels: Tensor, shards: int, shard: int, seed: int) -> Tensor:
        """All indices, for any shard. Raises DataError."""
        _check(len(labels), 1)
        if not 0 <= shard < shards:
            raise DataError(f"there is no shard {shard} of {shards}")
        return self.shares(labels, shards, seed)[shard]

    def shares(self, labels: Tensor, shards: int, seed: int) -> list[Tensor]:  # noqa: ARG002 - chance has no part in it
        """All indices, once for every shard. Raises DataError."""
        _check(len(labels), 1)
        return [torch.arange(len(labels))] * shards


AnyPartition = Dirichlet | Iid | Whole


def _check(examples: int, shards: int, shard: int = 0) -> None:
    if not 0 <= shard < shards:
        raise DataError(f"there is no shard {shard} of {shards}; count from 0 to {shards - 1}")
    if examples < shards:
        raise DataError(
            f"{examples} training examples cannot be shared among {shards} devices; use fewer "
            "devices or more data"
        )


def _fill_up(parts: list[Indices]) -> list[Indices]:
    """Move examples from the largest parts until each holds its minimum."""
    least = min(MIN_EXAMPLES, sum(map(len, parts)) // len(parts))
    while min(map(len, parts)) < least:
        sizes = [len(part) for part in parts]
        poor, rich = sizes.index(min(sizes)), sizes.index(max(sizes))
        parts[poor] = np.append(parts[poor], parts[rich][-1])
        parts[rich] = parts[rich][:-1]
    return parts


def _chance(seed: int, rule: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(stream_seed(seed, "partition", rule)))

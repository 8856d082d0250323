"""Filter dropout per mini-batch: dropout vectors by cost, and the random filters they mean.

Rapp, Khalili, Pfeiffer, Henkel. DISTREAL: Distributed Resource-Aware Learning in Heterogeneous
Systems. AAAI 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.errors import InvalidRequest
from hocket.learn.submodels.cost import ForwardCost
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.plan import IndexPlan

DropoutVector = tuple[float, ...]
"""d: for each group the share of channels that a mini-batch does without, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class DropoutRow:
    """A dropout vector and its cost M relative to training without dropout, in (0, 1]."""

    cost: float
    vector: DropoutVector
    memory: float = 1.0  # of a step, relative to one without dropout, in (0, 1]


@dataclass(frozen=True, slots=True)
class DropoutTable:
    """What a device chooses from before each mini-batch: rows in ascending order of cost."""

    rows: tuple[DropoutRow, ...]

    def choose(self, resource: float, memory: float = math.inf) -> DropoutRow:
        """The dearest row that `resource` affords (same unit as M, 1 = all), or the cheapest.

        `memory` is what there is for a step, as a share of what one without dropout takes. A step
        beyond it fails where one beyond `resource` is late, so it goes first: where it has room for
        no row, the one that needs the least is taken.
        """
        fits = [row for row in self.rows if row.memory <= memory]
        if not fits:
            return min(self.rows, key=lambda row: row.memory)
        affordable = [row for row in fits if row.cost <= resource]
        return affordable[-1] if affordable else fits[0]


def dropout_table(cost: ForwardCost, vectors: Iterable[Sequence[float]]) -> DropoutTable:
    """A table of the given vectors with their analytic costs.

    Raises:
        InvalidRequest: no vector, one of wrong length, or a share outside [0, 1].
    """
    rows = [_row(cost, vector) for vector in vectors]
    if not rows:
        raise InvalidRequest("a dropout table needs a vector; give at least one")
    return DropoutTable(tuple(sorted(rows, key=lambda row: row.cost)))


def _row(cost: ForwardCost, vector: Sequence[float]) -> DropoutRow:
    sizes = kept_sizes(cost.graph, vector)
    return DropoutRow(cost.share(sizes), tuple(vector), cost.values(sizes) / cost.values())


def uniform_table(cost: ForwardCost, rates: Iterable[float]) -> DropoutTable:
    """A table of vectors that drop the same share of every group.

    Raises:
        InvalidRequest: no rate, or one outside [0, 1].
    """
    return dropout_table(cost, [(rate,) * len(cost.graph.groups) for rate in rates])


def kept_sizes(graph: ChannelGraph, vector: Sequence[float]) -> tuple[int, ...]:
    """Channels that each group keeps under a dropout vector: max(1, round((1 - d) * K)).

    Raises:
        InvalidRequest: a vector of wrong length, or a share outside [0, 1].
    """
    if len(vector) != len(graph.groups):
        msg = f"a dropout vector of {len(vector)} shares; the model has {len(graph.groups)} groups"
        raise InvalidRequest(msg)
    for layer, share in enumerate(vector):
        if not 0.0 <= share <= 1.0:
            msg = f"share {layer} of a dropout vector is {share}; it lies between 0 and 1"
            raise InvalidRequest(msg)
    return tuple(
        max(1, round((1.0 - share) * size)) for share, size in zip(vector, graph.sizes, strict=True)
    )


def shares_of(graph: ChannelGraph, sizes: Sequence[int]) -> DropoutVector:
    """The dropout vector that keeps just so many channels of each group."""
    return tuple(1.0 - kept / size for kept, size in zip(sizes, graph.sizes, strict=True))


def draw_orders(graph: ChannelGraph, generator: torch.Generator) -> tuple[Tensor, ...]:
    """For each group an order of its channels, drawn whatever will be kept of them."""
    return tuple(torch.randperm(size, generator=generator) for size in graph.sizes)


def first_of(graph: ChannelGraph, sizes: Sequence[int], orders: Sequence[Tensor]) -> IndexPlan:
    """The plan that keeps the first `sizes[g]` channels in the order of group g.

    From the same orders, a vector that drops more keeps a part of what one keeps that drops less:
    vectors can be compared under common random numbers.
    """
    return IndexPlan(
        graph,
        tuple(
            None if kept == size else order[:kept].sort().values
            for kept, size, order in zip(sizes, graph.sizes, orders, strict=True)
        ),
    )


def draw(graph: ChannelGraph, vector: Sequence[float], generator: torch.Generator) -> IndexPlan:
    """Draw the channels that one mini-batch keeps, uniformly and without replacement.

    A group that keeps everything draws nothing, so dropout 0 leaves `generator` as it was.

    Raises:
        InvalidRequest: a vector of wrong length, or a share outside [0, 1].
    """
    kept: list[Tensor | None] = []
    for count, size in zip(kept_sizes(graph, vector), graph.sizes, strict=True):
        if count == size:
            kept.append(None)
        else:
            kept.append(torch.randperm(size, generator=generator)[:count].sort().values)
    return IndexPlan(graph, tuple(kept))

"""What each mini-batch does without: nothing, a row of a table, or all but a width of its own.

DISTREAL (AAAI 2022) takes the row of its table that the processor affords now; FjORD (NeurIPS
2021) draws an ordered width. Both are known before the work is done, so that it can be charged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hocket.core.chance import Stream
from hocket.core.submodel import SubmodelSpec
from hocket.learn.submodels.cost import ForwardCost
from hocket.learn.submodels.dropout import DropoutTable, DropoutVector
from hocket.learn.submodels.plan import IndexPlan, plan_of


@dataclass(frozen=True, slots=True)
class BatchPart:
    """What one mini-batch trains of the part of the model that its device holds."""

    cost: float = 1.0  # M, relative to all of that part, in (0, 1]; 0: it is skipped
    dropout: DropoutVector | None = None  # filters to draw and do without
    plan: IndexPlan | None = None  # what it trains, where nothing is drawn

    @property
    def is_skipped(self) -> bool:
        """Whether it trains nothing at all."""
        return self.cost == 0.0

    @property
    def is_whole(self) -> bool:
        """Whether it does without nothing."""
        return not self.is_skipped and self.plan is None and not any(self.dropout or ())


class BatchParts(Protocol):
    """Chooses the parts of a training's mini-batches: the same whenever it is asked."""

    def part(self, share: float, epoch: int, number: int, memory: float = math.inf) -> BatchPart:
        """Of mini-batch `number` (from 0) of an epoch, with this share of a processor.

        `memory` is what there is, as a share of what a step on all of the part takes.
        """
        ...


class AllOfIt:
    """Nothing is done without."""

    def part(
        self,
        share: float,  # noqa: ARG002 -- always the same
        epoch: int,  # noqa: ARG002 -- always the same
        number: int,  # noqa: ARG002 -- always the same
        memory: float = math.inf,  # noqa: ARG002 -- always the same
    ) -> BatchPart:
        """All."""
        return BatchPart()


@dataclass(frozen=True, slots=True)
class FromTable:
    """The dearest row that processor and memory afford now (DISTREAL 2.5).

    Where they afford none, that is the cheapest one that memory has room for, or else the one that
    needs the least; or, with `skips`, the mini-batch is left out, but for the first of an epoch: an
    update is of at least one step.
    """

    table: DropoutTable
    skips: bool = False

    def part(
        self,
        share: float,
        epoch: int,  # noqa: ARG002 -- alike in all epochs
        number: int,
        memory: float = math.inf,
    ) -> BatchPart:
        """The row."""
        row = self.table.choose(share, memory)
        if self.skips and number > 0 and (row.cost > share or row.memory > memory):
            return BatchPart(cost=0.0)
        return BatchPart(row.cost, row.vector)


class OrderedWidths:
    """One of some widths, drawn for each mini-batch: its leading channels (FjORD).

    Args:
        cost: of the part that the device holds.
        widths: shares of that part's channels, each in (0, 1].
        seed: names the training's draws.
    """

    def __init__(self, cost: ForwardCost, widths: Sequence[float], seed: int) -> None:
        self._parts = [_of_width(cost, width) for width in widths]
        self._seed = seed

    def part(
        self,
        share: float,  # noqa: ARG002 -- of any speed
        epoch: int,
        number: int,
        memory: float = math.inf,  # noqa: ARG002 -- its device has taken what it has room for
    ) -> BatchPart:
        """Each width is as likely."""
        chance = Stream(self._seed, "width", epoch, number)
        return self._parts[chance.below(len(self._parts))]


def _of_width(cost: ForwardCost, width: float) -> BatchPart:
    plan = plan_of(cost.graph, SubmodelSpec((width,)))
    return BatchPart() if plan.is_full else BatchPart(cost.share(plan.sizes), plan=plan)

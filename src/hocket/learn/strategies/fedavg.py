"""FedAvg: synchronous rounds, averaged by the number of examples.

McMahan, Moore, Ramage, Hampson, Arcas. Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017. arXiv:1602.05629
Submodels are averaged entry by entry over those that hold it: Diao, Ding, Tarokh. HeteroFL.
ICLR 2021. arXiv:2010.01264
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Dropped, DropReason, Update
from hocket.errors import InvalidUpdate
from hocket.learn.pool import POOL
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.recalled import (
    check_names,
    foreign,
    names,
    tensor,
    whole_number,
)

_MOST_EXAMPLES = 1 << 63


@dataclass(slots=True)
class Round:
    """What has come in this round, already summed."""

    total: Tensor  # float64: sum of examples * delta
    examples: int = 0  # of all updates so far
    full_examples: int = 0  # of those that hold every entry
    part_examples: Tensor | None = None  # per entry, float64, of the others; None: no others
    devices: set[DeviceId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class FedAvg:
    """x <- x + sum of p_i delta_i, p_i = n_i / sum of n, once K devices have pushed for x."""

    cohort: int = 10  # K: devices per round
    kind: Literal["fedavg"] = "fedavg"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)

    def init(self, model: Tensor) -> Round:
        """A round in which nothing has come yet."""
        return Round(torch.zeros_like(model, dtype=torch.float64))

    def step(
        self,
        now: Global[Tensor],
        memory: Round,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Round]:
        """Take the update into the round (in place); the K-th closes it.

        Dropped with ROUND_OVER: an update from another base than the current version, or a
        second one from the same device. A buffered update's weight is its share so far.
        Raises InvalidUpdate when `num_examples` is below 1.
        """
        header = update.header
        tau = now.version - header.base_version
        refusal = self._refusal(now, memory, update)
        if refusal is not None:
            return Step(now, memory, Dropped(DropReason.ROUND_OVER, refusal, tau))
        if header.num_examples < 1:
            raise InvalidUpdate(f"num_examples is {header.num_examples}; an average needs >= 1")
        _add(memory, update)
        weight = header.num_examples / memory.examples
        version = Version(now.version + 1)
        fill = len(memory.devices)
        if fill < self.cohort:
            return Step(now, memory, Buffered(version, weight, tau, fill, self.cohort))
        after = Global(_average(now.model, memory), version)
        return Step(after, self.init(now.model), Applied(version, weight, tau))

    def _refusal(self, now: Global[Tensor], memory: Round, update: Update[Tensor]) -> str | None:
        header = update.header
        if header.base_version != now.version:
            return (
                f"the round of version {header.base_version} is over; "
                f"pull version {now.version} and train anew"
            )
        if header.device_id in memory.devices:
            return (
                f"{header.device_id} has already pushed for version {now.version}; "
                "wait for the next version"
            )
        return None

    def keep(self, memory: Round) -> Memory[Tensor]:
        """The sums, copied, and who is in them; a round in which nothing has come has no sums."""
        facts = {
            "kind": self.kind,
            "devices": sorted(memory.devices),
            "examples": memory.examples,
            "full_examples": memory.full_examples,
        }
        tensors = {}
        if memory.devices:
            tensors["total"] = memory.total.clone()
        if memory.part_examples is not None:
            tensors["part_examples"] = memory.part_examples.clone()
        return Memory(facts, tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Round:
        """The round as it was. Raises CorruptState."""
        known = names(self.kind, kept, "devices")
        if len(known) >= self.cohort:
            raise foreign(self.kind, f"{len(known)} devices are in a round of {self.cohort}")
        examples = whole_number(self.kind, kept, "examples", len(known), _MOST_EXAMPLES)
        full = whole_number(self.kind, kept, "full_examples", 0, examples)
        expected = {"total"} if known else set()
        if full < examples:
            expected.add("part_examples")
        check_names(self.kind, kept, ("devices", "examples", "full_examples"), expected)
        sums = {
            name: tensor(self.kind, kept, name, tuple(model.shape), torch.float64).clone()
            for name in expected
        }
        if not known:
            return self.init(model)
        return Round(
            sums["total"], examples, full, sums.get("part_examples"), set(map(DeviceId, known))
        )


def _add(memory: Round, update: Update[Tensor]) -> None:
    examples = update.header.num_examples
    accumulate(memory.total, update.delta, examples)
    memory.examples += examples
    memory.devices.add(update.header.device_id)
    if update.held is None:
        memory.full_examples += examples
        return
    if memory.part_examples is None:
        memory.part_examples = torch.zeros_like(memory.total)
    memory.part_examples.add_(update.held, alpha=examples)


def _average(model: Tensor, memory: Round) -> Tensor:
    """Model plus the mean delta over the holders of each entry; no holder, no change."""
    if memory.part_examples is None:
        moved = memory.total / memory.full_examples
    else:
        holders = memory.part_examples + memory.full_examples
        moved = memory.total / holders.clamp_(min=1)  # total is 0 where nobody holds the entry
    return POOL.take(len(model)).copy_(moved.add_(model))

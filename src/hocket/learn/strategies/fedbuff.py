"""FedBuff: sum updates in a buffer; K of them make one version.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba. Federated Learning with Buffered
Asynchronous Aggregation. AISTATS 2022. arXiv:2106.06639
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, one_of, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.sparse import accumulate
from hocket.learn.strategies import buffers
from hocket.learn.strategies.buffers import Buffer
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.recalled import whole_number


@dataclass(slots=True)
class Arrivals:
    """What has come since the last version."""

    buffer: Buffer  # sum of delta / sqrt(1 + tau)
    counts: Holders | None = None  # how many updates hold each entry; None where that is all one


@dataclass(frozen=True, slots=True)
class FedBuff:
    """x <- x + server_lr / K * sum of delta_i / sqrt(1 + tau_i), tau = t - o.

    The sum is divided by a number of updates, not by their weights. Deltas count from the model
    that the device received.
    """

    goal: int = 10  # K: updates per version
    server_lr: float = 1.0  # of the mean; K times smaller where others take the sum
    denominator: Literal["fixed_total", "received"] = "fixed_total"
    """fixed_total: K at every entry, so what few submodels hold moves less. received: at each entry
    the number of updates that hold it."""
    kind: Literal["fedbuff"] = "fedbuff"
    waits_for: ClassVar[str] = "goal"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "goal", self.goal)
        positive(self.kind, "server_lr", self.server_lr)
        one_of(self.kind, "denominator", self.denominator, ("fixed_total", "received"))

    def init(self, model: Tensor) -> Arrivals:
        """An empty buffer."""
        return Arrivals(buffers.empty(model), self._no_counts())

    def step(
        self,
        now: Global[Tensor],
        memory: Arrivals,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Arrivals]:
        """Add the update to the buffer (in place); the K-th turns the buffer into a version."""
        tau = now.version - update.header.base_version
        discount = (1 + tau) ** -0.5
        buffer = memory.buffer
        accumulate(buffer.total, update.delta, discount)
        if memory.counts is not None:
            memory.counts.add(update.held, 1, buffer.total)
        buffer.fill += 1
        version, weight = Version(now.version + 1), self.server_lr * discount / self.goal
        if buffer.fill < self.goal:
            outcome = Buffered(version, weight, tau, buffer.fill, self.goal)
            return Step(now, memory, outcome)
        return Step(self._after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[Tensor], memory: Arrivals) -> Step[Tensor, Arrivals] | None:
        """The version of those that have come, as with a goal of so many: K is their number."""
        return closed(self._after(now, memory), memory) if memory.buffer.fill else None

    def _after(self, now: Global[Tensor], memory: Arrivals) -> Global[Tensor]:
        buffer, counts = memory.buffer, memory.counts
        held_by = buffer.fill if counts is None else counts.per_entry()
        after = moved(now, buffer.total.mul_(self.server_lr / held_by))
        buffers.clear(buffer)
        memory.counts = self._no_counts()
        return after

    def _no_counts(self) -> Holders | None:
        return Holders() if self.denominator == "received" else None

    def keep(self, memory: Arrivals) -> Memory[Tensor]:
        """The sum, copied, and how many updates are in it; an empty buffer has no sum."""
        kept = buffers.keep(memory.buffer)
        facts = {"kind": self.kind, **kept.facts}
        if memory.counts is None:
            return Memory(facts, kept.tensors)
        counts = memory.counts.keep("counts")
        return Memory({**facts, **counts.facts}, {**kept.tensors, **counts.tensors})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Arrivals:
        """The buffer as it was. Raises CorruptState."""
        if self.denominator == "fixed_total":
            return Arrivals(buffers.recall(self.kind, kept, model, self.goal))
        fill = whole_number(self.kind, kept, "fill", 0, self.goal - 1)
        whole = whole_number(self.kind, kept, "full_counts", 0, fill)
        parts = ("part_counts",) if whole < fill else ()
        buffer = buffers.recall(
            self.kind, kept, model, self.goal, facts=("full_counts",), tensors=parts
        )
        return Arrivals(buffer, Holders(whole, recalled_part(self.kind, kept, "counts", model)))

"""FedNova: synchronous rounds in which every device counts as if it had taken equally many steps.

Wang, Liu, Liang, Joshi, Poor. Tackling the Objective Inconsistency Problem in Heterogeneous
Federated Optimization. NeurIPS 2020. arXiv:2007.07481. The norms of a_i: section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, not_negative
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Applied, Buffered, Update, UpdateHeader
from hocket.errors import InvalidUpdate, TaskError
from hocket.learn.strategies import rounds
from hocket.learn.strategies.below_one import below_one
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.next_version import closed
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.proximal import Proximal, proximal_terms
from hocket.learn.strategies.recalled import number
from hocket.learn.strategies.rounds import Round
from hocket.learn.strategies.server import AnyServer, Average


@dataclass(slots=True)
class Work:
    """What has come in this round, and how much work it took."""

    round: Round  # its total: sum of n_i delta_i / |a_i|
    norms: Holders  # sum of n_i |a_i|, at each entry


@dataclass(frozen=True, slots=True)
class FedNova:
    """x <- x + T * sum of p_i delta_i / |a_i|, T = sum of p_i |a_i|, p_i = n_i / sum of n.

    One such step once K devices have pushed for x. a_i is by how much each local gradient counts in
    delta_i, |a_i| the sum of that: with s = `num_steps` of plain gradient descent s; with momentum
    rho (s - rho (1 - rho^s) / (1 - rho)) / (1 - rho); with a proximal term of weight mu
    (1 - (1 - eta mu)^s) / (eta mu), eta being the device's learning rate. Sums over submodels are
    taken at each entry over those that hold it, as in HeteroFL.
    """

    cohort: int = 10  # K: devices per round
    momentum: float = 0.0  # rho of the local steps: that of [training]
    mu: float = 0.0  # of the proximal term that the devices add to their loss
    parts: Parts = field(default_factory=Parts)  # n_i, and what counts where parts are trained
    server: AnyServer = field(default_factory=Average)  # what becomes of T * sum
    kind: Literal["fednova"] = "fednova"
    half: ClassVar[type[Proximal]] = Proximal
    waits_for: ClassVar[str] = "cohort"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)
        below_one(self.kind, "momentum", self.momentum)
        not_negative(self.kind, "mu", self.mu)
        if self.momentum > 0 and self.mu > 0:
            raise TaskError(
                f"fednova.momentum is {self.momentum} and fednova.mu is {self.mu}; the norm is "
                "known for one of them at a time: set the other to 0"
            )

    @property
    def local(self) -> LocalTerms:
        """The proximal term, if there is one."""
        return proximal_terms(self.mu)

    def init(self, model: Tensor) -> Work:
        """A round in which nothing has come yet."""
        return Work(rounds.begin(model, self.parts, self.server), Holders(0.0))

    def step(
        self,
        now: Global[Tensor],
        memory: Work,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Work]:
        """Take the update into the round (in place); the K-th closes it.

        Dropped with ROUND_OVER as in FedAvg. A buffered update's weight is its share so far, p_i.
        Raises InvalidUpdate when `num_examples` or `num_steps` is below 1, or as `norm` does.
        """
        refused = rounds.refusal(now, memory.round, update)
        if refused is not None:
            return Step(now, memory, refused)
        own, norm = self.parts.weight(update), self.norm(update.header)
        where = self.parts.where(update)
        rounds.add(memory.round, update, where, own, own / norm)
        memory.norms.add(where, own * norm, memory.round.total)
        weight = own / memory.round.weight
        version = Version(now.version + 1)
        fill = len(memory.round.devices)
        if fill < self.cohort:
            return Step(now, memory, Buffered(version, weight, 0, fill, self.cohort))
        return Step(*self._ended(now, memory), Applied(version, weight, 0))

    def close(self, now: Global[Tensor], memory: Work) -> Step[Tensor, Work] | None:
        """The version of those that have come, as with a cohort of so many."""
        if not memory.round.devices:
            return None
        return closed(*self._ended(now, memory))

    def norm(self, header: UpdateHeader) -> float:
        """|a_i| of a device's training, at least 1.

        Raises InvalidUpdate for fewer than 1 step, and with a proximal term for a learning rate
        outside [0, 1 / mu), with which its steps would overshoot.
        """
        steps = header.num_steps
        if steps < 1:
            raise InvalidUpdate(f"num_steps is {steps}; a normalised average needs >= 1")
        if self.momentum > 0:
            left = 1 - self.momentum
            return max(1.0, (steps - self.momentum * _spent(left, steps)) / left)
        pull = header.learning_rate * self.mu
        if not 0 <= pull < 1:
            raise InvalidUpdate(
                f"learning_rate is {header.learning_rate}; with mu {self.mu} it must be at least 0 "
                f"and below {1 / self.mu}"
            )
        return max(1.0, _spent(pull, steps)) if pull > 0 else float(steps)

    def keep(self, memory: Work) -> Memory[Tensor]:
        """The sums, copied, who is in them, and the moments; without devices there are no sums."""
        kept, norms = rounds.keep(memory.round), memory.norms.keep("norms")
        facts = {"kind": self.kind, **kept.facts, **norms.facts}
        return Memory(facts, {**kept.tensors, **norms.tensors})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Work:
        """The round as it was. Raises CorruptState."""
        round_ = rounds.recall(
            self.kind,
            kept,
            model,
            self.cohort,
            self.parts,
            self.server,
            facts=("full_norms",),
            tensors=("part_norms",),
        )
        full = number(self.kind, kept, "full_norms")
        return Work(round_, Holders(full, recalled_part(self.kind, kept, "norms", model)))

    def _ended(self, now: Global[Tensor], memory: Work) -> tuple[Global[Tensor], Work]:
        """The next version, and the next round."""
        work = memory.norms.per_entry() / memory.round.holders.per_entry()  # T
        by = rounds.mean(memory.round).mul_(work)
        after, begun = rounds.ended(now, memory.round, by, self.server)
        return after, Work(begun, Holders(0.0))


def _spent(rate: float, steps: int) -> float:
    """(1 - (1 - rate)^steps) / rate for a rate in (0, 1), also where 1 - rate is 1 in float64."""
    return -math.expm1(steps * math.log1p(-rate)) / rate

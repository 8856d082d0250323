"""SCAFFOLD: synchronous rounds whose devices correct each step by what drives them apart.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh. SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning. ICML 2020. arXiv:1910.06378. Algorithm 1, with option II for c_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import at_least_one, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Applied, Buffered, Update
from hocket.errors import InvalidUpdate, TaskError
from hocket.learn.flat import check_size, views
from hocket.learn.local_rule import Ended, LocalFacts, Part
from hocket.learn.sparse import accumulate
from hocket.learn.strategies import rounds
from hocket.learn.strategies.buffers import check_whole
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.recalled import foreign, tensor
from hocket.learn.strategies.rounds import Round

VARIATE = "variate"  # c_i, in what a device keeps


@dataclass(frozen=True, slots=True)
class ControlVariates:
    """The client half: a step goes along g - c_i + c, and what c_i becomes is kept.

    Of plain steps without momentum: option II takes a step for eta times its direction.
    """

    kind: ClassVar[str] = "scaffold"
    whole_only: ClassVar[bool] = True
    timed: ClassVar[bool] = False
    watches: ClassVar[bool] = False

    def begin(
        self, base: Tensor, extra: Tensor | None, kept: Mapping[str, Tensor], facts: LocalFacts
    ) -> Correction:
        """Begin a training; c_i is 0 before the first.

        Raises ShapeMismatch when c_i does not fit the model, InvalidUpdate when no c came with it.
        """
        if extra is None:
            raise InvalidUpdate("the model came without the control variate c of its task")
        own = kept.get(VARIATE, torch.zeros_like(base))
        check_size(own, len(base))
        return Correction(base, own, extra - own, facts)


class Correction:
    """Control variates at work in one training.

    Args:
        base: x (n, float32), the model received.
        own: c_i (n, float32), from before.
        drift: c - c_i (n, float32), which is added to each gradient.
        facts: of this training.
    """

    features: None = None

    def __init__(self, base: Tensor, own: Tensor, drift: Tensor, facts: LocalFacts) -> None:
        self._base, self._own, self._drift = base, own, drift
        self._by_name = views(drift, facts.manifest)
        self._facts = facts

    def penalty(self, inputs: Tensor, features: Tensor | None) -> None:
        """Nothing is added to the loss."""

    def correct(
        self,
        gradients: dict[str, Tensor],
        weights: Mapping[str, Tensor],  # noqa: ARG002 - the protocol's
        part: Part,
    ) -> None:
        """Add c - c_i."""
        for name, gradient in gradients.items():
            gradients[name] = gradient + part(name, self._by_name[name])

    def end(self, weights: Tensor, steps: int) -> Ended:
        """c_i+ = c_i - c + (x - y) / (K eta) of what is trained, and by how much c_i changes."""
        own = (self._base - weights).div_(steps * self._facts.learning_rate).sub_(self._drift)
        by_name = views(own, self._facts.manifest)
        for spec in self._facts.manifest.tensors:
            if not spec.trainable:  # running statistics move, but not along a gradient
                by_name[spec.name].zero_()
        return {VARIATE: own}, own - self._own


@dataclass(slots=True)
class Variates:
    """The server's control variate, and what has come in this round."""

    round: Round  # its total: sum of delta_i
    variate: Tensor  # c (n, float32), never changed in place
    change: Tensor  # float64: sum of (c_i+ - c_i)


@dataclass(frozen=True, slots=True)
class Scaffold:
    """x <- x + eta_g / K * sum of delta_i, c <- c + 1 / N * sum of (c_i+ - c_i).

    One such step once K devices have pushed for x, each counting the same. c begins at 0, goes down
    with each base, and is the mean of the c_i of all N devices: of those that never took part, 0.
    """

    cohort: int = 10  # K: devices per round
    devices: int = 100  # N: of the whole fleet
    server_lr: float = 1.0  # eta_g
    kind: Literal["scaffold"] = "scaffold"
    waits_for: ClassVar[str] = "cohort"
    half: ClassVar[type[ControlVariates]] = ControlVariates

    def __post_init__(self) -> None:
        at_least_one(self.kind, "cohort", self.cohort)
        at_least_one(self.kind, "devices", self.devices)
        positive(self.kind, "server_lr", self.server_lr)
        if self.devices < self.cohort:
            raise TaskError(
                f"scaffold.devices is {self.devices}, but scaffold.cohort is {self.cohort}; "
                "devices is the size of the whole fleet, of which each round takes a cohort"
            )

    @property
    def local(self) -> LocalTerms:
        """Devices correct their gradients by c - c_i."""
        return LocalTerms(self.half.kind)

    def init(self, model: Tensor) -> Variates:
        """A control variate of 0, and a round in which nothing has come yet."""
        return _begin(torch.zeros_like(model))

    def down(self, memory: Variates) -> Tensor:
        """The control variate c (n, float32)."""
        return memory.variate

    def step(
        self,
        now: Global[Tensor],
        memory: Variates,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Variates]:
        """Take the update into the round (in place); the K-th closes it.

        Dropped with ROUND_OVER as in FedAvg. A buffered update's weight is its share so far.
        Raises InvalidUpdate for an update of a submodel, or without its change of c_i.
        """
        refused = rounds.refusal(now, memory.round, update)
        if refused is not None:
            return Step(now, memory, refused)
        check_whole(self.kind, update)
        if update.extra is None:
            raise InvalidUpdate("the update holds no change of a control variate (c_i+ - c_i)")
        rounds.add(memory.round, update, None, 1)
        accumulate(memory.change, update.extra, 1.0)
        fill = len(memory.round.devices)
        version = Version(now.version + 1)
        if fill < self.cohort:
            return Step(now, memory, Buffered(version, 1 / fill, 0, fill, self.cohort))
        after, begun = self._closed(now, memory)
        return Step(after, begun, Applied(version, 1 / fill, 0))

    def close(self, now: Global[Tensor], memory: Variates) -> Step[Tensor, Variates] | None:
        """The step of those that have come, as with a cohort of so many."""
        return closed(*self._closed(now, memory)) if memory.round.devices else None

    def keep(self, memory: Variates) -> Memory[Tensor]:
        """The control variate and the sums, copied; a round in which nothing has come has none."""
        kept = rounds.keep(memory.round)
        own = {"variate": memory.variate}
        if memory.round.devices:
            own["change"] = memory.change.clone()
        return Memory({"kind": self.kind, **kept.facts}, {**kept.tensors, **own})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Variates:
        """The control variate and the round as they were. Raises CorruptState."""
        tensors = dict(kept.tensors)
        own = {name: tensors.pop(name) for name in ("variate", "change") if name in tensors}
        round_ = rounds.recall(self.kind, Memory(kept.facts, tensors), model, self.cohort)
        if own.keys() != {"variate", *(["change"] if round_.devices else [])}:
            raise foreign(self.kind, f"of its control variates there are {sorted(own)}")
        shape = tuple(model.shape)
        recalled = _begin(tensor(self.kind, kept, "variate", shape, torch.float32))
        recalled.round = round_
        if round_.devices:
            recalled.change.copy_(tensor(self.kind, kept, "change", shape, torch.float64))
        return recalled

    def _closed(self, now: Global[Tensor], memory: Variates) -> tuple[Global[Tensor], Variates]:
        """The version that the round makes, and the next round."""
        by = memory.round.total * (self.server_lr / len(memory.round.devices))
        variate = memory.change.div(self.devices).add_(memory.variate).float()
        return moved(now, by), _begin(variate)


def _begin(variate: Tensor) -> Variates:
    """A round in which nothing has come yet."""
    return Variates(rounds.begin(variate), variate, torch.zeros_like(variate, dtype=torch.float64))

"""FedAsync: mix each model in on arrival, discounted by staleness.

Xie, Koyejo, Gupta. Asynchronous Federated Optimization. OPT 2020. arXiv:1903.03934
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.ranges import not_negative, one_of, positive, share
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Applied, Dropped, DropReason, Update
from hocket.errors import TaskError
from hocket.learn.strategies.mixing import mix
from hocket.learn.strategies.moves import MOVED_AT, Moves
from hocket.learn.strategies.proximal import Proximal, proximal_terms
from hocket.learn.strategies.recalled import check_names


@dataclass(frozen=True, slots=True)
class FedAsync:
    """x <- (1 - a) x + a y with a = alpha * s(tau), tau = t - o; one version per update.

    With rho > 0 a device's loss is f(w) + rho / 2 |w - x_o|^2.
    """

    alpha: float = 0.6  # weight of a perfectly fresh model
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"  # the function s
    exponent: float = 0.5  # polynomial: s = (tau + 1)^-exponent
    hinge_slope: float = 10.0  # hinge: s = 1 up to the delay,
    hinge_delay: int = 4  # then 1 / (slope (tau - delay) + 1)
    max_tau: int | None = None  # staler updates are dropped; None keeps all
    rho: float = 0.0  # of the devices' proximal term; 0.005 in public code
    staleness_of: Literal["update", "entry"] = "update"
    """entry: a is one for each entry, its tau counted to the version that last moved that entry
    (see `moves.py`), not to the newest; for fleets that train parts of the model."""
    kind: Literal["fedasync"] = "fedasync"
    half: ClassVar[type[Proximal]] = Proximal

    def __post_init__(self) -> None:
        positive(self.kind, "alpha", self.alpha)
        share(self.kind, "alpha", self.alpha)
        if self.staleness not in ("constant", "polynomial", "hinge"):
            raise TaskError(
                f"fedasync.staleness is {self.staleness!r}; take constant, polynomial or hinge"
            )
        not_negative(self.kind, "exponent", self.exponent)
        not_negative(self.kind, "hinge_slope", self.hinge_slope)
        not_negative(self.kind, "hinge_delay", self.hinge_delay)
        if self.max_tau is not None:
            not_negative(self.kind, "max_tau", self.max_tau)
        not_negative(self.kind, "rho", self.rho)
        one_of(self.kind, "staleness_of", self.staleness_of, ("update", "entry"))

    @property
    def local(self) -> LocalTerms:
        """The proximal term, if there is one."""
        return proximal_terms(self.rho)

    def init(self, model: Tensor) -> Moves | None:
        """Memory is needed for the staleness of entries only."""
        return Moves.none_yet(model) if self.staleness_of == "entry" else None

    def step(
        self, now: Global[Tensor], memory: Moves | None, update: Update[Tensor], base: Tensor
    ) -> Step[Tensor, Moves | None]:
        """Mix the update in at once, or drop it when tau > `max_tau`.

        The weight that is told is the mean over the entries that the update holds.
        """
        tau = now.version - update.header.base_version
        if self.max_tau is not None and tau > self.max_tau:
            message = f"tau {tau} exceeds {self.max_tau}; pull the newest model and train anew"
            return Step(now, memory, Dropped(DropReason.TOO_STALE, message, tau))
        version = Version(now.version + 1)
        if memory is None:
            alpha = self._alpha(tau)
            after = mix(now.model, base, update, alpha)
            return Step(Global(after, version), memory, Applied(version, alpha, tau))
        weights = memory.weigh(update, self._alpha)
        after = mix(now.model, base, update, weights.alpha)
        memory.note(update.held, version)
        return Step(Global(after, version), memory, Applied(version, weights.mean_alpha, tau))

    def keep(self, memory: Moves | None) -> Memory[Tensor]:
        """Its name, and when each entry was last moved where that counts."""
        if memory is None:
            return Memory({"kind": self.kind})
        return Memory({"kind": self.kind, "staleness_of": self.staleness_of}, memory.keep())

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Moves | None:
        """The memory as it was. Raises CorruptState."""
        if self.staleness_of == "update":
            check_names(self.kind, kept, (), set())
            return None
        check_names(self.kind, kept, ("staleness_of",), {MOVED_AT})
        return Moves.recall(self.kind, kept, model)

    def _alpha(self, tau: int) -> float:
        return self.alpha * self.discount(tau)

    def discount(self, tau: int) -> float:
        """s(tau) in (0, 1], never rising with tau."""
        if self.staleness == "constant":
            return 1.0
        if self.staleness == "polynomial":
            return float((tau + 1) ** -self.exponent)
        return 1 / (self.hinge_slope * max(0, tau - self.hinge_delay) + 1)

"""What the server makes of a round's average: the step itself, or one of an optimizer.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan. Adaptive Federated Optimization.
ICLR 2021. arXiv:2003.00295, algorithm 2. Momentum: Hsu, Qi, Brown. Measuring the Effects of
Non-Identical Data Distribution for Federated Visual Classification. 2019. arXiv:1909.06335
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hocket.core.ranges import positive
from hocket.core.strategy import Global, Memory
from hocket.learn.strategies.below_one import below_one
from hocket.learn.strategies.holders import Holders
from hocket.learn.strategies.next_version import moved
from hocket.learn.strategies.recalled import tensor

BLOCK = 1 << 18  # values: a few such blocks stay in a processor's cache
Moments = Mapping[str, Tensor]
"""What an optimizer remembers, by name: vectors (n, float32), never changed in place."""
Stepped = tuple[Tensor, Moments]
"""By how much the model moves, and the moments after that: vectors (n, float64)."""


@dataclass(frozen=True, slots=True)
class Average:
    """x <- x + D, D being the average difference."""

    kind: Literal["mean"] = "mean"
    remembers: ClassVar[tuple[str, ...]] = ()

    def step(self, by: Tensor, moments: Moments) -> Stepped:
        """D as it is."""
        return by, moments


@dataclass(frozen=True, slots=True)
class Sgd:
    """u <- momentum u + D, x <- x + lr u; u begins at 0. Without momentum nothing is remembered."""

    lr: float = 1.0
    momentum: float = 0.0
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self) -> None:
        positive("server", "lr", self.lr)
        below_one("server", "momentum", self.momentum)

    @property
    def remembers(self) -> tuple[str, ...]:
        """The moments' names: u, if it is more than D."""
        return ("momentum",) if self.momentum > 0 else ()

    def step(self, by: Tensor, moments: Moments) -> Stepped:
        """Lr u, and u."""
        after = {name: was.double().mul_(self.momentum).add_(by) for name, was in moments.items()}
        return after.get("momentum", by) * self.lr, after


@dataclass(frozen=True, slots=True)
class Adam:
    """x <- x + lr m / (sqrt(v) + tau).

    m <- beta1 m + (1 - beta1) D, v <- beta2 v + (1 - beta2) D^2. Both begin at 0, and nothing
    corrects for that. The defaults are those of FedRolex's code (Alam, Liu, Yan, Zhang. NeurIPS
    2022. arXiv:2212.01548), where entries that nobody holds move on by what m remembers of them.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 0.01
    kind: Literal["adam"] = "adam"
    remembers: ClassVar[tuple[str, ...]] = ("mean", "square")

    def __post_init__(self) -> None:
        positive("server", "lr", self.lr)
        below_one("server", "beta1", self.beta1)
        below_one("server", "beta2", self.beta2)
        positive("server", "tau", self.tau)

    def step(self, by: Tensor, moments: Moments) -> Stepped:
        """Lr m / (sqrt(v) + tau), m and v."""
        mean = moments["mean"].double().mul_(self.beta1).add_(by, alpha=1 - self.beta1)
        square = moments["square"].double().mul_(self.beta2)
        square.addcmul_(by, by, value=1 - self.beta2)
        step = square.sqrt().add_(self.tau)
        torch.div(mean, step, out=step).mul_(self.lr)
        return step, {"mean": mean, "square": square}


AnyServer = Annotated[Average | Sgd | Adam, Field(discriminator="kind")]


def begin(server: AnyServer, model: Tensor) -> Moments:
    """Moments of 0."""
    return {name: torch.zeros_like(model) for name in server.remembers}


def advance(
    server: AnyServer, now: Global[Tensor], by: Tensor, holders: Holders, moments: Moments
) -> tuple[Global[Tensor], Moments]:
    """The next version, and the moments after it; `by` is D (n, float64), used up.

    An entry at which no update counts neither moves nor changes its moments. All is computed in
    float64, entry by entry, and rounded once; block by block, so that only `by` is whole in
    float64.
    """
    after = {name: torch.empty_like(each) for name, each in moments.items()}
    idle = holders.idle() if after else None  # who remembers nothing moves nothing by D = 0
    for start in range(0, len(by), BLOCK):
        place = slice(start, start + BLOCK)
        before = {name: each[place] for name, each in moments.items()}
        step, exact = server.step(by[place], before)
        if idle is not None:
            step.masked_fill_(idle[place], 0)
            exact = {n: torch.where(idle[place], before[n], each) for n, each in exact.items()}
        for name, each in exact.items():
            after[name][place] = each
        by[place] = step
    return moved(now, by), after


def keep(moments: Moments) -> dict[str, Tensor]:
    """Fit for storage, as they are: nobody changes them."""
    return {_stored(name): each for name, each in moments.items()}


def stored_names(server: AnyServer) -> set[str]:
    """What `keep` calls them."""
    return {_stored(name) for name in server.remembers}


def recall(kind: str, kept: Memory[Tensor], server: AnyServer, model: Tensor) -> Moments:
    """What `keep` kept. Raises CorruptState."""
    shape = tuple(model.shape)
    return {
        name: tensor(kind, kept, _stored(name), shape, torch.float32) for name in server.remembers
    }


def _stored(name: str) -> str:
    return f"server_{name}"

"""Who is told of everything that happens in a simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal[
    "come",  # a device is there
    "leave",
    "trigger",  # sent; `version`: the newest
    "pull",  # a base has come; `version`, `bytes`, `seconds`
    "fresh",  # the answer to a pull in mid-training; `version` -1: none; `bytes`, `seconds`
    "epoch",  # ended; `seconds`, `slot`: its number
    "merge",  # `version`, `weight`: beta, `reward`
    "push",  # begins; `bytes`, `version`: its base
    "break",  # a transfer broke off; `bytes` that had passed
    "settle",  # an update's outcome; `version`: its base, `outcome`, `weight`, `tau`, `loss`
    "version",  # made
    "evaluate",  # `version`, `accuracy`, `loss`
]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that happened. What does not apply is -1, NaN or empty."""

    kind: Kind
    at_s: float  # of virtual time
    device: str = ""
    version: int = -1
    training: int = -1  # number of the device's training
    bytes: int = -1
    seconds: float = math.nan
    slot: int = -1
    tau: int = -1
    weight: float = math.nan
    loss: float = math.nan
    accuracy: float = math.nan
    reward: float = math.nan
    outcome: str = ""  # applied, buffered, or why it was dropped or refused
    update_id: str = ""


class Tracer(Protocol):
    """Takes rows in the order in which things happen."""

    def wants(self, kind: Kind) -> bool:
        """Whether rows of this kind are worth making."""
        ...

    def row(self, row: Row) -> None:
        """Take one row."""
        ...


class Untraced:
    """Wants nothing."""

    def wants(self, kind: Kind) -> bool:  # noqa: ARG002 -- no kind is wanted
        """See Tracer."""
        return False

    def row(self, row: Row) -> None:
        """See Tracer."""


UNTRACED = Untraced()


class Several:
    """Tells several tracers, each only of what it wants."""

    def __init__(self, *tracers: Tracer) -> None:
        self._tracers = tracers

    def wants(self, kind: Kind) -> bool:
        """See Tracer."""
        return any(tracer.wants(kind) for tracer in self._tracers)

    def row(self, row: Row) -> None:
        """See Tracer."""
        for tracer in self._tracers:
            if tracer.wants(row.kind):
                tracer.row(row)

"""FjORD: ordered dropout, another width for each mini-batch up to the device's own.

Horvath, Laskaridis, Almeida, Leontiadis, Venieris, Lane. FjORD: Fair and Accurate Federated
Learning under heterogeneous targets with Ordered Dropout. NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.sizing.affordable import affordable, check_levels, named, reason
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Facts, Size, part_of

WIDTHS = (1.0, 0.8, 0.6, 0.4, 0.2)
_GRAIN = 2.0**-40  # widths of a part fall on multiples of it


@dataclass(frozen=True, slots=True)
class Fjord(Memoryless):
    """p_max is the largest width that the device affords; p is drawn from {widths <= p_max}."""

    widths: tuple[float, ...] = WIDTHS
    deadline_s: float | None = None  # at p_max, with the transfers; None: `keep` alone decides
    kind: Literal["fjord"] = "fjord"

    def __post_init__(self) -> None:
        check_levels("widths", self.widths, self.deadline_s)

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """The leading channels of p_max, and the widths p <= p_max as shares of p_max."""
        largest = affordable(self.widths, facts, self.deadline_s)[0]
        parts = tuple(_share(p, largest) for p in self.widths if p <= largest)
        why = reason(largest, facts, self.deadline_s)
        if len(parts) > 1:
            why += f", each mini-batch one of {len(parts)} widths from {named(self.widths[-1])}"
        return Size(part_of(largest), parts if len(parts) > 1 else (), why)


def _share(p: float, largest: float) -> float:
    """The share p / largest, rounded down, so that its ceil is no channel too many for rounding."""
    return max(1, math.floor(p / largest / _GRAIN)) * _GRAIN

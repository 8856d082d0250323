"""HeteroFL: static widths, the leading channels of each layer.

Diao, Ding, Tarokh. HeteroFL: Computation and Communication Efficient Federated Learning for
Heterogeneous Clients. ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.sizing.affordable import HALVINGS, Mode, check_draw, level_of, reason
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Facts, Size, part_of


@dataclass(frozen=True, slots=True)
class HeteroFL(Memoryless):
    """A device's level by what it affords; the paper's is by lot."""

    levels: tuple[float, ...] = HALVINGS
    mode: Mode = "fixed"  # "dynamic": each training another of the levels that it affords
    deadline_s: float | None = None  # of a training and its transfers; None: `keep` alone decides
    proportions: tuple[float, ...] = ()  # for "dynamic", of the levels; empty: all alike
    kind: Literal["heterofl"] = "heterofl"

    def __post_init__(self) -> None:
        check_draw(self)

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """The leading channels of the level."""
        level = level_of(self, facts)
        return Size(part_of(level), why=reason(level, facts, self.deadline_s))

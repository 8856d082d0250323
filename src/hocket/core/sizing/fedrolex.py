"""FedRolex: HeteroFL's widths, in a window that rolls over the channels.

Alam, Liu, Yan, Zhang. FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model
Extraction. NeurIPS 2022. In K rounds a layer of K channels has each of them trained equally often.
Here a round is a version: all devices that train from one share the window's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.sizing.affordable import HALVINGS, Mode, check_draw, level_of, reason
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Facts, Size, part_of
from hocket.core.submodel import ChannelRule


@dataclass(frozen=True, slots=True)
class FedRolex(Memoryless):
    """A device's level as in HeteroFL, from channel `version` mod K on (the paper's direction)."""

    levels: tuple[float, ...] = HALVINGS
    mode: Mode = "fixed"  # "dynamic": each training another of the levels that it affords
    deadline_s: float | None = None  # of a training and its transfers; None: `keep` alone decides
    proportions: tuple[float, ...] = ()  # for "dynamic", of the levels; empty: all alike
    kind: Literal["fedrolex"] = "fedrolex"

    def __post_init__(self) -> None:
        check_draw(self)

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """The window of the level."""
        level = level_of(self, facts)
        why = reason(level, facts, self.deadline_s)
        if level < 1.0:
            why += f", window of version {facts.version}"
        return Size(part_of(level, ChannelRule.ROLLING, facts.version), why=why)

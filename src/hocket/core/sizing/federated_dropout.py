"""Federated Dropout: other random channels for each training of each device.

Caldas, Konecny, McMahan, Talwalkar. Expanding the Reach of Federated Learning by Reducing Client
Resource Requirements. 2018. arXiv:1812.07210. There k = floor(ratio * K), here as for all rules
ceil(ratio * K); outputs are rescaled if the task says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.chance import stream_seed
from hocket.core.sizing.affordable import HALVINGS, affordable, check_levels, reason
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Facts, Size, part_of
from hocket.core.submodel import ChannelRule


@dataclass(frozen=True, slots=True)
class FederatedDropout(Memoryless):
    """As many channels as a device affords, drawn by (task seed, device, training)."""

    ratios: tuple[float, ...] = HALVINGS
    deadline_s: float | None = None  # of a training and its transfers; None: `keep` alone decides
    kind: Literal["federated-dropout"] = "federated-dropout"

    def __post_init__(self) -> None:
        check_levels("ratios", self.ratios, self.deadline_s)

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """A random part of the largest ratio that it affords."""
        ratio = affordable(self.ratios, facts, self.deadline_s)[0]
        seed = stream_seed(facts.seed, "channels", facts.device_id, facts.training)
        why = reason(ratio, facts, self.deadline_s)
        return Size(part_of(ratio, ChannelRule.RANDOM, seed), why=why)

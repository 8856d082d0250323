"""Only devices that are expected to end in time: what FedCS asks of a device, without its greed.

Nishio, Yonetani. Client Selection for Federated Learning with Heterogeneous Resources in Mobile
Edge. ICC 2019. arXiv:1804.08333 adds devices as long as their uploads, one after the other, fit
the deadline; here each has a link of its own, so each is held against the deadline by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId
from hocket.core.ranges import at_least_one, positive
from hocket.core.scheduling.selection import Pool, Seen


@dataclass(frozen=True, slots=True)
class InTime:
    """Each idle device that trains the whole model in time with equal chance; no other, ever.

    A device that was never measured counts as in time, so that it gets measured. Of more than
    `consider` idle devices, so many are drawn with equal chance first.
    """

    deadline_s: float = 60.0  # from trigger to update, by what was measured
    consider: int = 1000  # devices
    kind: Literal["intime"] = "intime"

    def __post_init__(self) -> None:
        positive("selection", "deadline_s", self.deadline_s)
        at_least_one("selection", "consider", self.consider)

    def begin(self) -> None:
        """It remembers nothing."""

    def learn(self, memory: None, seen: Seen) -> None:
        """It remembers nothing."""

    def choose(self, pool: Pool, count: int, chance: Stream, memory: None) -> list[DeviceId]:  # noqa: ARG002 -- the protocol's
        """At most `count` distinct devices."""
        chosen: list[DeviceId] = []
        for rank in chance.sample(len(pool), max(self.consider, count)):
            candidate = pool.candidate(rank)
            if candidate.expected_s is None or candidate.expected_s <= self.deadline_s:
                chosen.append(candidate.device_id)
            if len(chosen) == count:
                break
        return chosen

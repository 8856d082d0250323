"""Which idle devices to trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId
from hocket.core.ranges import at_least_one


@dataclass(frozen=True, slots=True)
class Candidate:
    """An idle device that is willing to train."""

    device_id: DeviceId
    waited_s: float  # since it was last triggered, or since it was first seen
    expected_s: float | None  # from trigger to update; None if never measured


class Pool(Protocol):
    """The devices to choose from, by rank in the order of their ids: asked for, never listed."""

    def __len__(self) -> int: ...

    def device_id(self, rank: int) -> DeviceId:
        """Whose rank it is, in 0..len-1."""
        ...

    def candidate(self, rank: int) -> Candidate:
        """The same device with what is known of it."""
        ...


class Selection(Protocol):
    """A frozen dataclass whose fields are its settings."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    def choose(self, pool: Pool, count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each idle device with equal chance."""

    kind: Literal["uniform"] = "uniform"

    def choose(self, pool: Pool, count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        return [pool.device_id(rank) for rank in chance.sample(len(pool), count)]


@dataclass(frozen=True, slots=True)
class ByCapability:
    """Quick devices more often, long-waiting ones more surely: (1 + waited) / (1 + expected).

    The weight of a waiting device grows without bound, so every live device is chosen in the end.
    A device that was never measured counts as quick, so that it gets measured. Of more than
    `consider` idle devices, so many are drawn with equal chance first: what a choice costs does
    not grow with the fleet.
    """

    consider: int = 1000  # devices
    kind: Literal["capability"] = "capability"

    def __post_init__(self) -> None:
        at_least_one("selection", "consider", self.consider)

    def choose(self, pool: Pool, count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        few = max(self.consider, count)
        ranks = chance.sample(len(pool), few) if len(pool) > few else range(len(pool))
        idle = [pool.candidate(rank) for rank in ranks]
        weights = [(1.0 + c.waited_s) / (1.0 + (c.expected_s or 0.0)) for c in idle]
        return [candidate.device_id for candidate in chance.weighted(idle, weights, count)]

"""Which idle devices to trigger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId


@dataclass(frozen=True, slots=True)
class Candidate:
    """An idle device that is willing to train."""

    device_id: DeviceId
    waited_s: float  # since it was last triggered, or since it was first seen
    expected_s: float | None  # from trigger to update; None if never measured


class Selection(Protocol):
    """A frozen dataclass whose fields are its settings."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    def choose(self, idle: Sequence[Candidate], count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each idle device with equal chance."""

    kind: Literal["uniform"] = "uniform"

    def choose(self, idle: Sequence[Candidate], count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        chosen = chance.weighted(idle, [1.0] * len(idle), count)
        return [candidate.device_id for candidate in chosen]


@dataclass(frozen=True, slots=True)
class ByCapability:
    """Quick devices more often, long-waiting ones more surely: (1 + waited) / (1 + expected).

    The weight of a waiting device grows without bound, so every live device is chosen in the end.
    A device that was never measured counts as quick, so that it gets measured.
    """

    kind: Literal["capability"] = "capability"

    def choose(self, idle: Sequence[Candidate], count: int, chance: Stream) -> list[DeviceId]:
        """At most `count` distinct devices."""
        weights = [(1.0 + c.waited_s) / (1.0 + (c.expected_s or 0.0)) for c in idle]
        return [candidate.device_id for candidate in chance.weighted(idle, weights, count)]

"""Which idle devices to trigger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one


@dataclass(frozen=True, slots=True)
class Candidate:
    """An idle device that is willing to train."""

    device_id: DeviceId
    waited_s: float  # since it was last triggered, or since it was first seen
    expected_s: float | None  # from trigger to update; None if never measured

    @property
    def urgency(self) -> float:
        """(1 + waited) / (1 + expected): quick devices first, long-waiting ones more surely.

        It grows without bound while a device waits. One that was never measured counts as quick.
        """
        return (1.0 + self.waited_s) / (1.0 + (self.expected_s or 0.0))


@dataclass(frozen=True, slots=True)
class Seen:
    """An update that was accepted, as far as the choice of devices is concerned.

    A device may say what it likes of its examples and losses.
    """

    device_id: DeviceId
    num_examples: int
    loss_rms: float  # root of the mean squared loss of an example; the mean loss if unknown
    took_s: float  # from trigger to update
    version: Version  # that it is, or will be, part of
    now: float


class Pool(Protocol):
    """The devices to choose from, by rank in the order of their ids: asked for, never listed."""

    def __len__(self) -> int: ...

    def __contains__(self, device_id: DeviceId, /) -> bool: ...

    def device_id(self, rank: int) -> DeviceId:
        """Whose rank it is, in 0..len-1."""
        ...

    def candidate(self, rank: int) -> Candidate:
        """The same device with what is known of it."""
        ...


class Selection(Protocol):
    """A frozen dataclass whose fields are its settings.

    What it learns is lost when the aggregator restarts. That costs some exploring, but no replay:
    a selection says who is asked to train, never what becomes of an update.
    """

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    def begin(self) -> Any:
        """A memory of nothing, to be handed to the other two."""
        ...

    def learn(self, memory: Any, seen: Seen) -> None:
        """An update was accepted."""
        ...

    def choose(self, pool: Pool, count: int, chance: Stream, memory: Any) -> list[DeviceId]:
        """At most `count` distinct devices."""
        ...


def some(total: int, most: int, chance: Stream) -> Sequence[int]:
    """0..total-1, or of more than `most` so many, drawn with equal chance."""
    return chance.sample(total, most) if total > most else range(total)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each idle device with equal chance."""

    kind: Literal["uniform"] = "uniform"

    def begin(self) -> None:
        """It remembers nothing."""

    def learn(self, memory: None, seen: Seen) -> None:
        """It remembers nothing."""

    def choose(self, pool: Pool, count: int, chance: Stream, memory: None) -> list[DeviceId]:  # noqa: ARG002 -- the protocol's
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

    def begin(self) -> None:
        """It remembers nothing."""

    def learn(self, memory: None, seen: Seen) -> None:
        """It remembers nothing."""

    def choose(self, pool: Pool, count: int, chance: Stream, memory: None) -> list[DeviceId]:  # noqa: ARG002 -- the protocol's
        """At most `count` distinct devices."""
        ranks = some(len(pool), max(self.consider, count), chance)
        idle = [pool.candidate(rank) for rank in ranks]
        drawn = chance.weighted(idle, [candidate.urgency for candidate in idle], count)
        return [candidate.device_id for candidate in drawn]

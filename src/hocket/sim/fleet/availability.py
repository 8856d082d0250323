"""When devices are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal, Protocol

from pydantic import Field

from hocket.core.chance import Stream
from hocket.sim.fleet.ranges import LastingSeconds, Name, Share
from hocket.sim.fleet.steps import Steps

MidTraining = Literal["vanish", "finish"]
"""Whether a device that goes away leaves in mid-training, or finishes its training first."""


class Availability(Protocol):
    """When one device is there. The answers are always the same, in any order of asking."""

    def at(self, at_s: float) -> bool:
        """Whether it is there at that moment of virtual time."""
        ...

    def next_change(self, after_s: float) -> float | None:
        """The first moment after `after_s` at which it comes or goes; None: never."""
        ...


class Always:
    """A device that never goes away."""

    def at(self, at_s: float) -> bool:  # noqa: ARG002 - any moment is like another
        """See Availability."""
        return True

    def next_change(self, after_s: float) -> None:
        """See Availability."""


class OnOffTimes:
    """A device that comes and goes: exponential times on and off, drawn from `chance` by name.

    Each question goes on from the moment of the one before; one about an earlier moment starts
    over.
    """

    __slots__ = ("_chance", "_mean_s", "_name", "_next_s", "_on", "_seed", "_since_s", "_start_on")

    def __init__(
        self, mean_on_s: float, mean_off_s: float, start_on: float, seed: int, name: str
    ) -> None:
        self._mean_s = (mean_off_s, mean_on_s)
        self._start_on = start_on
        self._seed, self._name = seed, name
        self._begin()

    def at(self, at_s: float) -> bool:
        """See Availability."""
        self._go_to(at_s)
        return self._on

    def next_change(self, after_s: float) -> float:
        """See Availability."""
        self._go_to(after_s)
        return self._next_s

    def _begin(self) -> None:
        self._chance = Stream(self._seed, "availability", self._name)
        self._on = self._chance.random() < self._start_on
        self._since_s = 0.0
        self._next_s = self._lasts_s()

    def _go_to(self, at_s: float) -> None:
        if at_s < self._since_s:
            self._begin()
        while self._next_s <= at_s:
            self._since_s = self._next_s
            self._on = not self._on
            self._next_s += self._lasts_s()

    def _lasts_s(self) -> float:
        return -self._mean_s[self._on] * math.log(1.0 - self._chance.random())


class PlannedTimes:
    """A device that comes and goes by a plan: one bool for each of its steps."""

    __slots__ = ("_on", "_steps")

    def __init__(self, steps: Steps, on: Sequence[bool]) -> None:
        self._steps = steps
        self._on = on

    def at(self, at_s: float) -> bool:
        """See Availability."""
        return bool(self._on[self._steps.at(at_s)])

    def next_change(self, after_s: float) -> float | None:
        """See Availability."""
        on = self._on
        return self._steps.next_change(after_s, lambda one, other: bool(on[one] == on[other]))


@dataclass(frozen=True, slots=True)
class AlwaysOn:
    """Devices that are always there."""

    name: Name
    kind: Literal["always"] = "always"
    mid_training: MidTraining = "vanish"

    def of_device(self, seed: int, device_id: str) -> Availability:  # noqa: ARG002 - no chance here
        """When one of these devices is there."""
        return Always()


@dataclass(frozen=True, slots=True)
class OnOff:
    """Devices that come and go by chance: exponential times there and away."""

    name: Name
    mean_on_s: LastingSeconds
    mean_off_s: LastingSeconds
    start_on: Share | None = None  # chance to be there at 0; None: the share of time it is there
    kind: Literal["on_off"] = "on_off"
    mid_training: MidTraining = "vanish"

    def of_device(self, seed: int, device_id: str) -> Availability:
        """When one of these devices is there."""
        start_on = self.start_on
        if start_on is None:
            start_on = self.mean_on_s / (self.mean_on_s + self.mean_off_s)
        return OnOffTimes(self.mean_on_s, self.mean_off_s, start_on, seed, device_id)


@dataclass(frozen=True, slots=True)
class Windows:
    """Devices that come and go by a plan, over and over."""

    name: Name
    steps: Annotated[tuple[tuple[LastingSeconds, bool], ...], Field(min_length=1)]
    phase: Literal["random", "same"] = "same"  # where in the plan a device begins
    kind: Literal["windows"] = "windows"
    mid_training: MidTraining = "vanish"

    def of_device(self, seed: int, device_id: str) -> Availability:
        """When one of these devices is there."""
        lengths = [seconds for seconds, _ in self.steps]
        *starts, period_s = accumulate(lengths, initial=0.0)
        offset_s = 0.0
        if self.phase == "random":
            offset_s = Stream(seed, "availability", device_id).random() * period_s
        return PlannedTimes(Steps(starts, period_s, offset_s), [on for _, on in self.steps])


AnyAvailability = AlwaysOn | OnOff | Windows
ALWAYS = AlwaysOn("always")

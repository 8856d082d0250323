"""Virtual time and an unreliable network: all chance comes from one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

LONGEST_TRACE = 400


@dataclass(frozen=True, slots=True)
class Rates:
    """How often what goes wrong, per occasion."""

    dropped: float = 0.06
    duplicated: float = 0.05
    delayed: float = 0.06
    broken: float = 0.05  # streams
    crashed: float = 0.02  # at each place where a process can end
    forged: float = 0.04  # bad input beside each request
    jumped: float = 0.0015  # clocks, per event


CALM = Rates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class World:
    """Where everything happens, one event after the other."""

    chance: Random
    rates: Rates = field(default_factory=Rates)
    now: float = 0.0
    wall_ahead_s: float = 1e6  # of `now`
    faults: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def say(self, text: str) -> None:
        """A line for whoever must understand a failure."""
        self.trace.append(f"{self.now:9.3f}  {text}")
        if len(self.trace) > 2 * LONGEST_TRACE:
            del self.trace[:LONGEST_TRACE]

    def goes_wrong(self, rate: float, fault: str) -> bool:
        """Whether this fault happens here."""
        if not rate or self.chance.random() >= rate:
            return False
        self.faults[fault] += 1
        return True

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Have something happen."""
        self._count += 1
        heappush(self._events, (self.now + seconds, self._count, event))

    def send(self, what: str, deliver: Callable[[], None]) -> bool:
        """A message: it may be lost, come twice, come late, and so overtake another.

        Says whether it will come at all.
        """
        if self.goes_wrong(self.rates.dropped, "messages dropped"):
            self.say(f"lost: {what}")
            return False
        twice = self.goes_wrong(self.rates.duplicated, "messages duplicated")
        for _ in range(1 + twice):
            late_s = self.chance.uniform(0.01, 0.2)
            if self.goes_wrong(self.rates.delayed, "messages delayed"):
                late_s += self.chance.uniform(1.0, 40.0)
            self.after(late_s, deliver)
        return True

    def step(self) -> None:
        """The next event."""
        at, _, event = heappop(self._events)
        self.now = max(self.now, at)
        if self.goes_wrong(self.rates.jumped, "clock jumps forward"):
            self.now += self.chance.uniform(5.0, 100.0)
            self.say("the clock jumped forward")
        if self.goes_wrong(self.rates.jumped, "wall clock jumps back"):
            self.wall_ahead_s -= self.chance.uniform(0.0, 1e4)
        event()

    @property
    def unix_s(self) -> float:
        """What the wall clock says."""
        return max(0.0, self.now + self.wall_ahead_s)

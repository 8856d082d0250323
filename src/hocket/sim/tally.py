"""What the figures of a simulation need of what happened: counts, however many rows come."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

from hocket.core.ids import DeviceId
from hocket.sim.fleet import FleetFile, Roster
from hocket.sim.fleet.roster import device_ids
from hocket.sim.result import Counts
from hocket.sim.tracer import Kind, Row

BINS = 64
FIRST_WIDTH_S = 1.0
WANTED: frozenset[Kind] = frozenset({"pull", "fresh", "break", "settle"})


class Timeline:
    """Amounts by time, in at most BINS parts of equal width, which doubles as time goes on."""

    def __init__(self) -> None:
        self.width_s = FIRST_WIDTH_S
        self.amounts: list[float] = []

    def add(self, at_s: float, amount: float) -> None:
        """Add to the part that holds this moment, at least 0."""
        while at_s >= self.width_s * BINS:
            pairs = self.amounts + [0.0] * (len(self.amounts) % 2)
            self.amounts = [a + b for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
            self.width_s *= 2.0
        at = int(at_s / self.width_s)
        self.amounts += [0.0] * (at + 1 - len(self.amounts))
        self.amounts[at] += amount


class Tally:
    """A Tracer that keeps traffic over time, and the staleness of updates by class of device.

    Args:
        class_of: from a device's id to the name of its class.
    """

    def __init__(self, class_of: Callable[[str], str]) -> None:
        self.taus: dict[str, Counter[int]] = defaultdict(Counter)  # of accepted updates, by class
        self.up, self.down = Timeline(), Timeline()  # bytes
        self._class_of = class_of
        self._counts = Counts()  # of the simulation that is followed
        self._seen_up = self._seen_down = 0

    @classmethod
    def of(cls, fleet: FleetFile, roster: Roster) -> Tally:
        """One for the devices of a fleet."""

        @cache
        def class_of(device_id: str) -> str:
            return roster.plan(numbers[DeviceId(device_id)]).device_class.name

        numbers = {device_id: number for number, device_id in enumerate(device_ids(fleet))}
        return cls(class_of)

    def follow(self, counts: Counts) -> None:
        """Take the bytes from these counts: whatever was added since the row before."""
        self._counts = counts

    def wants(self, kind: Kind) -> bool:
        """See Tracer."""
        return kind in WANTED

    def row(self, row: Row) -> None:
        """See Tracer."""
        up, down = self._counts.bytes_up, self._counts.bytes_down
        if up > self._seen_up:
            self.up.add(row.at_s, up - self._seen_up)
        if down > self._seen_down:
            self.down.add(row.at_s, down - self._seen_down)
        self._seen_up, self._seen_down = up, down
        if row.kind == "settle" and row.outcome in {"applied", "buffered"}:
            self.taus[self._class_of(row.device)][row.tau] += 1

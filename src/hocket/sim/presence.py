"""Who is there when: each device of a fleet comes and goes as its plan says."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial

from hocket.sim.agenda import Agenda
from hocket.sim.fleet import Availability, DevicePlan


class Presence:
    """Calls `came` and `went` with the number of the device that does.

    A device that never changes costs a few numbers; any other has one entry on the agenda, its
    next change. What follows from being away (an expired lease, a new incarnation, a training
    that is finished first) is not known here.
    """

    def __init__(
        self, agenda: Agenda, came: Callable[[int], None], went: Callable[[int], None]
    ) -> None:
        self._agenda, self._came, self._went = agenda, came, went
        self._here = bytearray()  # 1: there
        self._since_s = array("d")  # when it came, if it is there
        self._here_s = array("d")  # seconds of its earlier stays
        self._times: dict[int, Availability] = {}  # of those that will change

    def begin(self, index: int, plan: DevicePlan) -> bool:
        """Follow device number `index` from now on; whether it is there now, without a call.

        Numbers may come in any order; small ones cost least. Raises ValueError for one that is
        followed already.
        """
        self._make_room(index)
        if index in self._times or self._since_s[index] >= 0.0:
            raise ValueError(f"device {index} is followed already")
        now = self._agenda.now
        self._since_s[index] = now
        self._here[index] = plan.availability.at(now)
        self._times[index] = plan.availability
        self._await_change(index)
        return self.is_here(index)

    def is_here(self, index: int) -> bool:
        """Whether that device is there. Raises IndexError for one far beyond those followed."""
        return self._here[index] == 1

    def here_s(self, index: int) -> float:
        """Seconds that it was there so far."""
        stay_s = self._agenda.now - self._since_s[index] if self._here[index] else 0.0
        return self._here_s[index] + stay_s

    def _make_room(self, index: int) -> None:
        missing = index + 1 - len(self._here)
        if missing > 0:
            self._here.extend(bytes(missing))
            self._since_s.extend([-1.0] * missing)
            self._here_s.extend([0.0] * missing)

    def _await_change(self, index: int) -> None:
        change_s = self._times[index].next_change(self._agenda.now)
        if change_s is None:
            del self._times[index]
        else:
            self._agenda.at(change_s, partial(self._change, index))

    def _change(self, index: int) -> None:
        now = self._agenda.now
        was_here, here = self.is_here(index), self._times[index].at(now)
        self._await_change(index)
        if here == was_here:  # away for no time at all
            return
        self._here_s[index] = self.here_s(index)
        self._since_s[index] = now
        self._here[index] = here
        (self._came if here else self._went)(index)

"""Work in the training thread: stopped when told, measured, and followed by its rest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from hocket_device.learner import Interrupted
from hocket_device.pace import Pace
from hocket_device.resources import WINDOW_S


@dataclass(slots=True)
class PacedEffort:
    """The pace, as a learner asks for it."""

    pace: Pace
    step_bytes: int = 0  # that a step on all of the part takes at its peak; 0: not measured
    _left_bytes: int = 0  # as it was read last
    _read_at: float = -math.inf

    def share(self) -> float:
        """The share of a processor to be had now."""
        return self.pace.resources.share()

    def memory(self) -> float:
        """Memory to be had now, over what a step takes; infinite where one is not known.

        Reading it takes a tenth of a millisecond, so it is read once in WINDOW_S.
        """
        if not self.step_bytes:
            return math.inf
        if self.pace.now() - self._read_at >= WINDOW_S:
            self._left_bytes, self._read_at = self.pace.resources.memory_bytes(), self.pace.now()
        return self._left_bytes / self.step_bytes if self._left_bytes else math.inf

    @contextmanager
    def mini_batch(self, _examples: int, _cost: float, /) -> Iterator[None]:
        """One step and the rest that it costs; both are measured. Raises Interrupted."""
        pace = self.pace
        if pace.stop.is_set():
            raise Interrupted
        began_s, busy_s = pace.now(), pace.busy_s()
        with pace.duty.work():
            yield
        pace.resources.observe(pace.busy_s() - busy_s, pace.now() - began_s)

    def other(self) -> AbstractContextManager[None]:
        """Other work, and the rest that it costs."""
        return self.pace.duty.work()

    def now(self) -> float:
        """The pace's watch."""
        return self.pace.now()

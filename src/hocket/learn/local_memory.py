"""What a client half keeps from one training to the next, and how long trainings took."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from hocket.errors import ShapeMismatch

Kept = Mapping[str, Tensor]
NOTHING: Kept = MappingProxyType({})
DELAYS = "delays"  # float64: the sum of the seconds, and their number; no rule's own name


class LocalMemory:
    """One device's. What is kept is never changed: another object takes its place.

    A training whose update is not used has never been, as far as the memory goes. So a rule whose
    server half adds up what the devices keep (SCAFFOLD) stays in step with it.

    Args:
        kept: what an earlier life had, nothing if it is the first.
        before: what it had before the training whose update is still on its way.

    Raises:
        ShapeMismatch: `kept` has delays that are none.
    """

    def __init__(self, kept: Kept = NOTHING, before: Kept | None = None) -> None:
        self.kept = kept
        self.before = kept if before is None else before
        delays = kept.get(DELAYS, torch.zeros(2, dtype=torch.float64))
        if delays.shape != (2,) or not torch.isfinite(delays).all() or (delays < 0).any():
            raise ShapeMismatch(f"{DELAYS} must be a sum and a number, and is {delays}")
        self._seconds, self._count = map(float, delays)

    @property
    def mean_delay_s(self) -> float:
        """Over the trainings that have ended; 0 before the first."""
        return self._seconds / self._count if self._count else 0.0

    def begin(self) -> None:
        """A training begins: `undo` comes back to here."""
        self.before = self.kept

    def end(self, kept: Kept, *, timed: bool) -> None:
        """What the rule keeps of a training whose update goes out now, with the delays or not."""
        delays = torch.tensor([self._seconds, self._count], dtype=torch.float64)
        self.kept = MappingProxyType({**kept, DELAYS: delays} if timed else dict(kept))

    def undo(self) -> None:
        """The update was not used."""
        self.kept = self.before

    def settled(self, seconds: float) -> None:
        """From the pull of its base to its outcome a training took so long.

        That is kept when the next training ends: a restart before costs one measurement.
        """
        self._seconds += seconds
        self._count += 1

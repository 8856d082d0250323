"""The version that a server step makes, in memory of its own."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Global, Step
from hocket.core.update import Applied
from hocket.learn.pool import POOL

S = TypeVar("S")


def moved(now: Global[Tensor], by: Tensor) -> Global[Tensor]:
    """The newest version and `by` (n, float64), which is changed in place."""
    by.add_(now.model)
    return Global(POOL.take(len(by)).copy_(by), Version(now.version + 1))


def closed(after: Global[Tensor], memory: S) -> Step[Tensor, S]:
    """What a rule's `close` returns. Its outcome is no update's, and weighs nothing."""
    return Step(after, memory, Applied(after.version, 0.0, 0))

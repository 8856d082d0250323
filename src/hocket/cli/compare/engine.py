"""Where jobs are carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from hocket.sim.study.jobs import Job, Outcome, Row

Work = Callable[[Job], Row]
"""Carries out one job; raises what makes it fail."""
Told = Callable[[Job, Outcome], None]
"""Hears of each job as it ends."""


class Engine(Protocol):
    """A context manager: what it has started ends with the block."""

    @property
    def lanes(self) -> int:
        """Jobs that run at the same time."""
        ...

    def run(self, jobs: Sequence[Job], told: Told) -> None:
        """Run every job, in this order as far as lanes allow; returns when all have ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

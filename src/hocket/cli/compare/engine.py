"""Where jobs are carried out: the simulations of a study, or the trials of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from hocket.sim.study.jobs import Failure, Made


class AnyJob(Protocol):
    """What is carried out: it travels to another process."""

    @property
    def key(self) -> str:
        """Names the job."""
        ...


class AnyRow(Protocol):
    """What a job came to: a dataclass that travels back."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def made(self) -> Made | None:
        """By what; the worker says it."""
        ...


JobT = TypeVar("JobT", bound=AnyJob)
RowT = TypeVar("RowT", bound=AnyRow)
RowT_co = TypeVar("RowT_co", bound=AnyRow, covariant=True)

Work = Callable[[JobT], RowT]
"""Carries out one job; raises what makes it fail."""
Told = Callable[[JobT, RowT | Failure], None]
"""Hears of each job as it ends."""


class Engine(Protocol[JobT, RowT_co]):
    """A context manager: what it has started ends with the block."""

    @property
    def lanes(self) -> int:
        """Jobs that run at the same time."""
        ...

    def run(self, jobs: Sequence[JobT], told: Callable[[JobT, RowT_co | Failure], None]) -> None:
        """Run every job, in this order as far as lanes allow; returns when all have ended."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

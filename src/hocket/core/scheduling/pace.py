"""When to trigger, and how many devices at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from hocket.errors import TaskError


@dataclass(frozen=True, slots=True)
class Progress:
    """What a pace needs to know."""

    now: float
    last_fired: float | None  # when triggers were last sent
    in_flight: int  # devices that train or push now
    contributed: int  # updates accepted since the newest version came to be


class Pace(Protocol):
    """A frozen dataclass whose fields are its settings."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    @property
    def once_per_version(self) -> bool:
        """Whether a device that has contributed to this version must wait for the next."""
        ...

    def due(self, progress: Progress) -> int:
        """How many devices to trigger now."""
        ...

    def next_deadline(self, progress: Progress) -> float | None:
        """When `due` can next rise by the passing of time alone."""
        ...


@dataclass(frozen=True, slots=True)
class Periodic:
    """FedASMU 1.1: every `period_s` seconds, `triggers` idle devices."""

    period_s: float = 10.0
    triggers: int = 10
    kind: Literal["periodic"] = "periodic"

    def __post_init__(self) -> None:
        _positive("pace.period_s", self.period_s)
        _positive("pace.triggers", self.triggers)

    @property
    def once_per_version(self) -> bool:
        """A device may train on the same version twice."""
        return False

    def due(self, progress: Progress) -> int:
        """All triggers of a period at once."""
        fired = progress.last_fired
        return self.triggers if fired is None or progress.now >= fired + self.period_s else 0

    def next_deadline(self, progress: Progress) -> float | None:
        """The end of the running period."""
        return None if progress.last_fired is None else progress.last_fired + self.period_s


@dataclass(frozen=True, slots=True)
class Concurrent:
    """FedBuff's M_c: always so many devices training, a new one whenever one is done."""

    devices: int = 10
    kind: Literal["concurrent"] = "concurrent"

    def __post_init__(self) -> None:
        _positive("pace.devices", self.devices)

    @property
    def once_per_version(self) -> bool:
        """A device may train on the same version twice."""
        return False

    def due(self, progress: Progress) -> int:
        """What is missing to the set number."""
        return max(0, self.devices - progress.in_flight)

    def next_deadline(self, progress: Progress) -> float | None:  # noqa: ARG002 -- time alone frees no device
        """Never: only events free a device."""
        return None


@dataclass(frozen=True, slots=True)
class Rounds:
    """Synchronous rounds: `cohort` distinct devices a version; a lost one is replaced."""

    cohort: int = 10
    kind: Literal["rounds"] = "rounds"

    def __post_init__(self) -> None:
        _positive("pace.cohort", self.cohort)

    @property
    def once_per_version(self) -> bool:
        """One update a device and round."""
        return True

    def due(self, progress: Progress) -> int:
        """What is missing to a full cohort."""
        return max(0, self.cohort - progress.contributed - progress.in_flight)

    def next_deadline(self, progress: Progress) -> float | None:  # noqa: ARG002 -- time alone ends no round
        """Never: only events move a round."""
        return None


def _positive(field: str, value: float) -> None:
    if not value > 0:
        raise TaskError(f"{field} is {value}; it must be above 0")

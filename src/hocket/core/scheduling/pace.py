"""When to trigger, and how many devices at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from hocket.core.ids import DeviceId
from hocket.errors import TaskError

_ROUNDING = 1e-9
"""So that 1.1 cohorts of ten are eleven devices, though the product is a hair above."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a pace needs to know."""

    now: float
    last_fired: float | None  # when triggers were last sent
    in_flight: int  # devices that train or push now
    contributed: int  # updates accepted since the newest version came to be
    in_round: int = 0  # in flight, and triggered for the newest version
    asked: int = 0  # triggered for the newest version, whatever became of them
    round_began: float | None = None  # when the first of those was triggered


class Pace(Protocol):
    """A frozen dataclass whose fields are its settings."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    def barred(
        self, gave: Collection[DeviceId], asked: Collection[DeviceId]
    ) -> Collection[DeviceId]:
        """Who must wait for the next version, of those that gave to this one or were asked to."""
        ...

    def due(self, progress: Progress) -> int:
        """How many devices to trigger now."""
        ...

    def next_deadline(self, progress: Progress) -> float | None:
        """When `due` can next rise by the passing of time alone."""
        ...

    def closes_at(self, progress: Progress) -> float | None:
        """When the round ends with what has come; None if it waits for all that is needed."""
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

    def barred(
        self,
        gave: Collection[DeviceId],  # noqa: ARG002 -- a device may train on the same version twice
        asked: Collection[DeviceId],  # noqa: ARG002 -- as above
    ) -> Collection[DeviceId]:
        """Nobody."""
        return ()

    def due(self, progress: Progress) -> int:
        """All triggers of a period at once."""
        fired = progress.last_fired
        return self.triggers if fired is None or progress.now >= fired + self.period_s else 0

    def next_deadline(self, progress: Progress) -> float | None:
        """The end of the running period."""
        return None if progress.last_fired is None else progress.last_fired + self.period_s

    def closes_at(self, progress: Progress) -> float | None:  # noqa: ARG002 -- it has no rounds
        """Never."""
        return None


@dataclass(frozen=True, slots=True)
class Concurrent:
    """FedBuff's M_c: always so many devices training, a new one whenever one is done."""

    devices: int = 10
    kind: Literal["concurrent"] = "concurrent"

    def __post_init__(self) -> None:
        _positive("pace.devices", self.devices)

    def barred(
        self,
        gave: Collection[DeviceId],  # noqa: ARG002 -- a device may train on the same version twice
        asked: Collection[DeviceId],  # noqa: ARG002 -- as above
    ) -> Collection[DeviceId]:
        """Nobody."""
        return ()

    def due(self, progress: Progress) -> int:
        """What is missing to the set number."""
        return max(0, self.devices - progress.in_flight)

    def next_deadline(self, progress: Progress) -> float | None:  # noqa: ARG002 -- time alone frees no device
        """Never: only events free a device."""
        return None

    def closes_at(self, progress: Progress) -> float | None:  # noqa: ARG002 -- it has no rounds
        """Never."""
        return None


@dataclass(frozen=True, slots=True)
class Rounds:
    """Synchronous rounds: so many distinct devices a version. Late ones wait for nobody.

    Over-selection triggers more devices than a round needs, and takes those that come first;
    drop-out leaves a device that was lost in the round (given up, expired, refused) out of it; a
    deadline ends the round with what has come. Bonawitz et al. Towards Federated Learning at
    Scale: System Design. MLSys 2019. arXiv:1902.01046, section 2.2.
    """

    cohort: int = 10  # updates that a round is to bring
    over_selection: float = 1.0  # devices triggered a round, in cohorts
    deadline_s: float | None = None  # after the round's first trigger; None: it waits for all
    replace_lost: bool = True  # false: the round goes on with fewer
    kind: Literal["rounds"] = "rounds"

    def __post_init__(self) -> None:
        _positive("pace.cohort", self.cohort)
        if not 1 <= self.over_selection < math.inf:
            raise TaskError(
                f"pace.over_selection is {self.over_selection}; it must be at least 1, which "
                "triggers no more devices than the cohort"
            )
        if self.deadline_s is not None:
            _positive("pace.deadline_s", self.deadline_s)
        elif not self.replace_lost:
            raise TaskError(
                "pace.replace_lost is false and pace.deadline_s is not set: a round that lost a "
                "device would never end; set pace.deadline_s, or have lost devices replaced"
            )

    def barred(
        self, gave: Collection[DeviceId], asked: Collection[DeviceId]
    ) -> Collection[DeviceId]:
        """Whoever gave an update; one that was lost may be asked again, to replace itself."""
        return gave if self.replace_lost else asked

    @property
    def wanted(self) -> int:
        """Devices to trigger a round."""
        return math.ceil(self.cohort * self.over_selection - _ROUNDING)

    def due(self, progress: Progress) -> int:
        """What is missing to that: of those that are still in it, or of those ever triggered."""
        have = progress.contributed + progress.in_round if self.replace_lost else progress.asked
        return max(0, self.wanted - have)

    def next_deadline(self, progress: Progress) -> float | None:  # noqa: ARG002 -- time asks nobody
        """Never: time alone frees no device."""
        return None

    def closes_at(self, progress: Progress) -> float | None:
        """`deadline_s` after the round began."""
        if self.deadline_s is None or progress.round_began is None:
            return None
        return progress.round_began + self.deadline_s


def _positive(field: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise TaskError(f"{field} is {value}; it must be above 0, and finite")

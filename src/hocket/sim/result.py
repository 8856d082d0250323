"""What a simulation came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global
from hocket.learn.digest import digest_of
from hocket.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of the newest model."""

    at_s: float  # of virtual time
    version: Version
    accuracy: float
    loss: float


@dataclass(slots=True)
class Counts:
    """What happened, counted over the whole fleet."""

    triggers: int = 0
    trainings: int = 0  # that came to their last epoch
    fresh_pulls: int = 0  # asked for in mid-training, answered with a newer model or without
    merges: int = 0
    updates_accepted: int = 0
    updates_dropped: int = 0
    updates_refused: int = 0  # answered with an error
    failures: int = 0  # trainings given up: they diverged
    breaks: int = 0  # transfers that broke off
    bytes_up: int = 0  # as they travelled, those of broken transfers included
    bytes_down: int = 0
    tau_sum: int = 0  # staleness of accepted updates
    tau_max: int = 0

    @property
    def in_vain(self) -> int:
        """Trainings that changed nothing."""
        return self.failures + self.updates_dropped + self.updates_refused


@dataclass(slots=True)
class DeviceCounts:
    """One device's part."""

    device_id: DeviceId
    device_class: str
    link: str
    trainings: int = 0
    updates_accepted: int = 0
    busy_s: float = 0.0  # of training
    here_s: float = 0.0  # that it was there
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True)
class Wall:
    """Where the machine's own time went. It alone differs between two runs of one seed."""

    total_s: float = 0.0
    train_s: float = 0.0  # in torch: steps, merges
    evaluate_s: float = 0.0  # in torch
    events: int = 0  # that happened on the agenda

    @property
    def overhead_fraction(self) -> float:
        """The share that was no torch work."""
        return 1.0 - (self.train_s + self.evaluate_s) / self.total_s if self.total_s else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A simulation from its beginning to its end."""

    scenario: Scenario
    reason: str  # why it ended
    virtual_s: float
    curve: tuple[Point, ...]  # by time
    counts: Counts
    devices: Sequence[DeviceCounts]  # by number
    newest: Global[Tensor]
    wall: Wall = field(default_factory=Wall)

    @property
    def digest(self) -> str:
        """Of the newest model."""
        return digest_of(self.newest.model)

    def final_accuracy(self, last: int = 10) -> float | None:
        """Mean over the last evaluations; None without any."""
        tail = self.curve[-last:]
        return sum(point.accuracy for point in tail) / len(tail) if tail else None

    def reached_s(self, accuracy: float) -> float | None:
        """The virtual time of the first evaluation that was at least as good; None: never."""
        return next((point.at_s for point in self.curve if point.accuracy >= accuracy), None)

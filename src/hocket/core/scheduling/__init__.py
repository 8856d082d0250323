"""When devices are triggered, and which ones. To add one: write the class, list it here."""

from __future__ import annotations

from hocket.core.scheduling.estimate import Estimates, Work, expected_s
from hocket.core.scheduling.in_time import InTime
from hocket.core.scheduling.oort import Oort
from hocket.core.scheduling.pace import Concurrent, Pace, Periodic, Progress, Rounds
from hocket.core.scheduling.selection import (
    ByCapability,
    Candidate,
    Pool,
    Seen,
    Selection,
    Uniform,
)
from hocket.core.scheduling.tifl import Tifl

AnyPace = Periodic | Concurrent | Rounds
AnySelection = Uniform | ByCapability | InTime | Oort | Tifl

__all__ = [
    "AnyPace",
    "AnySelection",
    "ByCapability",
    "Candidate",
    "Concurrent",
    "Estimates",
    "InTime",
    "Oort",
    "Pace",
    "Periodic",
    "Pool",
    "Progress",
    "Rounds",
    "Seen",
    "Selection",
    "Tifl",
    "Uniform",
    "Work",
    "expected_s",
]

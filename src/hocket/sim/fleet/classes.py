"""Classes of devices: how fast they train, and what they have besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from hocket.core.capability import CostLine
from hocket.core.schedule import Schedule
from hocket.sim.fleet.presets import PRESET, WHALE_CLASSES
from hocket.sim.fleet.ranges import (
    LastingSeconds,
    Name,
    PositiveShare,
    Seconds,
    Sigma,
    Weight,
)


@dataclass(frozen=True, slots=True)
class Width:
    """Seconds of an optimiser step at one width: `fixed_s + per_example_s * batch size`."""

    keep: PositiveShare  # share of channels kept
    fixed_s: Seconds = 0.0
    per_example_s: Seconds = 0.0

    def __post_init__(self) -> None:
        if self.fixed_s + self.per_example_s == 0.0:
            raise ValueError("training takes no time; set per_example_s or fixed_s above 0")


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices alike but for chance. Its costs come from a preset, from one line, or from a table.

    Raises ValueError for none of the three or several of them.
    """

    name: Name
    share: Weight = 1.0  # weight in the mix of the fleet
    preset: str = ""  # "whale:<name of a class>"
    fixed_s: Seconds = 0.0
    per_example_s: Seconds = 0.0
    costs: tuple[Width, ...] = ()
    macs: Annotated[int, Field(ge=0)] = 0  # an example's, of the net that takes so long; 0: of any
    spread: Sigma = 0.0  # lognormal, between devices of the class
    jitter: Sigma = 0.0  # lognormal, between epochs of a device
    overhead_s: Seconds = 0.0  # once for each training
    processor_share: PositiveShare = 1.0
    share_schedule: tuple[tuple[LastingSeconds, PositiveShare], ...] = ()  # over and over
    memory_bytes: Annotated[int, Field(ge=0)] = 0  # 0: unknown
    keep: PositiveShare = 1.0  # share of each layer that it pulls, trains and pushes
    labels: dict[str, str] = field(default_factory=dict)
    links: dict[str, Weight] = field(default_factory=dict)  # names; empty: all links equally
    availability: str = ""  # name; empty: always there

    def __post_init__(self) -> None:
        own_line = self.fixed_s + self.per_example_s > 0.0
        if bool(self.preset) + own_line + bool(self.costs) != 1:
            raise ValueError(
                "give its speed in one way: preset, or per_example_s (and fixed_s) above 0, "
                "or costs"
            )
        if self.preset and self.preset not in CLASS_PRESETS:
            known = ", ".join(repr(name) for name in CLASS_PRESETS)
            raise ValueError(f"preset is {self.preset!r}; choose one of {known}")
        widths = [width.keep for width in self.costs]
        if len(set(widths)) < len(widths):
            raise ValueError("costs has two lines of the same keep; leave one out")

    @property
    def lines(self) -> tuple[CostLine, ...]:
        """Seconds of one optimiser step of the class's typical device, at each width known."""
        if self.preset:
            return CLASS_PRESETS[self.preset]
        if self.costs:
            return tuple(CostLine(w.keep, w.fixed_s, w.per_example_s) for w in self.costs)
        return (CostLine(1.0, self.fixed_s, self.per_example_s),)

    @property
    def shares(self) -> Schedule[float]:
        """The share of its processor over virtual time."""
        return Schedule(self.processor_share, self.share_schedule)


CLASS_PRESETS = {f"{PRESET}:{name}": lines for name, lines in WHALE_CLASSES.items()}

WHALE = tuple(DeviceClass(name, preset=f"{PRESET}:{name}") for name in WHALE_CLASSES)
"""The five classes of the preset, in equal parts."""

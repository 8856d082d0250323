"""Links of devices to the server, and bottlenecks that several devices share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field

from hocket.sim.fleet.presets import PRESET, WHALE_LINKS
from hocket.sim.fleet.ranges import Name, Rate, Seconds


@dataclass(frozen=True, slots=True)
class LinkClass:
    """What lies between a device and the server. Rates are in bytes a second; 0: unlimited.

    Raises ValueError for a preset with rates of its own, or without a name if it is no preset.
    """

    name: Annotated[str, Field(max_length=64)] = ""
    up_bytes_per_s: Rate = 0.0
    down_bytes_per_s: Rate = 0.0
    rtt_s: Seconds = 0.0
    loss: Annotated[float, Field(ge=0, lt=1)] = 0.0  # chance that a transfer breaks off
    uplink: str = ""  # name of the bottleneck it shares; empty: the server's own link
    preset: str = ""  # "whale": four links, each with the other keys of this table

    def __post_init__(self) -> None:
        if self.preset not in {"", PRESET}:
            raise ValueError(f"preset is {self.preset!r}; the only one is {PRESET!r}")
        if self.preset and (self.up_bytes_per_s or self.down_bytes_per_s or self.name):
            raise ValueError(
                "a preset brings names and rates of its own; leave out name, up_bytes_per_s and "
                "down_bytes_per_s, or the preset"
            )
        if not (self.preset or self.name):
            raise ValueError("name is missing; add it")


@dataclass(frozen=True, slots=True)
class Uplink:
    """A bottleneck shared by the devices whose link names it. Rates as a link's."""

    name: Name
    up_bytes_per_s: Rate = 0.0
    down_bytes_per_s: Rate = 0.0
    devices_each: Annotated[int, Field(ge=0)] = 0  # one for so many devices; 0: one for all


class Rates(Protocol):
    """The bytes a second of a device's own link over time: upload and download."""

    def at(self, at_s: float) -> tuple[float, float]:
        """What it carries at that moment; infinite where unlimited."""
        ...

    def next_change(self, after_s: float) -> float | None:
        """The first moment after `after_s` at which that is different; None: never."""
        ...


@dataclass(frozen=True, slots=True)
class SteadyRates:
    """A link that carries the same at all times."""

    up_bytes_per_s: float
    down_bytes_per_s: float

    @classmethod
    def of(cls, link: LinkClass) -> SteadyRates:
        """What a link of this class carries."""
        return cls(link.up_bytes_per_s or math.inf, link.down_bytes_per_s or math.inf)

    def at(self, at_s: float) -> tuple[float, float]:  # noqa: ARG002 - it is always the same
        """See Rates."""
        return self.up_bytes_per_s, self.down_bytes_per_s

    def next_change(self, after_s: float) -> None:
        """See Rates."""


def expanded(links: Iterable[LinkClass]) -> Iterator[LinkClass]:
    """The links with every preset written out."""
    for link in links:
        if not link.preset:
            yield link
            continue
        for name, rate in WHALE_LINKS.items():
            yield LinkClass(name, rate, rate, link.rtt_s, link.loss, link.uplink)


WHALE = (LinkClass(preset=PRESET),)
UNLIMITED = LinkClass("unlimited")

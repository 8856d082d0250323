"""One event that the coordinator took in, and what it asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hocket.core.events import Effect, Event
from hocket.core.ids import Version


@dataclass(frozen=True, slots=True)
class Turn:
    """An event and its effects, which nobody has heard of before it is durable."""

    event: Event[Tensor]
    effects: tuple[Effect[Tensor], ...]
    now: float
    unix_s: float
    digests: Mapping[Version, str] = field(default_factory=dict)
    """Of the versions made, once it is handed over."""


Sink = Callable[[Turn], None]
"""Is told of every turn, in order."""

"""One event that the coordinator took in, and what it asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from hocket.core.events import Effect, Event, VersionMade
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.learn.digest import digest_of


@dataclass(frozen=True, slots=True)
class Turn:
    """An event and its effects, which nobody has heard of before it is durable."""

    event: Event[Tensor]
    effects: tuple[Effect[Tensor], ...]
    now: float
    unix_s: float
    digests: Mapping[Version, str] = field(default_factory=dict)
    """Of the versions made, by the time that it is handed over."""

    @property
    def is_named(self) -> bool:
        """Whether each version that it made has its digest."""
        return all(made.version in self.digests for made in self._made())

    def named(self) -> Turn:
        """With the digests of the versions that it made."""
        if self.is_named:
            return self
        return replace(self, digests={made.version: digest_of(made.model) for made in self._made()})

    def _made(self) -> list[Global[Tensor]]:
        return [effect.made for effect in self.effects if isinstance(effect, VersionMade)]


Sink = Callable[[Turn], None]
"""Is told of every turn, in order."""

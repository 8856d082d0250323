"""What must outlive the process: kept as it happens, lived through again at the next start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hocket.core import events as ev
from hocket.core.ids import DeviceId, Version
from hocket.core.terms import Finished
from hocket.core.update import Outcome, Update

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Answered(Generic[P]):
    """An update got its final answer. The values of one that was dropped mean nothing."""

    update: Update[P]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class BaseHeld:
    """A device went away with this version; its update may come after a restart."""

    device_id: DeviceId
    version: Version


@dataclass(frozen=True, slots=True)
class Ended:
    """The task reached its end."""

    finished: Finished


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """This version was made of what had come by a deadline."""

    version: Version


Past = Answered[P] | BaseHeld | Ended | RoundClosed


def past_of(event: ev.Event[P], effects: Sequence[ev.Effect[P]]) -> list[Past[P]]:
    """What is to be kept of an event that the coordinator took in, in the order of its parts."""
    kept: list[Past[P]] = []
    if isinstance(event, ev.BaseTaken):
        kept.append(BaseHeld(event.caller.device_id, event.version))
    for effect in effects:
        if isinstance(effect, ev.Settled) and effect.first_time and isinstance(event, ev.Pushed):
            kept.append(Answered(event.update, effect.outcome))
        elif isinstance(effect, ev.VersionMade) and isinstance(event, ev.Tick):
            kept.append(RoundClosed(effect.made.version))
        elif isinstance(effect, ev.TaskFinished) and effect.first_time:
            kept.append(Ended(effect.finished))
    return kept

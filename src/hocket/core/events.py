"""What the coordinator is told, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from hocket.core.device import Caller, Device
from hocket.core.ids import Version
from hocket.core.records import Evaluation
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.terms import Finished, Trigger
from hocket.core.update import Outcome, Update, UpdateHeader

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """The registry's newest word on a device."""

    device: Device


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The device waits for triggers; unless it is `training`, nothing is in flight any more."""

    caller: Caller
    training: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The device's stream has ended."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class BaseTaken:
    """The device pulls `version` to train this part of it, which it has chosen for a reason."""

    caller: Caller
    version: Version
    spec: SubmodelSpec = FULL
    why: str = ""


@dataclass(frozen=True, slots=True)
class PushStarted:
    """An update's header has come; its body is on the way."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class PushBroken:
    """The stream broke off in mid-push; the device may come back with the same update."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class Refused:
    """The update was answered with an error: it was unsound."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class Pushed(Generic[P]):
    """An update has come whole and sound."""

    update: Update[P]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A version's evaluation is known."""

    version: Version
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    DeviceSeen
    | Subscribed
    | Unsubscribed
    | BaseTaken
    | PushStarted
    | PushBroken
    | Refused
    | Pushed[P]
    | Evaluated
    | Tick
)


@dataclass(frozen=True, slots=True)
class SendTrigger:
    """Ask a subscribed device to train."""

    caller: Caller
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Settled:
    """An update's final answer. `first_time` is false for one that was settled before."""

    header: UpdateHeader
    outcome: Outcome
    first_time: bool


@dataclass(frozen=True, slots=True)
class VersionMade(Generic[P]):
    """A server step was made from these updates."""

    made: Global[P]
    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluate(Generic[P]):
    """Evaluate this version on held-out data when there is time."""

    version: Version
    model: P


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """Tell every subscribed device, and take no more updates."""

    finished: Finished
    first_time: bool = True  # false: only whoever has just subscribed does not know yet


Effect = SendTrigger | Settled | VersionMade[P] | Evaluate[P] | TaskFinished

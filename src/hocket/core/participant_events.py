"""What a participant is told, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.core.ids import Version
from hocket.core.sizing.size import UNMEASURED, WHOLE, Ability, Size
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.terms import Trigger
from hocket.core.update import Outcome, RefreshReport
from hocket.errors import HocketError


@dataclass(frozen=True, slots=True)
class UnsettledPush:
    """An earlier life kept an update whose outcome it did not learn. Told before all else."""


@dataclass(frozen=True, slots=True)
class Triggered:
    """The aggregator asks for one training, of a device that now can do so much."""

    trigger: Trigger
    ability: Ability = UNMEASURED


@dataclass(frozen=True, slots=True)
class Pulled:
    """The base model has come."""

    version: Version


@dataclass(frozen=True, slots=True)
class EpochDone:
    """One local epoch has ended."""

    fisher: float = 0.0  # the largest score of its steps (WHALE-FL); 0: not measured


@dataclass(frozen=True, slots=True)
class FreshArrived:
    """The answer to PullFresh: a version, or None if nothing newer is to be had."""

    version: Version | None


@dataclass(frozen=True, slots=True)
class Merged:
    """The fresh model is merged into the local one.

    `reward` is the local loss just before minus just after; `inner_product` is B of Eq. 9,
    <gradient of the local loss at the merged model, fresh model minus local model before>.
    """

    reward: float
    inner_product: float


@dataclass(frozen=True, slots=True)
class PushSettled:
    """The aggregator said what became of the update."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PushRefused:
    """The aggregator refused the update with an error; pushing it again would not help."""

    error: HocketError


@dataclass(frozen=True, slots=True)
class Failed:
    """This training comes to no outcome: it cannot go on, or its update was given up."""


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """No more triggers will come."""

    reason: str


Event = (
    UnsettledPush
    | Triggered
    | Pulled
    | EpochDone
    | FreshArrived
    | Merged
    | PushSettled
    | PushRefused
    | Failed
    | FinishedTask
)


@dataclass(frozen=True, slots=True)
class Pull:
    """Get the newest model's part of this size, to train from it."""

    trigger: Trigger
    size: Size = WHOLE


@dataclass(frozen=True, slots=True)
class ForgetResidual:
    """What error feedback holds belongs to a model of long ago: start from zero."""


@dataclass(frozen=True, slots=True)
class TrainEpoch:
    """Train one local epoch; the first is 1."""

    epoch: int


@dataclass(frozen=True, slots=True)
class PullFresh:
    """Ask for the newest model, if it is newer than `only_if_newer_than`, and do not wait for it.

    It comes to FreshArrived at any time, unless GiveUpFresh is told first.
    """

    only_if_newer_than: Version


@dataclass(frozen=True, slots=True)
class GiveUpFresh:
    """What PullFresh asked for comes too late: stop receiving it."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Local model <- (1 - beta) * local model + beta * fresh model (Eq. 7)."""

    version: Version
    beta: float


@dataclass(frozen=True, slots=True)
class Push:
    """Offer the trained model minus `base_version`."""

    base_version: Version
    train_s: float  # seconds between the starts and the ends of local epochs
    refresh: RefreshReport | None  # None: nothing was merged
    spec: SubmodelSpec = FULL  # the part that was trained


@dataclass(frozen=True, slots=True)
class PushAgain:
    """Offer the update that an earlier life kept, under its old update_id, until it is settled."""


@dataclass(frozen=True, slots=True)
class PutBackResidual:
    """The update was not used: error feedback takes the message back (codecs.md C.1)."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing in flight. `gave_up`: the aggregator does not know it yet, and must be told."""

    gave_up: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave, for good."""

    reason: str


Effect = (
    Pull
    | ForgetResidual
    | TrainEpoch
    | PullFresh
    | GiveUpFresh
    | Merge
    | Push
    | PushAgain
    | PutBackResidual
    | Rest
    | Stop
)

"""What a simulated device asks of whoever learns for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hocket.core.capability import CostLine
from hocket.core.participant_header import Trained
from hocket.core.payload import Payload
from hocket.core.sizing.size import Size
from hocket.core.submodel import SubmodelSpec
from hocket.learn.training import MergeReport
from hocket.sim.fleet import DevicePlan


@dataclass(frozen=True, slots=True)
class Parcel:
    """An update as a device offers it."""

    trained: Trained
    payload: Payload


class Learner(Protocol):
    """One device's learning. Epochs are only noted: their work may be done later."""

    @property
    def spec(self) -> SubmodelSpec:
        """The part of the model that it trains."""
        ...

    @property
    def num_examples(self) -> int:
        """Examples that it learns from."""
        ...

    @property
    def down_bytes(self) -> int:
        """What travels to it for its part of a model."""
        ...

    def take(self, size: Size, training: int) -> None:
        """Training number `training` is about to begin, of this part of the model."""
        ...

    def costs(self, epoch: int, share: float, count: int) -> list[float]:
        """M of an epoch's `count` mini-batches, with this share of a processor; 1 is all."""
        ...

    def start(self, base: Tensor, exchanged: Tensor | None) -> None:
        """Begin it from a whole global model, which nobody changes.

        `exchanged` is the vector that travelled with it, of a rule that exchanges one.
        """
        ...

    def note(self, epoch: int, share: float) -> None:
        """Local epoch number `epoch` was trained with this share of a processor."""
        ...

    def fisher(self) -> float:
        """The largest score of the epoch noted last. Raises NotFinite where training diverged."""
        ...

    def merge(self, fresh: Tensor, beta: float) -> MergeReport:
        """Mix a whole fresh model in. Raises NotFinite where training diverged."""
        ...

    def finish(self) -> Parcel:
        """The update. Raises NotFinite where training diverged."""
        ...

    def settled(self, seconds: float) -> None:
        """The outcome of the last update came so long after the pull of its base began."""
        ...

    def used(self) -> None:
        """The last update is part of a model, or will be: it is never put back."""
        ...

    def put_back(self) -> None:
        """The last update was not used."""
        ...

    def forget(self) -> None:
        """Drop what error feedback holds."""
        ...


class Workshop(Protocol):
    """Makes learners, and knows how long their real work took."""

    @property
    def busy_s(self) -> float:
        """Seconds of the machine's own time in torch so far."""
        ...

    def num_examples_of(self, plan: DevicePlan) -> int:
        """How many examples a device holds, without making a learner for it."""
        ...

    def lines(self, plan: DevicePlan) -> tuple[CostLine, ...]:
        """Seconds of a step of its class's typical device, at each width of interest."""
        ...

    def learner(self, plan: DevicePlan) -> Learner:
        """The learner of a device that begins its first training."""
        ...

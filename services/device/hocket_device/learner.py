"""What the agent needs of training. Knows no torch, so that the agent starts while it loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hocket.core.capability import CostLine
from hocket.core.payload import Payload
from hocket.core.sizing.size import Dropping, Size
from hocket.core.submodel import SubmodelSpec
from hocket_device.outbox import Parcel

if TYPE_CHECKING:
    from hocket.learn.local_learner import EpochResult
    from hocket.learn.local_memory import Kept
    from hocket.learn.training import MergeReport


class Interrupted(Exception):
    """Training was told to stop."""


class Learner(Protocol):
    """Blocking; every method is called from one worker thread."""

    @property
    def spec(self) -> SubmodelSpec:
        """The part of the model that it trains."""
        ...

    @property
    def num_examples(self) -> int:
        """Examples that it learns from."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels that its loss is masked to, ascending; empty where it is not masked."""
        ...

    def probe(self) -> tuple[CostLine, ...]:
        """What a training step costs, by width."""
        ...

    @property
    def dropping(self) -> Dropping:
        """What its mini-batches can do without, as far as it was probed."""
        ...

    def start(self, payload: Payload, training: int, size: Size) -> None:
        """Begin training number `training` from the part of this size of a pulled model."""
        ...

    def train_epoch(self, epoch: int) -> EpochResult:
        """One local epoch; raises NotFinite or Interrupted."""
        ...

    def merge(self, payload: Payload, beta: float) -> MergeReport:
        """Mix a fresh model in; raises NotFinite."""
        ...

    def encode(self) -> Payload:
        """The update; raises NotFinite."""
        ...

    def put_back(self) -> None:
        """The last update was not used."""
        ...

    def forget(self) -> None:
        """Drop what error feedback holds."""
        ...

    @property
    def residual(self) -> object | None:
        """What error feedback holds, if anything: another object whenever it has changed."""
        ...

    def save(self, file: Path) -> None:
        """Keep the residual in a file; raises OSError."""
        ...

    def restore(self, residual: Path | None, parcel: Parcel | None) -> None:
        """Take back what an earlier life saved, and the update that it had not settled.

        Then `put_back` is about that update. Raises DataError for a damaged file.
        """
        ...

    def settled(self, seconds: float) -> None:
        """The outcome of the last update came so long after the pull of its base began."""
        ...

    @property
    def kept(self) -> Kept:
        """What the task's local rule keeps: another object whenever it has changed."""
        ...

    @property
    def kept_before(self) -> Kept:
        """What `kept` comes back to when the update on its way is not used."""
        ...

    def save_kept(self, kept: Kept, file: Path) -> None:
        """Keep one of these in a file; raises OSError."""
        ...

    def restore_kept(self, kept: Path | None, before: Path | None) -> None:
        """Take both back; raises DataError for a damaged file."""
        ...

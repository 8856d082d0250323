"""What a device offers after training, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.submodel import FULL, SubmodelSpec

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """How the mid-training pull went (FedASMU 1.5): the slot, and what the merge gained."""

    slot: int  # the local epoch after which the fresh model was asked for
    version: Version  # the fresh global version g that was merged
    reward: float  # loss just before the merge minus loss just after; positive is good


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """Everything about an update but its values."""

    update_id: UpdateId
    device_id: DeviceId
    incarnation: Incarnation
    base_version: Version  # o: the version that training started from
    num_examples: int  # distinct examples trained on; the weight in averaging strategies
    num_steps: int  # optimiser steps taken
    learning_rate: float  # of those steps
    train_loss: float = 0.0  # mean over the last local epoch
    train_s: float = 0.0  # seconds of local training
    spec: SubmodelSpec = FULL
    refresh: RefreshReport | None = None
    train_loss_rms: float = 0.0  # root of the mean square over the last local epoch; 0: not told
    labels: tuple[int, ...] = ()  # classes whose output rows were trained, ascending; empty: all


@dataclass(frozen=True, slots=True)
class Update(Generic[P]):
    """An update with its values: `delta` = trained model minus base, laid out as the manifest.

    A tensor may be sparse where a codec sent few values.

    Entries that `spec` and `labels` leave out hold 0 in `delta`; `held` is 1 where an entry was
    trained and 0 where it was left out, or None when all were trained.
    """

    header: UpdateHeader
    delta: P
    held: P | None = None
    wire_bytes: int = 0
    codec: str = ""  # of the largest tensor, for the records
    square: float | None = None  # <delta, delta>, where it is known already
    extra: P | None = None  # for a rule that exchanges one more vector: laid out as `delta`


class DropReason(IntEnum):
    """Why an update that was received whole and sound is not used (wire values)."""

    TOO_STALE = 1  # staler than the limit
    ROUND_OVER = 2  # a synchronous strategy no longer takes this base version
    TASK_FINISHED = 3  # the task has reached its end
    RULES_FAILED = 4  # the rules broke over it: a bug there, whatever made them meet it


@dataclass(frozen=True, slots=True)
class Applied:
    """The update became part of global model `version`."""

    version: Version
    weight: float  # alpha for mixing strategies; its share of the step for averaging ones
    tau: int  # staleness t - o: versions applied since the update's base


@dataclass(frozen=True, slots=True)
class Buffered:
    """The update is in the buffer and will be part of global model `version`."""

    version: Version
    weight: float
    tau: int
    fill: int  # updates in the buffer now
    goal: int  # updates at which the buffer becomes a version


@dataclass(frozen=True, slots=True)
class Dropped:
    """The update is not used. The model is as it was."""

    reason: DropReason
    message: str  # what to do
    tau: int


Outcome = Applied | Buffered | Dropped

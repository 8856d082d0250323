"""What the aggregator remembers of versions, updates and devices, for people and for replay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hocket.core.ids import DeviceId, Version
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Outcome, UpdateHeader


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a version does on held-out data."""

    test_loss: float
    test_accuracy: float  # share of examples, in [0, 1]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A global model's record."""

    version: Version
    parent: Version  # 0 for the first
    digest: str  # xxh3-64 of the float32 values, 16 hex digits
    created_unix_s: float
    update_ids: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    retained: bool = False


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """One update and what became of it."""

    header: UpdateHeader
    outcome: Outcome
    wire_bytes: int
    dense_bytes: int  # of the same update as raw float32 of the full model
    codec: str
    received_unix_s: float


class DevicePhase(IntEnum):
    """What a device is doing, as the aggregator sees it (wire values; never renumber)."""

    AWAY = 1  # known, not subscribed
    IDLE = 2  # subscribed, waiting for a trigger
    TRAINING = 3  # triggered
    PUSHING = 4  # its update is on the way


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device's part in the task so far."""

    device_id: DeviceId
    phase: DevicePhase
    base_version: Version
    updates_accepted: int = 0
    updates_rejected: int = 0
    wire_bytes: int = 0
    dense_bytes: int = 0
    last_train_loss: float = 0.0
    last_weight: float = 0.0
    last_tau: int = 0
    in_phase_s: float = 0.0
    spec: SubmodelSpec | None = None  # the part that it took last, to train it; None: none yet
    why: str = ""  # it chose that part, in its own words


@dataclass(frozen=True, slots=True)
class Status:
    """Where the task stands."""

    task: str
    strategy: str
    version: Version
    digest: str
    finished_reason: str  # empty while it goes on
    uptime_s: float
    first_version_s: float  # from start to the first aggregated version; 0: none yet
    updates_accepted: int
    updates_rejected: int
    bytes_pushed: int
    bytes_dense_equivalent: int
    bytes_pulled: int
    evaluated_version: Version  # 0: none yet
    evaluation: Evaluation | None
    devices: tuple[DeviceStatus, ...]

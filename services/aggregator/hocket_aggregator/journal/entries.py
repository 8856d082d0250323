"""What the journal holds: every byte of an update's body as it came, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import Buffer

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.payload import PayloadHeader
from hocket.core.update import Outcome, UpdateHeader


@dataclass(frozen=True, slots=True)
class Opened:
    """An update's body begins; whatever there was of it before counts no more."""

    header: UpdateHeader
    payload: PayloadHeader


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a body, at most 1 MiB. `data` must not change before it is written."""

    update_id: UpdateId
    offset: int  # of its first byte in the body
    data: Buffer
    checksum: int | None = None  # xxh3-64 of `data`, where it is known already; it must be right


@dataclass(frozen=True, slots=True)
class Settled:
    """An update's final answer: once this is on disk it may be acknowledged."""

    header: UpdateHeader
    outcome: Outcome
    codec: str
    wire_bytes: int
    unix_s: float
    digest: str  # of the version that the update made; "" if it made none


@dataclass(frozen=True, slots=True)
class Discarded:
    """An update's body is not needed any more, and no answer was given that must be kept."""

    update_id: UpdateId


@dataclass(frozen=True, slots=True)
class Held:
    """A device took this version to train from."""

    device_id: DeviceId
    version: Version


@dataclass(frozen=True, slots=True)
class Concluded:
    """The task reached its end."""

    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A deadline made this version of what had come."""

    version: Version
    digest: str
    unix_s: float


Entry = Opened | Piece | Settled | Discarded | Held | Concluded | Closed

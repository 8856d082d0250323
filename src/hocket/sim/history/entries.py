"""What a recorded history holds, entry by entry, and each entry as plain JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.payload import Payload, PayloadHeader
from hocket.core.plain import (
    Values,
    count,
    header_of,
    header_values,
    outcome_of,
    outcome_values,
    payload_of,
    payload_values,
    real,
    text,
    values,
)
from hocket.core.update import Outcome, UpdateHeader

FORMAT = "hocket-history-1"
ENTRIES_FILE, BODIES_FILE = "entries.jsonl", "bodies.bin"


@dataclass(frozen=True, slots=True)
class Beginning:
    """Whose history it is."""

    task: str  # its name
    manifest: str  # digest of the model's layout
    digest: str  # of the first version's values


@dataclass(frozen=True, slots=True)
class Joined:
    """A device is there, or there anew."""

    at_s: float  # since the history began, as of every entry; where it is not known, the last known
    device_id: DeviceId
    incarnation: Incarnation
    num_examples: int


@dataclass(frozen=True, slots=True)
class Held:
    """A device took this version to train from."""

    at_s: float
    device_id: DeviceId
    version: Version


@dataclass(frozen=True, slots=True)
class Settled:
    """An update got its final answer."""

    at_s: float
    header: UpdateHeader
    payload: Payload | None  # as it came; None: its body never did
    outcome: Outcome
    digest: str  # of the version that it made; "" if it made none


@dataclass(frozen=True, slots=True)
class Closed:
    """A deadline made this version of what had come."""

    at_s: float
    version: Version
    digest: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The task reached its end."""

    at_s: float
    reason: str


Entry = Joined | Held | Settled | Closed | Ended


@dataclass(frozen=True, slots=True)
class Body:
    """Where an update's bytes are in the file of bodies."""

    header: PayloadHeader
    offset: int


def entry_values(entry: Entry, offset: int) -> dict[str, Any]:
    """An entry as JSON values; `offset` is where the bytes of its payload lie."""
    kind = {"kind": type(entry).__name__.lower(), "at_s": entry.at_s}
    match entry:
        case Joined(_, device_id, incarnation, num_examples):
            rest: dict[str, Any] = {
                "device_id": device_id,
                "incarnation": incarnation,
                "num_examples": num_examples,
            }
        case Held(_, device_id, version):
            rest = {"device_id": device_id, "version": version}
        case Settled(_, header, payload, outcome, digest):
            body = None
            if payload is not None:
                body = {"offset": offset, **payload_values(payload.header)}
            rest = {
                "header": header_values(header),
                "body": body,
                "outcome": outcome_values(outcome),
                "digest": digest,
            }
        case Closed(_, version, digest):
            rest = {"version": version, "digest": digest}
        case Ended(_, reason):
            rest = {"reason": reason}
    return kind | rest


def body_of(stored: Values) -> Body | None:
    """Where the bytes of a settled update are, if they are kept. Raises ValueError."""
    body = stored.get("body")
    if body is None:
        return None
    told = values(body, "body")
    return Body(payload_of(told), count(told, "offset"))


def entry_of(stored: Values, payload: Payload | None = None) -> Entry:
    """The entry of its values; `payload` is that of a settled update. Raises ValueError."""
    kind, at_s = text(stored, "kind"), real(stored, "at_s")
    match kind:
        case "joined":
            incarnation = Incarnation(count(stored, "incarnation"))
            return Joined(at_s, _device_id(stored), incarnation, count(stored, "num_examples"))
        case "held":
            return Held(at_s, _device_id(stored), _version(stored))
        case "settled":
            return Settled(
                at_s,
                header_of(values(stored.get("header"), "header")),
                payload,
                outcome_of(values(stored.get("outcome"), "outcome")),
                text(stored, "digest"),
            )
        case "closed":
            return Closed(at_s, _version(stored), text(stored, "digest"))
        case "ended":
            return Ended(at_s, text(stored, "reason"))
    raise ValueError(f"kind is {kind[:40]!r}, which no entry has")


def _device_id(stored: Values) -> DeviceId:
    return DeviceId(text(stored, "device_id"))


def _version(stored: Values) -> Version:
    return Version(count(stored, "version"))

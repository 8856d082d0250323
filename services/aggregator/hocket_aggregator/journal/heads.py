"""Entries as kinds and heads: all of an entry but a piece's bytes, as compact JSON."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket_aggregator.journal.entries import (
    Concluded,
    Discarded,
    Entry,
    Held,
    Opened,
    Piece,
    Settled,
)
from hocket_aggregator.plain import (
    compact_json,
    count,
    header_of,
    header_values,
    object_of,
    outcome_of,
    outcome_values,
    payload_of,
    payload_values,
    real,
    text,
    values,
)


class Kind(IntEnum):
    """What a record holds (stored values; never renumber)."""

    OPENED = 1
    PIECE = 2
    SETTLED = 3
    DISCARDED = 4
    HELD = 5
    CONCLUDED = 6
    SYNCED = 7  # no entry: only says what is known to be on disk


def head_of(entry: Entry) -> tuple[Kind, bytes]:
    """An entry's kind and head. Raises ValueError for a number that is not finite."""
    kind, head = _plain(entry)
    return kind, compact_json(head).encode()


def entry_of(kind: Kind, head: bytes, data: bytes, checksum: int) -> Entry:
    """The entry again; raises ValueError for anything that no entry has."""
    stored = object_of(head)
    match kind:
        case Kind.OPENED:
            header, payload = (values(stored.get(n), n) for n in ("header", "payload"))
            return Opened(header_of(header), payload_of(payload))
        case Kind.PIECE:
            return Piece(_update_id(stored), count(stored, "offset"), data, checksum)
        case Kind.SETTLED:
            return Settled(
                header_of(values(stored.get("header"), "header")),
                outcome_of(values(stored.get("outcome"), "outcome")),
                text(stored, "codec"),
                count(stored, "wire_bytes"),
                real(stored, "unix_s"),
                text(stored, "digest"),
            )
        case Kind.DISCARDED:
            return Discarded(_update_id(stored))
        case Kind.HELD:
            return Held(DeviceId(text(stored, "device_id")), Version(count(stored, "version")))
        case Kind.CONCLUDED:
            return Concluded(text(stored, "reason"))
    raise ValueError(f"a {kind.name.lower()} record holds no entry")


def _plain(entry: Entry) -> tuple[Kind, dict[str, Any]]:
    match entry:
        case Opened(header, payload):
            return Kind.OPENED, {
                "header": header_values(header),
                "payload": payload_values(payload),
            }
        case Piece(update_id, offset):
            return Kind.PIECE, {"update_id": update_id, "offset": offset}
        case Settled(header, outcome, codec, wire_bytes, unix_s, digest):
            return Kind.SETTLED, {
                "header": header_values(header),
                "outcome": outcome_values(outcome),
                "codec": codec,
                "wire_bytes": wire_bytes,
                "unix_s": unix_s,
                "digest": digest,
            }
        case Discarded(update_id):
            return Kind.DISCARDED, {"update_id": update_id}
        case Held(device_id, version):
            return Kind.HELD, {"device_id": device_id, "version": version}
        case Concluded(reason):
            return Kind.CONCLUDED, {"reason": reason}


def _update_id(stored: dict[str, Any]) -> UpdateId:
    return UpdateId(text(stored, "update_id"))

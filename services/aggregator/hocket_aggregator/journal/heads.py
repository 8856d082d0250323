"""Entries as kinds and heads: all of an entry but a piece's bytes, as compact JSON."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.plain import (
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
from hocket_aggregator.journal.entries import (
    Closed,
    Concluded,
    Discarded,
    Entry,
    Held,
    Opened,
    Piece,
    Settled,
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
    CLOSED = 8


def head_of(entry: Entry) -> tuple[Kind, bytes]:
    """An entry's kind and head. Raises ValueError for a number that is not finite."""
    kind, head = _plain(entry)
    return kind, compact_json(head).encode()


def entry_of(kind: Kind, head: bytes, data: bytes, checksum: int) -> Entry:
    """The entry again; raises ValueError for anything that no entry has."""
    stored = object_of(head)
    entry: Entry
    match kind:
        case Kind.OPENED:
            header, payload = (values(stored.get(n), n) for n in ("header", "payload"))
            entry = Opened(header_of(header), payload_of(payload))
        case Kind.PIECE:
            entry = Piece(_update_id(stored), count(stored, "offset"), data, checksum)
        case Kind.SETTLED:
            entry = Settled(
                header_of(values(stored.get("header"), "header")),
                outcome_of(values(stored.get("outcome"), "outcome")),
                text(stored, "codec"),
                count(stored, "wire_bytes"),
                real(stored, "unix_s"),
                text(stored, "digest"),
            )
        case Kind.DISCARDED:
            entry = Discarded(_update_id(stored))
        case Kind.HELD:
            entry = Held(DeviceId(text(stored, "device_id")), Version(count(stored, "version")))
        case Kind.CONCLUDED:
            entry = Concluded(text(stored, "reason"))
        case Kind.CLOSED:
            version = Version(count(stored, "version"))
            entry = Closed(version, text(stored, "digest"), real(stored, "unix_s"))
        case _:
            raise ValueError(f"a {kind.name.lower()} record holds no entry")
    return entry


def _plain(entry: Entry) -> tuple[Kind, dict[str, Any]]:
    head: dict[str, Any]
    match entry:
        case Opened(header, payload):
            kind = Kind.OPENED
            head = {
                "header": header_values(header),
                "payload": payload_values(payload),
            }
        case Piece(update_id, offset):
            kind = Kind.PIECE
            head = {"update_id": update_id, "offset": offset}
        case Settled(header, outcome, codec, wire_bytes, unix_s, digest):
            kind = Kind.SETTLED
            head = {
                "header": header_values(header),
                "outcome": outcome_values(outcome),
                "codec": codec,
                "wire_bytes": wire_bytes,
                "unix_s": unix_s,
                "digest": digest,
            }
        case Discarded(update_id):
            kind = Kind.DISCARDED
            head = {"update_id": update_id}
        case Held(device_id, version):
            kind = Kind.HELD
            head = {"device_id": device_id, "version": version}
        case Concluded(reason):
            kind = Kind.CONCLUDED
            head = {"reason": reason}
        case Closed(version, digest, unix_s):
            kind = Kind.CLOSED
            head = {"version": version, "digest": digest, "unix_s": unix_s}
    return kind, head


def _update_id(stored: dict[str, Any]) -> UpdateId:
    return UpdateId(text(stored, "update_id"))

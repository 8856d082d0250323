"""The registry's tables, and how a device becomes rows and comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
)

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link

METADATA = MetaData()
COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", String(32), primary_key=True),  # "revision"
    Column("value", BigInteger, nullable=False),
)
DEVICES = Table(
    "devices",
    METADATA,
    Column("device_id", String(64), primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("state", Integer, nullable=False),
    Column("capability", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("joined_unix_s", Float, nullable=False),
)
LINKS = Table(
    "links",
    METADATA,
    Column("device_id", ForeignKey(DEVICES.c.device_id), primary_key=True),
    Column("peer", String(64), primary_key=True),
    Column("up_bytes_per_s", Float, nullable=False),
    Column("down_bytes_per_s", Float, nullable=False),
    Column("rtt_s", Float, nullable=False),
    Column("loss", Float, nullable=False),
    Column("transfers", BigInteger, nullable=False),
)


def device_row(device: Device) -> dict[str, Any]:
    """The device without its links and without the rest of its lease, which is not kept."""
    return {
        "device_id": device.device_id,
        "incarnation": device.incarnation,
        "state": int(device.state),
        "capability": asdict(device.capability),
        "labels": dict(device.labels),
        "revision": device.revision,
        "joined_unix_s": device.joined_unix_s,
    }


def link_rows(device: Device) -> list[dict[str, Any]]:
    """One row for each peer."""
    return [{"device_id": device.device_id, **asdict(link)} for link in device.links]


def device_of(row: RowMapping, links: Sequence[RowMapping]) -> Device:
    """The device of its row and its links' rows."""
    capability = dict(row["capability"])
    costs = tuple(CostLine(**line) for line in capability.pop("costs"))
    return Device(
        device_id=DeviceId(row["device_id"]),
        incarnation=Incarnation(row["incarnation"]),
        state=DeviceState(row["state"]),
        capability=Capability(costs=costs, **capability),
        links=tuple(link_of(link) for link in links),
        revision=row["revision"],
        joined_unix_s=row["joined_unix_s"],
        labels=row["labels"],
    )


def link_of(row: RowMapping) -> Link:
    """The link of its row."""
    return Link(**{name: value for name, value in row.items() if name != "device_id"})


def to_json(value: Any) -> str:
    """Compact, and strict: the rules let no NaN through."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)

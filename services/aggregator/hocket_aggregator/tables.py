"""The aggregator's tables, and how records become rows and come back. Knows no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
)

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    UpdateHeader,
)

SCHEMA_VERSION = 1

_OF_STATUS = tuple(field.name for field in fields(Status))
_OF_DEVICE = tuple(field.name for field in fields(DeviceStatus))

METADATA = MetaData()
FACTS = Table(
    "facts",
    METADATA,
    Column("name", String(32), primary_key=True),  # "schema", "identity", "status"
    Column("value", JSON, nullable=False),
)
VERSIONS = Table(
    "versions",
    METADATA,
    Column("version", BigInteger, primary_key=True),
    Column("parent", BigInteger, nullable=False),
    Column("digest", String(16), nullable=False),
    Column("created_unix_s", Float, nullable=False),
    Column("update_ids", JSON, nullable=False),
    Column("test_loss", Float),
    Column("test_accuracy", Float),  # null: not evaluated
)
UPDATES = Table(
    "updates",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),  # in the order of settling
    Column("update_id", String(64), nullable=False, unique=True),
    Column("device_id", String(64), nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("base_version", BigInteger, nullable=False),
    Column("num_examples", BigInteger, nullable=False),
    Column("num_steps", BigInteger, nullable=False),
    Column("learning_rate", Float, nullable=False),
    Column("train_loss", Float, nullable=False),
    Column("train_s", Float, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("refresh", JSON),
    Column("outcome", JSON, nullable=False),
    Column("version", BigInteger, index=True),  # the one it is part of; null: dropped
    Column("wire_bytes", BigInteger, nullable=False),
    Column("dense_bytes", BigInteger, nullable=False),
    Column("codec", String(16), nullable=False),
    Column("received_unix_s", Float, nullable=False),
)


def version_row(record: VersionRecord) -> dict[str, Any]:
    """A version as it was made; whether it is retained is not kept."""
    evaluation = record.evaluation
    return {
        "version": record.version,
        "parent": record.parent,
        "digest": record.digest,
        "created_unix_s": record.created_unix_s,
        "update_ids": list(record.update_ids),
        "test_loss": evaluation.test_loss if evaluation else None,
        "test_accuracy": evaluation.test_accuracy if evaluation else None,
    }


def version_of(row: RowMapping) -> VersionRecord:
    """The record of its row."""
    evaluation = None
    if row["test_accuracy"] is not None:
        evaluation = Evaluation(row["test_loss"], row["test_accuracy"])
    return VersionRecord(
        Version(row["version"]),
        Version(row["parent"]),
        row["digest"],
        row["created_unix_s"],
        tuple(row["update_ids"]),
        evaluation,
    )


def update_row(record: UpdateRecord) -> dict[str, Any]:
    """An update and what became of it."""
    header, outcome = record.header, record.outcome
    return {
        "update_id": header.update_id,
        "device_id": header.device_id,
        "incarnation": header.incarnation,
        "base_version": header.base_version,
        "num_examples": header.num_examples,
        "num_steps": header.num_steps,
        "learning_rate": header.learning_rate,
        "train_loss": header.train_loss,
        "train_s": header.train_s,
        "spec": asdict(header.spec),
        "refresh": None if header.refresh is None else asdict(header.refresh),
        "outcome": {"kind": type(outcome).__name__, **asdict(outcome)},
        "version": None if isinstance(outcome, Dropped) else outcome.version,
        "wire_bytes": record.wire_bytes,
        "dense_bytes": record.dense_bytes,
        "codec": record.codec,
        "received_unix_s": record.received_unix_s,
    }


def update_of(row: RowMapping) -> UpdateRecord:
    """The record of its row."""
    spec, refresh = row["spec"], row["refresh"]
    header = UpdateHeader(
        update_id=UpdateId(row["update_id"]),
        device_id=DeviceId(row["device_id"]),
        incarnation=Incarnation(row["incarnation"]),
        base_version=Version(row["base_version"]),
        num_examples=row["num_examples"],
        num_steps=row["num_steps"],
        learning_rate=row["learning_rate"],
        train_loss=row["train_loss"],
        train_s=row["train_s"],
        spec=SubmodelSpec(tuple(spec["keep"]), ChannelRule(spec["rule"]), spec["seed"]),
        refresh=None if refresh is None else RefreshReport(**refresh),
    )
    return UpdateRecord(
        header,
        outcome_of(row["outcome"]),
        row["wire_bytes"],
        row["dense_bytes"],
        row["codec"],
        row["received_unix_s"],
    )


def outcome_of(stored: dict[str, Any]) -> Outcome:
    """What became of an update."""
    fields = {name: value for name, value in stored.items() if name != "kind"}
    if stored["kind"] == Applied.__name__:
        return Applied(**fields)
    if stored["kind"] == Buffered.__name__:
        return Buffered(**fields)
    return Dropped(**{**fields, "reason": DropReason(fields["reason"])})


def status_fact(status: Status) -> dict[str, Any]:
    """A status as JSON values."""
    # By hand: asdict copies every value deeply, which for a thousand devices takes 20 ms.
    devices = [{name: getattr(device, name) for name in _OF_DEVICE} for device in status.devices]
    evaluation = None if status.evaluation is None else asdict(status.evaluation)
    whole = {name: getattr(status, name) for name in _OF_STATUS}
    return {**whole, "evaluation": evaluation, "devices": devices}


def status_of(stored: dict[str, Any]) -> Status:
    """The status, every device away: what is stored was written by a process that has ended."""
    evaluation = stored["evaluation"]
    devices = tuple(
        DeviceStatus(**{**device, "phase": DevicePhase.AWAY, "base_version": Version(0)})
        for device in stored["devices"]
    )
    return Status(
        **{
            **stored,
            "evaluation": None if evaluation is None else Evaluation(**evaluation),
            "devices": devices,
        }
    )


def to_json(value: Any) -> str:
    """Compact, and strict: the checks let no NaN through."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)

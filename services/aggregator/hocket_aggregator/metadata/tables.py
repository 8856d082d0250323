"""The aggregator's tables, and how records become rows and come back. Knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
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

from hocket.core.ids import Version
from hocket.core.plain import (
    compact_json,
    header_of,
    header_values,
    outcome_of,
    outcome_values,
    spec_of,
    values,
)
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.update import Dropped

_OF_STATUS = tuple(field.name for field in fields(Status))
_OF_DEVICE = tuple(field.name for field in fields(DeviceStatus))

METADATA = MetaData()
FACTS = Table(
    "facts",
    METADATA,
    Column("name", String(32), primary_key=True),  # "identity", "status"
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
    Column("train_loss_rms", Float, nullable=False, server_default="0"),
    Column("train_s", Float, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("refresh", JSON),
    Column("labels", JSON),  # null: all
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
    outcome = record.outcome
    return {
        **header_values(record.header),
        "outcome": outcome_values(outcome),
        "version": None if isinstance(outcome, Dropped) else outcome.version,
        "wire_bytes": record.wire_bytes,
        "dense_bytes": record.dense_bytes,
        "codec": record.codec,
        "received_unix_s": record.received_unix_s,
    }


def update_of(row: RowMapping) -> UpdateRecord:
    """The record of its row."""
    return UpdateRecord(
        header_of({str(name): value for name, value in row.items()}),
        outcome_of(row["outcome"]),
        row["wire_bytes"],
        row["dense_bytes"],
        row["codec"],
        row["received_unix_s"],
    )


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value that is JSON already."""

    text: str


def encode_status(status: Status) -> Encoded:
    """A status as JSON; works in any thread."""
    # By hand: asdict copies every value deeply, which for a thousand devices takes 20 ms.
    devices = [
        {name: getattr(device, name) for name in _OF_DEVICE}
        | {"spec": None if device.spec is None else asdict(device.spec)}
        for device in status.devices
    ]
    evaluation = None if status.evaluation is None else asdict(status.evaluation)
    whole = {name: getattr(status, name) for name in _OF_STATUS}
    return Encoded(to_json({**whole, "evaluation": evaluation, "devices": devices}))


def status_of(stored: dict[str, Any]) -> Status:
    """The status, every device away: what is stored was written by a process that has ended."""
    evaluation = stored["evaluation"]
    devices = tuple(map(_away, stored["devices"]))
    return Status(
        **{
            **stored,
            "evaluation": None if evaluation is None else Evaluation(**evaluation),
            "devices": devices,
        }
    )


def _away(stored: dict[str, Any]) -> DeviceStatus:
    spec = stored.get("spec")  # nobody has one that pulled nothing, and in an older status nobody
    away = {"phase": DevicePhase.AWAY, "base_version": Version(0)}
    part = {} if spec is None else {"spec": spec_of(values(spec, "spec"))}
    return DeviceStatus(**{**stored, **away, **part})


def to_json(value: Any) -> str:
    """Compact, and strict: the checks let no NaN through."""
    if isinstance(value, Encoded):
        return value.text
    return compact_json(value)

"""A run that is known to the last number."""

from __future__ import annotations

from support.scalar import device, update

from hocket.cli.report import RunData
from hocket.core.ids import DeviceId, Version
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.update import Applied, Dropped, DropReason, Outcome


def record(name: str, base: int, outcome: Outcome, at: float) -> UpdateRecord:
    return UpdateRecord(update(name, base).header, outcome, 250, 1000, "int8", at)


def run() -> RunData:
    members = (
        DeviceStatus(DeviceId("<quick>"), DevicePhase.IDLE, Version(0), 2, 0, 500, 2000),
        DeviceStatus(DeviceId("slow"), DevicePhase.IDLE, Version(0), 0, 1, 0, 0),
    )
    status = Status(
        task="tiny & small",
        strategy="fedasmu",
        version=Version(3),
        digest="0" * 16,
        finished_reason="version 3 of 3 reached",
        uptime_s=9.0,
        first_version_s=2.0,
        updates_accepted=2,
        updates_rejected=1,
        bytes_pushed=500,
        bytes_dense_equivalent=2000,
        bytes_pulled=3000,
        evaluated_version=Version(3),
        evaluation=Evaluation(0.2, 0.96),
        devices=members,
    )
    versions = [
        VersionRecord(Version(n), Version(n - 1), "0" * 16, 100.0 + n, (), Evaluation(0.5, 0.3 * n))
        for n in (1, 2, 3)
    ]
    updates = [
        record("<quick>", 1, Applied(Version(2), 0.5, 0), 102.0),
        record("<quick>", 1, Applied(Version(3), 0.25, 1), 103.0),
        record("slow", 1, Dropped(DropReason.TOO_STALE, "train anew", 2), 104.0),
    ]
    return RunData(
        status, [device("<quick>"), device("slow")], versions, updates, 100.0, 8.0, "x <y>", 7
    )

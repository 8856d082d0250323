"""What is asked of the tables, by the running aggregator and by readers of a stopped one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.ledger import DEFAULT_ENTRIES, Ledger
from hocket.core.plain import outcome_of
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.update import Dropped
from hocket_aggregator.metadata.tables import (
    FACTS,
    UPDATES,
    VERSIONS,
    status_of,
    update_of,
    version_of,
)

DATABASE = "aggregator.db"
SNAPSHOTS = "versions"


def versions_below(connection: Connection, below: int | None, limit: int) -> list[VersionRecord]:
    """Versions in falling order; None begins with the newest."""
    query = select(VERSIONS).order_by(VERSIONS.c.version.desc()).limit(limit)
    if below is not None:
        query = query.where(VERSIONS.c.version < below)
    return [version_of(row) for row in connection.execute(query).mappings()]


def versions_after(connection: Connection, after: int, limit: int) -> list[VersionRecord]:
    """Versions in rising order."""
    query = select(VERSIONS).where(VERSIONS.c.version > after).order_by(VERSIONS.c.version)
    return [version_of(row) for row in connection.execute(query.limit(limit)).mappings()]


def version_record(connection: Connection, version: int) -> VersionRecord | None:
    """One version's record; 0 stands for the newest."""
    query = select(VERSIONS).order_by(VERSIONS.c.version.desc()).limit(1)
    if version:
        query = query.where(VERSIONS.c.version == version)
    row = connection.execute(query).mappings().first()
    return None if row is None else version_of(row)


def lineage(
    connection: Connection, version: Version, before: int | None, limit: int
) -> tuple[list[UpdateRecord], int | None]:
    """Updates of `version` and its ancestors, newest first, and where the next page begins."""
    query = select(UPDATES).where(UPDATES.c.version <= version)
    if before is not None:
        query = query.where(UPDATES.c.number < before)
    query = query.order_by(UPDATES.c.number.desc()).limit(limit + 1)
    rows = connection.execute(query).mappings().all()
    following = rows[limit - 1]["number"] if len(rows) > limit else None
    return [update_of(row) for row in rows[:limit]], following


def fact(connection: Connection, name: str) -> Any:
    """One stored fact; None if there is none."""
    return connection.execute(select(FACTS.c.value).where(FACTS.c.name == name)).scalar()


def newest_version(connection: Connection) -> Version:
    """The newest version's number; 0 if there is none."""
    return Version(connection.execute(select(func.max(VERSIONS.c.version))).scalar() or 0)


def newest_evaluation(connection: Connection) -> tuple[Version, Evaluation] | None:
    """The newest version that was evaluated."""
    query = select(VERSIONS).where(VERSIONS.c.test_accuracy.is_not(None))
    row = connection.execute(query.order_by(VERSIONS.c.version.desc()).limit(1)).mappings().first()
    if row is None:
        return None
    return Version(row["version"]), Evaluation(row["test_loss"], row["test_accuracy"])


def status(connection: Connection) -> Status | None:
    """Where the task stood when it was last recorded."""
    stored = fact(connection, "status")
    return None if stored is None else status_of(stored)


def ledger(connection: Connection, oldest: int = 0, entries: int = DEFAULT_ENTRIES) -> Ledger:
    """The newest outcomes, in the order in which they were given.

    And, where `oldest` is a version, those of every update that was trained from it or later.
    """
    query = select(func.max(UPDATES.c.number) - entries)
    after = connection.execute(query).scalar() or 0
    wanted = UPDATES.c.number > after
    if oldest:
        wanted |= UPDATES.c.base_version >= oldest
    return _ledger(connection, entries, wanted)


def ledger_of(connection: Connection, update_id: str) -> Ledger:
    """The outcome of one update, if it has any."""
    return _ledger(connection, 1, UPDATES.c.update_id == update_id)


def _ledger(connection: Connection, entries: int, wanted: ColumnElement[bool]) -> Ledger:
    found = Ledger(entries)
    columns = (UPDATES.c.update_id, UPDATES.c.device_id, UPDATES.c.base_version, UPDATES.c.outcome)
    rows = connection.execute(select(*columns).where(wanted).order_by(UPDATES.c.number))
    for update_id, device_id, base, outcome in rows:
        found.note(UpdateId(update_id), DeviceId(device_id), Version(base), outcome_of(outcome))
    return found


def tallies(connection: Connection) -> dict[DeviceId, DeviceStatus]:
    """Each device's part in the task, as its updates add up; every device is away.

    Updates that were refused (NaN, a wrong shape) have no record: they are in the latest status
    only, which may be some seconds older than the updates.
    """
    stored = status(connection)
    rejected = {d.device_id: d.updates_rejected for d in stored.devices} if stored else {}
    found = {
        device_id: DeviceStatus(device_id, DevicePhase.AWAY, Version(0), updates_rejected=count)
        for device_id, count in rejected.items()
    }
    accepted = UPDATES.c.version.is_not(None)
    added = select(
        UPDATES.c.device_id,
        func.count(UPDATES.c.version),
        func.count() - func.count(UPDATES.c.version),
        func.coalesce(func.sum(case((accepted, UPDATES.c.wire_bytes))), 0),
        func.coalesce(func.sum(case((accepted, UPDATES.c.dense_bytes))), 0),
    ).group_by(UPDATES.c.device_id)
    last = _last_accepted(connection)
    for name, used, dropped, wire, dense in connection.execute(added):
        device_id = DeviceId(name)
        train_loss, weight, tau = last.get(device_id, (0.0, 0.0, 0))
        found[device_id] = DeviceStatus(
            device_id=device_id,
            phase=DevicePhase.AWAY,
            base_version=Version(0),
            updates_accepted=used,
            updates_rejected=max(dropped, rejected.get(device_id, 0)),
            wire_bytes=int(wire),  # PostgreSQL adds big integers up to a Decimal
            dense_bytes=int(dense),
            last_train_loss=train_loss,
            last_weight=weight,
            last_tau=tau,
        )
    return found


def _last_accepted(connection: Connection) -> dict[DeviceId, tuple[float, float, int]]:
    """Training loss, weight and staleness of each device's latest update that was used."""
    newest = select(func.max(UPDATES.c.number)).where(UPDATES.c.version.is_not(None))
    query = select(UPDATES.c.device_id, UPDATES.c.train_loss, UPDATES.c.outcome).where(
        UPDATES.c.number.in_(newest.group_by(UPDATES.c.device_id))
    )
    found: dict[DeviceId, tuple[float, float, int]] = {}
    for device_id, train_loss, stored in connection.execute(query):
        outcome = outcome_of(stored)
        if not isinstance(outcome, Dropped):
            found[DeviceId(device_id)] = (train_loss, outcome.weight, outcome.tau)
    return found

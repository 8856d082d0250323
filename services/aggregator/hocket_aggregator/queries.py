"""What is asked of the tables, by the running aggregator and by readers of a stopped one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from hocket.core.ids import Version
from hocket.core.records import UpdateRecord, VersionRecord
from hocket_aggregator.tables import FACTS, UPDATES, VERSIONS, update_of, version_of

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

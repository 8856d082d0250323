"""What the aggregator keeps in SQLite: versions, updates, and where the task stands.

Write-ahead log, one writer, each transaction synced to disk before it counts as saved.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.ledger import DEFAULT_ENTRIES, Ledger
from hocket.core.records import Evaluation, Status, UpdateRecord, VersionRecord
from hocket.errors import StartupError
from hocket.hosting.folder import open_sqlite, take_folder
from hocket_aggregator import queries
from hocket_aggregator.queries import DATABASE
from hocket_aggregator.tables import (
    FACTS,
    METADATA,
    SCHEMA_VERSION,
    UPDATES,
    VERSIONS,
    outcome_of,
    status_fact,
    status_of,
    to_json,
    update_row,
    version_row,
)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose versions a folder holds: they fit no other task and no other model."""

    task: str
    manifest_digest: str


@dataclass(slots=True)
class Batch:
    """What is to be saved together."""

    versions: list[VersionRecord] = field(default_factory=list)
    updates: list[UpdateRecord] = field(default_factory=list)
    evaluations: dict[Version, Evaluation] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.versions or self.updates or self.evaluations)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the folder still knew when it was opened at a version."""

    ledger: Ledger
    evaluated: tuple[Version, Evaluation] | None  # the newest evaluation
    status: Status | None  # as last saved
    updates_accepted: int
    wire_bytes: int  # of accepted updates
    dense_bytes: int
    versions_removed: int
    updates_removed: int


class Store:
    """The one writer of a data folder. Open it with `open`, close it with `close`."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection, lock: IO[str]) -> None:
        self._engine = engine
        self._writing = connection
        self._lock = lock

    @classmethod
    async def open(cls, data_dir: Path, identity: Identity) -> Self:
        """Take the folder for this process, making it if missing.

        Raises StartupError when it cannot be written, is another aggregator's, or holds another
        task's or model's versions.
        """
        async with AsyncExitStack() as undo:
            lock = undo.enter_context(take_folder(data_dir, "aggregator", "AGGREGATOR_DATA_DIR"))
            engine = open_sqlite(data_dir / DATABASE, json_serializer=to_json)
            undo.push_async_callback(engine.dispose)
            try:
                connection = await undo.enter_async_context(engine.connect())
                await connection.run_sync(_prepare, data_dir, identity)
                await connection.commit()
            except SQLAlchemyError as error:
                raise _unusable(data_dir, error) from error
            undo.pop_all()
        return cls(engine, connection, lock)

    async def resume_at(self, version: Version) -> Kept:
        """Forget what came after `version` and tell what is left; 0 forgets every version."""
        kept = await self._writing.run_sync(_resume_at, version)
        await self._writing.commit()
        return kept

    async def save(self, batch: Batch, status: Status) -> None:
        """One transaction, on disk when it returns."""
        await self._writing.run_sync(_write, batch, status)
        await self._writing.commit()

    async def read(
        self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Ask one of `queries`."""
        async with self._engine.connect() as connection:
            return await connection.run_sync(query, *args, **kwargs)

    async def close(self) -> None:
        """Let the folder go."""
        await self._writing.close()
        await self._engine.dispose()
        self._lock.close()


def _prepare(connection: Connection, data_dir: Path, identity: Identity) -> None:
    METADATA.create_all(connection)
    mine = {"task": identity.task, "manifest": identity.manifest_digest}
    for name, value in (("schema", SCHEMA_VERSION), ("identity", mine)):
        made = insert(FACTS).values(name=name, value=value)
        connection.execute(made.on_conflict_do_nothing())
    schema, theirs = queries.fact(connection, "schema"), queries.fact(connection, "identity")
    if schema != SCHEMA_VERSION:
        raise StartupError(
            f"{data_dir / DATABASE} was written by another version of Hocket (schema {schema}, "
            f"this one reads {SCHEMA_VERSION}); choose another AGGREGATOR_DATA_DIR"
        )
    if theirs != mine:
        raise StartupError(
            f"{data_dir} holds versions of task {theirs['task']!r} (model {theirs['manifest']}), "
            f"not of {mine['task']!r} (model {mine['manifest']}); choose another "
            "AGGREGATOR_DATA_DIR (with `hocket up`, another --home), or move that folder away"
        )


def _resume_at(connection: Connection, version: Version) -> Kept:
    updates = connection.execute(delete(UPDATES).where(UPDATES.c.version > version))
    versions = connection.execute(delete(VERSIONS).where(VERSIONS.c.version > version))
    ledger = Ledger()
    columns = ("update_id", "device_id", "base_version", "outcome")
    answered = select(*(UPDATES.c[name] for name in columns))
    newest = answered.order_by(UPDATES.c.number.desc()).limit(DEFAULT_ENTRIES)
    for update_id, device_id, base, outcome in reversed(connection.execute(newest).all()):
        ledger.note(UpdateId(update_id), DeviceId(device_id), Version(base), outcome_of(outcome))
    count, wire, dense = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(UPDATES.c.wire_bytes), 0),
            func.coalesce(func.sum(UPDATES.c.dense_bytes), 0),
        ).where(UPDATES.c.version.is_not(None))
    ).one()
    stored = queries.fact(connection, "status")
    return Kept(
        ledger,
        _newest_evaluation(connection),
        None if stored is None else status_of(stored),
        count,
        wire,
        dense,
        versions.rowcount,
        updates.rowcount,
    )


def _newest_evaluation(connection: Connection) -> tuple[Version, Evaluation] | None:
    query = select(VERSIONS.c.version, VERSIONS.c.test_loss, VERSIONS.c.test_accuracy)
    query = query.where(VERSIONS.c.test_accuracy.is_not(None))
    row = connection.execute(query.order_by(VERSIONS.c.version.desc()).limit(1)).first()
    return None if row is None else (Version(row[0]), Evaluation(row[1], row[2]))


def _write(connection: Connection, batch: Batch, status: Status) -> None:
    if batch.versions:
        connection.execute(
            insert(VERSIONS).prefix_with("OR REPLACE"), [version_row(r) for r in batch.versions]
        )
    if batch.updates:
        connection.execute(insert(UPDATES), [update_row(r) for r in batch.updates])
    for version, evaluation in batch.evaluations.items():
        values: dict[str, Any] = {
            "test_loss": evaluation.test_loss,
            "test_accuracy": evaluation.test_accuracy,
        }
        connection.execute(update(VERSIONS).where(VERSIONS.c.version == version).values(values))
    fact = insert(FACTS).values(name="status", value=status_fact(status))
    connection.execute(
        fact.on_conflict_do_update(index_elements=["name"], set_={"value": fact.excluded.value})
    )


def _unusable(data_dir: Path, error: SQLAlchemyError) -> StartupError:
    cause = getattr(error, "orig", None) or error
    return StartupError(
        f"cannot use {data_dir / DATABASE}: {cause}; choose another AGGREGATOR_DATA_DIR"
    )

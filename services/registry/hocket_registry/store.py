"""What the registry keeps in SQLite, so that a restart forgets neither device nor incarnation.

Write-ahead log, one writer, each transaction synced to disk before it counts as saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Self

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hocket.core.device import Device
from hocket.errors import StartupError
from hocket.hosting.folder import open_sqlite, take_folder
from hocket_registry.tables import (
    COUNTERS,
    DEVICES,
    LINKS,
    METADATA,
    SCHEMA_VERSION,
    device_of,
    device_row,
    link_rows,
    to_json,
)

FILE_NAME = "registry.sqlite3"


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything kept: each device as last saved, and the latest revision."""

    devices: tuple[Device, ...] = ()
    revision: int = 0


class DeviceStore:
    """The one writer of a data folder. Open it with `open`, close it with `close`."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection, lock: IO[str]) -> None:
        self._engine = engine
        self._connection = connection
        self._lock = lock

    @classmethod
    async def open(cls, data_dir: Path) -> Self:
        """Take the folder for this process, making it if missing.

        Raises StartupError when it cannot be written, is another registry's, or was written by
        another version of Hocket.
        """
        lock = take_folder(data_dir, "registry", "REGISTRY_DATA_DIR")
        engine = open_sqlite(data_dir / FILE_NAME, json_serializer=to_json)
        try:
            connection = await _prepared(engine)
        except BaseException as error:
            await engine.dispose()
            lock.close()
            if isinstance(error, SQLAlchemyError):
                raise _unusable(data_dir, error) from error
            raise
        return cls(engine, connection, lock)

    async def load(self) -> Stored:
        """Everything kept."""
        stored = await self._connection.run_sync(_read)
        await self._connection.rollback()
        return stored

    async def save(self, devices: Sequence[Device], revision: int) -> None:
        """Replace what is kept of these devices, in one transaction, on disk when it returns."""
        await self._connection.run_sync(_write, devices, revision)
        await self._connection.commit()

    async def close(self) -> None:
        """Let the folder go."""
        await self._connection.close()
        await self._engine.dispose()
        self._lock.close()


async def read_devices(data_dir: Path) -> tuple[list[Device], int]:
    """The devices of a registry that is not running, in the order of their ids, and its revision.

    States are as last saved, so a lease that was alive then is shown alive. Raises StartupError
    where no registry has kept anything.
    """
    file = data_dir / FILE_NAME
    if not file.is_file():
        raise StartupError(f"no registry has stored anything in {data_dir}: {FILE_NAME} is missing")
    engine = open_sqlite(file, json_serializer=to_json)
    try:
        async with engine.connect() as connection:
            stored = await connection.run_sync(_read)
    except SQLAlchemyError as error:
        raise _unusable(data_dir, error) from error
    finally:
        await engine.dispose()
    return list(stored.devices), stored.revision


async def _prepared(engine: AsyncEngine) -> AsyncConnection:
    connection = await engine.connect()
    try:
        await connection.run_sync(_prepare)
        await connection.commit()
    except BaseException:
        await connection.close()
        raise
    return connection


def _prepare(connection: Connection) -> None:
    METADATA.create_all(connection)
    made = insert(COUNTERS).values(name="schema", value=SCHEMA_VERSION)
    connection.execute(made.on_conflict_do_nothing())
    schema = _counter(connection, "schema")
    if schema != SCHEMA_VERSION:
        raise StartupError(
            f"{FILE_NAME} was written by another version of Hocket (schema {schema}, this one "
            f"reads {SCHEMA_VERSION}); choose another data_dir"
        )


def _read(connection: Connection) -> Stored:
    links = connection.execute(select(LINKS).order_by(LINKS.c.device_id, LINKS.c.peer)).mappings()
    of_device = {name: list(rows) for name, rows in groupby(links, lambda row: row["device_id"])}
    devices = connection.execute(select(DEVICES).order_by(DEVICES.c.device_id)).mappings()
    return Stored(
        tuple(device_of(row, of_device.get(row["device_id"], [])) for row in devices),
        _counter(connection, "revision"),
    )


def _write(connection: Connection, devices: Sequence[Device], revision: int) -> None:
    if devices:
        rows = insert(DEVICES)
        changed = {c.name: rows.excluded[c.name] for c in DEVICES.c if not c.primary_key}
        connection.execute(
            rows.on_conflict_do_update(index_elements=["device_id"], set_=changed),
            [device_row(device) for device in devices],
        )
        _write_links(connection, devices)
    counter = insert(COUNTERS).values(name="revision", value=revision)
    connection.execute(
        counter.on_conflict_do_update(index_elements=["name"], set_={"value": revision})
    )


def _write_links(connection: Connection, devices: Sequence[Device]) -> None:
    """Peers are never forgotten, so rows are only added and replaced."""
    links = [row for device in devices for row in link_rows(device)]
    if not links:
        return
    rows = insert(LINKS)
    changed = {c.name: rows.excluded[c.name] for c in LINKS.c if not c.primary_key}
    connection.execute(
        rows.on_conflict_do_update(index_elements=["device_id", "peer"], set_=changed), links
    )


def _counter(connection: Connection, name: str) -> int:
    value = connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == name)).scalar()
    return int(value or 0)


def _unusable(data_dir: Path, error: SQLAlchemyError) -> StartupError:
    cause = getattr(error, "orig", None) or error
    return StartupError(f"cannot use {data_dir / FILE_NAME}: {cause}; choose another data_dir")

"""What the registry keeps, so that a restart forgets neither device nor incarnation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from hocket.core.device import Device
from hocket.errors import StartupError
from hocket.hosting.database import Database, Schema
from hocket.hosting.dialect import cause_of, database_url, open_engine, put
from hocket.hosting.folder import noted_database
from hocket_registry.tables import (
    COUNTERS,
    DEVICES,
    LINKS,
    device_of,
    device_row,
    link_rows,
    to_json,
)

FILE_NAME = "registry.sqlite3"
SCHEMA = Schema("registry", FILE_NAME, Path(__file__).with_name("migrations"), to_json)


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything kept: each device as last saved, and the latest revision."""

    devices: tuple[Device, ...] = ()
    revision: int = 0


class DeviceStore:
    """The one writer of a data folder. Open it with `open`, close it with `close`.

    Its methods raise StorageFull or Unavailable for what passes, StorageFailed for what does not.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    async def open(cls, data_dir: Path, url: str = "") -> Self:
        """Take the folder for this process, making it if missing; `url` names another database.

        Raises StartupError when it cannot be written, is another registry's, or was written by a
        newer Hocket.
        """
        return cls(await Database.open(data_dir, SCHEMA, url))

    async def load(self) -> Stored:
        """Everything kept."""
        return await self.database.read(_read)

    async def save(self, devices: Sequence[Device], revision: int) -> None:
        """Replace what is kept of these devices, in one transaction, on disk when it returns."""
        await self.database.write(_write, devices, revision)

    async def close(self) -> None:
        """Let the folder go."""
        await self.database.close()


async def read_devices(data_dir: Path) -> tuple[list[Device], int]:
    """The devices of a registry that is not running, in the order of their ids, and its revision.

    States are as last saved, so a lease that was alive then is shown alive. Raises StartupError
    where no registry has kept anything in a file.
    """
    file = _file_of(data_dir)
    if not file.is_file():
        raise StartupError(f"no registry has stored anything in {data_dir}: {file} is missing")
    engine = open_engine(database_url("", file, SCHEMA.url_variable), to_json)
    try:
        async with engine.connect() as connection:
            stored = await connection.run_sync(_read)
    except SQLAlchemyError as error:
        raise StartupError(
            f"cannot use {file}: {cause_of(error)}; choose another {SCHEMA.data_dir_variable}"
        ) from error
    finally:
        await engine.dispose()
    return list(stored.devices), stored.revision


def _file_of(data_dir: Path) -> Path:
    """The SQLite file, wherever REGISTRY_DATABASE has put it."""
    noted = noted_database(data_dir, SCHEMA.service)
    if noted is not None and "://" in noted:
        raise StartupError(
            f"what the registry of {data_dir} keeps is in {noted}, which cannot be read here; "
            "start the registry and ask it, or ask that database"
        )
    return data_dir / (noted or FILE_NAME)


def _read(connection: Connection) -> Stored:
    links = connection.execute(select(LINKS).order_by(LINKS.c.device_id, LINKS.c.peer)).mappings()
    of_device = {name: list(rows) for name, rows in groupby(links, lambda row: row["device_id"])}
    devices = connection.execute(select(DEVICES).order_by(DEVICES.c.device_id)).mappings()
    revision = select(COUNTERS.c.value).where(COUNTERS.c.name == "revision")
    return Stored(
        tuple(device_of(row, of_device.get(row["device_id"], [])) for row in devices),
        connection.execute(revision).scalar() or 0,
    )


def _write(connection: Connection, devices: Sequence[Device], revision: int) -> None:
    put(connection, DEVICES, [device_row(device) for device in devices])
    # Peers are never forgotten, so rows are only added and replaced.
    put(connection, LINKS, [row for device in devices for row in link_rows(device)])
    put(connection, COUNTERS, [{"name": "revision", "value": revision}])

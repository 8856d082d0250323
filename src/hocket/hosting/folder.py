"""A service's own folder: one process at a time, and a SQLite database in it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from hocket.errors import StartupError

BUSY_S = 5.0  # how long to wait for another process's hold on the file


def take_folder(folder: Path, owner: str, variable: str) -> IO[str]:
    """Make the folder and lock it for this process, until what is returned is closed.

    Raises StartupError that names `owner` (what kind of service may hold it) and the setting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{owner}.lock").open("w")
    except OSError as error:
        raise StartupError(
            f"cannot write to {folder}: {error.strerror}; choose another {variable}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StartupError(
            f"another {owner} uses {folder}; stop it or choose another {variable}"
        ) from error
    return lock


def open_sqlite(file: Path, **options: Any) -> AsyncEngine:
    """A database with one writer: WAL, so that readers never wait, and synced commits."""
    url = URL.create("sqlite+aiosqlite", database=str(file))
    engine = create_async_engine(
        url, poolclass=NullPool, connect_args={"timeout": BUSY_S}, **options
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    return engine

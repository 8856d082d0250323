"""All that SQLite and PostgreSQL do each in their own way: opening, upserts, locks, failures."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Table, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from hocket.errors import HocketError, StartupError, StorageFailed, StorageFull, Unavailable

SQLITE, POSTGRESQL = "sqlite", "postgresql"
DRIVERS = {SQLITE: "sqlite+aiosqlite", POSTGRESQL: "postgresql+asyncpg"}
BUSY_S = 5.0  # how long to wait for another process's hold on the file
CONNECT_S = 10.0
COMMAND_S = 60.0  # a server that has not answered by then has gone
RETRY_S = 1.0

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
PASSING = (  # what may be mended while the service runs
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)
DISK_FULL = "53100"  # PostgreSQL's SQLSTATE
# Connection, transaction rolled back, resources, object in use, operator, system; read-only.
PASSING_STATES = ("08", "40", "53", "55", "57", "58", "25006")

ToJson = Callable[[Any], str]
Rows = Sequence[Mapping[str, Any]]


def database_url(setting: str, file: Path, variable: str) -> URL:
    """The database that a setting names, or the SQLite file if it is empty.

    Raises StartupError that names `variable`, and never the setting: it may hold a password.
    """
    if not setting:
        return URL.create(DRIVERS[SQLITE], database=str(file))
    try:
        url = make_url(setting)
    except ArgumentError as error:
        raise StartupError(
            f"{variable} is no database URL; write for example postgresql://user@host/name"
        ) from error
    kind = url.get_backend_name()
    if kind not in DRIVERS:
        raise StartupError(f"{variable} is a URL of {kind!r}; use postgresql:// or sqlite:///file")
    if kind == SQLITE and url.database in (None, "", ":memory:"):
        raise StartupError(f"{variable} names no file; write sqlite:///path/of/file")
    if kind == SQLITE:
        url = url.set(database=str(Path(str(url.database)).resolve()))
    return url.set(drivername=DRIVERS[kind])


def open_engine(url: URL, to_json: ToJson) -> AsyncEngine:
    """Connections to a database of one writer: commits are synced, readers never wait.

    Raises StartupError when the driver is not installed.
    """
    if url.get_backend_name() == SQLITE:
        return _sqlite_engine(url, to_json)
    try:
        return create_async_engine(
            url,
            json_serializer=to_json,
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_S, "command_timeout": COMMAND_S},
        )
    except ModuleNotFoundError as error:
        raise StartupError(
            f"PostgreSQL needs {error.name}: install the service with its extra [postgres]"
        ) from error


def _sqlite_engine(url: URL, to_json: ToJson) -> AsyncEngine:
    engine = create_async_engine(
        url, poolclass=NullPool, json_serializer=to_json, connect_args={"timeout": BUSY_S}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _: object) -> None:
        # The driver would begin transactions by itself, but not before DDL: we begin them all, so
        # that a migration is done wholly or not at all.
        connection.isolation_level = None
        cursor = connection.cursor()
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def hold(connection: Connection, owner: str) -> bool:
    """Be the only `owner` that writes, until the connection ends; False if there is another.

    A SQLite file is held by the lock of its folder.
    """
    if connection.dialect.name != POSTGRESQL:
        return True
    key = zlib.crc32(f"hocket-{owner}".encode())
    return bool(
        connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
    )


def add(connection: Connection, table: Table, rows: Rows, *key: str) -> None:
    """Insert the rows; where a row has the same `key`, that one stays as it is."""
    if rows:
        statement = _insert(connection, table).on_conflict_do_nothing(index_elements=list(key))
        connection.execute(statement, rows)


def put(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert the rows; where a row has the same primary key, this one takes its place."""
    if not rows:
        return
    statement = _insert(connection, table)
    changed = {c.name: statement.excluded[c.name] for c in table.c if not c.primary_key}
    key = [c.name for c in table.primary_key]
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == POSTGRESQL:
        return postgresql.insert(table)
    return sqlite.insert(table)


def is_failure(error: Exception) -> bool:
    """Whether the database said it, or the way to it."""
    # Asyncpg's own errors come through while it connects: only their SQLSTATE tells them.
    cause = _inner(error)
    return isinstance(error, DBAPIError) or isinstance(cause, OSError) or hasattr(cause, "sqlstate")


def cause_of(error: Exception) -> str:
    """What happened, in the database's own words, on one line."""
    cause = _inner(error)
    return " ".join(str(cause).split()) or type(cause).__name__


def failure(error: Exception, where: str) -> HocketError | None:
    """What to tell of a transaction that failed and left no trace; None: a mistake of our own.

    StorageFull and Unavailable pass; StorageFailed does not.
    """
    cause = _inner(error)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # without its extension
    state = getattr(cause, "sqlstate", None) or ""
    if code == sqlite3.SQLITE_FULL or state == DISK_FULL:
        return StorageFull(
            f"the disk of {where} is full: nothing was recorded; make room, it is tried "
            "again by itself",
            RETRY_S,
        )
    if code in DAMAGED:
        return StorageFailed(f"{where} is damaged ({cause_of(error)}); restore it from a copy")
    lost = isinstance(cause, OSError) or getattr(error, "connection_invalidated", False)
    if lost or code in PASSING or state.startswith(PASSING_STATES):
        return Unavailable(f"{where} does not work now ({cause_of(error)}); it is tried again")
    return None


def _inner(error: Exception) -> Exception:
    """What SQLAlchemy has wrapped."""
    wrapped = getattr(error, "orig", None)
    return wrapped if isinstance(wrapped, Exception) else error

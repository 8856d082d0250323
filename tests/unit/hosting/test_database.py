"""Which database a setting means, what its failures mean, and what a failed write leaves."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hocket_aggregator.metadata.store import SCHEMA, Batch, Identity, Store
from hocket_aggregator.recovery.reader import read_status
from hocket_registry.store import read_devices
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, StatementError

from hocket.core.ids import Version
from hocket.core.records import VersionRecord
from hocket.errors import NotFound, StartupError, StorageFailed, StorageFull, Unavailable
from hocket.hosting.database import where_of
from hocket.hosting.dialect import database_url, failure
from hocket.hosting.folder import note_database, noted_database

MINE = Identity("digits", "0")
FILE = Path("/var/lib/hocket/registry.sqlite3")


def url_of(setting: str) -> str:
    return database_url(setting, FILE, "REGISTRY_DATABASE").render_as_string()


def test_without_a_setting_it_is_the_file_in_the_folder() -> None:
    assert url_of("") == f"sqlite+aiosqlite:///{FILE}"


def test_urls_get_the_driver_that_works_here() -> None:
    assert url_of("postgresql://me@host/db") == "postgresql+asyncpg://me@host/db"
    assert url_of("postgresql+psycopg2://me@host/db") == "postgresql+asyncpg://me@host/db"
    assert url_of("sqlite:////tmp/x.db") == "sqlite+aiosqlite:////tmp/x.db"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("secret words", "REGISTRY_DATABASE is no database URL"),
        ("mysql://me:secret@host/db", "REGISTRY_DATABASE is a URL of 'mysql'; use postgresql://"),
        ("sqlite://", "REGISTRY_DATABASE names no file"),
        ("sqlite:///:memory:", "REGISTRY_DATABASE names no file"),
    ],
)
def test_other_settings_are_told_without_a_password(setting: str, complaint: str) -> None:
    with pytest.raises(StartupError, match=complaint) as caught:
        url_of(setting)
    assert "secret" not in caught.value.message


def test_people_see_no_password() -> None:
    url = database_url("postgresql://me:secret@host/db", FILE, "REGISTRY_DATABASE")
    assert where_of(url) == "postgresql://me:***@host/db"


def sqlite_error(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("told by SQLite")
    cause.sqlite_errorcode = code
    return OperationalError("INSERT", {}, cause)


class PostgresError(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__("told by PostgreSQL")
        self.sqlstate = sqlstate


def postgres_error(sqlstate: str) -> OperationalError:
    return OperationalError("INSERT", {}, PostgresError(sqlstate))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), StorageFull),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), Unavailable),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), Unavailable),
        (sqlite_error(sqlite3.SQLITE_BUSY), Unavailable),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), StorageFailed),
        (sqlite_error(sqlite3.SQLITE_NOTADB), StorageFailed),
        (postgres_error("53100"), StorageFull),
        (postgres_error("53300"), Unavailable),  # too many connections
        (postgres_error("57P01"), Unavailable),  # the server is being shut down
        (postgres_error("25006"), Unavailable),  # a standby takes no writes
        (ConnectionRefusedError("nobody listens"), Unavailable),
        (TimeoutError(), Unavailable),
        (StatementError("while connecting anew", None, None, TimeoutError()), Unavailable),
    ],
)
def test_failures_that_pass_are_told_from_those_that_do_not(
    error: Exception, kind: type[Exception]
) -> None:
    assert type(failure(error, "the database")) is kind


@pytest.mark.parametrize(
    "error", [sqlite_error(sqlite3.SQLITE_ERROR), postgres_error("42P01"), KeyError("x")]
)
def test_our_own_mistakes_are_no_failures_of_the_database(error: Exception) -> None:
    assert failure(error, "the database") is None


def versions(first: int, count: int) -> Batch:
    return Batch(
        [
            VersionRecord(Version(n), Version(n - 1), "0" * 16, 0.0, ("update-" * 100,))
            for n in range(first, first + count)
        ]
    )


def fill_up(connection: Connection) -> None:
    """As a disk without room: the file may not grow any more."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def make_room(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count = 1000000")


async def test_a_full_disk_is_told_and_leaves_nothing_and_passes(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, MINE)
    try:
        await store.save(versions(1, 1))
        await store.database.write(fill_up)
        with pytest.raises(StorageFull, match=r"aggregator\.db is full: nothing was recorded"):
            await store.save(versions(2, 100))
        assert await store.newest_version() == 1
        await store.database.write(make_room)
        await store.save(versions(2, 100))
        assert await store.newest_version() == 101
    finally:
        await store.close()


async def test_a_database_that_takes_no_writes_is_told_and_passes(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, MINE)
    try:
        await store.database.write(lambda c: c.exec_driver_sql("PRAGMA query_only = ON"))
        with pytest.raises(Unavailable, match="does not work now"):
            await store.save(versions(1, 1))
        await store.database.write(lambda c: c.exec_driver_sql("PRAGMA query_only = OFF"))
        await store.save(versions(1, 1))
        assert await store.newest_version() == 1
    finally:
        await store.close()


async def test_a_file_elsewhere_is_locked_too_and_found_by_readers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere' / 'records.db'}"
    store = await Store.open(tmp_path / "data", MINE, url)
    with pytest.raises(StartupError, match="another aggregator uses"):
        await Store.open(tmp_path / "other", MINE, url)
    await store.close()
    assert not (tmp_path / "data" / SCHEMA.file_name).exists()
    with pytest.raises(NotFound, match="no aggregator has stored anything"):
        read_status(tmp_path / "data")  # found, and has no status yet
    (tmp_path / "elsewhere" / "records.db").write_bytes(b"no database" * 100)
    with pytest.raises(NotFound, match=r"elsewhere/records\.db cannot be read"):
        read_status(tmp_path / "data")


async def test_readers_say_that_the_records_are_on_a_server(tmp_path: Path) -> None:
    for owner in ("aggregator", "registry"):
        note_database(tmp_path, owner, f"postgresql://me:***@host/{owner}")
    with pytest.raises(NotFound, match=r"is in postgresql://me:\*\*\*@host/aggregator"):
        read_status(tmp_path)
    with pytest.raises(StartupError, match=r"is in postgresql://me:\*\*\*@host/registry"):
        await read_devices(tmp_path)
    note_database(tmp_path, "registry", None)
    assert noted_database(tmp_path, "registry") is None


async def test_a_server_that_cannot_be_reached_stops_the_start(tmp_path: Path) -> None:
    # The driver is an extra, which a test must not need.
    with pytest.raises(StartupError, match=r"check AGGREGATOR_DATABASE|extra \[postgres\]"):
        await Store.open(tmp_path, MINE, "postgresql://me:secret@127.0.0.1:1/db")

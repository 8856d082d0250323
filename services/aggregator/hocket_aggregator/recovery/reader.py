"""What a stopped aggregator left in its folder. Knows no torch, so that reading starts fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hocket.core.ids import Version
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.errors import NotFound
from hocket.hosting.folder import noted_database
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.queries import DATABASE, SNAPSHOTS

PAGE = 1000
SHOWN = 10  # versions named in a message


def read_status(data_dir: Path) -> Status:
    """Where the task stood when it was last recorded; every device is away.

    Raises NotFound where no aggregator has stored anything.
    """
    with _opened(data_dir) as connection:
        stored = queries.status(connection)
    if stored is None:
        raise _nothing(data_dir)
    return stored


def read_versions(data_dir: Path) -> list[VersionRecord]:
    """Every version, newest first; `retained` says whether its snapshot is there.

    Raises NotFound where no aggregator has stored anything.
    """
    kept = set(snapshot_versions(data_dir))
    found: list[VersionRecord] = []
    with _opened(data_dir) as connection:
        while page := queries.versions_below(
            connection, found[-1].version if found else None, PAGE
        ):
            found += [replace(record, retained=record.version in kept) for record in page]
    return found


def read_lineage(data_dir: Path, version: int = 0) -> list[UpdateRecord]:
    """The updates behind a version (0: the newest), newest first. Raises NotFound."""
    found: list[UpdateRecord] = []
    with _opened(data_dir) as connection:
        record = queries.version_record(connection, version)
        if record is None:
            raise NotFound(f"there is no version {version} in {data_dir}; list the versions")
        before: int | None = None
        while True:
            page, before = queries.lineage(connection, record.version, before, PAGE)
            found += page
            if before is None:
                return found


def read_digest(data_dir: Path, version: int) -> str | None:
    """The digest on record for a version; None where that is not known here."""
    try:
        with _opened(data_dir) as connection:
            record = queries.version_record(connection, version)
    except NotFound:  # no database, or another one than a file of the folder
        return None
    return None if record is None else record.digest


def read_model(data_dir: Path, version: int = 0) -> Path:
    """The snapshot (safetensors) of a version (0: the newest there is).

    Raises NotFound, naming the versions there are.
    """
    kept = snapshot_versions(data_dir)
    if not kept:
        raise NotFound(f"no snapshot is in {data_dir / SNAPSHOTS}; run an aggregator there first")
    wanted = version or kept[0]
    if wanted not in kept:
        some = ", ".join(map(str, kept[:SHOWN])) + (", ..." if len(kept) > SHOWN else "")
        raise NotFound(
            f"version {wanted} has no snapshot in {data_dir}; take one of {some}, or rebuild it "
            f"with `hocket replay --version {wanted} -o FILE`"
        )
    return data_dir / SNAPSHOTS / f"{wanted}.safetensors"


def snapshot_versions(data_dir: Path) -> list[Version]:
    """Versions whose snapshot is in the folder, newest first."""
    names = [file.stem for file in (data_dir / SNAPSHOTS).glob("*.safetensors")]
    return sorted((Version(int(name)) for name in names if name.isdecimal()), reverse=True)


@contextmanager
def _opened(data_dir: Path) -> Iterator[Connection]:
    file = _file_of(data_dir)
    if not file.is_file():
        raise _nothing(data_dir)
    engine = create_engine(URL.create("sqlite", database=str(file)), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise NotFound(f"{file} cannot be read: {cause}") from error
    finally:
        engine.dispose()


def _file_of(data_dir: Path) -> Path:
    """The SQLite file, wherever AGGREGATOR_DATABASE has put it."""
    noted = noted_database(data_dir, "aggregator")
    if noted is not None and "://" in noted:
        raise NotFound(
            f"what the aggregator of {data_dir} recorded is in {noted}, which cannot be read "
            "here; start the aggregator and ask it, or ask that database"
        )
    return data_dir / (noted or DATABASE)


def _nothing(data_dir: Path) -> NotFound:
    return NotFound(
        f"no aggregator has stored anything in {data_dir}; check the folder, or start one there"
    )

"""What a stopped aggregator left, in its folder and wherever its snapshots are.

Knows no torch, so that reading starts fast. What it asks of storage elsewhere it asks in an event
loop of its own: call it from a thread that runs none.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hocket.core.ids import Version
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.errors import HocketError, NotFound, StartupError, StorageFailed
from hocket.hosting.folder import noted_database
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.queries import DATABASE, SNAPSHOTS
from hocket_aggregator.snapshots.place import place_of

if TYPE_CHECKING:
    from hocket_aggregator.snapshots.blobs import Blobs

R = TypeVar("R")

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

    None is said to be where that cannot be found out. Raises NotFound where no aggregator has
    stored anything.
    """
    kept = set[Version]()
    with suppress(HocketError):  # of storage elsewhere: the versions are here all the same
        kept.update(snapshot_versions(data_dir))
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
    """The snapshot (safetensors) of a version (0: the newest there is), which is in a folder.

    Raises NotFound, naming the versions there are.
    """
    place = place_of(data_dir)
    return Path(place) / _file_name(_wanted(place, snapshot_versions(data_dir), version))


def copy_model(data_dir: Path, version: int, to: Path) -> Version:
    """Write the snapshot of a version (0: the newest there is) to a file; which version that is.

    Raises NotFound as `read_model` does, StorageFailed where the snapshots are elsewhere and
    cannot be read, and OSError for the file.
    """
    place = place_of(data_dir)
    wanted = _wanted(place, snapshot_versions(data_dir), version)
    if isinstance(place, Path):
        shutil.copyfile(place / _file_name(wanted), to)
    else:
        data = _ask(data_dir, place, lambda blobs: blobs.get(_file_name(wanted)))
        with to.open("wb") as file:
            file.write(data)
    return wanted


def snapshot_versions(data_dir: Path) -> list[Version]:
    """Versions of which there is a snapshot, newest first.

    Raises StorageFailed where the snapshots are elsewhere and cannot be read.
    """
    place = place_of(data_dir)
    if isinstance(place, Path):
        names = [file.name for file in (place / SNAPSHOTS).glob("*.safetensors")]
    else:
        names = _ask(data_dir, place, lambda blobs: blobs.names(SNAPSHOTS))
    stems = [Path(name).stem for name in names if name.endswith(".safetensors")]
    return sorted((Version(int(stem)) for stem in stems if stem.isdecimal()), reverse=True)


def _wanted(place: Path | str, kept: list[Version], version: int) -> Version:
    if not kept:
        raise NotFound(f"no snapshot is in {place}/{SNAPSHOTS}; run an aggregator there first")
    wanted = Version(version) or kept[0]
    if wanted not in kept:
        some = ", ".join(map(str, kept[:SHOWN])) + (", ..." if len(kept) > SHOWN else "")
        raise NotFound(
            f"version {wanted} has no snapshot in {place}; take one of {some}, or rebuild it "
            f"with `hocket replay --version {wanted} -o FILE`"
        )
    return wanted


def _file_name(version: Version) -> str:
    return f"{SNAPSHOTS}/{version}.safetensors"


def _ask(data_dir: Path, place: str, question: Callable[[Blobs], Coroutine[Any, Any, R]]) -> R:
    # Most folders have theirs beside them, and need neither obstore nor numpy.
    from hocket_aggregator.snapshots.blobs import open_blobs  # noqa: PLC0415 -- see above

    try:
        return asyncio.run(question(open_blobs(place)))
    except (StartupError, StorageFailed) as error:
        cause = str(error.__cause__ or error.message).splitlines()[0]
        raise StorageFailed(
            f"the snapshots of {data_dir} are in {place}, which cannot be read: {cause}. Set the "
            "variables with which the aggregator ran (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_REGION, AWS_ENDPOINT_URL), or see to that storage"
        ) from error


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

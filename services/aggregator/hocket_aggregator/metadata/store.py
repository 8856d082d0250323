"""An index of the journal, for people and for the next start: versions, updates, the status.

The journal is the truth. What is missing here is saved again, and what is here already stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, delete, select, update

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.ledger import Ledger
from hocket.core.records import DeviceStatus, Evaluation, Status, UpdateRecord, VersionRecord
from hocket.errors import StartupError
from hocket.hosting.database import Database, Schema
from hocket.hosting.dialect import add, put
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.tables import (
    FACTS,
    UPDATES,
    VERSIONS,
    Encoded,
    encode_status,
    to_json,
    update_row,
    version_row,
)

P = ParamSpec("P")
R = TypeVar("R")

MOST_NAMED = 500  # rows in one statement
SCHEMA = Schema("aggregator", queries.DATABASE, Path(__file__).with_name("migrations"), to_json)


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


class Store:
    """The one writer of a data folder. Open it with `open`, close it with `close`.

    Every method raises StorageFull or Unavailable for what passes, StorageFailed for what does not.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    async def open(cls, data_dir: Path, identity: Identity, url: str = "") -> Self:
        """Take the folder for this process, making it if missing; `url` names another database.

        Raises StartupError when it cannot be written, is another aggregator's, holds another
        task's or model's versions, or was written by a newer Hocket.
        """

        def prepare(connection: Connection, where: str) -> None:
            _identify(connection, where, identity)

        return cls(await Database.open(data_dir, SCHEMA, url, prepare))

    async def save(self, batch: Batch, status: Status | None = None) -> None:
        """One transaction, on disk when it returns. What was saved before stays as it was.

        The latest evaluation of a version and the latest status are what counts.
        """
        encoded = None
        if status is not None:
            # For ten thousand devices this takes 50 ms, which nobody on the event loop has.
            encoded = await asyncio.to_thread(encode_status, status)
        await self.database.write(_write, batch, encoded)

    async def read(
        self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Ask one of `queries`."""
        return await self.database.read(query, *args, **kwargs)

    async def ledger(self, oldest: int = 0) -> Ledger:
        """The newest outcomes, and all of updates trained from version `oldest` or later."""
        return await self.read(queries.ledger, oldest)

    async def newest_version(self) -> Version:
        """The newest version on record; 0 if there is none."""
        return await self.read(queries.newest_version)

    async def newest_evaluation(self) -> tuple[Version, Evaluation] | None:
        """The newest version that was evaluated."""
        return await self.read(queries.newest_evaluation)

    async def status(self) -> Status | None:
        """Where the task stood when it was last recorded, every device away."""
        return await self.read(queries.status)

    async def tallies(self) -> dict[DeviceId, DeviceStatus]:
        """Each device's part in the task, as the updates on record add up; every device away."""
        return await self.read(queries.tallies)

    async def forget_after(
        self, version: Version, pending: Collection[UpdateId] = ()
    ) -> tuple[int, int]:
        """Remove what came after a version (0: every version): how many versions, and updates.

        For a task whose journal was switched off, and which goes back to a snapshot. The updates
        in its buffer, `pending`, stay: the next version will be made from them. Updates that were
        dropped stay so.
        """
        return await self.database.write(_forget_after, version, frozenset(pending))

    async def close(self) -> None:
        """Let the folder go."""
        await self.database.close()


def _identify(connection: Connection, where: str, identity: Identity) -> None:
    mine = {"task": identity.task, "manifest": identity.manifest_digest}
    add(connection, FACTS, [{"name": "identity", "value": mine}], "name")
    theirs = queries.fact(connection, "identity")
    if theirs != mine:
        raise StartupError(
            f"{where} holds versions of task {theirs['task']!r} (model {theirs['manifest']}), "
            f"not of {mine['task']!r} (model {mine['manifest']}); choose another "
            "AGGREGATOR_DATA_DIR (with `hocket up`, another --home), or move that folder away"
        )


def _write(connection: Connection, batch: Batch, status: Encoded | None) -> None:
    add(connection, VERSIONS, [version_row(record) for record in batch.versions], "version")
    add(connection, UPDATES, [update_row(record) for record in batch.updates], "update_id")
    for version, evaluation in batch.evaluations.items():
        values = {"test_loss": evaluation.test_loss, "test_accuracy": evaluation.test_accuracy}
        same = VERSIONS.c.version == version
        connection.execute(update(VERSIONS).where(same).values(values))
    if status is not None:
        put(connection, FACTS, [{"name": "status", "value": status}])


def _forget_after(
    connection: Connection, version: Version, pending: Collection[UpdateId]
) -> tuple[int, int]:
    later = select(UPDATES.c.number, UPDATES.c.update_id).where(UPDATES.c.version > version)
    gone = [number for number, name in connection.execute(later).all() if name not in pending]
    for start in range(0, len(gone), MOST_NAMED):
        some = UPDATES.c.number.in_(gone[start : start + MOST_NAMED])
        connection.execute(delete(UPDATES).where(some))
    versions = connection.execute(delete(VERSIONS).where(VERSIONS.c.version > version))
    return versions.rowcount, len(gone)

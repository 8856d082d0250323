"""A service's database: SQLite in its folder, or what a URL names. One writer, many readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hocket.errors import StartupError, Unavailable
from hocket.hosting import dialect
from hocket.hosting.folder import note_database, take_folder

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Schema:
    """Whose tables they are, and how they came about."""

    service: str  # "registry"; its variables begin with REGISTRY_
    file_name: str  # in the data folder, unless a URL is set
    scripts: Path  # the service's migrations
    to_json: dialect.ToJson

    @property
    def data_dir_variable(self) -> str:
        """The setting that names the folder."""
        return f"{self.service.upper()}_DATA_DIR"

    @property
    def url_variable(self) -> str:
        """The setting that names another database."""
        return f"{self.service.upper()}_DATABASE"


class Database:
    """Open it with `open`, close it with `close`. `where` names it for people."""

    def __init__(
        self,
        engine: AsyncEngine,
        writing: AsyncConnection,
        held: AsyncExitStack,
        service: str,
    ) -> None:
        self.where = where_of(engine.url)
        self._engine = engine
        self._writing = writing
        self._held = held  # closes all there is
        self._service = service
        self._mine = True  # the server knows this connection as the writer
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        folder: Path,
        schema: Schema,
        setting: str,
        prepare: Callable[[Connection, str], None] | None = None,
    ) -> Self:
        """Take folder and database for this process, and bring the tables up to date.

        `prepare` is run on them then, and told how the database is called. Raises StartupError
        when one of them cannot be used, is in use, or was written by a newer Hocket.
        """
        file = folder / schema.file_name
        url = dialect.database_url(setting, file, schema.url_variable)
        async with AsyncExitStack() as held:
            for place in _folders_of(url, folder):
                variable = schema.data_dir_variable if not setting else schema.url_variable
                held.enter_context(take_folder(place, schema.service, variable))
            engine = dialect.open_engine(url, schema.to_json)
            held.push_async_callback(engine.dispose)
            try:
                noted = None if not setting else where_of(url)
                note_database(folder, schema.service, noted)
                connection = await held.enter_async_context(engine.connect())
                await connection.run_sync(_prepare, schema, where_of(url), prepare)
                await connection.commit()
            except Exception as error:
                if not dialect.is_failure(error):
                    raise
                advice = f"choose another {schema.data_dir_variable}"
                raise StartupError(
                    f"cannot use {where_of(url)}: {dialect.cause_of(error)}; "
                    f"{advice if not setting else f'check {schema.url_variable}'}"
                ) from error
            return cls(engine, connection, held.pop_all(), schema.service)

    async def write(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """One transaction, on disk when it returns; one after the other.

        Raises StorageFull or Unavailable when it may do later, StorageFailed when it never will;
        nothing of it is kept then.
        """
        async with self._turn:
            try:
                if not self._mine:
                    await self._take_anew()
                result = await self._writing.run_sync(work, *args, **kwargs)
                await self._writing.commit()
            except Exception as error:
                await self._undo()
                raise dialect.failure(error, self.where) or error from error
            return result

    async def read(
        self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Ask something, beside the writer. Raises as `write` does."""
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(query, *args, **kwargs)
        except Exception as error:
            raise dialect.failure(error, self.where) or error from error

    async def close(self) -> None:
        """Let database and folder go."""
        await self._held.aclose()

    async def _undo(self) -> None:
        # A connection that is lost is made anew by the next transaction.
        with suppress(SQLAlchemyError, OSError):
            await self._writing.rollback()
        self._mine = self._mine and not self._writing.invalidated

    async def _take_anew(self) -> None:
        if not await self._writing.run_sync(dialect.hold, self._service):
            raise Unavailable(f"another {self._service} writes to {self.where} meanwhile; stop it")
        self._mine = True


def where_of(url: URL) -> str:
    """The database as people know it: a path, or a URL without its password."""
    if url.get_backend_name() == dialect.SQLITE:
        return str(url.database)
    return url.set(drivername=dialect.POSTGRESQL).render_as_string(hide_password=True)


def _folders_of(url: URL, folder: Path) -> set[Path]:
    """The data folder, and that of a SQLite file which is elsewhere."""
    folders = {folder.resolve()}
    if url.get_backend_name() == dialect.SQLITE:
        folders.add(Path(str(url.database)).resolve().parent)
    return folders


def _prepare(
    connection: Connection,
    schema: Schema,
    where: str,
    prepare: Callable[[Connection, str], None] | None,
) -> None:
    # Alembic takes a third of a second to import, which who only reads shall not have to wait for.
    from hocket.hosting.migration import migrate  # noqa: PLC0415 -- see above

    if not dialect.hold(connection, schema.service):
        raise StartupError(
            f"another {schema.service} uses {where}; stop it, or change {schema.url_variable}"
        )
    migrate(connection, schema.service, schema.scripts, where)
    if prepare is not None:
        prepare(connection, where)

"""Databases that the contract suites run on: SQLite in a folder, PostgreSQL where one is named."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

POSTGRES_VARIABLE = "HOCKET_TEST_POSTGRES"
"""URL of a PostgreSQL database that the tests may empty."""

KINDS = ("sqlite", "postgresql") if os.environ.get(POSTGRES_VARIABLE) else ("sqlite",)


@asynccontextmanager
async def database_of(kind: str) -> AsyncIterator[str]:
    """What to set as the service's database; empty at first."""
    if kind == "sqlite":
        yield ""
        return
    url = os.environ[POSTGRES_VARIABLE]
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.connect() as turn:
            await turn.execute(text("SELECT pg_advisory_lock(1)"))  # tests of another process wait
            async with engine.begin() as connection:
                await connection.execute(text("DROP SCHEMA public CASCADE"))
                await connection.execute(text("CREATE SCHEMA public"))
            yield url
    finally:
        await engine.dispose()  # and with the last connection ends its turn

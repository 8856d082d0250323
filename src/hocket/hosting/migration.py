"""Brings a database to the schema that this Hocket knows, step by step (Alembic)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from hocket.errors import StartupError


def version_table(service: str) -> str:
    """Where a service's schema is noted; apart, so that services may share a database."""
    return f"{service}_alembic_version"


def migrate(connection: Connection, service: str, scripts: Path, where: str) -> None:
    """Take the steps in the folder `scripts` that were not taken yet; the caller commits.

    The first step leaves tables alone that are there, and so adopts what was made before there
    were steps. Raises StartupError for a database that has gone through steps unknown here.
    """
    table = version_table(service)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=table, transactional_ddl=True)
    known = ScriptDirectory.from_config(config)
    found = MigrationContext.configure(
        connection, opts={"version_table": table}
    ).get_current_heads()
    if newer := sorted(set(found) - {step.revision for step in known.walk_revisions()}):
        raise StartupError(
            f"{where} was written by a newer Hocket (schema {newer[0]}, this one knows "
            f"{known.get_current_head()}); run that one, or choose another "
            f"{service.upper()}_DATA_DIR"
        )
    if found != tuple(known.get_heads()):
        command.upgrade(config, "head")

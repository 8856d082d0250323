"""The classes that an update is about. Older ones are about all: null."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A column, unless the tables that were there already have it."""
    columns = sa.inspect(op.get_bind()).get_columns("updates")
    if "labels" not in {column["name"] for column in columns}:
        op.add_column("updates", sa.Column("labels", sa.JSON))

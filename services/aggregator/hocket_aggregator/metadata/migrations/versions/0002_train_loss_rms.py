"""What a selection learns of a device's examples. Of older updates it is not known: 0."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column, unless the tables that were there already have it."""
    columns = sa.inspect(op.get_bind()).get_columns("updates")
    if "train_loss_rms" in {column["name"] for column in columns}:
        return
    rms = sa.Column("train_loss_rms", sa.Float, nullable=False, server_default="0")
    op.add_column("updates", rms)

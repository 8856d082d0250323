"""The first schema. Tables that are there already were made by a Hocket without migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Counters, devices and links."""
    op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("capability", sa.JSON, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("joined_unix_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "links",
        sa.Column("device_id", sa.String(64), sa.ForeignKey("devices.device_id"), primary_key=True),
        sa.Column("peer", sa.String(64), primary_key=True),
        sa.Column("up_bytes_per_s", sa.Float, nullable=False),
        sa.Column("down_bytes_per_s", sa.Float, nullable=False),
        sa.Column("rtt_s", sa.Float, nullable=False),
        sa.Column("loss", sa.Float, nullable=False),
        sa.Column("transfers", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )

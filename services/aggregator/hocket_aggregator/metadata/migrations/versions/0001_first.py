"""The first schema. Tables that are there already were made by a Hocket without migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Facts, versions and updates."""
    op.create_table(
        "facts",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "versions",
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("parent", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(16), nullable=False),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("update_ids", sa.JSON, nullable=False),
        sa.Column("test_loss", sa.Float),
        sa.Column("test_accuracy", sa.Float),
        if_not_exists=True,
    )
    op.create_table(
        "updates",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("update_id", sa.String(64), nullable=False, unique=True),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("base_version", sa.BigInteger, nullable=False),
        sa.Column("num_examples", sa.BigInteger, nullable=False),
        sa.Column("num_steps", sa.BigInteger, nullable=False),
        sa.Column("learning_rate", sa.Float, nullable=False),
        sa.Column("train_loss", sa.Float, nullable=False),
        sa.Column("train_s", sa.Float, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("refresh", sa.JSON),
        sa.Column("outcome", sa.JSON, nullable=False),
        sa.Column("version", sa.BigInteger),
        sa.Column("wire_bytes", sa.BigInteger, nullable=False),
        sa.Column("dense_bytes", sa.BigInteger, nullable=False),
        sa.Column("codec", sa.String(16), nullable=False),
        sa.Column("received_unix_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_updates_version", "updates", ["version"], if_not_exists=True)

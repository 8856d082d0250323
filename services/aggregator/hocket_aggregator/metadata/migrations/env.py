"""Run by Alembic, on the connection that hocket.hosting.migration hands over."""

from __future__ import annotations

from alembic import context

from hocket_aggregator.metadata.tables import METADATA

context.configure(target_metadata=METADATA, **context.config.attributes)
with context.begin_transaction():
    context.run_migrations()

"""Run by alembic for each migration: on the connection, and in the transaction, of the caller (hip3/store/versions.py)."""

from __future__ import annotations

from alembic import context

from hip3.store.schema import METADATA, VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE)
context.run_migrations()

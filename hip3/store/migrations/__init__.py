"""Migrations of the schema, run by alembic; see hip3/store/versions.py."""

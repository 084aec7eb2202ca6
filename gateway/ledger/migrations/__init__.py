"""Forward-only migrations: SQL text, run by alembic."""

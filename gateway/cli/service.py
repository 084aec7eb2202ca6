"""`run`, `migrate`, `check-config`: the service itself."""

from __future__ import annotations

import asyncio
import gc
import sys

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, console, fail, read


def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM."""
    import uvloop

    from gateway.app import Application
    from gateway.observability import logs

    settings = read(config)
    logs.setup(settings.log_level, sys.stdout)
    # What is loaded by now stays; and what is made later hardly ever forms cycles, so look for them less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(Application(settings).run()))


def migrate(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Bring the database to the schema this version needs; forward only, safe to run again."""
    import asyncpg

    from gateway.ledger import schema

    settings = read(config)
    try:
        version = asyncio.run(schema.migrate(settings.database.dsn.get_secret_value()))
    except (OSError, asyncpg.PostgresError) as error:
        raise fail(f"the database cannot be used: {type(error).__name__}") from None
    typer.echo(f"schema {version}")


def check_config(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Check the configuration and print it, secrets hidden; all problems at once, and then exit 2."""
    from rich.markup import escape
    from rich.table import Table

    from gateway.config import describe

    settings = read(config)
    table = Table("key", "value")
    for path, value in describe(settings):
        table.add_row(escape(path), escape(value))
    console().print(table)

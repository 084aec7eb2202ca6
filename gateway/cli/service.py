"""`run`, `migrate`, `check-config`: the service itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.app import Application
from gateway.config import Config, ConfigError, describe, load
from gateway.ledger import schema
from gateway.observability import logs

ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="REMINDER_GATEWAY_CONFIG", help="The YAML file.", show_default=True),
]
DEFAULT_CONFIG = Path("gateway.yaml")


def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM."""
    settings = read(config)
    logs.setup(settings.log_level, sys.stdout)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(Application(settings).run()))


def migrate(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Bring the database to the schema this version needs; forward only, safe to run again."""
    settings = read(config)
    version = asyncio.run(schema.migrate(settings.database.dsn.get_secret_value()))
    typer.echo(f"schema {version}")


def check_config(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Check the configuration and print it, secrets hidden; all problems at once."""
    settings = read(config)
    table = Table("key", "value")
    for path, value in describe(settings):
        table.add_row(path, value)
    Console().print(table)


def read(path: Path) -> Config:
    """The configuration; on problems prints every one with its path and exits with 2."""
    try:
        return load(path, os.environ)
    except ConfigError as error:
        for each in error.problems:
            typer.echo(f"{each.path or path}: {each.reason}: {each.message}", err=True)
        raise typer.Exit(2) from None

"""The command line: one module per group of commands."""

from __future__ import annotations

import typer

from gateway.cli import service

app = typer.Typer(
    name="reminder-gateway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Exactly one respectful reminder, at a lawful hour, by the channel that works.",
)
app.command()(service.run)
app.command()(service.migrate)
app.command("check-config")(service.check_config)


def main() -> None:
    app()

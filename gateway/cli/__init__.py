"""The command line: one module per group of commands.  Each imports what it needs when it runs, so that `--help`
is quick and the service never loads a development tool.
"""

from __future__ import annotations

import typer

from gateway.cli import develop, request, service, show, sums

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
app.command()(request.request)
app.command()(show.show)
app.command()(sums.sums)
app.command()(develop.simulate)
app.command()(develop.demo)


def main() -> None:
    app()

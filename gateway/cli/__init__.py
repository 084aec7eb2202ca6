"""The command line: one module per group of commands.  Each imports what it needs when it runs, so that `--help`
is quick and the service never loads a development tool.
"""

from __future__ import annotations

import typer

from gateway.cli import (
    allowlist,
    brakes,
    cadence,
    deadletters,
    develop,
    plan,
    providers,
    redrive,
    reminders,
    reply,
    request,
    reseal,
    service,
    show,
    sources,
    sums,
    tell,
    unknowns,
)

app = typer.Typer(
    name="reminder-gateway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reminders from Kafka to SMS, push and voice providers; nobody is reminded twice, and each can be looked up.",
)
app.command()(service.run)
app.command()(service.migrate)
app.command("check-config")(service.check_config)
app.command()(allowlist.allowlist)
app.command()(request.request)
app.command()(tell.tell)
app.command()(show.show)
app.command()(reply.reply)
app.command()(brakes.freeze)
app.command()(brakes.unfreeze)
app.command()(brakes.freezes)
app.command()(sums.sums)
app.command()(plan.plan)
app.command()(sources.sources)
app.command()(reseal.reseal)
app.command()(providers.providers)
app.add_typer(cadence.app, name="cadence")
deadletters.app.command()(redrive.redrive)
app.add_typer(deadletters.app, name="deadletters")
app.add_typer(reminders.app, name="reminders")
app.add_typer(unknowns.app, name="unknowns")
app.command()(develop.simulate)
app.command()(develop.demo)


def main() -> None:
    """Exits with 70 where a command crashes (EX_SOFTWARE).  A traceback would quote what the exception does: rows,
    URLs, words that somebody has typed; and it would stand in whatever keeps the output.
    """
    try:
        app()
    except Exception as error:
        from gateway.observability.logs import told_of

        what = " ".join(f"{name}={value}" for name, value in told_of(error).items())
        typer.echo(f"reminder-gateway crashed: {what}", err=True)
        raise SystemExit(70) from None

"""`simulate` and `demo`: for a developer's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import fail


def simulate(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML or JSON settings.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the system choose.")] = None,
    log: Annotated[Path | None, typer.Option(help="The durable log.")] = None,
    credentials: Annotated[Path | None, typer.Option(help="Credentials file; made when missing.")] = None,
    fsync: Annotated[bool, typer.Option("--fsync", help="Flush every log line to the disk.")] = False,
) -> None:
    """Run the simulated providers on loopback until Ctrl-C."""
    from gateway.dev.simulator.__main__ import main

    options = {"--config": config, "--port": port, "--log": log, "--credentials": credentials}
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    raise typer.Exit(main(given + ["--fsync"] * fsync))


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit when it is over.")] = False,
    time_lapse: Annotated[
        bool, typer.Option("--time-lapse", help="Weeks of repayment plans instead, on a clock that jumps.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the time-lapse: other borrowers.")] = 1,
    loans: Annotated[int, typer.Option(min=1, max=2000, help="Of the time-lapse.")] = 300,
    days: Annotated[int, typer.Option(min=1, max=200, help="Of the time-lapse.")] = 45,
) -> None:
    """Watch reminders travel: Postgres, a broker, simulated providers and the gateway, all on this machine."""
    from gateway.dev import demo as requests
    from gateway.dev import lapse
    from gateway.dev.host import StackError

    try:
        code = lapse.run(lapse.Size(seed, loans, days), once=once) if time_lapse else requests.run(once=once)
    except StackError as error:
        raise fail(f"the demo could not go on: {error}") from None
    raise typer.Exit(code)

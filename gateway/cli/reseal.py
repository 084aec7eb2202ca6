"""`reseal`: every sealed value under the current key, so that a former one can be removed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, FAILED, ConfigPath, console, database, read

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.resealing import Resealing, Walked

_SAY_EVERY_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 60


def reseal(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the values under each key.")] = False,
    rows_per_second: Annotated[
        float, typer.Option(min=0, help="How many rows to write in a second; 0 for as many as go.")
    ] = 500.0,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Seal everything in the ledger anew, with the current key, while the gateway works.

    Killed, it goes on when it is started again. Exits with 1 while anything is left under another key.
    """
    settings = read(config)
    resealed, walked = asyncio.run(_work(settings, rows_per_second, dry_run))
    _show(settings, resealed, walked, dry_run)
    if walked.under_others(settings.sealing.current):
        raise typer.Exit(FAILED)


async def _work(
    config: Config, rows_per_second: float, dry_run: bool
) -> tuple[Counter[tuple[str, int | None]], Walked]:
    from gateway.resealing import Resealing

    async with database(config, _STATEMENT_SECONDS) as opened:
        work = Resealing(opened, config.sealing.sealer(), rows_per_second, _Progress())
        return (Counter(), await work.count()) if dry_run else await work.run()


async def counted(config: Config) -> Walked:
    """How many values the ledger has under which key."""
    from gateway.resealing import Resealing

    async with database(config, _STATEMENT_SECONDS) as opened:
        work: Resealing = Resealing(opened, config.sealing.sealer(), on_progress=_Progress())
        return await work.count()


class _Progress:
    """A line on standard error every few seconds."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, table: str, seen: int, resealed: int) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAY_EVERY_SECONDS:
            self._said_at = now
            typer.echo(f"{table}: {seen} values seen, {resealed} sealed anew", err=True)


def _show(config: Config, resealed: Counter[tuple[str, int | None]], walked: Walked, dry_run: bool) -> None:
    from rich.table import Table

    from gateway.ids import to_reference

    current = config.sealing.current
    table = Table("table", "key", "sealed anew", "values")
    keys = sorted({*resealed, *walked.values}, key=lambda each: (each[0], -1 if each[1] is None else each[1]))
    for name, key_id in keys:
        table.add_row(name, _name(config, key_id), str(resealed[name, key_id]), str(walked.values[name, key_id]))
    console().print(table)
    for name, n in walked.broken.items():
        some = " ".join(to_reference(each) for each in walked.examples[name])
        typer.echo(f"{name}: {n} values do not open with their own key: {some}")
    left = walked.under_others(current)
    for key_id in sorted(walked.key_ids - {current}, key=lambda each: -1 if each is None else each):
        typer.echo(f"{walked.under(key_id)} values under {_name(config, key_id)}")
    if left:
        again = "" if dry_run else ", also after the last look: does a process still seal with a former key?"
        typer.echo(f"{left} values are not under key {current}{again}")
    else:
        typer.echo(f"everything is under key {current}: the other keys may go")


def _name(config: Config, key_id: int | None) -> str:
    if key_id is None:
        return "no key (not a sealed value)"
    current = " (current)" if key_id == config.sealing.current else ""
    return f"key {key_id}{current}" if key_id in config.sealing.keys else f"key {key_id} (not configured)"

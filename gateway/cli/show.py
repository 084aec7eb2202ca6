"""`show`: one reminder's timeline, as the ledger has it.  Ids, states and times; nothing personal."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, console, fail, ledger, read

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gateway.config import Config
    from gateway.ledger.timeline import Timeline

_FACTS: Final = (
    "source", "request_id", "lender", "borrower", "debt", "instalment", "product", "stage", "step", "template", "lane",
    "state_as_of", "received_at", "send_at", "not_after", "trace",
)  # fmt: skip


def show(
    reminder: Annotated[str | None, typer.Argument(help="The reminder's id, as events and logs name it.")] = None,
    source: Annotated[str | None, typer.Option(help="The CloudEvents source of its request.")] = None,
    request_id: Annotated[str | None, typer.Option("--id", help="The id of its request.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show one reminder's timeline, by its id or by --source and --id.  Exits with 1 when there is none."""
    if (reminder is None) == (source is None) or (source is None) != (request_id is None):
        raise fail("give either a reminder's id, or --source and --id", WRONG)
    story = asyncio.run(_read(read(config), reminder, source, request_id))
    if story is None:
        raise fail("no such reminder")
    for part in pictures(story):
        console().print(part)


async def _read(config: Config, reference: str | None, source: str | None, request_id: str | None) -> Timeline | None:
    from gateway.ledger import timeline

    async with ledger(config) as connection:
        found = await timeline.find(connection, reference, source, request_id)
        if found is None:
            return None
        routes = {
            name: {str(channel): to for channel, to in lender.routes.items()} for name, lender in config.lenders.items()
        }
        return await timeline.read(connection, found, dt.datetime.now(dt.UTC), routes)


def pictures(story: Timeline) -> list[RenderableType]:
    from rich.markup import escape
    from rich.table import Table

    now = story.situation
    head = Table(title=f"reminder {story.reminder}", show_header=False, title_justify="left")
    head.add_row("state", f"{now.state} ({now.reason})" if now.reason else str(now.state), style="bold")
    for name, value in [*story.now, *((name, story.facts[name]) for name in _FACTS)]:
        if value not in (None, ""):
            head.add_row(escape(name), _text(value))
    parts: list[RenderableType] = [head]
    if story.attempts:
        tries = Table("attempt", "contact", "by", "state", "why")
        tries.add_column("provider's id", overflow="fold")
        for each in story.attempts:
            words = (
                each.id,
                f"{each.rung + 1} {each.channel}",
                each.provider,
                each.state,
                each.why,
                " ".join(each.refs),
            )
            tries.add_row(*map(escape, words))
        parts.append(tries)
    lines = Table("at (UTC)", "what", "detail")
    for entry in story.entries:
        lines.add_row(_time(entry.at), escape(entry.what), escape(entry.detail))
    return [*parts, lines]


def _text(value: object) -> str:
    from rich.markup import escape

    return _time(value) if isinstance(value, dt.datetime) else escape(str(value))


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

"""`reply`: what a borrower wrote back.  It opens what is sealed and prints it, for whoever has to answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, console, fail, ledger, read

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.evidence import Written


def reply(
    reply_id: Annotated[str, typer.Argument(metavar="REPLY", help="The id that the event contact.replied.v1 names.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Read what a borrower wrote back.  Prints personal data.  Exits with 1 when there is no such reply."""
    import msgspec
    from rich.markup import escape
    from rich.table import Table

    from gateway.ids import from_reference, to_reference
    from gateway.personal import REPLY_FIELD, Reply
    from gateway.sealing import SealBroken

    settings, number = read(config), from_reference(reply_id)
    written = None if number is None else asyncio.run(_find(settings, number))
    if number is None or written is None:
        raise fail("no such reply")
    try:
        opened = settings.sealing.sealer().open(written.sealed, number, REPLY_FIELD)
    except SealBroken as broken:
        raise fail(f"the reply cannot be opened: {broken}") from None
    words = msgspec.json.decode(opened, type=Reply)
    table = Table(title=f"reply {reply_id}", show_header=False, title_justify="left")
    for name, value in (
        ("received (UTC)", f"{written.received_at:%Y-%m-%d %H:%M:%S}"),
        ("through", written.provider),
        ("from", words.sender),
        ("to", words.recipient),
        ("answers", "nothing we know of" if written.reminder is None else f"reminder {to_reference(written.reminder)}"),
        ("text", words.text),
    ):
        # A stranger wrote it and it goes to a terminal, which nothing of it may steer.
        table.add_row(name, escape(_plain(value)))
    console().print(table)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


async def _find(config: Config, number: int) -> Written | None:
    from gateway.ledger import evidence

    async with ledger(config) as connection:
        return await evidence.reply(connection, number)

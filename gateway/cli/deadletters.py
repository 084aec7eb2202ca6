"""`deadletters`: what was refused, and why.  Sending it through intake again is in `redrive`."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import lists
from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, console, database, fail, read
from gateway.cli.lists import Before, Json, Limit, Since, Until
from schemas.vocabulary import Rejection

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.intake.letters import Kept as OpenedRecord
    from gateway.ledger.deadletters import Kept, SealedLetter, Which
    from gateway.ledger.pages import Page, Range

app = typer.Typer(
    no_args_is_help=True,
    help="What was refused, and why; and redriving it once what was wrong is put right.",
)

_COLUMNS: Final = ("id", "at", "reason", "field", "source", "origin", "redriven")

Why = Annotated[
    Rejection | None, typer.Option("--reason", metavar="REASON", help="Refused for this.", show_default=False)
]
Source = Annotated[str | None, typer.Option(help="Of this CloudEvents source.", show_default=False)]
Topic = Annotated[str | None, typer.Option(help="Of this topic.", show_default=False)]


@app.command("list")
def list_(
    reason: Why = None,
    source: Source = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    left: Annotated[bool, typer.Option("--left", help="Only those that nobody has redriven.")] = False,
    limit: Limit = 50,
    before: Before = None,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List dead letters, the newest first.  Nothing of their content."""
    from gateway.ledger.deadletters import Which
    from gateway.ledger.pages import Range

    last = None if before is None else lists.reference(before, "dead letter")
    within = Range.of(since, until, last)
    page = asyncio.run(_newest(read(config), within, Which(reason, source, topic, left), limit))
    lists.newest(page, map(_row, page.rows), _COLUMNS, "dead letter", "letters", as_json=as_json)


async def _newest(config: Config, within: Range, which: Which, limit: int) -> Page[Kept]:
    from gateway.ledger import deadletters

    async with database(config) as ledger, ledger.connection() as connection:
        return await deadletters.newest(connection, within, which, limit)


def _row(each: Kept) -> dict[str, Any]:
    from gateway.ids import to_reference

    return {
        "id": to_reference(each.id),
        "at": each.at,
        "reason": each.reason,
        "field": each.field,
        "source": each.source,
        "origin": f"{each.topic}/{each.partition}/{each.offset}",
        "bytes_sealed": each.size,
        "redriven": each.redriven_as,
        "redriven_at": each.redriven_at,
        "redriven_by": each.redriven_by,
        "reminder": None if each.reminder is None else to_reference(each.reminder),
        "lifted_a_hold": each.lifted,
    }


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="The letter's id: `pointer` in its event.")],
    opened: Annotated[
        bool, typer.Option("--open", help="Also print the record as it came: PERSONAL DATA.", show_default=False)
    ] = False,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show one dead letter; with --open its record too, which is personal.  Exits with 1 when there is none."""
    from rich.markup import escape
    from rich.table import Table

    from gateway.intake import letters
    from gateway.sealing import SealBroken

    number, settings = lists.reference(letter, "dead letter"), read(config)
    found, sealed = asyncio.run(_one(settings, number))
    if found is None or sealed is None:
        raise fail("no such dead letter")
    row, content = _row(found), {}
    if opened:
        try:
            content = _content(letters.unseal(sealed.sealed, number, settings.sealing.sealer()), as_json)
        except SealBroken as broken:
            raise fail(f"the record cannot be opened: {broken}") from None
    if as_json:
        lists.show([row | content], (), as_json=True)
        return
    table = Table(title=f"dead letter {letter}", show_header=False, title_justify="left")
    for name, value in row.items():
        if value is not None:
            table.add_row(name.replace("_", " "), escape(lists.text(value)))
    console().print(table)
    for name, value in content.items():
        typer.echo(f"{name}: {value}")  # not in the table, so that it can be copied
    if not opened:
        typer.echo("its record is sealed; --open prints it: personal data", err=True)


async def _one(config: Config, number: int) -> tuple[Kept | None, SealedLetter | None]:
    from gateway.ledger import deadletters

    async with database(config) as ledger, ledger.connection() as connection:
        found = await deadletters.sealed(connection, [number])
        return await deadletters.one(connection, number), found[0] if found else None


def _content(record: OpenedRecord, as_json: bool) -> dict[str, Any]:
    """The record for a terminal, in which no byte of it can do anything; exact in JSON, in base64."""
    if as_json:
        return {
            "value_base64": None if record.value is None else base64.b64encode(record.value).decode(),
            "key_base64": None if record.key is None else base64.b64encode(record.key).decode(),
            "headers_base64": [
                [name, None if value is None else base64.b64encode(value).decode()] for name, value in record.headers
            ],
            "timestamp_ms": record.timestamp_ms,
        }
    shown = {
        "published (UTC)": lists.text(dt.datetime.fromtimestamp(record.timestamp_ms / 1000, dt.UTC)),
        "key": _shown(record.key),
    }
    for name, value in record.headers:
        shown[f"header {_shown(name.encode())}"] = _shown(value)
    return shown | {"value": _shown(record.value)}


def _shown(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

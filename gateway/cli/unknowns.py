"""`unknowns`: messages of which nobody knows whether they left, and telling the gateway once somebody does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import lists
from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, database, fail, read
from gateway.cli.lists import Author, Json, Limit
from schemas.vocabulary import Found

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.database import Connection
    from gateway.ledger.pages import Page
    from gateway.ledger.unknowns import Settled, Unknown

app = typer.Typer(
    no_args_is_help=True,
    help="Messages of unknown outcome; and settling one, once somebody has looked into the provider's console.",
)

_COLUMNS: Final = (
    "attempt", "since", "provider", "channel", "contact", "code", "refs", "reminder", "lender", "state", "looked_at",
)  # fmt: skip


@app.command("list")
def list_(
    limit: Limit = 50,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="REMINDER", help="The next page: the last reminder of the page before.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List the attempts that living reminders wait on, the oldest first.

    Nothing else of a reminder leaves meanwhile.  When its receipt window ends it becomes unconfirmed by itself.
    """
    from gateway.ids import to_reference

    last = None if after is None else lists.reference(after, "reminder")
    page = asyncio.run(_list(read(config), last, limit))
    lists.show(map(_row, page.rows), _COLUMNS, as_json=as_json)
    reminders = list(dict.fromkeys(each.reminder for each in page.rows))
    more = [f"more: --after {to_reference(reminders[-1])}"] if len(reminders) >= limit else []
    lists.about(len(page.rows), "unknown attempt", *more)


async def _list(config: Config, after: int | None, limit: int) -> Page[Unknown]:
    from gateway.ledger import unknowns

    async with database(config) as ledger, ledger.connection() as connection:
        place = None
        if after is not None:
            place = await unknowns.place(connection, after)
            if place is None:
                raise fail("no such reminder waits on an unknown attempt any more: begin again without --after")
        return await unknowns.oldest(connection, place, limit)


def _row(each: Unknown) -> dict[str, Any]:
    from gateway.ids import to_reference

    return {
        "attempt": to_reference(each.attempt),
        "since": each.since,
        "intended_at": each.intended_at,
        "provider": each.provider,
        "channel": each.channel,
        "contact": each.rung + 1,
        "code": each.code,
        "refs": list(each.refs),
        "reminder": to_reference(each.reminder),
        "lender": each.lender,
        "state": each.state,
        "looked_at": each.looked_at,
    }


@app.command()
def settle(
    attempt: Annotated[str, typer.Argument(metavar="ATTEMPT", help="The attempt's id, as `unknowns list` tells it.")],
    found: Annotated[Found, typer.Option("--as", help="What was found out.")],
    reason: Annotated[
        str | None, typer.Option(help="How it was found out; kept in clear: nothing personal.", show_default=False)
    ] = None,
    author: Author = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would follow.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Settle an attempt of unknown outcome by what a person has found out.  Without --yes only says what would follow.

    delivered: the borrower has got it.  undelivered: the provider took it and it did not arrive; the next contact is
    tried.  not-sent: the provider never took it; THE BORROWER IS CONTACTED AGAIN, by the same contact, so be sure that
    he has got nothing.  unconfirmed: nobody will ever know; the reminder ends.

    Who, why and how things stood is kept.  Exits with 1 when the attempt is not unknown any more: then nothing is done.
    """
    number = lists.reference(attempt, "attempt")
    by, why = (lists.author_of(author), lists.reason_of(reason)) if yes else ("", "")
    settled = asyncio.run(_settle(read(config), number, found, by, why, yes))
    if settled is None:
        raise fail("no such attempt")
    if not settled.done:
        raise fail(f"attempt {attempt} is not unknown any more: it is {settled.was}; nothing was done")
    for line in _consequences(settled, found, yes):
        typer.echo(line)


async def _settle(config: Config, number: int, found: Found, author: str, reason: str, yes: bool) -> Settled | None:
    from gateway import parameters
    from gateway.ledger import unknowns, workers
    from providers.catalog import discover

    async with database(config) as ledger:
        async with ledger.connection() as connection:
            now = await workers.clock(connection)

        rules = parameters.rules(config, parameters.cadences(config), discover())

        async def work(connection: Connection) -> Settled | None:
            return await unknowns.settle(connection, number, found, author, reason, now, rules)

        return await (ledger.transaction(work) if yes else ledger.rehearse(work))


def _consequences(settled: Settled, found: Found, yes: bool) -> list[str]:
    from gateway.ids import to_reference

    is_, becomes = ("is", "became") if yes else ("would be", "would become")
    lines = [f"attempt {to_reference(settled.attempt)} {is_} {found}"]
    name = f"reminder {to_reference(settled.reminder)}"
    if settled.reminder_becomes == settled.reminder_was:
        lines.append(f"{name} stays {settled.reminder_was}")
    else:
        lines.append(f"{name}, {settled.reminder_was}, {becomes} {settled.reminder_becomes}")
    if settled.contact is not None:
        lines.append(_contact(settled))
    if found is Found.NOT_SENT:
        lines.append("what a receipt says of this attempt later moves nothing any more: not_sent is proof")
    if not yes:
        lines.append("nothing was done; --yes does it")
    return lines


def _contact(settled: Settled) -> str:
    """What becomes of the contact that is tried next, as things stand now."""
    at = "" if settled.at is None else f", from {lists.text(settled.at)} on"
    again = "the same contact again" if settled.again else "the next contact"
    contact = f"{settled.contact}, {again}"
    if settled.expires is not None:
        return f"nobody is contacted ({contact}): it expires by its not_after, {lists.text(settled.expires)}"
    told = f"THE BORROWER IS CONTACTED{' AGAIN' if settled.again else ''}"
    if settled.frozen is not None:
        kind, value = settled.frozen
        return f"frozen by {kind} {value}: held while that lasts, then, before its not_after, {told}: {contact}{at}"
    if settled.unreadable:
        return f"held behind a stop that could not be read; once that is lifted {told}: {contact}{at}"
    return f"{told}: {contact}{at}"

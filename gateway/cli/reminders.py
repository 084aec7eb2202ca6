"""`reminders`: which there are, by what a caller knows: a borrower, a debt, where they stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import lists
from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, database, read
from gateway.cli.lists import Before, Json, Limit, Since, Until
from schemas.vocabulary import Reason, ReminderState

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.pages import Page, Range
    from gateway.ledger.reminders import Listed, Which

app = typer.Typer(no_args_is_help=True, help="Reminders, living and ended; `show` tells the story of one.")

_COLUMNS: Final = (
    "id", "received_at", "state", "reason", "lender", "borrower", "debt", "stage", "contact", "at", "source",
    "request_id",
)  # fmt: skip


@app.callback()
def _reminders() -> None:
    """Makes `list` a command of its own though it is the only one."""


@app.command("list")
def list_(
    state: Annotated[
        list[ReminderState] | None,
        typer.Option(metavar="STATE", help="In this state; may be given more than once.", show_default=False),
    ] = None,
    reason: Annotated[
        Reason | None, typer.Option(metavar="REASON", help="For this reason.", show_default=False)
    ] = None,
    lender: Annotated[str | None, typer.Option(help="Of this lender.", show_default=False)] = None,
    debt: Annotated[str | None, typer.Option(help="About this debt.", show_default=False)] = None,
    borrower: Annotated[
        str | None,
        typer.Option(help="To this borrower, by the lender's reference; found however old.", show_default=False),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Asked for by this CloudEvents source.", show_default=False)
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    before: Before = None,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List reminders, living and ended, the newest first.  Ids, states and times; nothing personal.

    One borrower's are all found at once, under every lender there is unless one is named.  Anything else is looked for
    among the newest reminders only, and how far back that was is told.
    """
    from gateway.ledger.pages import Range
    from gateway.ledger.reminders import Which

    last = None if before is None else lists.reference(before, "reminder")
    which = Which(frozenset(state or ()), reason, lender, borrower, debt, source)
    page = asyncio.run(_newest(read(config), Range.of(since, until, last), which, limit))
    lists.newest(page, map(_row, page.rows), _COLUMNS, "reminder", "reminders", as_json=as_json)


async def _newest(config: Config, within: Range, which: Which, limit: int) -> Page[Listed]:
    from gateway.ids import subject_key
    from gateway.ledger import reminders

    keys = []
    if which.borrower is not None:
        lenders = [which.lender] if which.lender is not None else sorted(config.lenders)
        keys = [subject_key(lender, which.borrower) for lender in lenders]
    async with database(config) as ledger, ledger.connection() as connection:
        return await reminders.newest(connection, within, which, limit, keys)


def _row(each: Listed) -> dict[str, Any]:
    from gateway.ids import to_reference

    contacts = each.contacts
    return {
        "id": to_reference(each.id),
        "received_at": each.received_at,
        "state": each.state,
        "reason": each.reason,
        "lender": each.lender,
        "borrower": each.borrower,
        "debt": each.debt,
        "instalment": each.instalment,
        "stage": each.stage,
        "step": each.step,
        "contact": " → ".join(contacts)
        if each.rung is None
        else f"{each.rung + 1}/{len(contacts)} {contacts[each.rung]}",
        "contacts": contacts,
        "rung": each.rung,
        "at": each.at,
        "source": each.source,
        "request_id": each.request_id,
    }

"""`freeze`, `unfreeze`, `freezes`: the hands on the brakes."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from gateway.cli.common import DEFAULT_CONFIG, WRONG, ConfigPath, console, fail, ledger, read

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.freezes import Act, Freeze
    from gateway.ledger.quotas import Slice, Volume

_KINDS: Final = "all, source, lender, product, stage, channel, provider or template"
_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_OF_THE_IMAGE: Final = "gateway"  # the user that its Dockerfile names
_LONGEST: Final = 500
_LATEST: Final = 20

Kind = Annotated[str, typer.Argument(help=f"What is named: {_KINDS}.")]
Value = Annotated[str, typer.Argument(help="Which one; not with `all`.")]
Reason = Annotated[
    str, typer.Option(help="Why (needed), for whoever reads it later. Nothing personal: it stays readable.")
]
Author = Annotated[
    str,
    typer.Option(
        envvar="REMINDER_GATEWAY_AUTHOR",
        help="Who decides it; the user of this machine, when not given.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Also a value that the configuration does not know.")]


def freeze(
    kind: Kind,
    value: Value = "",
    reason: Reason = "",
    author: Author = "",
    until: Annotated[str, typer.Option(help="When it ends by itself: a time with its zone.")] = "",
    span: Annotated[str, typer.Option("--for", help="After how long it ends by itself: 30m, 2h, 1d.")] = "",
    force: Force = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Let nothing of a slice leave, from this moment on, in every process and across restarts.

    Without --until or --for it lasts until somebody lifts it. What was intended before may still leave. A freeze in
    force is only made longer: if it lasts as long already, this exits with 1.
    """
    settings = read(config)
    name, why, who = _slice(settings, kind, value, force), _reason(reason), _author(author)
    ends = _ends(until, span)
    asyncio.run(_freeze(settings, name, why, who, ends))


def unfreeze(
    kind: Kind,
    value: Value = "",
    reason: Reason = "",
    author: Author = "",
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Lift a freeze. Exits with 1 if there is none.

    What it held leaves by and by; what is too late by now ends expired. Quotas of the volume brake that this source or
    lender has used up begin anew.
    """
    settings = read(config)
    name, why, who = _slice(settings, kind, value, force=True), _reason(reason), _author(author)
    asyncio.run(_unfreeze(settings, name, why, who))


def freezes(
    log: Annotated[int, typer.Option(help="How many of the last freezes and unfreezes are shown.", min=0)] = _LATEST,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show what is frozen, by whom, why, until when and how much it holds; then what was frozen and unfrozen last.

    What several freezes hold is counted under the one that was found first.
    """
    settings = read(config)
    asyncio.run(_freezes(settings, log))


# --- what was asked for -----------------------------------------------------------------------------------------------


class Named(NamedTuple):
    kind: str
    value: str

    def __str__(self) -> str:
        return "everything" if self.kind == "all" else f"{self.kind} {self.value}"


def _slice(config: Config, kind: str, value: str, force: bool) -> Named:
    """What is named; exits with 2 and the known values when nobody knows it."""
    from gateway.ledger.freezes import EVERYTHING, FreezeKind

    if kind not in list(FreezeKind):
        raise fail(f"{kind!r} cannot be frozen; {_KINDS} can", WRONG)
    if kind == FreezeKind.ALL:
        if value not in ("", EVERYTHING):
            raise fail("`all` takes no value", WRONG)
        return Named(kind, EVERYTHING)
    if not value or not value.isprintable():
        raise fail(f"which {kind}?", WRONG)
    known = _known(config, FreezeKind(kind))
    if known is not None and value not in known and not force:
        there = ", ".join(sorted(known)) or "none"
        raise fail(f"no {kind} is called {value!r}: there is {there}; --force takes it all the same", WRONG)
    return Named(kind, value)


def _known(config: Config, kind: str) -> frozenset[str] | None:
    """What a value can be, None where the configuration does not say."""
    from gateway.content import DEFAULT_TEMPLATES
    from gateway.content.loading import load_entries
    from schemas.vocabulary import Channel, Stage

    match kind:
        case "lender":
            return frozenset(config.lenders)
        case "provider":
            return frozenset(config.providers)
        case "stage":
            return frozenset(each.value for each in Stage)
        case "channel":
            return frozenset(each.value for each in Channel)
        case "template":
            return frozenset(load_entries(config.templates_path or DEFAULT_TEMPLATES))
    return None


def _reason(reason: str) -> str:
    said = reason.strip()
    if not said:
        raise fail("--reason: why?", WRONG)
    if len(said) > _LONGEST or not said.isprintable():
        raise fail(f"--reason: one line of at most {_LONGEST} characters", WRONG)
    return said


def _author(author: str) -> str:
    import getpass

    from gateway.ledger.freezes import OURS

    try:
        who = author.strip() or getpass.getuser()
    except (OSError, KeyError):
        raise fail("--author: who? This machine does not say", WRONG) from None
    if who == _OF_THE_IMAGE:
        raise fail(f"--author: who? In the image everybody is {who!r}", WRONG)
    if len(who) > _LONGEST or not who.isprintable():
        raise fail(f"--author: one line of at most {_LONGEST} characters", WRONG)
    if who in OURS:
        raise fail(f"--author: {who!r} is the gateway itself", WRONG)
    return who


def _ends(until: str, span: str) -> dt.datetime | dt.timedelta | None:
    """When it ends, or after how long."""
    if until and span:
        raise fail("give --until or --for, not both", WRONG)
    if span:
        match = _SPAN.fullmatch(span)
        if match is None:
            raise fail("--for: a number with m, h or d, as 30m, 2h, 1d", WRONG)
        return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
    if not until:
        return None
    try:
        moment = dt.datetime.fromisoformat(until)
    except ValueError:
        raise fail("--until: a time as 2026-11-02T18:00+08:00", WRONG) from None
    if moment.tzinfo is None:
        raise fail("--until: its zone is missing, as in 2026-11-02T18:00+08:00", WRONG)
    return moment.astimezone(dt.UTC)


# --- what is done -----------------------------------------------------------------------------------------------------


# More than the longest transaction that a freeze may have to wait for.
_SECONDS: Final = 30.0


@asynccontextmanager
async def _committing(connection: Any) -> AsyncIterator[None]:
    """A transaction that says so when nobody knows whether it took effect, in bounded time."""
    import asyncpg

    from gateway.ledger.database import ISOLATION

    try:
        async with asyncio.timeout(_SECONDS), connection.transaction(isolation=ISOLATION):
            yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        message = f"the database did not say that it is done ({type(error).__name__}): `freezes` shows whether it is"
        raise fail(message) from None


async def _freeze(config: Config, name: Named, why: str, who: str, ends: dt.datetime | dt.timedelta | None) -> None:
    from gateway.ledger import freezes as ledger_freezes
    from gateway.ledger import workers

    async with ledger(config) as connection:
        now = await workers.clock(connection)  # the clock by which the processes ask whether it is over
        until = now + ends if isinstance(ends, dt.timedelta) else ends
        if until is not None and until <= now:
            raise fail("--until: that is over", WRONG)
        async with _committing(connection):
            done = await ledger_freezes.add(
                connection, name.kind, name.value, reason=why, author=who, now=now, until=until
            )
        if not done:
            there = await _in_force(connection, name, now)
            raise fail(f"{name} is frozen already, {_terms(there)}" if there else f"{name} is frozen already")
        typer.echo(f"{name} is frozen{_until(until)}: nothing of it leaves that is not on its way")
        if name.kind == "source" and not await ledger_freezes.is_heard(connection, name.value):
            typer.echo("nothing of that source was read lately: is that its name?", err=True)


async def _unfreeze(config: Config, name: Named, why: str, who: str) -> None:
    from gateway.ledger import freezes as ledger_freezes
    from gateway.ledger import workers

    async with ledger(config) as connection:
        now = await workers.clock(connection)
        there = await _in_force(connection, name, now)
        async with _committing(connection):
            done = await ledger_freezes.lift(connection, name.kind, name.value, reason=why, author=who, now=now)
        if not done:
            raise fail(f"{name} is not frozen")
        rest = await ledger_freezes.in_force(connection, now)
    rate = config.dispatch.release_per_second
    held = f"; it held {_number(there.holds)}, which leave at {rate:g} a second" if there is not None else ""
    typer.echo(f"{name} is not frozen any more{held}")
    if rest:
        others = ", ".join(str(Named(each.kind, each.value)) for each in rest[:_LATEST])
        typer.echo(f"still frozen: {others}")


async def _in_force(connection: object, name: Named, now: dt.datetime) -> Freeze | None:
    from gateway.ledger import freezes as ledger_freezes

    found = await ledger_freezes.in_force(connection, now)
    return next((each for each in found if (each.kind, each.value) == name), None)


async def _freezes(config: Config, log: int) -> None:
    from gateway.ledger import freezes as ledger_freezes
    from gateway.ledger import frozen, volume, workers

    async with ledger(config) as connection:
        now = await workers.clock(connection)
        found = await ledger_freezes.in_force(connection, now)
        acts = await ledger_freezes.audit(connection, log)
        volumes = await volume.read(connection)
        slices = await ledger_freezes.read(connection, now)
        waiting = await frozen.waiting(connection, slices.ids)
    if found:
        _print_freezes(found)
    else:
        typer.echo("nothing is frozen")
    if waiting:
        typer.echo(f"{_number(waiting)} that were frozen wait for their turn")
    _print_volumes(config, volumes, now)
    if acts:
        _print_acts(acts)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _print_freezes(found: list[Freeze]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("frozen", "since (UTC)", "until (UTC)", "by", "why", "holds")
    for each in found:
        words = (
            str(Named(each.kind, each.value)), _time(each.since), _time(each.until) if each.until else "lifted",
            each.author, each.reason, _number(each.holds),
        )  # fmt: skip
        table.add_row(*map(escape, words))
    console().print(table)


def _print_volumes(config: Config, volumes: dict[Slice, Volume], now: dt.datetime) -> None:
    """How much of each quota is used."""
    from rich.markup import escape
    from rich.table import Table

    from gateway import parameters
    from gateway.ledger.quotas import QuotaRule

    quotas = parameters.quotas(config)
    if quotas is None:
        return
    table = Table("quota of", "an hour", "a day", f"{config.brakes.currency or 'spent'} a day")
    for (kind, value), used in volumes.items():
        quota = quotas.of(*((value, "") if kind == "source" else ("", value))).get((kind, value))
        if quota is None:
            continue
        used.roll(quotas.span(now))
        cells = []
        for rule in QuotaRule:
            limit = quota.limit(rule)
            show = parameters.amount if rule is QuotaRule.SPEND_PER_DAY else str
            cells.append("" if limit is None else f"{show(used.used(rule))} of {show(limit)}")
        table.add_row(escape(f"{kind} {value}"), *cells)
    if table.row_count:
        console().print(table)


def _print_acts(acts: list[Act]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("at (UTC)", "who", "what", "why")
    for each in acts:
        what = f"{each.act} {Named(each.kind, each.value)}{_until(each.until)}"
        table.add_row(*map(escape, (_time(each.at), each.author, what, each.reason)))
    console().print(table)


def _terms(there: Freeze) -> str:
    return f"since {_time(there.since)} by {there.author}{_until(there.until)}: {there.reason}"


def _until(until: dt.datetime | None) -> str:
    return f" until {_time(until)} UTC" if until else ""


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(n: int) -> str:
    from gateway.ledger.freezes import HELD_CAP

    return str(n) if n < HELD_CAP else f"{HELD_CAP - 1} or more"

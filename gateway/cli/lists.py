"""What the commands that list have in common: their options, and a table for people or JSON lines for machines."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import WRONG, console, fail

if TYPE_CHECKING:
    from gateway.ledger.pages import Page

_AGO: Final = re.compile(r"-?([0-9]{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TIME: Final = "a time (2026-11-18, 2026-11-18T09:30+08:00; UTC where no zone is given) or how long ago (30m, 2h, 7d)"
_LIKE_A_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z])\+?[0-9(][0-9 ().-]{5,40}[0-9x]", re.ASCII | re.IGNORECASE)
_AUTHOR_LENGTH: Final = 100
_REASON_LENGTH: Final = 500


def moment(text: str) -> dt.datetime:
    """A point in time as people write it: ISO 8601, or how long ago."""
    try:
        if ago := _AGO.fullmatch(text):
            return dt.datetime.now(dt.UTC) - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"must be {_TIME}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


Since = Annotated[
    dt.datetime | None, typer.Option(parser=moment, metavar="TIME", help=f"Not before: {_TIME}.", show_default=False)
]
Until = Annotated[
    dt.datetime | None, typer.Option(parser=moment, metavar="TIME", help="Before this time.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
Before = Annotated[
    str | None, typer.Option(metavar="ID", help="The next page: the last id of the page before.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
Author = Annotated[
    str | None,
    typer.Option(envvar="REMINDER_GATEWAY_AUTHOR", help="Who does it; kept with what is done.", show_default=False),
]


def reference(text: str, what: str) -> int:
    """The id behind a reference; else says that there is no such thing and exits with 1."""
    from gateway.ids import from_reference

    found = from_reference(text)
    if found is None:
        raise fail(f"no such {what}: {text!r:.40}")
    return found


def author_of(text: str | None) -> str:
    """Who does it, which must be said; exits with 2 when it is not."""
    if text is None or not text.strip():
        raise fail("say who does it: --author", WRONG)
    return _line(text, "--author", _AUTHOR_LENGTH)


def reason_of(text: str | None) -> str:
    """Why it is done, which must be said, in words that can be kept in clear; exits with 2 otherwise."""
    if text is None or not text.strip():
        raise fail("say why: --reason", WRONG)
    return _line(text, "--reason", _REASON_LENGTH)


def _line(text: str, name: str, length: int) -> str:
    from gateway.intake import references

    text = text.strip()
    if not text.isprintable() or len(text) > length:
        raise fail(f"{name} must be one line of at most {length} characters", WRONG)
    if any(references.is_number(each) for each in (*text.split(), *_LIKE_A_NUMBER.findall(text))):
        raise fail(f"{name} holds a phone or identity number, and would be kept in clear", WRONG)
    return text


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Prints rows, if there are any: a table of the columns, or all there is of each as a line of JSON."""
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=_plain, ensure_ascii=True))
        return
    table = Table(*columns)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(escape(text(row.get(name))) for name in columns))
    if table.row_count:
        console().print(table)


def about(n: int, what: str, *more: str) -> None:
    """How many there are, and what else is to be known of a list; not among its rows, so that they can be piped."""
    for line in (f"{n} {what}{'' if n == 1 else 's'}", *more):
        typer.echo(line, err=True)


def newest(
    page: Page[Any],
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    what: str,
    looked_at: str,
    *,
    as_json: bool,
) -> None:
    """A page of the newest, and how the next one is asked for."""
    from gateway.ids import to_reference
    from gateway.ledger.pages import LOOKED_AT

    show(rows, columns, as_json=as_json)
    more = [f"more: --before {to_reference(page.rows[-1].id)}"] if page.full else []
    if page.looked_to is not None and not page.full:
        further = f"further: --before {to_reference(page.looked_to)}"
        more.append(f"looked at {LOOKED_AT} {looked_at}, back to {when(page.looked_to)}; {further}")
    about(len(page.rows), what, *more)


def when(identifier: int) -> str:
    """When an id was made."""
    from gateway.ids import milliseconds_of

    return f"{dt.datetime.fromtimestamp(milliseconds_of(identifier) / 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"


def text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    raise TypeError(type(value).__name__)

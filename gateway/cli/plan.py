"""`plan`: what a cadence would do with a file of facts, without touching anyone."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import WRONG, console, fail, read, refuse
from gateway.cli.facts import SOURCE

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.cadence.loading import Cadences
    from gateway.cadence.model import Cadence
    from gateway.cadence.rehearsal import Choose, Line, Reachable
    from gateway.cli.facts import Row
    from gateway.config import Config
    from schemas.repayments import Fact
    from schemas.vocabulary import Channel

_MOST_PROBLEMS: Final = 50
_AFTER: Final = dt.timedelta(days=45)  # the last due date, when nobody says until when
# Of the table: how wide a column is at least; what must not be folded has a width that always suffices.
_COLUMNS: Final = {"no": 3, "occasion": None, "local": 16, "UTC": 11, "by": None, "what": None, "why": None}

CadencesPath = Annotated[
    Path | None,
    typer.Option("--cadences", help="A folder of <name>/<version>.yaml; the packaged ones when absent.", exists=True),
]


def _day(text: str) -> dt.datetime:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time.min, dt.UTC)
    except ValueError:
        raise typer.BadParameter("must be a date, as 2026-11-18") from None


def plan(
    files: Annotated[list[Path], typer.Argument(help="Facts as JSON or JSON lines: rows of type and data.")],
    since: Annotated[
        dt.datetime | None,
        typer.Option("--from", parser=_day, metavar="DATE", help="The first day that is shown.", show_default=False),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option("--to", parser=_day, metavar="DATE", help="The calendar's last day.", show_default=False),
    ] = None,
    cadence: Annotated[
        str | None, typer.Option(help="Which cadence, by name; `default` when absent.", show_default=False)
    ] = None,
    cadences: CadencesPath = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="As this gateway would: with its lenders' cadences and channels.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw it: a timeline per debt, as .svg or .html.", show_default=False)
    ] = None,
) -> None:
    """Rehearse a cadence: what goes out when, by which channel, under which rule, or why nothing does.

    Facts become known at their `as_of`, every message arrives, and nobody is contacted.  Days are those of UTC.
    """
    from gateway.cadence.rehearsal import rehearse

    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise fail("--picture must end in .svg or .html", WRONG)
    if since is not None and until is not None and since > until:
        raise fail("--from is after --to", WRONG)
    reachable: Reachable = _every_channel
    if config is None:
        facts = read_facts(files)
        choose = _choose(read_cadences(cadences), "default" if cadence is None else cadence)
    elif cadence is not None or cadences is not None:
        raise fail("--config says which cadences: give either it, or --cadence and --cadences", WRONG)
    else:
        settings = read(config)
        facts = read_facts(files, settings.lenders)
        choose, reachable = _as_configured(settings)
    end = last_moment(facts) if until is None else dt.datetime.combine(until, dt.time.max, dt.UTC)
    rehearsal = rehearse(facts, choose, end, reachable)
    lines = [each for each in rehearsal.lines if since is None or _moment(each) >= since]
    if picture is not None:
        _draw(picture, lines, summary(lines, len(rehearsal.lines) - len(lines)))
    if as_json:
        _print_json(lines)
    else:
        _print_table(lines, len(rehearsal.lines) - len(lines))


def _moment(line: Line) -> dt.datetime:
    """When it goes out, or the beginning of the day on which it does not."""
    return line.at or dt.datetime.combine(line.date, dt.time.min, dt.UTC)


def _draw(path: Path, lines: Sequence[Line], total: str) -> None:
    from gateway.cli.picture import draw

    try:
        path.write_text(draw(lines, total, html=path.suffix == ".html"), encoding="utf-8")
    except OSError as error:
        raise fail(f"{path}: cannot be written: {error.strerror}") from None


def read_facts(files: Sequence[Path], lenders: Collection[str] | None = None) -> list[Fact]:
    """Every fact, of these lenders; prints each row that is none and exits with 2 when there is one."""
    return [each.fact for _, each in read_rows(files, SOURCE, dt.datetime.now(dt.UTC), lenders)]


def read_rows(
    files: Sequence[Path], source: str, now: dt.datetime, lenders: Collection[str] | None = None
) -> list[tuple[str, Row]]:
    """The same, each with its event and with where it stands."""
    from gateway.cli import facts

    good: list[tuple[str, Row]] = []
    bad = 0
    for where, found in facts.read(list(files), source, now, lenders):
        if not isinstance(found, str):
            good.append((where, found))
            continue
        bad += 1
        if bad <= _MOST_PROBLEMS:
            typer.echo(f"{where}: {found}", err=True)
    if bad:
        raise fail(f"{bad} bad row{'' if bad == 1 else 's'}", WRONG)
    if not good:
        raise fail("no facts", WRONG)
    return good


def read_cadences(path: Path | None) -> Cadences:
    from gateway.cadence.loading import PACKAGED, CadenceError, load

    try:
        return load(path or PACKAGED)
    except CadenceError as error:
        raise refuse(error.problems) from None


def _choose(cadences: Cadences, name: str) -> Choose:
    if name not in cadences.by_name:
        raise fail(f"no cadence {name!r:.60}; there are: {', '.join(sorted(cadences.by_name))}", WRONG)

    def choose(lender: str, product: str | None, at: dt.datetime) -> Any:
        found = cadences.in_force(name, at.date())
        if found is None:
            raise fail(f"no version of {name} is effective on {at:%Y-%m-%d}", WRONG)
        return found

    return choose


def _every_channel(lender: str) -> Collection[Channel]:
    from schemas.vocabulary import Channel

    return tuple(Channel)


def _as_configured(settings: Config) -> tuple[Choose, Reachable]:
    """The cadence of each lender and product, and the channels that he has."""
    from gateway import parameters

    found = parameters.cadence_of(settings, parameters.cadences(settings))

    def choose(lender: str, product: str | None, at: dt.datetime) -> Cadence:
        cadence = found(lender, product, at)
        if cadence is None:
            name = settings.lenders[lender].cadence_of(product)
            raise fail(f"no version of {name} is effective on {at:%Y-%m-%d}", WRONG)
        return cadence

    return choose, parameters.reachable(settings).__getitem__


def last_moment(facts: Sequence[Fact]) -> dt.datetime:
    """When nothing more is expected: some time after the last due date that is spoken of, else after the last fact."""
    dates = [each.due_date for fact in facts for each in getattr(fact, "instalments", ())]
    last = max((fact.as_of for fact in facts), default=dt.datetime.now(dt.UTC))
    if dates:
        last = max(last, dt.datetime.combine(max(dates), dt.time.min, dt.UTC))
    return last + _AFTER


def _print_json(lines: Sequence[Line]) -> None:
    import msgspec

    for each in lines:
        typer.echo(msgspec.json.encode(each).decode())


def _print_table(lines: Sequence[Line], earlier: int) -> None:
    """One for each debt, and for each zone that its borrower was in."""
    for (lender, borrower, debt, zone), theirs in groupby(
        lines, lambda each: (each.lender, each.borrower, each.debt, each.zone)
    ):
        console().print(_table(f"{debt} of {borrower}, {lender}; {zone}", list(theirs)))
    typer.echo(summary(lines, earlier), err=True)


def _table(title: str, lines: Sequence[Line]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gateway.zones import in_zone

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, width in _COLUMNS.items():
        table.add_column(name, min_width=width, no_wrap=width is not None, overflow="fold")
    for each in lines:
        local = f"{each.date:%Y-%m-%d}" if each.at is None else f"{in_zone(each.at, each.zone):%Y-%m-%d %H:%M}"
        utc = "" if each.at is None else f"{each.at:%m-%d %H:%M}"
        table.add_row(
            str(each.instalment), each.occasion, local, utc, " > ".join(each.channels), each.fate,
            each.reason or each.rule,
        )  # fmt: skip
    return table


def summary(lines: Sequence[Line], earlier: int) -> str:
    """The sum, so that it can be seen that nothing is missing."""
    counts = Counter(each.fate.value for each in lines)
    parts = [f"{n} {fate}" for fate, n in sorted(counts.items())]
    if earlier:
        parts.append(f"{earlier} earlier")
    return f"{len(lines) + earlier} = " + " + ".join(parts or ["0"])

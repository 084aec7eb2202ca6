"""`plan`: what a cadence would do with a file of facts, without touching anyone."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import WRONG, console, fail, refuse
from gateway.cli.facts import SOURCE

if TYPE_CHECKING:
    from gateway.cadence.loading import Cadences
    from gateway.cadence.rehearsal import Choose, Line
    from gateway.cli.facts import Row
    from schemas.repayments import Fact

_MOST_PROBLEMS: Final = 50
_AFTER: Final = dt.timedelta(days=45)  # the last due date, when nobody says until when

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
        typer.Option("--from", parser=_day, metavar="DATE", help="Show nothing before.", show_default=False),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option("--to", parser=_day, metavar="DATE", help="Where the calendar ends.", show_default=False),
    ] = None,
    cadence: Annotated[str, typer.Option(help="Which cadence, by name.")] = "default",
    cadences: CadencesPath = None,
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
    facts = read_facts(files)
    choose = _choose(read_cadences(cadences), cadence)
    end = until or last_moment(facts)
    rehearsal = rehearse(facts, choose, end)
    lines = [each for each in rehearsal.lines if since is None or each.at is None or each.at >= since]
    if as_json:
        _print_json(lines)
    else:
        _print_table(lines, len(rehearsal.lines) - len(lines))
    if picture is not None:
        from gateway.cli.picture import draw

        picture.write_text(draw(lines, html=picture.suffix == ".html"), encoding="utf-8")


def read_facts(files: Sequence[Path]) -> list[Fact]:
    """Every fact; prints each row that is none and exits with 2 when there is one."""
    return [each.fact for _, each in read_rows(files, SOURCE, dt.datetime.now(dt.UTC))]


def read_rows(files: Sequence[Path], source: str, now: dt.datetime) -> list[tuple[str, Row]]:
    """The same, each with its event and with where it stands."""
    from gateway.cli.facts import read

    good: list[tuple[str, Row]] = []
    bad = 0
    for where, found in read(list(files), source, now):
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
    from rich.table import Table

    from gateway.zones import in_zone

    table = Table("debt", "no", "occasion", "local", "zone", "UTC", "by", "what", "why")
    for each in lines:
        local = f"{each.date:%Y-%m-%d}" if each.at is None else f"{in_zone(each.at, each.zone):%Y-%m-%d %H:%M}"
        utc = "" if each.at is None else f"{each.at:%m-%d %H:%M}"
        table.add_row(
            each.debt, str(each.instalment), each.occasion, local, each.zone, utc, " > ".join(each.channels),
            each.fate, each.reason or each.rule,
        )  # fmt: skip
    console().print(table)
    typer.echo(summary(lines, earlier), err=True)


def summary(lines: Sequence[Line], earlier: int) -> str:
    """The sum, so that it can be seen that nothing is missing."""
    counts = Counter(each.fate.value for each in lines)
    parts = [f"{n} {fate}" for fate, n in sorted(counts.items())]
    if earlier:
        parts.append(f"{earlier} earlier")
    return f"{len(lines) + earlier} = " + " + ".join(parts or ["0"])

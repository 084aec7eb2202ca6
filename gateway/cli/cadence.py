"""`cadence check|explain|diff`: cadences before they are adopted."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.common import WRONG, console, fail, refuse
from gateway.cli.plan import CadencesPath, last_moment, read_cadences, read_facts

if TYPE_CHECKING:
    from gateway.cadence.loading import Cadences
    from gateway.cadence.model import Cadence, Occasion
    from gateway.cadence.rehearsal import Line

app = typer.Typer(no_args_is_help=True, help="Which reminders a plan gives rise to: check, explain, compare.")

TemplatesPath = Annotated[
    Path | None,
    typer.Option("--templates", help="The folder of templates; the packaged ones when absent.", exists=True),
]


_DATE: Final = len("2026-11-18")
_UNSPOKEN: Final = {
    "template": "there is none of that name",
    "stage": "has no words for the stage",
    "contacts": "has no words for a channel of the ladder",
}


@app.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="A folder of <name>/<version>.yaml, or one file.")] = None,
    templates: TemplatesPath = None,
) -> None:
    """Say what is wrong with cadences; exits with 2 when something is."""
    found = _all_of(path)
    problems = [problem for each in found for problem in _unspoken(each, templates)]
    if problems:
        raise refuse(problems)
    for each in found:
        typer.echo(f"{each}: {len(each.occasions)} occasions, effective {each.effective}")


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="NAME, NAME/VERSION or a file.")] = "default",
    due: Annotated[str, typer.Option(metavar="DATE", help="Of the instalment that is the example.")] = "2026-12-10",
    cadences: CadencesPath = None,
) -> None:
    """Say in words what a cadence does, by the example of one instalment."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    cadence = _one(name, cadences)
    try:
        date = dt.date.fromisoformat(due)
    except ValueError:
        raise fail("--due must be a date, as 2026-11-18", WRONG) from None
    table = Table(title=f"due {date}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("occasion", "on", "between", "stage", "tone", "by", "why then"):
        table.add_column(
            column, min_width=_DATE if column == "on" else None, no_wrap=column == "between", overflow="fold"
        )
    for each in sorted(cadence.occasions, key=lambda occasion: occasion.days):
        try:
            dates = _dates(each, date + dt.timedelta(days=each.days + (cadence.grace_days if each.pulled_by else 0)))
        except OverflowError:
            raise fail("--due is at an end of the calendar", WRONG) from None
        table.add_row(
            each.name, dates, f"{each.window.opens}-{each.window.closes}", each.stage, each.tone, _ladder(each),
            _reason(each),
        )  # fmt: skip
    typer.echo(f"{cadence}, effective {cadence.effective}.  {cadence.about}".rstrip())
    if cadence.grace_days:
        typer.echo(f"Nobody is called late within {cadence.grace_days} d of the due date unless a debit failed.")
    console().print(table)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="NAME/VERSION or a file.")],
    new: Annotated[str, typer.Argument(help="NAME/VERSION or a file.")],
    facts: Annotated[
        list[Path] | None,
        typer.Option("--facts", help="Also what it would change for these facts, as `plan` has them."),
    ] = None,
    cadences: CadencesPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Show what another version would change before it is adopted; exits with 0 whether it changes something or not."""
    import msgspec

    from gateway.cadence.difference import changes, moves
    from gateway.cadence.rehearsal import rehearse

    was, becomes = _one(old, cadences), _one(new, cadences)
    changed = changes(was, becomes)
    moved = []
    if facts:
        known = read_facts(facts)
        end = last_moment(known)
        moved = moves(
            rehearse(known, lambda *_: was, end).lines, rehearse(known, lambda *_: becomes, end).lines
        )  # fmt: skip
    if as_json:
        for each in (*changed, *moved):
            typer.echo(msgspec.json.encode(each).decode())
        return
    for change in changed:
        where = ".".join(part for part in (change.occasion, change.field) if part)
        typer.echo(f"{where}: {_shown(change.was)} -> {_shown(change.becomes)}")
    for move in moved:
        line = move.becomes or move.was
        assert line is not None
        typer.echo(f"{line.debt}/{line.instalment} {line.occasion}: {_line(move.was)} -> {_line(move.becomes)}")
    typer.echo(f"{len(changed)} changed" + (f", {len(moved)} moved" if facts else ""), err=True)


def _all_of(path: Path | None) -> Sequence[Cadence]:
    if path is not None and not path.is_dir():
        return [_file(path)]
    return [each for versions in read_cadences(path).by_name.values() for each in versions]


def _one(name: str, root: Path | None) -> Cadence:
    if name.endswith((".yaml", ".yml")):
        return _file(Path(name))
    known = read_cadences(root)
    wanted, _, version = name.partition("/")
    found = _version(known, wanted, version)
    if found is None:
        there = ", ".join(str(each) for versions in known.by_name.values() for each in versions)
        raise fail(f"no cadence {name!r:.60}; there are: {there}", WRONG)
    return found


def _version(known: Cadences, name: str, version: str) -> Cadence | None:
    """That version, or the latest without one."""
    if not version:
        return known.by_name[name][-1] if name in known.by_name else None
    return known.version(name, int(version)) if version.isdecimal() else None


def _file(path: Path) -> Cadence:
    from gateway.cadence.loading import CadenceError, read

    try:
        return read(path)
    except CadenceError as error:
        raise refuse(error.problems) from None


def _unspoken(cadence: Cadence, templates: Path | None) -> list[str]:
    """Occasions that no template has words for."""
    from gateway.content import DEFAULT_TEMPLATES, Catalogue
    from gateway.content.loading import TemplateError

    try:
        catalogue = Catalogue.load(templates or DEFAULT_TEMPLATES)
    except TemplateError as error:
        return [f"templates: {each}" for each in error.problems]
    problems = []
    for each in cadence.occasions:
        missing = catalogue.covers(each.template, each.stage, [rung.channel for rung in each.ladder])
        if missing is not None:
            problems.append(f"{cadence}: {each.name}: template: {_UNSPOKEN[missing.field]}")
    return problems


def _dates(occasion: Occasion, first: dt.date) -> str:
    last = first + dt.timedelta(days=occasion.good_for_days - 1)
    return f"{first}" if last == first else f"{first} to {last:%m-%d}"


def _ladder(occasion: Occasion) -> str:
    return " > ".join(
        rung.channel + (f" ({rung.confirm} within {rung.advance_after})" if rung.advance_after else "")
        for rung in occasion.ladder
    )


def _reason(occasion: Occasion) -> str:
    reasons = [f"due{occasion.days:+d}d" if occasion.days else "due day"]
    if occasion.pulled_by:
        reasons.append(f"at once after {occasion.pulled_by}")
    if occasion.requires:
        reasons.append("only if " + " or ".join(occasion.requires))
    return ", ".join(reasons)


def _line(line: Line | None) -> str:
    if line is None:
        return "none"
    at = "" if line.at is None else f" {line.at:%Y-%m-%d %H:%MZ} by {' > '.join(line.channels)}"
    return f"{line.fate}{at}{f' ({line.reason})' if line.reason else ''}"


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)

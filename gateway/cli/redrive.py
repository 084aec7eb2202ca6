"""`deadletters redrive`: what was refused goes through intake again, once what was wrong is put right."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import lists
from gateway.cli.common import DEFAULT_CONFIG, FAILED, WRONG, ConfigPath, console, database, fail, read, unusable
from gateway.cli.deadletters import Source, Topic, Why
from gateway.cli.lists import Author, Json, Since, Until

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.database import Database
    from gateway.ledger.deadletters import Which
    from gateway.ledger.pages import Range
    from gateway.ledger.redrives import Redriven
    from gateway.redrive import Redriver

# Their borrowers are locked meanwhile, for less than the quarter of a second that a receipt waits.
_BATCH: Final = 25
_TOLD_EVERY: Final = 250  # letters, where there is no terminal to show a bar
_INTERRUPTED: Final = 130


def redrive(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These letters.")] = None,
    reason: Why = None,
    source: Source = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the oldest first.")] = 10_000,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would happen now.")] = False,
    author: Author = None,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Send dead letters through intake again: the whole decision, by the configuration, templates and time of now.

    Without --yes nothing is done: each letter is tried, told and taken back.  With it a letter becomes a reminder, a
    duplicate or an obeyed stop, once, whoever else redrives it; one that is refused again stays as it is.  Letters that
    are gone already are passed over.  It may be interrupted and repeated at any time.

    Give it the gateway's own configuration: lenders and templates are read from it.
    """
    from gateway.ledger.deadletters import Which
    from gateway.ledger.pages import Range
    from gateway.ledger.workers import NoWorkerNumber

    chosen = any(each is not None for each in (reason, source, topic, since, until))
    if bool(letters) == chosen:
        raise fail("name letters by their ids, or by --reason, --source, --topic, --since, --until", WRONG)
    by = lists.author_of(author) if yes else "nobody"
    ids = sorted({lists.reference(each, "dead letter") for each in letters or ()})
    done: list[Redriven] = []
    which = None if ids else (Range.of(since, until), Which(reason, source, topic, left=True), limit)
    interrupted, cut = False, None
    try:
        more = asyncio.run(_redrive(read(config), ids, which, by, yes, done))
    except KeyboardInterrupt:
        more, interrupted = "interrupted: repeat it for the rest", True
    except NoWorkerNumber as error:
        raise fail(str(error)) from None
    except _Cut as error:
        more, cut = "ended by an error: repeat it for the rest", error.__cause__
        if yes:
            more += f"; of the next {_BATCH} it is not known whether they are done: see `deadletters list`"
    _tell(done, more, yes=yes, as_json=as_json)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    if cut is not None:
        why = str(cut) if isinstance(cut, NoWorkerNumber) else unusable(cut)
        if why is None:
            raise cut
        raise fail(why)
    if any(each.became in ("missing", "sealed") for each in done):
        raise typer.Exit(FAILED)


class _Cut(Exception):
    """Its cause has ended the work in the middle: what was done before is still to be told."""


async def _redrive(
    config: Config,
    ids: list[int],
    which: tuple[Range, Which, int] | None,
    author: str,
    yes: bool,
    done: list[Redriven],
) -> str | None:
    """Redrives in batches, each as it is done added to `done`; says where there is more to redrive.

    Raises _Cut when a batch fails.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    async with database(config) as ledger:
        more = None
        if which is not None:
            ids, more = await _chosen(ledger, *which)
        if not ids:
            return more
        redriver = await _redriver(config, ledger)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        await redriver.start()
        try:
            screen = console(err=True)
            with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
                task = progress.add_task("redriving" if yes else "trying, keeping nothing", total=len(ids))
                for at in range(0, len(ids), _BATCH):
                    batch = ids[at : at + _BATCH]
                    done += await _batch(redriver, batch, author, yes)
                    progress.advance(task, len(batch))
                    so_far = at + len(batch)
                    if progress.disable and so_far % _TOLD_EVERY == 0 and so_far < len(ids):
                        typer.echo(f"{so_far:,} of {len(ids):,}", err=True)
        finally:
            # A number that is not given back comes back when its lease ends: no reason to lose the report.
            with suppress(Exception):
                await redriver.stop()
    return more


async def _batch(redriver: Redriver, ids: list[int], author: str, yes: bool) -> list[Redriven]:
    try:
        return await redriver.batch(ids, author, keep=yes)
    except Exception as error:
        raise _Cut from error


async def _chosen(ledger: Database, within: Range, which: Which, limit: int) -> tuple[list[int], str | None]:
    from gateway.ledger import deadletters
    from gateway.ledger.pages import LOOKED_AT

    async with ledger.connection() as connection:
        page = await deadletters.oldest(connection, within, which, limit)
    if page.full:
        return page.rows, f"the oldest {limit} were taken; further: --since '{lists.when(page.rows[-1])}'"
    if page.looked_to is not None:
        until = lists.when(page.looked_to)
        return page.rows, f"looked at {LOOKED_AT} letters, up to {until}; further: --since '{until}'"
    return page.rows, None


async def _redriver(config: Config, ledger: Database) -> Redriver:
    from gateway import parameters
    from gateway.clock import AnchoredClock
    from gateway.content import DEFAULT_TEMPLATES, Catalogue
    from gateway.intake.decode import Decoder
    from gateway.ledger import workers
    from gateway.redrive import Facts, Redriver
    from providers.catalog import discover

    catalogue = Catalogue.load(config.templates_path or DEFAULT_TEMPLATES)
    sealer = config.sealing.sealer()
    decoder = Decoder(lenders=parameters.lender_facts(config), catalogue=catalogue, sealer=sealer)
    async with ledger.connection() as connection:
        clock = AnchoredClock(await workers.clock(connection))
    facts, cadences = None, parameters.cadences(config)
    if (topic := config.kafka.repayments_topic) is not None:
        facts = Facts(
            topic,
            parameters.fact_decoder(config, cadences, catalogue, sealer),
            lambda ids: parameters.planner(config, cadences, sealer, ids),
        )
    return Redriver(ledger, clock, decoder, sealer, parameters.rules(config, cadences, discover()), facts)


def _tell(done: list[Redriven], more: str | None, *, yes: bool, as_json: bool) -> None:
    columns = ("letter", "was", "becomes", "why", "reminder", "hold")
    lists.show(map(_fields if as_json else _words, done), columns, as_json=as_json)
    sums = Counter(f"{each.became} ({each.reason})" if each.reason else each.became.value for each in done)
    words = ", ".join(f"{n} {name}" for name, n in sorted(sums.items()))
    ends = [words] if words else []
    ends += [] if yes else ["nothing was done; --yes does it"]
    lists.about(len(done), "dead letter", *ends, *([more] if more else []))


def _fields(each: Redriven) -> dict[str, Any]:
    from gateway.ids import to_reference

    return {
        "letter": to_reference(each.letter),
        "was": each.was,
        "becomes": each.became,
        "reason": each.reason,
        "field": each.field,
        "reminder": None if each.reminder is None else to_reference(each.reminder),
        "state": each.state,
        "state_reason": each.state_reason,
        "lifted_a_hold": each.lifted,
        "held_by": [to_reference(one) for one in each.held_by],
        "held_by_too_many": each.held,
        "held_elsewhere": list(each.elsewhere),
        "redriven_by": each.author,
        "redriven_at": each.at,
    }


def _words(each: Redriven) -> dict[str, Any]:
    row = _fields(each)
    why: str | None = each.state_reason
    if each.author is not None:
        why = f"redriven by {each.author}"
    elif each.reason is not None:
        why = f"{each.reason} ({each.field})" if each.field else each.reason
    hold = "lifted" if each.lifted else None
    if each.held:
        hold = "stays: too many unread letters, or too large ones, to look through"
    elif each.held_by:
        hold = f"stays, for {' '.join(row['held_by'])}"
    if each.elsewhere:
        hold = f"{hold or 'none'}; still held under {', '.join(each.elsewhere)}"
    becomes = f"{each.became}, {each.state}" if each.state is not None else each.became.value
    return row | {"becomes": becomes, "why": why, "hold": hold}

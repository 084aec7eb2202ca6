"""Redriving dead letters: the whole decision again, once, by today's configuration; and what it lifts and leaves."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.clock import VirtualClock
from gateway.content import DEFAULT_TEMPLATES, Catalogue
from gateway.ids import subject_key, to_reference
from gateway.intake.decode import Decoder, LenderFacts, Record
from gateway.ledger import deadletters, redrives, sums, timeline
from gateway.ledger.deadletters import Which
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.pages import Range
from gateway.ledger.redrives import Became, Redriven
from gateway.redrive import Redriver
from schemas.vocabulary import Rejection
from tests.integration import redrives_by_hand
from tests.integration.by_hand import lose_a_commit
from tests.integration.redrives_by_hand import RULES, SEALER
from tests.stack.gateway import cancelled, merge, requested

TOPIC = "reminders.requests"
ONE = {"acme": LenderFacts("Acme")}
TWO = ONE | {"harbour": LenderFacts("Harbour")}
BORROWER = {"kind": "borrower"}
ALL, ANY = Range(), Which()


def decoder(lenders: dict[str, LenderFacts], catalogue: Catalogue | None = None) -> Decoder:
    return Decoder(lenders=lenders, catalogue=catalogue or Catalogue.load(), sealer=SEALER)


BEFORE, AFTER = decoder(ONE), decoder(TWO)


class Desk(redrives_by_hand.Desk):
    async def take(
        self, *events: dict[str, Any] | bytes, by: Decoder = BEFORE, keys: Iterable[bytes] = ()
    ) -> list[int]:
        """Intake reads these; returns the ids of the dead letters among them."""
        values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
        return await self.reads(by, list(zip(list(keys) or [b"k"] * len(events), values, strict=True)))

    async def redrive(
        self, *letters: int, by: Decoder = AFTER, keep: bool = True, author: str = "ann"
    ) -> list[Redriven]:
        return await self.batch(Redriver(self.ledger, self.clock, by, SEALER, RULES), letters, author, keep=keep)

    async def held(self) -> set[tuple[str, str]]:
        rows = await self.ledger.fetch("select lender, borrower from subject where unreadable_stop_at is not null")
        return {tuple(row) for row in rows}

    async def everything(self) -> dict[str, int]:
        """How many rows each table has; workers come and go."""
        names = await self.ledger.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
            " and relname not in ('worker', 'worker_number') and not relispartition"
        )
        return {each[0]: await self.value(f'select count(*) from "{each[0]}"') for each in names}


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with redrives_by_hand.desk(Desk, database, TOPIC) as it:
        yield it


def of_harbour(number: int, **changes: Any) -> dict[str, Any]:
    """Refused until the lender is there."""
    event = requested(number, lender="harbour")
    merge(event["data"], changes)
    return event


async def test_a_lender_that_is_there_now(desk: Desk) -> None:
    event = of_harbour(1)
    [letter] = await desk.take(event, requested(2))
    assert await desk.value("select reason from deadletter") == "unknown_lender"
    before = await desk.everything()

    # First dry: it says what would be and leaves nothing.
    [would] = await desk.redrive(letter, keep=False)
    assert (would.was, would.became, would.state) == ("unknown_lender", Became.ACCEPTED, "scheduled")
    assert would.reminder is None  # none that will ever be found
    assert await desk.everything() == before
    [still] = await desk.redrive(letter, by=BEFORE, keep=False)
    assert (still.became, still.reason, still.field) == (Became.REFUSED, "unknown_lender", "data.lender")

    [done] = await desk.redrive(letter)
    assert (done.became, done.state, done.lifted) == (Became.ACCEPTED, "scheduled", False)
    [row] = await desk.ledger.fetch(
        'select topic, partition, "offset", lender from reminder where id = $1', done.reminder
    )
    assert tuple(row) == (TOPIC, 0, 0, "harbour")
    assert await desk.value("select count(*) from due where id = $1", done.reminder) == 1
    assert await desk.value("select payload from outbox where reminder = $1", done.reminder)
    [row] = await desk.ledger.fetch("select letter, author, outcome, reminder, at from redrive")
    assert tuple(row) == (letter, "ann", "accepted", done.reminder, desk.clock.now())
    assert await desk.value("select count(*) from deadletter") == 1  # it is kept
    found = await desk.assert_sums()
    assert found.terms["dead letters redriven: accepted"] == 1
    assert (found.outcome(ReadOutcome.DEADLETTER), found.reminders) == (1, 2)

    # Whoever comes later finds it done; and the record, sent again, is a duplicate.
    after = await desk.everything()
    [again] = await desk.redrive(letter, author="bob")
    assert (again.became, again.author, again.reminder) == (Became.DONE, "ann", done.reminder)
    assert await desk.everything() == after
    assert await desk.take(event, by=AFTER) == []
    assert await desk.value("select n from intake_count where outcome = 'duplicate'") == 1
    async with desk.ledger.connection() as connection:
        story = await timeline.read(connection, done.reminder or 0, desk.clock.now())
    assert story is not None
    assert [(each.what, each.detail) for each in story.entries if "redriven" in each.what] == [
        ("redriven", f"by ann, from dead letter {to_reference(letter)}")
    ]


async def test_a_template_that_is_there_now(desk: Desk, tmp_path: Path) -> None:
    [letter] = await desk.take(requested(1, template="reminder"))
    assert await desk.value("select reason from deadletter") == "unknown_template"
    shutil.copytree(DEFAULT_TEMPLATES, tmp_path / "templates")
    shutil.copytree(tmp_path / "templates" / "repayment", tmp_path / "templates" / "reminder")
    [done] = await desk.redrive(letter, by=decoder(ONE, Catalogue.load(tmp_path / "templates")))
    assert done.became is Became.ACCEPTED
    assert await desk.value("select template from reminder") == "reminder"
    await desk.assert_sums()


async def test_what_stays_dead(desk: Desk) -> None:
    """A changed payload of a known key, what is too old, what is broken: nothing is written, nobody is told."""
    first = requested(1)
    old = of_harbour(3, not_after=(desk.clock.now() + dt.timedelta(hours=1)).isoformat())
    letters = await desk.take(first, requested(1, debt={"amount": "9.00"}), b"{", old)
    desk.clock.advance(dt.timedelta(hours=2))
    before = await desk.everything()
    for keep in (False, True):
        found = await desk.redrive(*letters, keep=keep)
        assert [(each.became, each.reason, each.field) for each in found] == [
            ("refused", "conflict", "data"),
            ("refused", "not_json", None),
            ("refused", "past_not_after", "data.not_after"),
        ]
        assert await desk.everything() == before
    await desk.assert_sums()


async def test_what_was_taken_meanwhile_is_a_duplicate(desk: Desk) -> None:
    """Upstream has sent it again, under the same id, when the lender was there."""
    event = of_harbour(1)
    [letter] = await desk.take(event)
    await desk.take(event, by=AFTER)
    [done] = await desk.redrive(letter)
    assert (done.became, done.reminder) == (Became.DUPLICATE, await desk.value("select id from reminder"))
    # Also when it could not be taken any more, and a letter that has been taken by nobody cannot.
    event = of_harbour(2)
    letters = await desk.take(event, of_harbour(3))
    await desk.take(event, by=AFTER)
    desk.clock.advance(dt.timedelta(hours=12))
    same, late = await desk.redrive(*letters)
    assert same.became is Became.DUPLICATE
    assert same.reminder == await desk.value("select id from reminder where debt = 'debt-2'")
    assert (late.became, late.reason) == (Became.REFUSED, "past_not_after")
    sums = await desk.assert_sums()
    assert sums.terms["dead letters redriven: duplicate"] == 2
    answers = await desk.ledger.fetch("select payload from outbox where seq = 0 and topic = 'reminders.events'")
    assert [json.loads(row[0])["answer"] for row in answers] == ["duplicate"] * 2


async def test_stops_and_stages_are_asked(desk: Desk) -> None:
    """Everything that a request meets when it is read, it meets again."""
    letters = await desk.take(*(of_harbour(n) for n in (1, 2, 3)), of_harbour(4), of_harbour(3) | {"id": "other"})
    tombs = [cancelled(1, BORROWER, lender="harbour")]
    await desk.take(*tombs, by=AFTER)
    await desk.take(of_harbour(2) | {"id": "first"}, by=AFTER)
    found = await desk.redrive(*letters)
    assert [(each.became, each.state, each.state_reason) for each in found] == [
        ("accepted", "cancelled", "cancelled_borrower"),
        ("accepted", "suppressed", "duplicate_stage"),
        ("accepted", "scheduled", None),
        ("accepted", "scheduled", None),
        ("accepted", "suppressed", "duplicate_stage"),
    ]
    sums = await desk.assert_sums()
    assert sums.by_hand.born == 5
    assert {state: n for state, n in sums.by_hand.ended.items() if n} == {"cancelled": 1, "suppressed": 2}


async def test_a_frozen_source_stays_frozen(desk: Desk) -> None:
    [letter] = await desk.take(of_harbour(1))
    await desk.ledger.fetch(
        """insert into "freeze" (kind, value, reason, author, created_at)
           values ('source', 'loan-core', 'dead_letter_share', 'intake', now())"""
    )
    [done] = await desk.redrive(letter)
    assert (done.state, done.state_reason) == ("held", "frozen")


async def test_what_the_ledger_refuses_spoils_no_neighbour(desk: Desk) -> None:
    letters = await desk.take(of_harbour(1), of_harbour(2))
    await desk.ledger.fetch("alter table reminder add constraint refuses_for_a_test check (debt <> 'debt-1') not valid")
    first, second = await desk.redrive(*letters)
    assert (first.became, first.reason) == (Became.REFUSED, "refused_by_ledger")
    assert second.became is Became.ACCEPTED
    await desk.ledger.fetch("alter table reminder drop constraint refuses_for_a_test")
    [first] = await desk.redrive(letters[0])
    assert first.became is Became.ACCEPTED
    await desk.assert_sums()


async def test_two_at_once_redrive_it_once(desk: Desk) -> None:
    """The second waits for the first to commit, and finds it done."""
    events = [of_harbour(n) for n in range(8)]
    letters = await desk.take(*events)
    records = [Record(TOPIC, 0, n, b"k", json.dumps(event).encode()) for n, event in enumerate(events)]
    decoded = {
        letter: AFTER.decode(record, desk.ids, desk.clock.now()).command
        for letter, record in zip(letters, records, strict=True)
    }
    async with desk.ledger.connection() as connection:
        async with connection.transaction():
            first = await redrives.redrive(connection, decoded, "ann", desk.clock.now(), RULES)
            bob = asyncio.create_task(desk.redrive(*letters, author="bob"))
            waiting = (
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
            async with asyncio.timeout(10):
                while not await desk.value(waiting):
                    await asyncio.sleep(0.02)
        second = await bob
    assert [each.became for each in first.letters] == [Became.ACCEPTED] * 8
    assert [(each.became, each.author) for each in second] == [(Became.DONE, "ann")] * 8
    assert await desk.value("select count(*) from reminder") == 8
    assert await desk.value("select count(*) from outbox where topic = 'reminders.events'") == 8
    await desk.assert_sums()


async def test_a_lost_commit_is_told_as_what_was_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    twice, lasts = of_harbour(2), (desk.clock.now() + dt.timedelta(hours=20)).isoformat()
    letters = await desk.take(of_harbour(1, not_after=lasts), twice, too_new(7, desk.clock), b"{")
    await desk.take(twice, by=AFTER)
    desk.clock.advance(dt.timedelta(hours=13))
    redriver = Redriver(desk.ledger, desk.clock, AFTER, SEALER, RULES)
    await redriver.start()
    would = await redriver.batch(letters, "ann", keep=False)
    with monkeypatch.context() as once:
        lost = lose_a_commit(once)
        found = await redriver.batch(letters, "ann", keep=True)
    assert lost
    assert [each.became for each in found] == ["accepted", "duplicate", "command", "refused"]
    assert found[2].lifted
    assert [(each.became, each.reason, each.lifted) for each in found] == [
        (each.became, each.reason, each.lifted) for each in would
    ]
    assert [each.author for each in found] == [None] * 4
    owners = dict(await desk.ledger.fetch("select letter, reminder from redrive"))
    assert {each.letter: each.reminder for each in found if each.became in redrives.NOTED} == owners
    desk.clock.advance(dt.timedelta(seconds=1))
    assert {each.became for each in await redriver.batch(letters[:3], "ann", keep=True)} == {Became.DONE}
    await redriver.stop()
    await desk.assert_sums()


async def test_what_dies_in_between_leaves_nothing_and_is_repeated(desk: Desk) -> None:
    """The note that it is redriven and what it became are one commit: also when the note comes last and fails."""
    letters = await desk.take(of_harbour(1), of_harbour(2))
    before = await desk.everything()
    await desk.ledger.fetch("alter table redrive add constraint fails check (author <> 'ann')")
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.redrive(*letters)
    assert await desk.everything() == before
    await desk.ledger.fetch("alter table redrive drop constraint fails")

    class Dies(Exception):
        pass

    async def dies(connection: Any) -> None:
        decoded = {each: AFTER.decode(record, desk.ids, desk.clock.now()).command for each, record in records.items()}
        await redrives.redrive(connection, decoded, "ann", desk.clock.now(), RULES)
        raise Dies

    records = {
        letter: Record(TOPIC, 0, n, b"k", json.dumps(of_harbour(n + 1)).encode()) for n, letter in enumerate(letters)
    }
    with pytest.raises(Dies):
        await desk.ledger.transaction(dies)
    assert await desk.everything() == before
    assert [each.became for each in await desk.redrive(*letters)] == [Became.ACCEPTED] * 2
    await desk.assert_sums()


@pytest.mark.parametrize(
    ("harm", "gaps"),
    [
        ("delete from redrive", ["accepted and planned: 0, reminders: 1", "redriven and accepted: 0, made by hand: 1"]),
        ("delete from manual_count", ["redriven and accepted: 1, made by hand: 0"]),
        ("delete from deadletter", ["dead letters: 1, rows kept of them: 0"]),
    ],
)
async def test_what_is_missing_shows_in_the_sums(desk: Desk, harm: str, gaps: list[str]) -> None:
    await desk.redrive(*await desk.take(of_harbour(1)))
    await desk.assert_sums()
    await desk.ledger.fetch(harm)
    async with desk.ledger.connection() as connection:
        assert (await sums.conservation(connection)).gaps == gaps


async def test_the_letters_that_may_hold_are_found_by_their_index(desk: Desk) -> None:
    """As the service's own connections plan it: whatever else was refused is not looked at."""
    async with desk.ledger.connection() as connection:
        await connection.execute(f"prepare asked (bigint[], bigint) as {redrives._MAY_HOLD}")
        plan = "\n".join(row[0] for row in await connection.fetch("explain execute asked ('{}', 10)"))
        await connection.execute("deallocate asked")
    assert "deadletter_may_hold" in plan, plan
    assert "Seq Scan" not in plan, plan


# --- stops ------------------------------------------------------------------------------------------------------------


def too_new(number: int, clock: VirtualClock, scope: dict[str, Any] = BORROWER, **changes: Any) -> dict[str, Any]:
    """A stop that cannot be read today: its clock is a day and a half ahead.  Tomorrow it can."""
    return cancelled(number, scope, as_of=(clock.now() + dt.timedelta(hours=36)).isoformat(), **changes)


async def test_a_stop_that_can_be_read_now_stops_and_lifts_its_hold(desk: Desk) -> None:
    later = (desk.clock.now() + dt.timedelta(hours=5)).isoformat()
    await desk.take(requested(1, send_at=later), requested(2, send_at=later))
    other = requested(1, debt={"ref": "another"}, stage="d3", send_at=later) | {"id": "request-3"}
    await desk.take(other)
    [letter] = await desk.take(too_new(1, desk.clock, {"kind": "debt", "ref": "debt-1"}))
    assert await desk.held() == {("acme", "borrower-1")}
    [not_yet] = await desk.redrive(letter)
    assert (not_yet.became, not_yet.reason) == (Became.REFUSED, Rejection.UNREADABLE_STOP)
    assert await desk.held() == {("acme", "borrower-1")}

    desk.clock.advance(dt.timedelta(hours=13))
    [done] = await desk.redrive(letter)
    assert (done.became, done.lifted, done.held_by, done.elsewhere) == (Became.COMMAND, True, (), ())
    assert await desk.held() == set()
    ended = await desk.ledger.fetch("select request_id, state::text from ending join reminder on id = reminder")
    assert [tuple(row) for row in ended] == [("request-1", "cancelled")]
    # Nothing else of him was named: that is for the timers to release.
    assert await desk.value("select state::text from live join reminder using (id) where debt = 'another'") == "held"
    sums = await desk.assert_sums()
    assert sums.by_hand.ended["cancelled"] == 1  # type: ignore[index]
    assert sums.terms["dead letters redriven: command"] == 1


@pytest.mark.parametrize("another", ["stop", "nobody knows what", "of his request", "sealed"])
async def test_a_hold_stays_while_another_letter_may_name_him(desk: Desk, another: str) -> None:
    await desk.take(requested(1))
    [mine] = await desk.take(too_new(1, desk.clock))
    request = {"kind": "request", "source": "loan-core", "id": "request-1"}
    event, key = {
        "stop": (too_new(1, desk.clock) | {"type": "reminder.cancelled.v9"}, b"k"),
        "nobody knows what": (b"\x00\x01", b"borrower-1"),
        "of his request": (too_new(7, desk.clock, request), b"k"),
        "sealed": (too_new(9, desk.clock), b"k"),
    }[another]
    [theirs] = await desk.take(event, keys=[key])
    if another == "sealed":
        await desk.ledger.fetch("update deadletter set sealed = 'x' where id = $1", theirs)
    desk.clock.advance(dt.timedelta(hours=13))
    [done] = await desk.redrive(mine)
    assert (done.became, done.lifted) == (Became.COMMAND, False)
    assert theirs in done.held_by
    assert ("acme", "borrower-1") in await desk.held()


@pytest.mark.parametrize("together", [True, False])
async def test_the_last_stop_of_a_borrower_lifts_his_hold(desk: Desk, together: bool) -> None:
    letters = await desk.take(too_new(1, desk.clock), too_new(1, desk.clock, {"kind": "debt", "ref": "d"}))
    await desk.take(too_new(2, desk.clock))
    desk.clock.advance(dt.timedelta(hours=13))
    if together:
        found = await desk.redrive(*letters)
    else:
        found = [(await desk.redrive(each))[0] for each in letters]
    assert [each.lifted for each in found] == [together, True]
    assert await desk.held() == {("acme", "borrower-2")}


async def test_a_hold_is_lifted_only_for_whom_it_names(desk: Desk) -> None:
    """It named a lender that was not there: whoever has this reference was held, and only the named one is let go."""
    [letter] = await desk.take(cancelled(1, BORROWER, lender="harbour"))
    assert await desk.held() == {("acme", "borrower-1")}
    [done] = await desk.redrive(letter)
    assert (done.became, done.lifted, done.elsewhere) == (Became.COMMAND, False, ("acme",))
    assert await desk.held() == {("acme", "borrower-1")}
    assert await desk.value("select subject from tombstone") == subject_key("harbour", "borrower-1")


async def test_a_letter_that_held_nobody_lifts_nothing(desk: Desk) -> None:
    """He is held for another reason than this request, though no letter tells of it any more."""
    [letter] = await desk.take(of_harbour(1))
    await desk.take(of_harbour(1) | {"id": "x"}, by=AFTER)
    await desk.ledger.fetch("update subject set unreadable_stop_at = now()")
    [done] = await desk.redrive(letter)
    assert (done.became, done.lifted) == (Became.ACCEPTED, False)
    assert await desk.held() == {("harbour", "borrower-1")}


async def test_a_stop_of_somebody_elses_request_stays_unreadable(desk: Desk) -> None:
    later = (desk.clock.now() + dt.timedelta(hours=5)).isoformat()
    await desk.take(requested(1, send_at=later), requested(2, send_at=later))
    [letter] = await desk.take(cancelled(1, {"kind": "request", "source": "loan-core", "id": "request-2"}))
    before = await desk.everything()
    [still] = await desk.redrive(letter)
    assert (still.became, still.reason, still.field) == ("refused", "unreadable_stop", "data.borrower_ref")
    assert await desk.everything() == before
    assert await desk.held() == {("acme", "borrower-1"), ("acme", "borrower-2")}


async def test_too_many_to_look_through(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrives, "_MOST_OPENED", 1)
    [mine, *_] = await desk.take(*(too_new(n, desk.clock) for n in (1, 2, 3)))
    desk.clock.advance(dt.timedelta(hours=13))
    [done] = await desk.redrive(mine)
    assert (done.lifted, done.held) == (False, True)
    assert ("acme", "borrower-1") in await desk.held()


async def test_too_much_to_look_through(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded by bytes as well, and then none of it is even fetched."""
    [mine, *others] = await desk.take(*(too_new(n, desk.clock) for n in (1, 2, 3)))
    sizes = await desk.ledger.fetch("select octet_length(sealed) from deadletter where id = any($1)", others)
    total = sum(each[0] for each in sizes)
    fetched = []

    def names(redriver: Redriver, letter: int, reason: str, sealed: bytes) -> redrives.Named | None:
        fetched.append(letter)
        return opened(redriver, letter, reason, sealed)

    opened = Redriver._names
    monkeypatch.setattr(Redriver, "_names", names)
    desk.clock.advance(dt.timedelta(hours=13))
    monkeypatch.setattr(redrives, "_MOST_BYTES", total - 1)
    monkeypatch.setattr(redrives, "_RECORDS", "never asked")
    [done] = await desk.redrive(mine, keep=False)
    assert (done.lifted, done.held, fetched) == (False, True, [])
    monkeypatch.undo()
    monkeypatch.setattr(redrives, "_MOST_BYTES", total)
    [done] = await desk.redrive(mine)
    assert (done.lifted, done.held) == (True, False)


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_letters_that_do_not_exist_or_do_not_open(desk: Desk) -> None:
    letters = await desk.take(of_harbour(1), of_harbour(2))
    await desk.ledger.fetch("update deadletter set sealed = 'x' where id = $1", letters[0])
    found = await desk.redrive(5, *letters)
    assert [(each.letter, each.became) for each in found] == [
        (5, Became.MISSING), (letters[0], Became.SEALED), (letters[1], Became.ACCEPTED),
    ]  # fmt: skip


async def test_pages_of_letters(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = await desk.take(*(of_harbour(n) for n in range(5)), b"{", requested(9, lender="third") | {"source": "s"})
    newest = letters[::-1]
    async with desk.ledger.connection() as connection:

        async def page(within: Range = ALL, which: Which = ANY, limit: int = 3) -> list[int]:
            return [each.id for each in (await deadletters.newest(connection, within, which, limit)).rows]

        assert await page() == newest[:3]
        assert await page(Range(high=newest[2])) == newest[3:6]
        assert await page(Range(high=newest[5])) == newest[6:]
        assert await page(which=Which(reason="not_json")) == [letters[5]]
        assert await page(which=Which(source="s")) == [letters[6]]
        assert await page(which=Which(topic="other")) == []
        now = desk.clock.now()
        assert await page(Range.of(now - dt.timedelta(minutes=1), None), limit=9) == newest
        assert await page(Range.of(None, now - dt.timedelta(minutes=1))) == []
        await desk.redrive(*letters[:2])
        assert (await deadletters.oldest(connection, Range(), Which(left=True), 2)).rows == letters[2:4]

        # No more than so many rows are looked at, and how far that was is told.
        monkeypatch.setattr(deadletters, "LOOKED_AT", 3)
        short = await deadletters.newest(connection, Range(), Which(reason="unknown_lender"), 5)
        assert [each.id for each in short.rows] == [newest[0], newest[2]]
        assert short.looked_to == newest[3] + 1
        on = await deadletters.newest(connection, Range(high=short.looked_to), Which(reason="unknown_lender"), 5)
        assert [each.id for each in on.rows] == newest[3:6]
        far = await deadletters.oldest(connection, Range(), Which(left=True), 5)
        assert (far.rows, far.looked_to) == ([letters[2]], letters[3])

"""The judge shown evidence that was doctored: each invariant is seen broken, and what is no breach is seen to pass.

One real run is healed and found in order.  Then each test changes what the judge will look at (rows inside a
transaction that is rolled back, so that the witness sees them as it sees everything; records and log lines in memory)
and asks for a verdict.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from gateway.ids import from_reference, to_reference
from tests.faults import checker
from tests.faults.checker import Found, Report
from tests.faults.evidence import look
from tests.faults.harness import eventually, fresh_topics, stand
from tests.faults.topics import Record, Topic
from tests.stack.gateway import cancelled, requested

pytestmark = pytest.mark.asyncio(loop_scope="module")

Change = Callable[[Found], Found]


@dataclass(frozen=True)
class Run:
    """A healed run: what was found, and where its ledger still stands."""

    found: Found
    dsn: str
    topic: str

    async def judged(self, *sql: str, change: Change = lambda found: found) -> Report:
        """The verdict on this run, had `sql` been done to its ledger and `change` to the rest."""
        connection = await asyncpg.connect(self.dsn)
        try:
            transaction = connection.transaction()
            await transaction.start()
            for each in sql:
                await connection.execute(each)
            ledger = await look(connection, self.topic)
            await transaction.rollback()
        finally:
            await connection.close()
        return checker.judge(change(replace(self.found, ledger=ledger)))


SMS, PUSH, TWICE, CANCELLED = 1, 2, 3, 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(postgres: Any, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """An sms and a push that arrived, a request read twice, one cancelled in time, and a dead letter."""
    await postgres.heal()
    await kafka.heal()
    name = await postgres.fresh_database()
    topics = await fresh_topics(kafka)
    async with stand(postgres.dsn(name), kafka.bootstrap, topics, tmp_path_factory.mktemp("run")) as here:
        await here.up()
        later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
        twice = requested(TWICE)
        good = [requested(SMS), requested(PUSH, ["push"]), twice, requested(CANCELLED, send_at=later.isoformat())]
        await here.world.publish([*good, b"{", twice])
        await eventually(lambda: _is(here, "select count(*) from reminder", 4))
        scope = {"kind": "request", "source": "loan-core", "id": f"request-{CANCELLED}"}
        await here.world.publish([cancelled(CANCELLED, scope)])
        await here.quiet()
        found = await checker.collect(here.evidence())
    yield Run(found, postgres.dsn(name), topics.requests)
    await postgres.heal()
    await postgres.drop_database(name)


async def _is(here: Any, sql: str, n: int) -> bool:
    return bool(await here.value(sql) == n)


async def test_the_run_itself_is_in_order(run: Run) -> None:
    report = await run.judged()
    assert not report.violations, report
    counts = report.counts
    assert (counts["records"], counts["reminders"], counts["duplicates"], counts["commands"]) == (7, 4, 1, 1)
    assert (counts["dead_letters"], counts["messages"]) == (1, 3)
    assert report.endings == {"delivered": 3, "cancelled": 1}


# --- how evidence is doctored -----------------------------------------------------------------------------------------


def of(number: int) -> str:
    return f"(select id from reminder where request_id = 'request-{number}')"


def subject(number: int) -> str:
    return f"(select subject from reminder where request_id = 'request-{number}')"


def intent(number: int, at: str = "clock_timestamp()", n: int = 1) -> str:
    """Another attempt, made now."""
    return f"""
        insert into attempt (id, reminder, subject, rung, channel, provider, state, intended_at)
        select {of(number)} + {n} * 256, r.id, r.subject, 0, 'sms', 'twilio', 'intended', {at}
        from reminder r where r.id = {of(number)}
    """


def becomes(number: int, state: str, n: int = 1) -> str:
    return f"update attempt set state = '{state}' where id = {of(number)} + {n} * 256"


def copied(number: int, **changes: str) -> tuple[str, ...]:
    """A second row for a request, another one's id."""
    sets = ", ".join(f"{name} = '{value}'" for name, value in changes.items())
    return (
        f"create temp table copied on commit drop as select * from reminder where id = {of(number)}",
        "update copied set id = id + 512" + (f", {sets}" if sets else ""),
        "insert into reminder select * from copied",
    )


def reborn(number: int, state: str = "scheduled") -> str:
    """A live row for a reminder that has ended."""
    return f"""
        insert into live (id, subject, lender, source, request_id, stage, lane, ladder, not_after, state, seq, at)
        select id, subject, lender, source, request_id, stage, lane, ladder, not_after, '{state}', 9, send_at
        from reminder where id = {of(number)}
    """


def frozen(kind: str, value: str, until: str = "null") -> str:
    return f"""
        insert into "freeze" (kind, value, reason, author, created_at, until)
        values ('{kind}', '{value}', '', '', now(), {until})
    """


def buried(number: int, kind: str, value: str = "") -> str:
    return f"""
        insert into tombstone (subject, kind, value, as_of)
        values ({subject(number)}, '{kind}', '{value}', now() + interval '1 hour')
    """


def events(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], number: int) -> Change:
    """Does something to what was told of one request, where it was told."""

    def doctored(found: Found) -> Found:
        records = [(record, json.loads(record.value or b"")) for record in found.events.records]
        mine = [(record, event) for record, event in records if event["data"]["request_id"] == f"request-{number}"]
        others = [record for record, event in records if event["data"]["request_id"] != f"request-{number}"]
        told = change([event for _, event in mine])
        place = mine[0][0]
        again = [replace(place, offset=n, value=json.dumps(event).encode()) for n, event in enumerate(told)]
        return replace(found, events=Topic((*others, *again)))

    return doctored


def message(number: int, n: int = 1, **changes: Any) -> Change:
    """One more message in the provider's log: of the attempt made by `intent(number, n=n)`."""

    def doctored(found: Found) -> Found:
        line = next(each for each in found.log if each["kind"] == "accepted" and each["marker"] == f"M-{number}")
        [reminder] = [id_ for id_, row in found.ledger.reminders.items() if row["request_id"] == f"request-{number}"]
        at = dt.datetime.fromisoformat(line["at"]) + dt.timedelta(seconds=n)
        other = {"at": at.isoformat(), "id": f"other-{n}", "reference": to_reference(reminder + n * 256)}
        return replace(found, log=[*found.log, {**line, **other, **changes}])

    return doctored


def both(*changes: Change) -> Change:
    def doctored(found: Found) -> Found:
        for each in changes:
            found = each(found)
        return found

    return doctored


def resend(stage: str = "due") -> Change:
    """Had the run been configured to send such pushes again."""
    return lambda found: replace(found, resends=frozenset({("fcm", stage)}))


def unread(found: Found) -> Found:
    """A request that Kafka acknowledged and nobody took."""
    record = Record(0, 1_000_000, json.dumps(requested(99)).encode())
    return replace(found, requests=Topic((*found.requests.records, record)))


def without_letters(found: Found) -> Found:
    return replace(found, letters=Topic(()))


# --- I1, I2 -----------------------------------------------------------------------------------------------------------

LOST: dict[str, tuple[str, Sequence[str], Change]] = {
    "nobody took": ("1 repetitions read, 0 recorded", (), unread),
    "has no row any more": ("1 repetitions read, 0 recorded", (f"delete from reminder where id = {of(SMS)}",), both()),
    "has no row and was sent": ("has attempts and no row", (f"delete from reminder where id = {of(SMS)}",), both()),
    "has a repeat and no row": ("answered as a duplicate", (f"delete from reminder where id = {of(TWICE)}",), both()),
    "is a command without its effect": ("is lost", ("delete from tombstone",), both()),
    "is a reminder and a dead letter": (
        "became 1 reminders and 1 dead letters",
        (
            f"""insert into deadletter (id, reason, topic, partition, "offset", hash, at, sealed)
            select id, 'bug', topic, partition, "offset", '', now(), '' from reminder where id = {of(SMS)}""",
        ),
        both(),
    ),
    "was repeated and nobody says so": (
        "1 repetitions read, 0 recorded", (),
        events(lambda told: [each for each in told if each["data"].get("answer") != "duplicate"], TWICE),
    ),
    "is a dead letter that nobody was told of": ("dead letters kept", (), without_letters),
    "was counted twice": (
        "counted by intake", ("update intake_count set n = n + 1 where outcome = 'accepted'",), both(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
async def test_i1_a_record_that(case: str, run: Run) -> None:
    says, sql, change = LOST[case]
    report = await run.judged(*sql, change=change)
    assert any(says in each for each in report.broken("I1")), report


async def test_i2_two_rows_for_one_request(run: Run) -> None:
    report = await run.judged(*copied(SMS))
    assert report.broken("I2") == ["2 reminders for ('loan-core', 'request-1')"], report


async def test_i2_two_contacts_under_one_business_key(run: Run) -> None:
    """Two requests may name one step of one debt, as long as only one of them is sent."""
    other = copied(SMS, request_id="request-1b")
    assert not (await run.judged(*other)).broken("I2")
    second = intent(SMS).replace("request-1", "request-1b")
    [blame] = (await run.judged(*other, second)).broken("I2")
    assert blame.startswith("2 reminders for ('acme', 'borrower-1', 'debt-1'"), blame


# --- I3 ---------------------------------------------------------------------------------------------------------------


async def test_i3_a_second_push_under_wait(run: Run) -> None:
    """It would replace the first on the screen, and is one too many all the same."""
    twice = (intent(PUSH), becomes(PUSH, "accepted"))
    [blame] = (await run.judged(*twice, change=message(PUSH))).broken("I3")
    assert blame.startswith("M-2: fcm took "), blame


PUSHED = (intent(PUSH).replace("'sms', 'twilio'", "'push', 'fcm'"), becomes(PUSH, "unknown"))
AGAIN = (intent(PUSH, n=2).replace("'sms', 'twilio'", "'push', 'fcm'"), becomes(PUSH, "accepted", n=2))
# The push that the run really made stands in nobody's way here: only the two that are made up are compared.
MADE_UP = both(message(PUSH, 1), message(PUSH, 2))


def only_made_up(found: Found) -> Found:
    kept = [each for each in found.log if each.get("marker") != f"M-{PUSH}" or str(each["id"]).startswith("other")]
    return replace(found, log=kept)


@pytest.mark.parametrize(
    ("sql", "change", "broken"),
    [
        ((*PUSHED, *AGAIN), resend(), 0),
        ((*PUSHED, *AGAIN), both(), 1),
        ((*PUSHED, *AGAIN), resend("d3"), 1),
        ((PUSHED[0], becomes(PUSH, "accepted"), *AGAIN), resend(), 1),
        ((*PUSHED, becomes(PUSH, "accepted"), *AGAIN), resend(), 1),
        ((*PUSHED, *AGAIN, becomes(PUSH, "accepted")), resend(), 0),
        ((*PUSHED, *AGAIN), both(resend(), message(PUSH, 3, replaces="another")), 2),
    ],
    ids=[
        "of-an-unknown-one", "under-wait", "resend-at-another-stage", "of-an-accepted-one", "of-one-accepted-meanwhile",
        "of-one-accepted-later", "beside-one-that-replaces-nothing",
    ],
)  # fmt: skip
async def test_i3_a_repeat_of_a_push(sql: Sequence[str], change: Change, broken: int, run: Run) -> None:
    """Sent again on purpose is what was unknown, in its own place, where the run's configuration says so."""
    extra = (intent(PUSH, n=3), becomes(PUSH, "accepted", n=3)) if broken == 2 else ()
    report = await run.judged(*sql, *extra, change=both(MADE_UP, change, only_made_up))
    assert len(report.broken("I3")) == broken, report
    assert report.counts["replaced on the screen"] == (0 if broken == 1 else 1)


async def test_i3_a_message_without_an_intent(run: Run) -> None:
    report = await run.judged(change=message(SMS, n=7))
    assert any("left without an intent" in each for each in report.broken("I3")), report


async def test_i3_a_message_of_an_attempt_that_says_it_never_left(run: Run) -> None:
    report = await run.judged(f"update attempt set state = 'not_sent' where reminder = {of(SMS)}")
    assert any("its attempt says not_sent" in each for each in report.broken("I3")), report


async def test_i3_one_attempt_that_left_twice(run: Run) -> None:
    def twice(found: Found) -> Found:
        [line] = [each for each in found.log if each["kind"] == "accepted" and each["marker"] == f"M-{SMS}"]
        assert from_reference(line["reference"]) in found.ledger.attempts
        return replace(found, log=[*found.log, line])

    report = await run.judged(change=twice)
    assert any("left 2 times" in each for each in report.broken("I3")), report


# --- I4 ---------------------------------------------------------------------------------------------------------------


async def test_i4_an_attempt_that_steps_back(run: Run) -> None:
    report = await run.judged(f"update attempt set state = 'sent' where reminder = {of(SMS)}")
    assert any("went from delivered to sent" in each for each in report.broken("I4")), report


async def test_i4_a_reminder_that_lives_again(run: Run) -> None:
    report = await run.judged(reborn(SMS))
    assert any("went from delivered to scheduled" in each for each in report.broken("I4")), report


CLAIM = "insert into claim (id, worker, lane, due_at, token) values ({of}, 1, 'bulk', now(), {token})"


@pytest.mark.parametrize(("token", "broken"), [(7, 0), (8, 1), (None, 1)])
async def test_i4_a_reminder_sent_without_the_claim_that_stands(token: int | None, broken: int, run: Run) -> None:
    claimed = () if token is None else (CLAIM.format(of=of(SMS), token=token),)
    sent = f"update live set state = 'sending', token = 7 where id = {of(SMS)}"
    report = await run.judged(reborn(SMS), *claimed, sent)
    assert len([each for each in report.broken("I4") if "was sent under the claim 7" in each]) == broken, report


TOLD: dict[str, tuple[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]] = {
    "missing": ("ended with 3", lambda told: told[:1] + told[2:]),
    "out of order": ("ended with 3", lambda told: told[::-1]),
    "of another end": (
        "ended delivered, told undelivered",
        lambda told: [*told[:-1], {**told[-1], "data": {**told[-1]["data"], "state": "undelivered"}}],
    ),
    "repeated with other words": (
        "repeated with other words", lambda told: [*told, {**told[-1], "data": {**told[-1]["data"], "reason": "bug"}}],
    ),
    "going back": (
        "was told to go from",
        lambda told: [told[0], {**told[1], "data": {**told[1]["data"], "state": "cancelled"}}, told[2]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
async def test_i4_an_event(case: str, run: Run) -> None:
    says, change = TOLD[case]
    report = await run.judged(change=events(change, SMS))
    assert any(says in each for each in report.broken("I4")), report


# --- I8 ---------------------------------------------------------------------------------------------------------------


async def test_i8_a_reminder_still_alive_at_the_end(run: Run) -> None:
    sql = (f"delete from ending where reminder = {of(SMS)}", reborn(SMS))
    assert "1 rows left in live" in (report := await run.judged(*sql)).broken("I8"), report
    report = await run.judged(reborn(SMS))
    assert any("has ended and lives" in each for each in report.broken("I8")), report


async def test_i8_a_reminder_that_is_nowhere(run: Run) -> None:
    report = await run.judged(f"delete from ending where reminder = {of(SMS)}")
    assert any("is nowhere" in each for each in report.broken("I8")), report


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("due", "('bulk', now(), 1)"),
        ("claim", "(1, 1, 'bulk', now(), 1)"),
        ("timer", "(now(), 1)"),
        ("outbox", "(1, 1, 1, 1, 'reminders.events', '')"),
        ("parked", "(now(), 1)"),
        ("unsettled", "(1, now())"),
    ],
)
async def test_i8_something_left_in(table: str, row: str, run: Run) -> None:
    report = await run.judged(f"insert into {table} values {row}")
    assert report.broken("I8") == [f"1 rows left in {table}"], report


# --- I9 ---------------------------------------------------------------------------------------------------------------


def only_i9(report: Report, says: str) -> None:
    assert {each.invariant for each in report.violations} == {"I9"}, report
    assert any(says in each for each in report.broken("I9")), report


async def test_i9_an_intent_after_a_stop_of_the_request(run: Run) -> None:
    only_i9(await run.judged(intent(CANCELLED)), "after a stop of its request")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("debt", "debt-1"),
        ("borrower", ""),
        ("paid", "debt-1"),
        ("stopped", "debt-1"),
        ("stopped", ""),
        ("opted_out", ""),
    ],
)
async def test_i9_an_intent_after_a_stop_of(kind: str, value: str, run: Run) -> None:
    only_i9(await run.judged(buried(SMS, kind, value), intent(SMS)), f"after a stop of its {kind}")
    assert not (await run.judged(intent(SMS), buried(SMS, kind, value))).violations, "the intent was first"
    assert not (await run.judged(buried(SMS, kind, value), intent(PUSH))).violations, "another borrower"


@pytest.mark.parametrize(("kind", "value"), [("opted_in", ""), ("paid", "another"), ("stopped", "another")])
async def test_i9_an_intent_after_what_does_not_stop_it(kind: str, value: str, run: Run) -> None:
    assert not (await run.judged(buried(SMS, kind, value), intent(SMS))).violations


SLICES = (
    ("all", "*"), ("source", "loan-core"), ("lender", "acme"), ("stage", "due"), ("template", "repayment"),
    ("channel", "sms"), ("provider", "twilio"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), SLICES)
async def test_i9_an_intent_under_a_freeze_of(kind: str, value: str, run: Run) -> None:
    freeze = frozen(kind, value)
    only_i9(await run.judged(freeze, intent(SMS)), f"while {kind}:{value} was frozen")
    assert not (await run.judged(intent(SMS), freeze)).violations, "the intent was first"
    assert not (await run.judged(freeze, 'delete from "freeze"', intent(SMS))).violations, "it was lifted"
    if kind != "all":
        assert not (await run.judged(frozen(kind, "another"), intent(SMS))).violations


async def test_i9_an_intent_under_a_freeze_that_has_an_end(run: Run) -> None:
    """By the moment of the intent itself, which is what intend went by."""
    freeze = frozen("lender", "acme", "'2026-01-01 12:00Z'")
    only_i9(await run.judged(freeze, intent(SMS, "'2026-01-01 11:59:59Z'")), "was frozen")
    assert not (await run.judged(freeze, intent(SMS, "'2026-01-01 12:00Z'"))).violations
    longer = """update "freeze" set until = null"""
    only_i9(await run.judged(freeze, longer, intent(SMS, "'2026-01-01 12:00Z'")), "was frozen")


async def test_i9_an_intent_while_a_stop_could_not_be_read(run: Run) -> None:
    held = f"update subject set unreadable_stop_at = now() where key = {subject(SMS)}"
    released = held.replace("= now()", "= null")
    only_i9(await run.judged(held, intent(SMS)), "while its borrower was held")
    assert not (await run.judged(intent(SMS), held)).violations, "the intent was first"
    assert not (await run.judged(held, released, intent(SMS))).violations, "it was released"
    assert not (await run.judged(held, intent(PUSH))).violations, "another borrower"

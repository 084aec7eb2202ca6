"""One reminder's whole story, for people: what was decided, tried, received, stopped and told.

Everything the ledger has about a reminder is in it, and nothing of it is personal: what is sealed stays sealed.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway import tracing
from gateway.ids import bucket_of, from_reference, request_key, to_reference
from gateway.ledger import freezes, freshness, merged, situations, stale
from gateway.ledger.database import Connection
from gateway.ledger.pages import LOOKED_AT
from gateway.ledger.standing import LADDER_CHANNEL, Queue, Situation
from gateway.ledger.states import FAILED, REACHED
from schemas.vocabulary import Disposition, Reason, ReminderState

_BY_REQUEST: Final = "select reminder from inbox where key = $1"
# What is planned is no request, so no key leads to it.  The newest: the one that was made last for an occasion.
_PLANNED: Final = """
select id from (select id, source, request_id, occasion from reminder order by id desc limit $3) newest
where source = $1 and request_id = $2 and occasion is not null order by id desc limit 1
"""
_REMINDER: Final = """
select source, request_id, lender, borrower, debt, instalment, product, stage, step, template, lane, state_as_of,
       send_at, not_after, received_at, topic, partition, "offset", stage_key, traceparent from reminder where id = $1
"""
_DECISIONS: Final = "select at, verdict, rule, attempt, inputs from decision where reminder = $1 order by at"
_ATTEMPTS: Final = """
select a.id, a.rung, a.channel, a.provider, a.state, a.failure, a.code, a.intended_at, a.outcome_at, a.final_at,
       array(select ref from provider_ref p where p.attempt = a.id order by ref) as refs
from attempt a where a.reminder = $1 order by a.id
"""
# Also what is parked under the provider's own id, because it came before our record of that.
_RECEIPTS: Final = """
select r.id, r.received_at, r.provider, r.kind, r.state, r.failure, r.code, r.disposition, r.attempt, r.occurred_at,
       (select min(p.sweep_at) from parked p where p.receipt = r.id) as sweep_at
from receipt r where r.attempt = any($1::bigint[])
union
select r.id, r.received_at, r.provider, r.kind, r.state, r.failure, r.code, r.disposition, p.attempt, r.occurred_at,
       k.sweep_at
from parked k join receipt r on r.id = k.receipt join provider_ref p on p.provider = r.provider and p.ref = r.ref
where r.attempt is null and p.attempt = any($1::bigint[])
order by 1
"""
_ENGAGEMENT: Final = """
select e.kind, e.attempt, e.occurred_at, r.received_at from engagement e left join receipt r on r.id = e.id
where e.attempt = any($1::bigint[]) order by e.id
"""
_TOMBSTONES: Final = """
select kind, as_of from tombstone where subject = $1
  and (kind in ('borrower', 'opted_out') or (kind = 'debt' and value = $2) or (kind = 'request' and value = $3))
order by as_of, kind
"""
_SUBJECT_HELD: Final = "select unreadable_stop_at from subject where key = $1"
_FREEZES: Final = 'select kind, value, reason, created_at, until from "freeze" where until is null or until > $1'
_OUTBOX: Final = "select seq, at, type from outbox where bucket = $1 and reminder = $2 order by seq, id"
_UNKNOWN: Final = "select since from unsettled where id = $1"
_REDRIVEN: Final = "select letter, at, author, outcome from redrive where reminder = $1 order by at"
_SETTLEMENTS: Final = """
select at, attempt, author, reason, was::text, became::text, reminder_was, reminder_became
from settlement where reminder = $1 order by at
"""
_STAGE_OWNER: Final = "select reminder from stage_key where key = $1"
_PUSH_PROVIDER: Final = "select provider from attempt where id = $1 and channel = 'push'"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline."""

    at: dt.datetime
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt as it stands.  `refs` are the provider's ids of its message."""

    id: str
    rung: int
    channel: str
    provider: str
    state: str
    failure: str | None
    code: str | None
    intended_at: dt.datetime
    outcome_at: dt.datetime | None
    final_at: dt.datetime | None
    refs: Sequence[str]

    @property
    def label(self) -> str:
        return f"{self.channel} by {self.provider}, attempt {self.id}"

    @property
    def why(self) -> str:
        return " ".join(each for each in (self.failure, self.code) if each)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`facts` are ids and times of the request; `now` says where the reminder stands, in words; `entries` are in the
    order of time.
    """

    reminder: str
    situation: Situation
    facts: dict[str, Any]
    now: list[tuple[str, str | dt.datetime]]
    attempts: list[Tried]
    entries: list[Entry] = field(default_factory=list)


Routes = Mapping[str, Mapping[str, str]]  # lender -> channel -> provider


async def find(connection: Connection, reference: str | None, source: str | None, request_id: str | None) -> int | None:
    """A reminder's id from its own reference, or from the source and id of its request.

    One that is planned is found by its occasion among the newest `LOOKED_AT` reminders.
    """
    if reference is not None:
        return from_reference(reference)
    found: int | None = await connection.fetchval(_BY_REQUEST, request_key(source or "", request_id or ""))
    return found or await connection.fetchval(_PLANNED, source, request_id, LOOKED_AT)


async def read(
    connection: Connection, reminder: int, now: dt.datetime, routes: Routes | None = None
) -> Timeline | None:
    """The story of a reminder at business time `now`, from one snapshot; None when there is no such reminder.

    `routes` tell which provider a contact would go through, and so whether a freeze of a provider covers it.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        was = (await situations.read(connection, [reminder])).get(reminder)
        if was is None:
            return None
        facts = dict(await connection.fetchrow(_REMINDER, reminder))
        context = tracing.read(facts.pop("traceparent"))
        facts["trace"] = None if context is None else context.trace
        story = Timeline(
            to_reference(reminder), was, facts, [], [_tried(row) for row in await connection.fetch(_ATTEMPTS, reminder)]
        )
        outbox = await connection.fetch(_OUTBOX, bucket_of(reminder), reminder)
        await _standing(connection, story, now, routes or {})
        story.now.append(("events", _told(was.seq, len([row for row in outbox if row[0]]))))
        await _add_intake(connection, story)
        await _add_decisions(connection, story)
        _add_attempts(story)
        await _add_settlements(connection, story)
        await _add_receipts(connection, story)
        for seq, at, type_ in outbox:
            story.entries.append(Entry(at, "event waits for Kafka", f"seq {seq}" if seq else type_ or "an answer"))
    story.entries.sort(key=lambda each: each.at)
    return story


async def push_provider(connection: Connection, attempt: int) -> str | None:
    """The provider a push attempt went through, or None when it is no push of ours."""
    found: str | None = await connection.fetchval(_PUSH_PROVIDER, attempt)
    return found


# --- where it stands ------------------------------------------------------------------------------------------------

# Held, and not looked at again before that.
_UNTIL_THE_END: Final = frozenset({Reason.FROZEN, Reason.STALE_FACTS, Reason.MERGED_INTO, Reason.FACT_MISSING})
_QUEUE: Final = {Queue.DUE: "due at", Queue.CLAIM: "in a worker's hands, due at", Queue.TIMER: "waits until"}


async def _standing(connection: Connection, story: Timeline, now: dt.datetime, routes: Routes) -> None:
    was, say = story.situation, story.now.append
    if was.queue is not None:
        held, frozen = was.state is ReminderState.HELD, was.reason is Reason.FROZEN
        say(
            (
                ("ends, if still held, at" if was.reason in _UNTIL_THE_END else "looked at again at")
                if held
                else _QUEUE[was.queue],
                was.at,
            )
        )
        if was.resume_at is not None:
            say(("goes, once released, at", was.resume_at))
        if was.occasion is not None:
            await _freshness(connection, story)
        by = await _freezes(connection, story, now, routes)
        if held and frozen and not by:
            by = ["nothing any more: it waits for its turn"]
        for each in by:
            say(("frozen by", each))
        say(("contact", f"{was.rung + 1} of {len(was.ladder)}: {_ladder(was)}"))
        for name, n in (("tries of this contact", was.tries), ("rescues", was.rescues)):
            if n:
                say((name, str(n)))
        if was.closed is not None:
            say(("no further contact", was.closed.value))
        if (since := await connection.fetchval(_UNKNOWN, was.id)) is not None:
            say(("outcome unknown since", since))
    else:
        say(("contacts", _ladder(was)))
    if was.occasion is not None:
        say(("occasion", was.occasion))
        for leader in await merged.leaders(connection, [was.id]):
            say(("its message is that of", to_reference(leader)))
        for other in (await merged.told(connection, [was.id])).get(was.id, ()):
            say(("its message is also that of", to_reference(other.reminder)))
    if (at := await connection.fetchval(_SUBJECT_HELD, was.subject)) is not None:
        say(("borrower held for a stop nobody could read, since", at))
    owner = await connection.fetchval(_STAGE_OWNER, story.facts["stage_key"])
    if owner is None:
        say(("debt and stage", "free for another request"))
    else:
        say(("debt and stage", "held by this reminder" if owner == was.id else f"held by {to_reference(owner)}"))


async def _freshness(connection: Connection, story: Timeline) -> None:
    """As of when what is known of its debt is complete, and whose word would make it younger."""
    was, say = story.situation, story.now.append
    known = (await freshness.of(connection, [was.id]))[was.id]
    say(("facts known as of", known.fresh_at or "never"))
    if was.state is not ReminderState.HELD or was.reason is not Reason.STALE_FACTS:
        return
    age = (await stale.ages(connection, [was.id])).get(was.id)
    if age is None:
        say(("stale facts", "no more: it waits for its turn"))
        return
    if known.fresh_at is not None:
        say(("facts stale since", known.fresh_at + age))
    for topic, source, partition in sorted(known.places):
        say(("waits for", f"{source} in {topic}/{partition}"))


async def _freezes(connection: Connection, story: Timeline, now: dt.datetime, routes: Routes) -> list[str]:
    """The freezes in force that cover its contact."""
    was, facts = story.situation, story.facts
    channel = LADDER_CHANNEL[was.ladder[was.rung]].value
    slice_ = {name: facts[name] for name in ("source", "lender", "product", "stage", "template")}
    slice_ |= {"channel": channel, "provider": routes.get(was.lender, {}).get(channel)}
    return [
        f"{kind} {value}: {reason}" + (f", until {until:%Y-%m-%d %H:%M:%S}" if until else "")
        for kind, value, reason, _, until in await connection.fetch(_FREEZES, now)
        if freezes.Freezes({(kind, value): freezes.OF_NONE}).covers(slice_)
    ]


def _ladder(was: Situation) -> str:
    return " → ".join(LADDER_CHANNEL[letter].value for letter in was.ladder)


def _told(seq: int, waiting: int) -> str:
    return f"{seq}, all on Kafka" if not waiting else f"{seq}, of which {waiting} wait for Kafka"


# --- what happened --------------------------------------------------------------------------------------------------


async def _add_intake(connection: Connection, story: Timeline) -> None:
    facts, was = story.facts, story.situation
    place = f"{facts['topic']}/{facts['partition']}/{facts['offset']}"
    story.entries.append(Entry(facts["received_at"], "accepted", place))
    for letter, at, author, outcome in await connection.fetch(_REDRIVEN, was.id):
        what = "redriven" if outcome == "accepted" else f"redriven again: a {outcome}"
        story.entries.append(Entry(at, what, f"by {author}, from dead letter {to_reference(letter)}"))
    key = request_key(facts["source"], facts["request_id"]).hex()
    for kind, as_of in await connection.fetch(_TOMBSTONES, was.subject, facts["debt"], key):
        if kind == "opted_out":
            story.entries.append(Entry(as_of, "the borrower wants no more reminders", "covers this reminder"))
            continue
        covers = kind == "request" or facts["state_as_of"] <= as_of
        detail = "covers this reminder" if covers else "older than this request's state_as_of: does not cover it"
        story.entries.append(Entry(as_of, f"stop of the {kind}", detail))


async def _add_decisions(connection: Connection, story: Timeline) -> None:
    for at, verdict, rule, attempt, inputs in await connection.fetch(_DECISIONS, story.situation.id):
        parts = [f"rule {rule}"]
        parts += [f"attempt {to_reference(attempt)}"] if attempt is not None else []
        parts += [f"{name} {value}" for name, value in json.loads(inputs).items()]
        story.entries.append(Entry(at, f"decided: {verdict}", ", ".join(parts)))


def _tried(row: Any) -> Tried:
    return Tried(to_reference(row[0]), *row[1:])


def _add_attempts(story: Timeline) -> None:
    """The ledger keeps an attempt's state now, and when it was intended, first heard of and settled; what came between
    is in the receipts."""
    for each in story.attempts:
        story.entries.append(Entry(each.intended_at, "intended", f"{each.label}, contact {each.rung + 1}"))
        if each.outcome_at is None:
            continue
        if each.final_at is None or each.final_at > each.outcome_at:
            taken = f" taken as {', '.join(each.refs)}" if each.refs else ""
            story.entries.append(Entry(each.outcome_at, "first outcome", f"{each.label}{taken}"))
        if each.final_at is not None:
            story.entries.append(Entry(each.final_at, f"attempt {each.state}", f"{each.label} {each.why}".strip()))


async def _add_settlements(connection: Connection, story: Timeline) -> None:
    for at, attempt, author, reason, was, became, stood, stands in await connection.fetch(
        _SETTLEMENTS, story.situation.id
    ):
        what = f"settled by hand: {became}"
        detail = f"by {author}, attempt {to_reference(attempt)}, was {was}; reminder {stood} → {stands}; {reason}"
        story.entries.append(Entry(at, what, detail))


async def _add_receipts(connection: Connection, story: Timeline) -> None:
    attempts = [from_reference(each.id) for each in story.attempts]
    receipts = await connection.fetch(_RECEIPTS, attempts)
    for row in receipts:
        what = row["state"] or (row["code"] if row["kind"] == "engaged" else row["kind"])
        why = " ".join(each for each in (row["failure"], row["code"]) if each)
        became = (
            row["disposition"] if row["sweep_at"] is None else f"waiting, looked at again {row['sweep_at']:%H:%M:%S}"
        )
        detail = f"{row['provider']}, attempt {to_reference(row['attempt'])}, {why}: {became}"
        story.entries.append(Entry(row["received_at"], f"receipt {what}", detail))
    for kind, attempt, occurred_at, received_at in await connection.fetch(_ENGAGEMENT, attempts):
        at = occurred_at or received_at
        if at is not None:
            story.entries.append(Entry(at, f"engaged: {kind}", f"attempt {to_reference(attempt)}"))
    was = story.situation
    if was.queue is None:
        corrections = _corrections(story, receipts)
        # The ledger keeps the last state, and when the first one came.
        end = ("ended", "corrected later") if corrections else (f"ended: {was.state}", was.reason or "")
        story.entries.append(Entry(was.at, *end))
        story.entries.extend(corrections)


def _corrections(story: Timeline, receipts: Sequence[Any]) -> list[Entry]:
    """What receipts after the end have changed: `follow` told backwards."""
    end = story.situation.state
    kept = end in (ReminderState.CANCELLED, ReminderState.SUPPRESSED)
    said = [(row, situations.ATTEMPT_STATE[row["state"]]) for row in receipts if row["state"] is not None]
    # Delivered it was from the start, then, and nothing is above that.
    reached = any(row["disposition"] == Disposition.APPLIED and state in REACHED for row, state in said)
    found = []
    for row, state in said:
        if row["disposition"] != Disposition.LATE:
            continue
        if state in REACHED and not reached:
            what = f"stays {end}, though it arrived" if kept else ReminderState.DELIVERED.value
            found.append(Entry(row["received_at"], "corrected", what))
            reached = not kept
        elif state in FAILED and not reached and not kept and story.attempts[-1].id == to_reference(row["attempt"]):
            what = f"{ReminderState.UNDELIVERED} ({Reason.CONTACTS_EXHAUSTED})"
            found.append(Entry(row["received_at"], "corrected", what))
    return found

"""What is due for a borrower of a lender on one of his days becomes one message.

A reminder that is claimed looks for the others of its day, under the borrower's lock: one leads, the others are held,
and suppressed in the commit that tells of the leader's contact.  Whatever changes who is told of takes the leader out
of the hands it is in, so that no intent is made of words that are no longer so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from gateway.ledger import freezes, freshness, merged, moves, queueing, situations, subjects
from gateway.ledger.database import Connection
from gateway.ledger.standing import Move, Queue
from schemas.vocabulary import Reason, ReminderState

# What has been contacted for goes on by itself: it is no new message.
_COMPANY: Final = """
select distinct i.subject
from unnest($1::bytea[], $2::timestamptz[], $3::bigint[]) as i(subject, until, id)
cross join lateral (
    select 1 from live l where l.subject = i.subject and l.id <> i.id and l.occasion is not null and l.attempts = 0
        and l.state = 'scheduled' and l.at < i.until limit 1
) l
"""
# Whoever asked for it.
_BUSY: Final = """
select i.id from unnest($1::bytea[], $2::timestamptz[], $3::timestamptz[], $4::bigint[]) as i(subject, since, until, id)
cross join lateral (
    select 1 from live l where l.subject = i.subject and l.stage <> 'education'
        and (l.state in ('sending', 'awaiting') or (l.state = 'scheduled' and l.at < i.until))
    union all
    select 1 from reminder r cross join lateral (
        select 1 from attempt a where a.reminder = r.id
            and a.intended_at >= i.since and a.state not in ('not_sent', 'rejected') limit 1
    ) a where r.subject = i.subject
    limit 1
) l
"""
_OF_THE_DAY: Final = f"""
select l.id, l.subject, r.debt, r.instalment, l.stage, r.step, coalesce(v.sealed, r.sealed), l.occasion,
       (select max(f.fresh_at) from ({freshness.TOLD}) f), r.source, r.lender, r.product, r.template, l.stage
from unnest($1::bytea[], $2::timestamptz[]) as i(subject, until)
cross join lateral (
    select * from live l where l.subject = i.subject
        and l.occasion is not null and l.attempts = 0 and l.not_after > $3 and (
            (l.state = 'scheduled' and l.at < i.until)
            or (l.state = 'held' and l.reason = 'merged_into' and l.resume_at < i.until and not exists (
                select 1 from (select m.leader from merged m where m.reminder = l.id offset 0) m
                cross join lateral (select w.attempts from live w where w.id = m.leader offset 0) w where w.attempts > 0
            ))
        ) offset 0
) l
cross join lateral (select * from reminder r where r.id = l.id offset 0) r
left join lateral (select v.sealed from revision v where v.reminder = l.id offset 0) v on true
order by l.id
"""  # noqa: S608  joins a constant of the ledger


class Waiting(Struct, frozen=True):
    """A planned reminder of a day: its business key, its sealed facts, as of when these are known to be complete."""

    id: int
    subject: bytes
    debt: str
    instalment: int
    stage: str
    step: str
    sealed: bytes
    occasion: str
    fresh_at: dt.datetime | None
    slices: merged.Slices


class Message(Struct, frozen=True):
    """Which of them leads, which are told of along with it, which are not told of at all, and which yield to it."""

    leader: int
    along: Collection[int]
    superseded: Collection[int]
    yields: Collection[int] = ()


class Gathered(Struct, frozen=True):
    """Who waits on whom, who is to go on another day, and the moves made."""

    waits: frozenset[int]
    yields: frozenset[int]
    moves: list[Move]


# Of what is due for one borrower on one day; None where nothing is to be merged.
Merge = Callable[[Sequence[Waiting]], Message | None]


async def company(connection: Connection, claimed: Mapping[int, tuple[bytes, dt.datetime]]) -> set[bytes]:
    """The borrowers of these for whom more is due on the same day; each is given with when his day ends.

    Without a lock: what is planned in this moment is told by itself.
    """
    subjects_, untils = zip(*claimed.values(), strict=True)
    return {row[0] for row in await connection.fetch(_COMPANY, subjects_, untils, list(claimed))}


async def busy(connection: Connection, lessons: Mapping[int, tuple[bytes, dt.datetime, dt.datetime]]) -> frozenset[int]:
    """Those whose borrower has been told of something since his day began, is being told of it, or is to be before it
    ends; another lesson that is still to come does not count.
    """
    subjects_, sinces, untils = zip(*lessons.values(), strict=True)
    return frozenset(row[0] for row in await connection.fetch(_BUSY, subjects_, sinces, untils, list(lessons)))


async def gather(
    connection: Connection, until: Mapping[bytes, dt.datetime], mine: Mapping[int, int], now: dt.datetime, merge: Merge
) -> Gathered:
    """Makes one message of what is due for each borrower before his day ends.

    `mine` are the claims, with their tokens, of the caller, who has made no words of them yet: they stay with it where
    they lead.  What a freeze covers is told of by nobody's.
    """
    in_force = await freezes.read_shared(connection, now)
    await subjects.lock(connection, until)
    rows = await connection.fetch(_OF_THE_DAY, list(until), list(until.values()), now)
    by_subject: dict[bytes, list[Waiting]] = {}
    for id_, subject, debt, instalment, stage, step, sealed, occasion, fresh_at, *slices in rows:
        by_subject.setdefault(subject, []).append(
            Waiting(id_, subject, debt, instalment, stage, step, sealed, occasion, fresh_at, merged.Slices(*slices))
        )
    free = [[each for each in day if not in_force.covers(each.slices.facts)] for day in by_subject.values()]
    messages = [message for day in free if len(day) > 1 and (message := merge(day)) is not None]
    found = await situations.read(connection, [each.id for day in by_subject.values() for each in day])
    planned: list[Move] = []
    joined: list[merged.Row] = []
    for message in messages:
        changed = False
        leader = found[message.leader]
        goes_at = leader.resume_at if leader.state is ReminderState.HELD and leader.resume_at else leader.at
        for follower, along in _followers(message):
            was = found[follower]
            if was.not_after <= goes_at:
                continue  # it would be told too late
            joined.append((follower, message.leader, along))
            if was.state is ReminderState.SCHEDULED:
                planned.append(queueing.merge(was, now))
                changed = True
        if leader.state is ReminderState.HELD:
            planned.append(queueing.release(leader, now))
        elif changed and leader.queue is Queue.CLAIM and mine.get(leader.id) != leader.token:
            planned += [move for move in [queueing.revise(leader, now)] if move is not None]
    alone = found.keys() - {follower for follower, _, _ in joined} - {message.leader for message in messages}
    let_go = [found[each] for each in alone if found[each].state is ReminderState.HELD]
    planned += [queueing.release(was, now) for was in let_go]
    if joined:
        await merged.leave(connection, [each.leader for each in messages])
        await merged.join(connection, joined)
    planned += await moves.apply(connection, planned)
    yields = frozenset(each for message in messages for each in message.yields)
    return Gathered(frozenset(follower for follower, _, _ in joined), yields, planned)


def _followers(message: Message) -> list[tuple[int, bool]]:
    return [*((each, True) for each in message.along), *((each, False) for each in message.superseded)]


async def part(connection: Connection, reminders: Collection[int], now: dt.datetime) -> list[Move]:
    """These wait on nobody's message any more; whoever was to tell of them is taken out of the hands it is in."""
    await subjects.lock_reminders(connection, list(reminders))
    found = await situations.read(connection, reminders)
    planned = [
        queueing.release(was, now)
        for was in found.values()
        if was.state is ReminderState.HELD and was.reason is Reason.MERGED_INTO
    ]
    return [*planned, *await moves.apply(connection, planned)]


async def retell(connection: Connection, reminders: Collection[int], now: dt.datetime) -> list[Move]:
    """What these say has changed: a message that tells of them and is in somebody's hands is taken back."""
    return await _take_back(connection, await merged.leaders(connection, reminders), now)


async def forget(connection: Connection, reminders: Collection[int], now: dt.datetime) -> list[Move]:
    """No later contact of a message tells of these any more."""
    return await _take_back(connection, await merged.untell(connection, reminders), now)


async def _take_back(connection: Connection, leaders: Collection[int], now: dt.datetime) -> list[Move]:
    found = await situations.read(connection, leaders)
    planned = [move for was in found.values() if (move := queueing.revise(was, now)) is not None]
    return [*planned, *await moves.apply(connection, planned)]

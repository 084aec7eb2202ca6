"""Of what is planned for a borrower's day, one leads: the part of claim that makes one message of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from gateway.cadence import calendar
from gateway.cadence.merging import merge, put_off
from gateway.cadence.planning import Key
from gateway.dispatch.pipeline import Job, Steps
from gateway.ledger import freezes, merged, merging
from gateway.ledger.database import Database
from gateway.ledger.merging import Message, Waiting
from gateway.ledger.standing import Move
from gateway.personal import SEALED_FIELD, decode
from gateway.sealing import SealBroken
from schemas.vocabulary import Stage

_TODAY: Final = dt.timedelta(0)


class MergeObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...


class Merger:
    """Owns nothing; safe to share."""

    def __init__(self, database: Database, steps: Steps, metrics: MergeObserver) -> None:
        self._database = database
        self._steps = steps
        self._metrics = metrics

    async def merge(self, jobs: Sequence[Job], now: dt.datetime) -> list[Job]:
        """Of planned ones those that are to go on, each with what its message tells of besides; the others wait for one
        that leads.
        """
        planned = {job.claimed.id: job for job in jobs}
        days = {id_: day for id_, job in planned.items() if (day := self._day(job, now)) is not None}
        waits: frozenset[int] = frozenset()
        put_back: frozenset[int] = frozenset()
        async with self._database.connection() as connection:
            company = await merging.company(connection, days) if days else set()
        if company:
            until = {subject: end for subject, end in days.values() if subject in company}
            mine = {id_: job.claimed.token for id_, job in planned.items()}
            done = await self._database.transaction(
                lambda c: merging.gather(c, until, mine, now, partial(self._message, now))
            )
            self._metrics.moved(done.moves)
            waits, put_back = done.waits, done.yields
        async with self._database.connection() as connection:
            told = await merged.told(connection, [each for each in planned if each not in waits])
            in_force = await freezes.read(connection, now) if told else freezes.Freezes({})
            lessons = {
                id_: (subject, self._midnight(planned[id_], now), end)
                for id_, (subject, end) in days.items()
                if planned[id_].claimed.stage == Stage.EDUCATION
            }
            put_back |= await merging.busy(connection, lessons) if lessons else frozenset()
        untold = {
            each
            for others in told.values()
            for each in others
            if in_force.covers(each.slices.facts) or self._steps.is_stale(each.occasion, each.fresh_at, now)
        }
        # Who waits would be suppressed with what does not tell of him.
        if apart := [each.reminder for each in untold if each.waits]:
            self._metrics.moved(await self._database.transaction(lambda c: merging.part(c, apart, now)))
            waits |= {leader for leader, others in told.items() if any(each.reminder in apart for each in others)}
        for id_, job in planned.items():
            job.told = tuple(each for each in told.get(id_, ()) if each not in untold)
            job.yields = id_ in put_back
        return [job for job in jobs if job.claimed.id not in waits]

    def _day(self, job: Job, now: dt.datetime) -> tuple[bytes, dt.datetime] | None:
        """Whose it is, and when his day ends.  None for what does not open and for a later contact: that goes alone."""
        if job.claimed.attempts or self._steps.open(job, now) is not None:
            return None
        return job.claimed.subject, self._midnight(job, now, calendar.DAY)

    def _midnight(self, job: Job, now: dt.datetime, later: dt.timedelta = _TODAY) -> dt.datetime:
        """The beginning of his day, or of a later one."""
        assert job.personal is not None
        zone = job.personal.timezone
        return calendar.resolve(calendar.local_date(now, zone) + later, dt.time.min, zone)

    def _message(self, now: dt.datetime, day: Sequence[Waiting]) -> Message | None:
        opened: list[tuple[int, Key, dt.date]] = []
        for each in day:
            if self._steps.is_stale(each.occasion, each.fresh_at, now):
                continue  # nothing is told of it now, by whichever message
            try:
                personal = decode(self._steps.sealer.open(each.sealed, each.id, SEALED_FIELD))
            except SealBroken:
                continue  # it is held when it comes to its turn
            key = Key(each.debt, each.instalment, Stage(each.stage), each.step)
            opened.append((each.id, key, personal.due_date))
        if len(opened) < 2:
            return None
        lessons = put_off(opened, _what)
        message = merge([each for each in opened if each not in lessons], _what)
        return Message(
            message.leader[0],
            tuple(each[0] for each in message.along),
            tuple(each[0] for each in message.superseded),
            tuple(each[0] for each in lessons),
        )


def _what(each: tuple[int, Key, dt.date]) -> tuple[Key, dt.date]:
    return each[1], each[2]

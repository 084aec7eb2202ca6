"""The grouped commits of dispatch: intend, settle and record, with what to do when a commit's answer is lost."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from gateway import policy
from gateway.clock import Clock
from gateway.dispatch.pipeline import Job, inputs_of
from gateway.dispatch.question import Never
from gateway.ids import to_reference
from gateway.ledger import freezes, intend, outcomes, pacing, volume
from gateway.ledger.database import Database, worth_repeating
from gateway.ledger.outcomes import Outcome, Recorded, Verdict
from gateway.ledger.quotas import Breach, QuotaRule, VolumeKind
from gateway.ledger.standing import Move, Rules
from gateway.observability.logs import get_logger
from schemas.vocabulary import AttemptState, Failure, Reason

log = get_logger(__name__)

_ELSEWHERE_SECONDS: Final = 60.0
_RECORD_AGAIN_SECONDS: Final = 0.5
_UNRECORDABLE: Final = "unrecordable"


class CommitObserver(Protocol):
    def moved(self, moves: Sequence[Move]) -> None: ...
    def attempt(self, provider: str, outcome: AttemptState, failure: Failure | None) -> None: ...
    def braked(self, kind: VolumeKind, rule: QuotaRule) -> None: ...


class Commits:
    """Each method writes one group in one transaction."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        rules: Rules,
        metrics: CommitObserver,
        on_events: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._metrics = metrics
        self._on_events = on_events
        self._breaches: set[Breach] = set()  # slices to be frozen before what they have held is settled

    async def intend(self, jobs: Sequence[Job]) -> Mapping[int, policy.Verdict | None]:
        """By attempt: None for what may leave, a verdict for what is held.  What is not named has lost its claim.

        A job's lease is the one it was claimed under: rarely more than one.
        """
        found: dict[int, policy.Verdict | None] = {}
        for lease in {job.lease.id for job in jobs}:
            found |= await self._intend_under(lease, [job for job in jobs if job.lease.id == lease])
        return found

    async def _intend_under(self, lease: int, jobs: Sequence[Job]) -> dict[int, policy.Verdict | None]:
        intents = [job.intent for job in jobs if job.intent is not None]
        now = self._clock.now()
        try:
            rules = self._rules
            done = await self._database.transaction(
                lambda c: intend.intend(c, lease, intents, now, rules.quotas, rules), attempts=1
            )
        except Exception as error:
            # The COMMIT may have happened.  What is there under our claim may be sent; what is not goes back to its
            # queue, and that counts as no rescue: nobody died.
            log.warning("intend_uncertain", n=len(intents), exc_info=error)
            async with self._database.connection() as connection:
                present = await intend.read_back(connection, lease, intents)
            again = policy.Defer(now + dt.timedelta(seconds=1 + random.random()), "intend_failed")  # noqa: S311
            return {each.attempt: None if each.attempt in present else again for each in intents}
        # Not here: a freeze waits for everybody who shares its lock, and what is intended waits for nothing.
        self._breaches |= {breach for breaches in done.over.values() for breach in breaches}
        found: dict[int, policy.Verdict | None] = {}
        for intent in intents:
            if intent.attempt in done.sendable:
                found[intent.attempt] = None
                self._metrics.attempt(intent.provider, AttemptState.INTENDED, None)
            elif intent.attempt in done.opted_out:
                found[intent.attempt] = policy.Suppress(Reason.OPTED_OUT, "opted_out")
            elif intent.attempt in done.channel_out:
                found[intent.attempt] = policy.Skip("channel_opted_out", Reason.OPTED_OUT)
            elif intent.attempt in done.frozen:
                found[intent.attempt] = policy.Hold(Reason.FROZEN, "frozen")
            elif intent.attempt in done.over:
                found[intent.attempt] = policy.Hold(Reason.FROZEN, "volume_brake")
            elif intent.attempt in done.dear:
                found[intent.attempt] = policy.Hold(Reason.BUG, "dearer_than_cap")
            elif intent.attempt in done.stopped:
                found[intent.attempt] = policy.Hold(Reason.STOP_UNREADABLE, "stop_unreadable")
            elif intent.attempt in done.paced_out:
                until = pacing.next_place(now, random.random())  # noqa: S311  spreads the hour, not a secret
                found[intent.attempt] = policy.Defer(until, "call_centre_full")
            elif intent.attempt in done.elsewhere:
                until = now + dt.timedelta(seconds=_ELSEWHERE_SECONDS * (1 + random.random()))  # noqa: S311
                found[intent.attempt] = policy.Defer(until, "under_way_elsewhere")
        return found

    async def _brake(self, breaches: Collection[Breach]) -> None:
        """Freezes what has used up its quotas.  If that fails the quotas hold all the same, and it is tried again when
        what they have held comes back.
        """
        for each in breaches:
            try:
                frozen = await self._database.transaction(partial(_freeze, breach=each, now=self._clock.now()))
            except Exception as error:
                log.warning("volume_brake_failed", scope=each.kind, exc_info=error)
                continue
            if frozen:  # by us, not by another process at the same moment
                for rule in each.rules:
                    self._metrics.braked(each.kind, rule)
                name = each.value.replace("://", ":")
                if each.kind is VolumeKind.SOURCE:
                    log.error("volume_brake", scope=each.kind, reason=list(each.rules), source=name)
                else:
                    log.error("volume_brake", scope=each.kind, reason=list(each.rules), lender=name)

    async def intend_again(self, job: Job) -> bool:
        """The same fences before another first byte of the same attempt; False also when they cannot be asked."""
        intent = job.intent
        assert intent is not None
        now = self._clock.now()
        try:
            done = await self._database.transaction(lambda c: intend.again(c, job.lease.id, [intent], now))
        except Exception as error:
            log.warning("intend_again_failed", attempt=to_reference(job.attempt), exc_info=error)
            return False
        return job.attempt in done.sendable

    async def never(self, other: Never) -> None:
        """Ends what a message was to tell of, by its lender's word; who leads is claimed again."""
        moves = await self._database.transaction(
            lambda c: outcomes.never(c, other.reminder, other.reason, self._clock.now(), self._rules)
        )
        self._metrics.moved(moves)
        self._on_events()

    async def settle(self, verdicts: Sequence[tuple[Job, policy.Verdict]]) -> None:
        """Stores verdicts other than send, and what follows from them."""
        breaches, self._breaches = self._breaches, set()
        await self._brake(breaches)
        now = self._clock.now()
        for lease in {job.lease.id for job, _ in verdicts}:
            mine = [_verdict(job, verdict) for job, verdict in verdicts if job.lease.id == lease]
            moves = await self._database.transaction(
                partial(outcomes.settle, worker=lease, verdicts=mine, now=now, rules=self._rules)
            )
            self._metrics.moved(moves)
        self._on_events()

    async def record(self, done: Sequence[Outcome]) -> None:
        """Until it is written: an outcome that is lost would end as unknown.

        One that the ledger cannot take, whatever is wrong with it, is written as unknown and delays nobody.
        """
        recorded = None
        while recorded is None:
            try:
                recorded = await self._recorded(done)
            except Exception as error:
                log.error("record_failed", n=len(done), exc_info=error)
                if not worth_repeating(error):
                    await self._record_apart(done)
                    return
                await asyncio.sleep(_RECORD_AGAIN_SECONDS)
        self._metrics.moved(recorded.moves)
        for each in done:
            if each.attempt in recorded.attempts:
                self._metrics.attempt(each.provider, each.state, each.failure)
        self._on_events()

    async def _record_apart(self, done: Sequence[Outcome]) -> None:
        if len(done) > 1:
            for each in done:
                await self.record([each])
            return
        one = done[0]
        if one.code == _UNRECORDABLE:
            # Recovery finds the attempt intended and makes it unknown.
            log.error("outcome_lost", attempt=to_reference(one.attempt))
            return
        await self.record(
            [
                Outcome(
                    one.attempt, one.reminder, one.subject, one.provider, AttemptState.UNKNOWN, Failure.AMBIGUOUS,
                    _UNRECORDABLE,
                )
            ]
        )  # fmt: skip

    async def _recorded(self, done: Sequence[Outcome]) -> Recorded:
        now = self._clock.now()
        return await self._database.transaction(lambda c: outcomes.record(c, done, now, self._rules, random.random))


async def _freeze(connection: object, breach: Breach, now: dt.datetime) -> bool:
    """False also where somebody has lifted the slice's freeze meanwhile, and its quotas began anew."""
    await freezes.exclude(connection)
    if not await volume.run_out(connection, breach.kind, breach.value):
        return False
    return await freezes.add(
        connection, breach.kind, breach.value, reason=breach.reason, author=freezes.VOLUME_BRAKE, now=now,
        until=breach.until,
    )  # fmt: skip


def _verdict(job: Job, verdict: policy.Verdict) -> Verdict:
    made = partial(Verdict, job.claimed.id, job.claimed.token, inputs=inputs_of(job))
    match verdict:
        case policy.Cancel(reason, rule):
            return made(rule=rule, cancel=reason)
        case policy.Expire(rule):
            return made(rule=rule, expire=True)
        case policy.Hold(reason, rule):
            return made(rule=rule, hold=reason, max_fact_age=job.max_fact_age)
        case policy.Suppress(reason, rule):
            return made(rule=rule, suppress=reason)
        case policy.Skip(rule, reason):
            return made(rule=rule, skip=reason)
        case policy.Defer(until, rule):
            return made(rule=rule, defer_until=until)
        case policy.Send():
            raise AssertionError("a send verdict is stored by intend")

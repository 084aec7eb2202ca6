"""The eight steps of a contact, in order.  Reading this list is reading the service.

    claim    rows that are due become this worker's; of what is planned for one borrower's day, one leads (`merge`)
    decide   may it be made now?
    render   the words, from the sealed facts
    route    the provider for this lender and channel
             (where the lender has a question, its own service is asked now)
    reserve  a slot, a rate token, a closed circuit
    intend   one commit that writes the attempt before anything leaves
    send     the provider's request, once
    record   the outcome and the event, in one commit

Every step before `intend` may end in a verdict instead; the verdict is stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway import policy
from gateway.allowlist import Allowlist
from gateway.cadence import calendar
from gateway.cadence.calendar import Span
from gateway.calls import prompt_of
from gateway.content import Catalogue, Payment, Problem, Rendered
from gateway.content import Facts as TextFacts
from gateway.content.dialogue import opening
from gateway.dispatch.provider import Provider
from gateway.dispatch.question import Question
from gateway.dispatch.spread import after, share
from gateway.dispatch.trail import Trail
from gateway.ids import IdSource, bucket_of, to_reference
from gateway.ledger.claims import Claimed
from gateway.ledger.freezes import Freezes
from gateway.ledger.intend import Intent
from gateway.ledger.merged import Told
from gateway.personal import SEALED_FIELD, WORDS_FIELD, Sealed, Words
from gateway.personal import decode as decode_personal
from gateway.sealing import KeyUnknown, SealBroken, Sealer
from gateway.worker import Lease
from gateway.zones import in_zone, zone_data
from providers.contract import Message
from schemas.vocabulary import Channel, Mode, Reason, Rejection, Stage

_UNTIL_A_KEY_COMES: Final = dt.timedelta(seconds=30)
_UNTIL_IT_ANSWERS: Final = dt.timedelta(seconds=1)
_UNTIL_ANOTHER_KNOWS: Final = dt.timedelta(seconds=30)
_NEVER_TOLD: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class LenderRoutes:
    """How one lender speaks: its display name, its default locale, a provider name per channel."""

    name: str
    default_locale: str | None
    routes: Mapping[Channel, str]


@dataclass(slots=True)
class Job:
    """One claimed reminder on its way through the steps."""

    claimed: Claimed
    lease: Lease
    personal: Sealed | None = field(default=None, repr=False)
    send_by: dt.datetime | None = None
    provider: Provider | None = None
    rendered: Rendered | None = field(default=None, repr=False)
    message: Message | None = field(default=None, repr=False)
    attempt: int = 0
    reserved_at: float = 0.0  # by the reservation's clock: which circuits its answer may close
    intent: Intent | None = field(default=None, repr=False)
    mode: Mode = Mode.LIVE  # under which it is decided
    max_fact_age: dt.timedelta | None = None  # of what is planned
    trail: Trail | None = None  # where its trace is recorded
    unmerged: bool = False  # it is not known what else is due for the borrower that day
    yields: bool = False  # a lesson, and something else is due for the borrower that day
    told: Sequence[Told] = field(default=(), repr=False)  # what its message tells of besides

    @property
    def address(self) -> str:
        """Of the contact to be tried, once it is opened."""
        assert self.personal is not None
        return self.personal.contacts[self.claimed.rung][1]

    def reserve(self, tell: Callable[[float], None]) -> float | None:
        """0.0 when the provider's slot, token and circuit are ours; see `Reservation.ask`."""
        assert self.provider is not None
        return self.provider.reservation.ask(self.claimed.template, self.claimed.lane, tell)

    def reserved(self) -> None:
        assert self.provider is not None
        self.reserved_at = self.provider.reservation.clock()
        if self.trail is not None:
            self.trail.mark("reserved")

    def unreserve(self) -> None:
        assert self.provider is not None
        self.provider.reservation.done()


@dataclass(frozen=True, slots=True)
class Steps:
    """The pure steps between claim and intend, with what they need.  `allowlist` is None where nobody is left out.

    `max_fact_ages` are by occasion, `cadence/version/name`, `questions` by lender.
    """

    catalogue: Catalogue
    sealer: Sealer
    lenders: Mapping[str, LenderRoutes]
    providers: Mapping[str, Provider]
    mode: Mode
    allowlist: Allowlist | None
    on_key_unknown: Callable[[int | None], None] = lambda key_id: None
    max_fact_ages: Mapping[str, dt.timedelta] = field(default_factory=dict)
    questions: Mapping[str, Question] = field(default_factory=dict)

    def prepare(self, job: Job, now: dt.datetime, freezes: Freezes, ids: IdSource) -> policy.Verdict | None:
        """decide, route, open, render; None when the job may go on to reserve."""
        if job.unmerged:
            return policy.Defer(after(_UNTIL_IT_ANSWERS, now, job.claimed.id), "merge_failed")
        return (
            self.decide(job, now, freezes) or self.route(job, now) or self.open(job, now) or self.render(job, now, ids)
        )

    def decide(self, job: Job, now: dt.datetime, freezes: Freezes) -> policy.Verdict | None:
        claimed, job.mode = job.claimed, self.mode
        frozen = bool(freezes.slices) and freezes.covers(claimed.facts(None))
        # What does not open is not called unlisted: if it may be sent for all else, `open` holds it.
        listed = self.allowlist is None or self.open(job, now) is not None or self.allowlist.lists(job.address)
        spans = self._spans(job, now)
        stale_at = None
        if claimed.occasion is not None:
            job.max_fact_age = self.max_fact_ages.get(claimed.occasion)
            stale_at = self._stale_at(claimed.occasion, claimed.fresh_at)
        facts = policy.Facts(
            claimed.not_after, frozen, claimed.closed, listed, spans, stale_at, job.yields, share(claimed.id)
        )
        verdict = policy.decide(now, facts)
        if not isinstance(verdict, policy.Send):
            return verdict
        if claimed.occasion is not None and job.max_fact_age is None:
            # Of a version of a cadence that this process was started without; another one has it.
            return policy.Defer(after(_UNTIL_ANOTHER_KNOWS, now, claimed.id), "cadence_unknown")
        job.send_by = verdict.send_by
        return None

    def is_stale(self, occasion: str, fresh_at: dt.datetime | None, now: dt.datetime) -> bool:
        """Whether what is known of it is too old to be told at all."""
        stale_at = self._stale_at(occasion, fresh_at)
        return stale_at is not None and now >= stale_at

    def _stale_at(self, occasion: str, fresh_at: dt.datetime | None) -> dt.datetime | None:
        age = self.max_fact_ages.get(occasion)
        return None if age is None else (fresh_at or _NEVER_TOLD) + age

    def question(self, job: Job) -> Question | None:
        """What is left to be asked before it is reserved."""
        found = self.questions.get(job.claimed.lender)
        return found if found is not None and found.concerns(job.claimed) else None

    def _spans(self, job: Job, now: dt.datetime) -> Sequence[Span] | None:
        """When what is planned may go out, by the zone data of today; None is any time, and what does not open."""
        if job.claimed.occasion is None or self.open(job, now) is not None:
            return None
        assert job.personal is not None
        hours, zone = job.personal.hours, job.personal.timezone
        if hours is None:
            return None
        today = calendar.local_date(now, zone)
        return [span for date in (today, today + calendar.DAY) for span in calendar.spans(date, hours, zone)]

    def open(self, job: Job, now: dt.datetime) -> policy.Verdict | None:
        if job.personal is None:
            opened = self._unseal(job.claimed.sealed, job.claimed.id, now)
            if not isinstance(opened, Sealed):
                return opened
            job.personal = opened
        return None

    def _unseal(self, sealed: bytes, reminder: int, now: dt.datetime) -> Sealed | policy.Verdict:
        try:
            return decode_personal(self.sealer.open(sealed, reminder, SEALED_FIELD))
        except KeyUnknown as unknown:
            # Keys come with a reload, which other processes may have had before us: nothing is wrong with it yet.
            self.on_key_unknown(unknown.key_id)
            return policy.Defer(after(_UNTIL_A_KEY_COMES, now, reminder), "sealing_key_unknown")
        except SealBroken as broken:
            # Fail closed: without the facts there is nothing true to say.
            return policy.Hold(Reason.BUG, f"seal_{broken}")

    def route(self, job: Job, now: dt.datetime) -> policy.Verdict | None:
        """The provider; back to the queue where its circuit is open, before anything is unsealed for nothing."""
        lender = self.lenders.get(job.claimed.lender)
        name = lender.routes.get(job.claimed.channel) if lender else None
        if name is None:
            return policy.Hold(Reason.BUG, "no_route")
        job.provider = self.providers[name]
        closed = job.provider.reservation.circuits.wait(job.claimed.template)
        if closed > 0:
            return policy.Defer(after(dt.timedelta(seconds=closed), now, job.claimed.id), "provider_busy")
        return None

    def _as_of(self, job: Job, now: dt.datetime) -> dt.datetime:
        """As of when what a text says is so.  What is planned from facts of weeks ago is still so as of when these were
        known to be complete: of somebody who is five days late nothing is said as of the week before he was due.
        """
        assert job.personal is not None
        said, complete = job.personal.state_as_of, job.claimed.fresh_at
        return said if complete is None else max(said, min(complete, now))

    def render(self, job: Job, now: dt.datetime, ids: IdSource) -> policy.Verdict | None:
        claimed, personal, provider = job.claimed, job.personal, job.provider
        assert personal is not None
        assert provider is not None
        also = self._also(job, now)
        if not isinstance(also, tuple):
            return also
        lender = self.lenders[claimed.lender]
        channel = claimed.channel
        facts = TextFacts(
            lender=lender.name,
            amount=personal.amount,
            currency=personal.currency,
            due_date=personal.due_date,
            as_of=in_zone(self._as_of(job, now), personal.timezone),
            today=in_zone(now, personal.timezone).date(),
            name=personal.name,
            params=personal.params,
            also=also,
        )
        rendered = self.catalogue.render(
            claimed.template, Stage(claimed.stage), self._locale(job), channel, facts, lender.default_locale
        )
        if isinstance(rendered, Problem):
            if rendered.rejection is Rejection.BAD_DATE:
                return policy.Skip("text_out_of_date")  # it would count days that are no longer so
            return policy.Hold(Reason.BUG, f"render_{rendered.rejection}")
        mapped = None
        if provider.adapter.needs_template:
            mapped = provider.template(claimed.template, claimed.stage, rendered)
            if mapped is None:
                return policy.Hold(Reason.BUG, "no_provider_template")
        job.rendered = rendered
        job.attempt = ids.next(bucket_of(claimed.id))
        reference = to_reference(job.attempt)
        dialogue = prompt = None
        if provider.adapter.interactive and (url := provider.callback_url(reference)) is not None:
            dialogue = self.catalogue.dialogue(claimed.template, Stage(claimed.stage), rendered, facts)
            prompt = None if dialogue is None else prompt_of(opening(dialogue), url)
        job.message = Message(
            reference=reference,
            channel=channel,
            address=job.address,
            text=rendered.text,
            locale=rendered.locale,
            title=rendered.title,
            template=mapped,
            ttl_seconds=_ttl(provider, job.send_by or claimed.not_after, now),
            collapse_key=to_reference(claimed.id),
            prompt=prompt,
        )
        words = Words(job.address, rendered.text, rendered.title, mapped, dialogue)
        job.intent = Intent(
            claimed=claimed,
            attempt=job.attempt,
            provider=provider.name,
            sealed=self.sealer.seal(_encode(words), job.attempt, WORDS_FIELD),
            inputs=inputs_of(job),
            address=self.sealer.address(job.address),
            cost=provider.price * max(rendered.segments, 1),
            told=job.told,
        )
        return None

    def _locale(self, job: Job) -> str:
        """What he prefers where there are words in it, else that of his plan, which was taken with words in it."""
        assert job.personal is not None
        prefers, of_plan = job.personal.locale, job.personal.locale_of_plan
        return prefers if of_plan is None or self.catalogue.speaks(job.claimed.template, prefers) else of_plan

    def _also(self, job: Job, now: dt.datetime) -> tuple[Payment, ...] | policy.Verdict:
        """The other payments that its message tells of, the earliest first."""
        found = []
        for each in job.told:
            opened = self._unseal(each.sealed, each.reminder, now)
            if not isinstance(opened, Sealed):
                return opened
            if each.along:
                found.append(Payment(opened.amount, opened.currency, opened.due_date))
        return tuple(sorted(found, key=lambda each: each.due_date))


def _ttl(provider: Provider, send_by: dt.datetime, now: dt.datetime) -> int:
    """How long the provider may try, in seconds: never past the time by which it may be sent."""
    left = max(int((send_by - now).total_seconds()), 1)
    return left if provider.ttl_seconds is None else min(left, provider.ttl_seconds)


class _Inputs(msgspec.Struct, gc=False, omit_defaults=True):
    """What a verdict rests on: no personal data, it stays readable in the ledger."""

    not_after: dt.datetime
    due_at: dt.datetime
    rung: int
    channel: Channel
    tries: int
    provider: str | None = None
    template: str | None = None
    locale: str | None = None
    segments: int = 0
    occasion: str | None = None  # of a cadence
    fresh_at: dt.datetime | None = None  # as of when what is known of its debt was complete
    mode: Mode = Mode.LIVE  # what was delivered in another mode reached no borrower, and must not look as if it had
    zone_data: str = ""  # its version: by which hours are those of his day


_encode = msgspec.json.Encoder().encode


def inputs_of(job: Job) -> str:
    """The evidence of a verdict, with what was known when it fell."""
    claimed, rendered = job.claimed, job.rendered
    provider = None if job.provider is None else job.provider.name
    found = _Inputs(claimed.not_after, claimed.due_at, claimed.rung, claimed.channel, claimed.tries, provider)
    found.mode, found.occasion, found.fresh_at = job.mode, claimed.occasion, claimed.fresh_at
    found.zone_data = zone_data()
    if rendered is not None:
        found.template, found.locale, found.segments = rendered.template_version, rendered.locale, rendered.segments
    return _encode(found).decode()

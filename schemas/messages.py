"""Messages on Kafka and on the HTTP side.  These types are the source; the documents beside them are generated.

Times are RFC 3339 with an offset.  Amounts are decimal strings, never floats.  Addresses, names, amounts and
parameters travel only inwards; nothing that goes out carries personal data.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.vocabulary import (
    Answer,
    AttemptState,
    Channel,
    Failure,
    Lane,
    Reason,
    Rejection,
    ReminderState,
    Role,
    Stage,
)

REQUESTS_TOPIC: Final = "reminders.requests"
EVENTS_TOPIC: Final = "reminders.events"
# Part of the events topic; by a name of its own in the ledger, which a relay of the version before does not take.
CONTACTS: Final = "reminders.events/contacts"
DEADLETTERS_TOPIC: Final = "reminders.deadletters"

REQUESTED: Final = "reminder.requested.v1"
CANCELLED: Final = "reminder.cancelled.v1"
STATUS: Final = "reminder.status.v1"
DEADLETTER: Final = "reminder.deadletter.v1"
REPLIED: Final = "contact.replied.v1"
CALLBACK_REQUESTED: Final = "contact.callback_requested.v1"
OPTED_OUT: Final = "contact.opted_out.v1"
WRONG_PARTY: Final = "contact.wrong_party.v1"

# Python's `$` also matches before a final newline; JSON Schema's does not.  This end means the same to both.
_END: Final = r"$(?!\n)"

# An opaque reference of the lender's.  Never a phone or an identity number: those are refused at intake.
Ref = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*" + _END)]
Moment = Annotated[dt.datetime, Meta(tz=True)]


# What a template's own slots are filled with.
Params = dict[
    Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*" + _END, max_length=40)], Annotated[str, Meta(max_length=200)]
]


class Borrower(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is reminded."""

    ref: Ref
    locale: Annotated[str, Meta(max_length=35, description="BCP 47, for example zh-CN or en")]
    timezone: Annotated[str, Meta(max_length=64, description="IANA zone, for example Asia/Shanghai")]
    jurisdiction: Annotated[str, Meta(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?" + _END, description="ISO 3166-1 or 3166-2")]
    role: Role = Role.DEBTOR
    name: Annotated[str, Meta(min_length=1, max_length=120)] | None = None


class Debt(Struct, frozen=True, forbid_unknown_fields=True):
    """What is owed, as the lender knew it at `state_as_of`."""

    ref: Ref
    amount: Annotated[str, Meta(max_length=24, description="Decimal string greater than zero")]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}" + _END, description="ISO 4217")]
    due_date: dt.date
    state_as_of: Moment
    instalment: Annotated[int, Meta(ge=1, le=9999)] | None = None
    product: Ref | None = None


class Contact(Struct, frozen=True, forbid_unknown_fields=True):
    """One rung of the ladder: an E.164 number for sms and voice, a device token for push."""

    channel: Channel
    address: Annotated[str, Meta(min_length=1, max_length=512)]


class ReminderRequested(Struct, frozen=True, forbid_unknown_fields=True):
    """One reminder to be made; `contacts` are tried in order, the next only after a definite failure."""

    lender: Ref
    borrower: Borrower
    debt: Debt
    stage: Annotated[Stage, Meta(description="education is what plans give rise to: refused here")]
    contacts: Annotated[tuple[Contact, ...], Meta(min_length=1, max_length=8)]
    template: Ref
    not_after: Moment
    params: Params = {}
    priority: Lane = Lane.BULK
    step: (
        Annotated[str, Meta(max_length=10, description="Local date of an overdue step; derived when absent")] | None
    ) = None
    send_at: Moment | None = None
    validate_only: bool = False


class RequestScope(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="request"):
    """One request, by the CloudEvents source and id it came with."""

    source: Annotated[str, Meta(min_length=1, max_length=256)]
    id: Annotated[str, Meta(min_length=1, max_length=256)]


class DebtScope(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="debt"):
    """Every reminder about one debt whose `state_as_of` is not later than the cancel's `as_of`."""

    ref: Ref


class BorrowerScope(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="borrower"):
    """Every reminder to the borrower whose `state_as_of` is not later than the cancel's `as_of`."""


class ReminderCancelled(Struct, frozen=True, forbid_unknown_fields=True):
    """A stop.  Effective for every intend after its commit, also for requests that arrive after it."""

    lender: Ref
    borrower_ref: Ref
    scope: RequestScope | DebtScope | BorrowerScope
    as_of: Moment


class AttemptSummary(Struct, frozen=True, omit_defaults=True):
    """One attempt as an upstream may see it."""

    id: Annotated[str, Meta(description="13 base32 characters")]
    channel: Channel
    provider: str
    state: AttemptState
    intended_at: Moment
    failure: Failure | None = None
    final_at: Moment | None = None


class ReminderStatus(Struct, frozen=True, omit_defaults=True):
    """What became of a request.  Exactly one of `state` and `answer` is present; only a state carries `seq`."""

    lender: str
    source: str
    request_id: str
    at: Moment
    reminder: (
        Annotated[str, Meta(description="13 base32 characters; in an answer the reminder that was there already")]
        | None
    ) = None
    seq: int | None = None
    state: ReminderState | None = None
    answer: Answer | None = None
    reason: Reason | None = None
    duplicate_of: (
        Annotated[str, Meta(description="Of a reminder suppressed as duplicate_stage: the one that owns the stage")]
        | None
    ) = None
    correction: bool = False
    attempts: tuple[AttemptSummary, ...] = ()


class DeadLetter(Struct, frozen=True, omit_defaults=True):
    """A record that could not become a command.  The bytes stay sealed in the ledger under `pointer`."""

    reason: Rejection
    topic: str
    partition: int
    offset: int
    pointer: Annotated[str, Meta(description="13 base32 characters")]
    at: Moment
    field: Annotated[str, Meta(description="Where, for example data.contacts[0].address")] | None = None


class ContactReplied(Struct, frozen=True, omit_defaults=True):
    """A borrower wrote back.  The words and the address stay sealed in the ledger under `reply`.

    What names a reminder is of the last message this provider took for that address; without it nothing was found that
    this could be an answer to.
    """

    reply: Annotated[str, Meta(description="13 base32 characters")]
    provider: str
    at: Moment
    channel: Channel | None = None
    lender: str | None = None
    source: str | None = None
    request_id: str | None = None
    reminder: Annotated[str, Meta(description="13 base32 characters")] | None = None
    attempt: Annotated[str, Meta(description="13 base32 characters")] | None = None


class CallbackRequested(Struct, frozen=True):
    """A borrower asked, in a call, to be called back by a person."""

    lender: str
    source: str
    request_id: str
    reminder: Annotated[str, Meta(description="13 base32 characters")]
    attempt: Annotated[str, Meta(description="13 base32 characters")]
    channel: Channel
    provider: str
    at: Moment


class OptedOut(Struct, frozen=True):
    """A borrower asked, in a call, for no more reminders of this lender.

    Effective for every intend after its commit, also for requests that arrive after it.
    """

    lender: str
    source: str
    request_id: str
    reminder: Annotated[str, Meta(description="13 base32 characters")]
    attempt: Annotated[str, Meta(description="13 base32 characters")]
    channel: Channel
    provider: str
    at: Moment


class WrongParty(Struct, frozen=True):
    """Who answered a call has said that it is not the borrower.  He has heard of no debt; the address wants a look."""

    lender: str
    source: str
    request_id: str
    reminder: Annotated[str, Meta(description="13 base32 characters")]
    attempt: Annotated[str, Meta(description="13 base32 characters")]
    channel: Channel
    provider: str
    at: Moment


class PushEvent(Struct, frozen=True, forbid_unknown_fields=True):
    """The lender's app tells what became of a push on the device."""

    attempt: Annotated[str, Meta(min_length=13, max_length=13, description="The `mid` data value of the push")]
    kind: Literal["delivered", "opened"]
    at: Moment


class CloudEvent(Struct, frozen=True, omit_defaults=True):
    """CloudEvents 1.0, structured mode; extension attributes are ignored, all but `traceparent`."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    source: Annotated[str, Meta(min_length=1, max_length=256)]
    type: Annotated[str, Meta(min_length=1, max_length=128)]
    specversion: str = "1.0"
    time: Moment | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    dataschema: str | UnsetType = UNSET
    traceparent: (
        Annotated[
            str,
            Meta(
                description="W3C Trace Context, by the Distributed Tracing extension: of a request the trace it "
                "belongs to, of what we tell the one it goes on in.  A malformed one is ignored, whatever its type"
            ),
        ]
        | UnsetType
    ) = UNSET
    data: Any = UNSET


DATA_TYPES: Final[dict[str, type[Struct]]] = {
    REQUESTED: ReminderRequested,
    CANCELLED: ReminderCancelled,
    STATUS: ReminderStatus,
    DEADLETTER: DeadLetter,
    REPLIED: ContactReplied,
    CALLBACK_REQUESTED: CallbackRequested,
    OPTED_OUT: OptedOut,
    WRONG_PARTY: WrongParty,
}

encode = msgspec.json.Encoder().encode

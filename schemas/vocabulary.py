"""Closed vocabularies.  Each value means one thing everywhere: in SQL, on Kafka, in metric labels, in the docs."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Whom a gateway may reach.  There is no default: whoever runs one says which it is."""

    SIMULATE = "simulate"  # nobody: providers are on loopback
    ALLOWLIST = "allowlist"  # listed addresses only
    LIVE = "live"  # every borrower


class Channel(StrEnum):
    SMS = "sms"
    PUSH = "push"
    VOICE = "voice"


class Stage(StrEnum):
    """Where the debt stands against its due date when the reminder is meant to be read.

    Education teaches and reminds of nothing: plans alone give rise to it, where the borrower has agreed.
    """

    EDUCATION = "education"
    D7 = "d7"
    D3 = "d3"
    DUE = "due"
    OVERDUE_EARLY = "overdue_early"
    OVERDUE_MID = "overdue_mid"
    OVERDUE_LATE = "overdue_late"

    @property
    def repeats(self) -> bool:
        """Overdue stages may be reminded of on several local dates; each date is its own `step`."""
        return self.value.startswith("overdue")


class Role(StrEnum):
    """Who is addressed.  There is no value for third persons: they are never contacted about a debt."""

    DEBTOR = "debtor"
    CO_DEBTOR = "co_debtor"
    GUARANTOR = "guarantor"


class Lane(StrEnum):
    """Two queues; bulk never delays urgent.  A request names its lane as `priority`."""

    URGENT = "urgent"
    BULK = "bulk"


class ReminderState(StrEnum):
    """The promise to the business."""

    SCHEDULED = "scheduled"  # waits for its time, a retry or the next contact
    HELD = "held"  # we hold it; the reason says why
    SENDING = "sending"  # an attempt is intended, its outcome not recorded
    AWAITING = "awaiting"  # handed over or unknown; waits for the provider's last word
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    UNCONFIRMED = "unconfirmed"  # nobody said whether it arrived
    SUPPRESSED = "suppressed"  # deliberately not sent
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # `not_after` passed first

    @property
    def final(self) -> bool:
        return self in FINAL_REMINDER_STATES


FINAL_REMINDER_STATES = frozenset(
    {
        ReminderState.DELIVERED,
        ReminderState.UNDELIVERED,
        ReminderState.UNCONFIRMED,
        ReminderState.SUPPRESSED,
        ReminderState.CANCELLED,
        ReminderState.EXPIRED,
    }
)


class AttemptState(StrEnum):
    """One channel, one provider, one address."""

    INTENDED = "intended"  # written before the first byte may leave
    NOT_SENT = "not_sent"  # proof that no byte left
    UNKNOWN = "unknown"  # bytes may have left; only a receipt, a lookup or a late answer settles it
    REJECTED = "rejected"  # the provider refused it
    ACCEPTED = "accepted"  # the provider took it
    SENT = "sent"  # the provider handed it to the carrier, or the phone rings
    ANSWERED = "answered"  # the call was picked up, by whom is not known
    ANSWERED_HUMAN = "answered_human"
    ANSWERED_MACHINE = "answered_machine"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    TTL_EXPIRED = "ttl_expired"  # the provider gave up because its time to live ran out
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"  # a person pressed the call away; never redialled by itself
    UNCONFIRMED = "unconfirmed"  # the receipt window closed without a last word


class Failure(StrEnum):
    """Why a contact failed: the same closed set for retries, metrics and policy."""

    BAD_RECIPIENT = "bad_recipient"  # address dead, invalid, or not of this kind
    OPTED_OUT = "opted_out"  # the person refused
    BAD_CONTENT = "bad_content"  # template, signature or text refused
    UNREACHABLE = "unreachable"  # phone off, out of area, device offline
    THROTTLED = "throttled"
    OUTSIDE_WINDOW = "outside_window"  # the provider's own hours
    TRANSIENT = "transient"  # certainly not accepted, worth another try
    AMBIGUOUS = "ambiguous"  # may have been accepted
    BAD_CONFIG = "bad_config"  # credentials, balance, permission, clock, unowned sender
    BUG = "bug"  # our malformed request


class FailureScope(StrEnum):
    """What a failure says something about; a circuit breaker opens for exactly this."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    TEMPLATE = "template"
    ACCOUNT = "account"


class Reason(StrEnum):
    """Why a reminder is in its state."""

    # held
    FROZEN = "frozen"
    POISON = "poison"  # rescued too often without ever reaching an intent
    BUG = "bug"
    STOP_UNREADABLE = "stop_unreadable"  # a stop or cancel naming this borrower could not be read
    FACT_MISSING = "fact_missing"  # what it would say is not known to be so
    MERGED_INTO = "merged_into"  # another reminder's message tells of it, too; suppressed once that has left
    STALE_FACTS = "stale_facts"  # what is known of the debt is older than its occasion allows
    RECEIPTS_UNHEALTHY = "receipts_unhealthy"  # silence proves nothing: the provider's receipts do not come in
    # suppressed
    DUPLICATE_STAGE = "duplicate_stage"  # another reminder already owns lender, borrower, debt, instalment, stage, step
    OPTED_OUT = "opted_out"
    NOT_ALLOWLISTED = "not_allowlisted"  # mode allowlist, and the contact to be tried is not listed
    # cancelled
    CANCELLED_REQUEST = "cancelled_request"
    CANCELLED_DEBT = "cancelled_debt"
    CANCELLED_BORROWER = "cancelled_borrower"
    PAID = "paid"
    STOPPED = "stopped"  # disputed, deceased, in hardship and the like
    REPLANNED = "replanned"  # another reminder takes its place, or its occasion is no more
    # expired
    NOT_AFTER = "not_after"
    OUT_OF_DATE = "out_of_date"  # every contact's text would say what is no longer so
    # unconfirmed
    OUTCOME_UNKNOWN = "outcome_unknown"  # the receipt window closed on an unknown attempt
    NO_RECEIPT = "no_receipt"  # the channel has no receipts, or none came in the window
    # undelivered
    CONTACTS_EXHAUSTED = "contacts_exhausted"  # every contact failed for certain
    LADDER_CLOSED = "ladder_closed"  # a cancel closed the ladder while an attempt was out
    # scheduled
    RETRY = "retry"
    NEXT_CONTACT = "next_contact"
    DEFERRED = "deferred"
    RESCUED = "rescued"
    RELEASED = "released"
    REVISED = "revised"  # what it says has changed while it was in hand


class Answer(StrEnum):
    """Answers to an upstream that are not a state of a reminder; they carry no `seq`."""

    DUPLICATE = "duplicate"
    TOO_LATE = "too_late"
    VALIDATED = "validated"


class Rejection(StrEnum):
    """Why a record became a dead letter."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    INVALID_UTF8 = "invalid_utf8"
    NOT_JSON = "not_json"
    NUL_CHARACTER = "nul_character"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    NOT_A_CLOUDEVENT = "not_a_cloudevent"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    MISSING_FIELD = "missing_field"
    WRONG_FIELD = "wrong_field"
    UNKNOWN_LENDER = "unknown_lender"
    UNKNOWN_STAGE = "unknown_stage"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_CURRENCY = "unknown_currency"
    UNKNOWN_ZONE = "unknown_zone"
    UNKNOWN_LOCALE = "unknown_locale"
    UNKNOWN_TEMPLATE = "unknown_template"
    NO_CADENCE = "no_cadence"  # no version of the lender's cadence is in force
    BAD_PARAMS = "bad_params"  # a slot is missing, unknown, or of the wrong type
    BAD_AMOUNT = "bad_amount"
    BAD_DATE = "bad_date"
    BAD_PHONE = "bad_phone"
    BAD_ADDRESS = "bad_address"
    BAD_REFERENCE = "bad_reference"  # looks like a phone or identity number
    PAST_NOT_AFTER = "past_not_after"
    CONFLICT = "conflict"  # a known key with another payload
    REFUSED_BY_LEDGER = "refused_by_ledger"  # a constraint blamed this record
    UNREADABLE_STOP = "unreadable_stop"  # what may stop somebody and cannot be read; whom it names is held


class Found(StrEnum):
    """What a person has found out about a message of unknown outcome."""

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"  # the provider took it, and it did not arrive
    NOT_SENT = "not-sent"  # the provider never took it: the contact is tried again
    UNCONFIRMED = "unconfirmed"  # nobody can say, and nobody ever will


class Disposition(StrEnum):
    """What became of one receipt."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    LATE = "late"
    CONFLICT = "conflict"
    UNMATCHED = "unmatched"
    INVALID = "invalid"


class Engagement(StrEnum):
    """What the borrower did; never mixed with delivery."""

    OPENED = "opened"
    CLICKED = "clicked"
    REPLIED = "replied"
    KEY_PRESSED = "key_pressed"


class Choice(StrEnum):
    """What a listener chose in a call.  Before `confirmed` nothing is told of a debt."""

    CONFIRMED = "confirmed"  # it is the borrower who listens
    NOT_ME = "not_me"
    WAYS_TO_PAY = "ways_to_pay"
    CALL_BACK = "call_back"  # by a person
    STOP = "stop"  # no more reminders of this lender
    SILENT = "silent"  # no key was pressed
    OTHER = "other"  # a key that nobody had offered

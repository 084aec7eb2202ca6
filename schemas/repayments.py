"""What a lender's core knows anyway and tells on `repayments.events`: plans, debits, payments, stops.

Every fact says as of when it was so by the lender's books.  For each thing that can be known the latest `as_of` counts,
in whatever order facts arrive, and a repeat changes nothing.  Amounts are what is owed then, never differences: a
payment that is told twice, or late, is not counted twice.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.messages import Borrower, Contact, Moment, Params, Ref
from schemas.vocabulary import Channel

REPAYMENTS_TOPIC: Final = "repayments.events"

PLANNED: Final = "repayment.planned.v1"
RESCHEDULED: Final = "repayment.rescheduled.v1"
DEBIT_FAILED: Final = "repayment.debit_failed.v1"
PAID: Final = "repayment.paid.v1"
STOPPED: Final = "debt.stopped.v1"
RESUMED: Final = "debt.resumed.v1"
CREDIT_REPORTED: Final = "credit.reported.v1"
LEGAL_FILED: Final = "legal.filed.v1"
CONTACT_CHANGED: Final = "borrower.contact_changed.v1"
PREFERENCE_CHANGED: Final = "borrower.preference_changed.v1"
OPTED_OUT: Final = "borrower.opted_out.v1"
OPTED_IN: Final = "borrower.opted_in.v1"
WATERMARK: Final = "repayment.watermark.v1"

_END: Final = r"$(?!\n)"

Amount = Annotated[str, Meta(max_length=24, description="Decimal string; what is owed, never a difference")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}" + _END, description="ISO 4217")]
LocalTime = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]" + _END, description="HH:MM by his clock")]
Contacts = Annotated[tuple[Contact, ...], Meta(min_length=1, max_length=8)]


class Stop(StrEnum):
    """Why nobody may be reminded of a debt for now, or ever."""

    DISPUTED = "disputed"
    HARDSHIP = "hardship"
    DECEASED = "deceased"
    REPRESENTED = "represented"  # by counsel or an adviser, who is to be written to instead
    INSOLVENT = "insolvent"
    WRITTEN_OFF = "written_off"
    CALAMITY = "calamity"
    MINOR = "minor"


class Program(StrEnum):
    """What a borrower may want no more of."""

    REMINDERS = "reminders"  # everything, education too
    EDUCATION = "education"  # only what teaches: how to repay early, to ask for help, to complain, to spot fraud


class Instalment(Struct, frozen=True, forbid_unknown_fields=True):
    """One payment that is due."""

    number: Annotated[int, Meta(ge=1, le=9999)]
    due_date: dt.date
    amount: Amount


Instalments = Annotated[tuple[Instalment, ...], Meta(min_length=1, max_length=600)]


class RepaymentPlanned(Struct, frozen=True, forbid_unknown_fields=True):
    """A debt with all its instalments, and how its borrower is reached.  It replaces what was planned before."""

    lender: Ref
    borrower: Borrower
    contacts: Contacts
    debt: Ref
    currency: Currency
    instalments: Instalments
    as_of: Moment
    product: Ref | None = None
    params: Params = {}


class RepaymentRescheduled(Struct, frozen=True, forbid_unknown_fields=True):
    """All instalments of a debt, from now on."""

    lender: Ref
    borrower_ref: Ref
    debt: Ref
    instalments: Instalments
    as_of: Moment


class DebitFailed(Struct, frozen=True, forbid_unknown_fields=True):
    """A debit of an instalment was tried, and failed, at `as_of`."""

    lender: Ref
    borrower_ref: Ref
    debt: Ref
    instalment: Annotated[int, Meta(ge=1, le=9999)]
    as_of: Moment


class RepaymentPaid(Struct, frozen=True, forbid_unknown_fields=True):
    """A payment has arrived: of one instalment, in full or in part, or of the whole debt."""

    lender: Ref
    borrower_ref: Ref
    debt: Ref
    as_of: Moment
    instalment: Annotated[int, Meta(ge=1, le=9999, description="Absent: the whole debt is paid")] | None = None
    outstanding: Annotated[str, Meta(max_length=24, description="What is still owed of the instalment")] = "0"


class DebtStopped(Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody may be reminded of the debt, or of any debt of the borrower, until the same reason is resumed."""

    lender: Ref
    borrower_ref: Ref
    reason: Stop
    as_of: Moment
    debt: Annotated[Ref, Meta(description="Absent: every debt of the borrower")] | None = None


class DebtResumed(Struct, frozen=True, forbid_unknown_fields=True):
    """What was stopped for this reason may be reminded of again."""

    lender: Ref
    borrower_ref: Ref
    reason: Stop
    as_of: Moment
    debt: Annotated[Ref, Meta(description="Absent: every debt of the borrower")] | None = None


class CreditReported(Struct, frozen=True, forbid_unknown_fields=True):
    """The debt has been reported to a credit bureau; `withdrawn` when it is so no more."""

    lender: Ref
    borrower_ref: Ref
    debt: Ref
    as_of: Moment
    withdrawn: bool = False


class LegalFiled(Struct, frozen=True, forbid_unknown_fields=True):
    """Legal proceedings about the debt have been filed; `withdrawn` when it is so no more."""

    lender: Ref
    borrower_ref: Ref
    debt: Ref
    as_of: Moment
    withdrawn: bool = False


class ContactChanged(Struct, frozen=True, forbid_unknown_fields=True):
    """How and where a borrower is reached from now on, for all his debts."""

    lender: Ref
    borrower_ref: Ref
    contacts: Contacts
    as_of: Moment
    timezone: Annotated[str, Meta(max_length=64, description="IANA zone; absent: as before")] | None = None


class Times(Struct, frozen=True, forbid_unknown_fields=True):
    """From `start` to `end` of every day, by the borrower's clock."""

    start: LocalTime
    end: LocalTime


class PreferenceChanged(Struct, frozen=True, forbid_unknown_fields=True):
    """All that a borrower prefers; what is absent is no preference any more."""

    lender: Ref
    borrower_ref: Ref
    as_of: Moment
    times: Annotated[tuple[Times, ...], Meta(min_length=1, max_length=8)] | None = None
    channels: Annotated[tuple[Channel, ...], Meta(min_length=1, max_length=3)] | None = None
    locale: Annotated[str, Meta(max_length=35, description="BCP 47")] | None = None


class BorrowerOptedOut(Struct, frozen=True, forbid_unknown_fields=True):
    """A borrower wants no more of a program, on one channel or on all."""

    lender: Ref
    borrower_ref: Ref
    as_of: Moment
    program: Program = Program.REMINDERS
    channel: Channel | None = None


class BorrowerOptedIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A borrower agrees to a program again, or for the first time: education needs it.

    It reopens what an opting out of the same program and channel has closed, and nothing else.
    """

    lender: Ref
    borrower_ref: Ref
    as_of: Moment
    program: Program = Program.REMINDERS
    channel: Channel | None = None


Fact = (
    RepaymentPlanned
    | RepaymentRescheduled
    | DebitFailed
    | RepaymentPaid
    | DebtStopped
    | DebtResumed
    | CreditReported
    | LegalFiled
    | ContactChanged
    | PreferenceChanged
    | BorrowerOptedOut
    | BorrowerOptedIn
)

FACT_TYPES: Final[dict[str, type[Struct]]] = {
    PLANNED: RepaymentPlanned,
    RESCHEDULED: RepaymentRescheduled,
    DEBIT_FAILED: DebitFailed,
    PAID: RepaymentPaid,
    STOPPED: DebtStopped,
    RESUMED: DebtResumed,
    CREDIT_REPORTED: CreditReported,
    LEGAL_FILED: LegalFiled,
    CONTACT_CHANGED: ContactChanged,
    PREFERENCE_CHANGED: PreferenceChanged,
    OPTED_OUT: BorrowerOptedOut,
    OPTED_IN: BorrowerOptedIn,
}


class Watermark(Struct, frozen=True, forbid_unknown_fields=True):
    """A heartbeat: what this source knew up to `as_of`, it has published before this record in this partition.

    To be published to every partition of the topic, of nobody in particular.
    """

    as_of: Moment


# Everything on the topic.
REPAYMENTS: Final[dict[str, type[Struct]]] = {**FACT_TYPES, WATERMARK: Watermark}

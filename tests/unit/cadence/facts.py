"""Facts of one borrower, short to write."""

import datetime as dt
from typing import Any

from schemas.messages import Borrower, Contact
from schemas.repayments import (
    BorrowerOptedIn,
    BorrowerOptedOut,
    ContactChanged,
    CreditReported,
    DebitFailed,
    DebtResumed,
    DebtStopped,
    Instalment,
    LegalFiled,
    PreferenceChanged,
    Program,
    RepaymentPaid,
    RepaymentPlanned,
    RepaymentRescheduled,
    Stop,
    Times,
)
from schemas.vocabulary import Channel

SHANGHAI = "Asia/Shanghai"
DUE = dt.date(2026, 12, 10)
EARLY = dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)  # ten in the morning there
ADDRESS = {Channel.SMS: "+8613900001234", Channel.VOICE: "+8613900001234", Channel.PUSH: "token-1"}
ALL = (Channel.PUSH, Channel.SMS, Channel.VOICE)
WHO: Any = {"lender": "harbour", "borrower_ref": "b-1"}


def at(day: str, time: str = "10:00", zone: str = "+08:00") -> dt.datetime:
    """A moment by the borrower's clock."""
    return dt.datetime.fromisoformat(f"{day}T{time}{zone}").astimezone(dt.UTC)


def contacts(*channels: Channel) -> tuple[Contact, ...]:
    return tuple(Contact(each, ADDRESS[each]) for each in channels)


def planned(
    *due: dt.date,
    as_of: dt.datetime = EARLY,
    debt: str = "loan-1",
    zone: str = SHANGHAI,
    channels: tuple[Channel, ...] = ALL,
    amount: str = "100.00",
) -> RepaymentPlanned:
    return RepaymentPlanned(
        lender="harbour",
        borrower=Borrower(ref="b-1", locale="zh-CN", timezone=zone, jurisdiction="CN"),
        contacts=contacts(*channels),
        debt=debt,
        currency="CNY",
        instalments=instalments(*(due or (DUE,)), amount=amount),
        as_of=as_of,
    )


def instalments(*due: dt.date, amount: str = "100.00") -> tuple[Instalment, ...]:
    return tuple(Instalment(number, date, amount) for number, date in enumerate(due, 1))


def rescheduled(
    *due: dt.date, as_of: dt.datetime, debt: str = "loan-1", amount: str = "100.00"
) -> RepaymentRescheduled:
    return RepaymentRescheduled(**WHO, debt=debt, instalments=instalments(*due, amount=amount), as_of=as_of)


def failed(as_of: dt.datetime, instalment: int = 1, debt: str = "loan-1") -> DebitFailed:
    return DebitFailed(**WHO, debt=debt, instalment=instalment, as_of=as_of)


def paid(as_of: dt.datetime, instalment: int | None = 1, outstanding: str = "0", debt: str = "loan-1") -> RepaymentPaid:
    return RepaymentPaid(**WHO, debt=debt, as_of=as_of, instalment=instalment, outstanding=outstanding)


def stopped(as_of: dt.datetime, reason: Stop = Stop.DISPUTED, debt: str | None = "loan-1") -> DebtStopped:
    return DebtStopped(**WHO, reason=reason, as_of=as_of, debt=debt)


def resumed(as_of: dt.datetime, reason: Stop = Stop.DISPUTED, debt: str | None = "loan-1") -> DebtResumed:
    return DebtResumed(**WHO, reason=reason, as_of=as_of, debt=debt)


def reported(as_of: dt.datetime, *, withdrawn: bool = False) -> CreditReported:
    return CreditReported(**WHO, debt="loan-1", as_of=as_of, withdrawn=withdrawn)


def filed(as_of: dt.datetime, *, withdrawn: bool = False) -> LegalFiled:
    return LegalFiled(**WHO, debt="loan-1", as_of=as_of, withdrawn=withdrawn)


def moved(as_of: dt.datetime, zone: str | None = None, channels: tuple[Channel, ...] = ALL) -> ContactChanged:
    return ContactChanged(**WHO, contacts=contacts(*channels), as_of=as_of, timezone=zone)


def prefers(
    as_of: dt.datetime, *times: tuple[str, str], channels: tuple[Channel, ...] | None = None
) -> PreferenceChanged:
    given = tuple(Times(start, end) for start, end in times) or None
    return PreferenceChanged(**WHO, as_of=as_of, times=given, channels=channels)


def out(as_of: dt.datetime, program: Program = Program.REMINDERS, channel: Channel | None = None) -> BorrowerOptedOut:
    return BorrowerOptedOut(**WHO, as_of=as_of, program=program, channel=channel)


def back_in(
    as_of: dt.datetime, program: Program = Program.REMINDERS, channel: Channel | None = None
) -> BorrowerOptedIn:
    return BorrowerOptedIn(**WHO, as_of=as_of, program=program, channel=channel)

"""What a lender's core tells: read, or refused with a reason and the place."""

import datetime as dt
import json
from typing import Any

import msgspec
import pytest

from gateway.intake import facts
from gateway.intake.cloudevents import read_event
from gateway.intake.faults import Fault
from schemas.messages import CloudEvent
from schemas.repayments import FACT_TYPES, PAID, PLANNED, RESCHEDULED, Fact
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import record

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
WHO = {"lender": "harbour", "borrower_ref": "b-1", "as_of": "2026-11-20T10:00:00+08:00"}
CONTACTS = [{"channel": "sms", "address": "+8613900001234"}, {"channel": "push", "address": "token-1"}]
INSTALMENTS = [
    {"number": 1, "due_date": "2026-12-10", "amount": "100.00"},
    {"number": 2, "due_date": "2027-01-10", "amount": "100.00"},
]
DATA: dict[str, dict[str, Any]] = {
    PLANNED: {
        "lender": "harbour", "debt": "loan-1", "currency": "CNY", "as_of": WHO["as_of"], "contacts": CONTACTS,
        "borrower": {"ref": "b-1", "locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN"},
        "instalments": INSTALMENTS, "product": "cash-loan", "params": {"pay_url": "https://pay.example.com/1"},
    },
    RESCHEDULED: {**WHO, "debt": "loan-1", "instalments": INSTALMENTS},
    "repayment.debit_failed.v1": {**WHO, "debt": "loan-1", "instalment": 1},
    PAID: {**WHO, "debt": "loan-1", "instalment": 1, "outstanding": "40.50"},
    "debt.stopped.v1": {**WHO, "debt": "loan-1", "reason": "disputed"},
    "debt.resumed.v1": {**WHO, "reason": "hardship"},
    "credit.reported.v1": {**WHO, "debt": "loan-1"},
    "legal.filed.v1": {**WHO, "debt": "loan-1", "withdrawn": True},
    "borrower.contact_changed.v1": {**WHO, "contacts": CONTACTS, "timezone": "Europe/Berlin"},
    "borrower.preference_changed.v1": {
        **WHO, "times": [{"start": "18:00", "end": "21:00"}], "channels": ["push"], "locale": "en",
    },
    "borrower.opted_out.v1": {**WHO, "program": "education", "channel": "sms"},
    "borrower.opted_in.v1": {**WHO},
}  # fmt: skip


def read(kind: str, changes: dict[str, Any] | None = None, lenders: set[str] | None = None) -> Fact | Fault:
    data = json.loads(json.dumps(DATA[kind]))
    for path, value in (changes or {}).items():
        *parents, last = [int(each) if each.isdecimal() else each for each in path.split(".")]
        holder = data
        for each in parents:
            holder = holder[each]
        if value is ...:
            del holder[last]
        else:
            holder[last] = value
    event = {"specversion": "1.0", "id": "e-1", "source": "/core", "type": kind, "data": data}
    found = read_event(record(json.dumps(event).encode()))
    assert isinstance(found, CloudEvent)
    return facts.read(found, NOW, lenders)


def test_there_is_an_example_of_every_fact() -> None:
    assert DATA.keys() == FACT_TYPES.keys()


@pytest.mark.parametrize("kind", DATA)
def test_each_is_read_as_what_it_says(kind: str) -> None:
    found = read(kind, lenders={"harbour"})
    assert isinstance(found, FACT_TYPES[kind])
    told = msgspec.to_builtins(found)
    for name, value in DATA[kind].items():
        if name == "as_of":
            assert dt.datetime.fromisoformat(told[name]) == dt.datetime.fromisoformat(value)
        elif name != "borrower":
            assert (
                msgspec.to_builtins(told[name]) == msgspec.json.decode(json.dumps(value)) or list(told[name]) == value
            )


@pytest.mark.parametrize(
    ("kind", "changes", "reason", "place"),
    [
        (PLANNED, {"as_of": ...}, R.MISSING_FIELD, "data.as_of"),
        (PLANNED, {"as_of": "2026-11-20"}, R.BAD_DATE, "data.as_of"),
        (PLANNED, {"as_of": "2026-11-20 10:00:00Z"}, R.BAD_DATE, "data.as_of"),
        (PLANNED, {"as_of": "9999-12-31T00:00:00Z"}, R.BAD_DATE, "data.as_of"),
        (PLANNED, {"lender": "+8613900001234"}, R.BAD_REFERENCE, "data.lender"),
        (PLANNED, {"lender": "nobody"}, R.UNKNOWN_LENDER, "data.lender"),
        (PLANNED, {"borrower.ref": "13900001234"}, R.BAD_REFERENCE, "data.borrower.ref"),
        (PLANNED, {"debt": "13900001234"}, R.BAD_REFERENCE, "data.debt"),
        (PLANNED, {"product": "+8613900001234"}, R.BAD_REFERENCE, "data.product"),
        (PLANNED, {"borrower.timezone": "Mars/Base"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
        (PLANNED, {"borrower.locale": "zh_CN"}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
        (PLANNED, {"currency": "XXX"}, R.UNKNOWN_CURRENCY, "data.currency"),
        (PLANNED, {"currency": "yen"}, R.UNKNOWN_CURRENCY, "data.currency"),
        (PLANNED, {"contacts": []}, R.WRONG_FIELD, "data.contacts"),
        (PLANNED, {"contacts.0.address": "12"}, R.BAD_PHONE, "data.contacts[0].address"),
        (PLANNED, {"contacts.1.address": "no token"}, R.BAD_ADDRESS, "data.contacts[1].address"),
        (PLANNED, {"contacts.0.channel": "email"}, R.UNKNOWN_CHANNEL, "data.contacts[0].channel"),
        (PLANNED, {"instalments": []}, R.WRONG_FIELD, "data.instalments"),
        (PLANNED, {"instalments.1.number": 1}, R.WRONG_FIELD, "data.instalments[1].number"),
        (PLANNED, {"instalments.0.amount": "-1"}, R.BAD_AMOUNT, "data.instalments[0].amount"),
        (PLANNED, {"instalments.0.amount": "1.005"}, R.BAD_AMOUNT, "data.instalments[0].amount"),
        (PLANNED, {"instalments.0.amount": 1}, R.WRONG_FIELD, "data.instalments[0].amount"),
        (PLANNED, {"instalments.1.due_date": "2026-02-30"}, R.BAD_DATE, "data.instalments[1].due_date"),
        (PLANNED, {"instalments.1.due_date": "9999-12-31"}, R.BAD_DATE, "data.instalments[1].due_date"),
        (PLANNED, {"surprise": 1}, R.WRONG_FIELD, "data"),
        (RESCHEDULED, {"instalments.0.amount": "1e3"}, R.BAD_AMOUNT, "data.instalments[0].amount"),
        (PAID, {"outstanding": "some"}, R.BAD_AMOUNT, "data.outstanding"),
        (PAID, {"outstanding": "-0"}, R.BAD_AMOUNT, "data.outstanding"),
        (PAID, {"instalment": ...}, R.MISSING_FIELD, "data.instalment"),  # of which is there something left?
        (PAID, {"instalment": 0}, R.WRONG_FIELD, "data.instalment"),
        (PAID, {"borrower_ref": "13900001234"}, R.BAD_REFERENCE, "data.borrower_ref"),
        ("debt.stopped.v1", {"reason": "mood"}, R.WRONG_FIELD, "data.reason"),
        ("borrower.contact_changed.v1", {"timezone": "Mars/Base"}, R.UNKNOWN_ZONE, "data.timezone"),
        ("borrower.preference_changed.v1", {"times": [{"start": "25:00", "end": "26:00"}]}, R.WRONG_FIELD,
         "data.times[0].start"),
        ("borrower.preference_changed.v1", {"channels": ["email"]}, R.UNKNOWN_CHANNEL, "data.channels[0]"),
        ("borrower.preference_changed.v1", {"locale": "zh_CN"}, R.UNKNOWN_LOCALE, "data.locale"),
        ("borrower.opted_out.v1", {"channel": "email"}, R.UNKNOWN_CHANNEL, "data.channel"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_reason_and_place(kind: str, changes: dict[str, Any], reason: R, place: str) -> None:
    assert read(kind, changes, {"harbour"}) == Fault(reason, place)


def test_a_whole_debt_that_is_paid_names_no_instalment() -> None:
    found = read(PAID, {"instalment": ..., "outstanding": ...})
    assert not isinstance(found, Fault)


def test_another_type_is_no_fact() -> None:
    event = CloudEvent(id="1", source="/core", type="repayment.forgiven.v1", data={})
    assert facts.read(event, NOW) == Fault(R.UNKNOWN_TYPE, "type")

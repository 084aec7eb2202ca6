"""Every bad record of `repayments.events` is one dead letter, with its own reason and the place of the mistake."""

import copy
import datetime as dt
import json
from typing import Any

import pytest

from gateway.cadence.loading import PACKAGED, load
from gateway.cadence.model import Cadence
from gateway.content import Catalogue
from gateway.ids import IdSource, subject_key
from gateway.intake.cloudevents import Record
from gateway.intake.decode import LenderFacts
from gateway.intake.decode_facts import FactDecoder
from gateway.intake.letters import unseal
from gateway.intake.reading import MAX_BYTES
from gateway.ledger.commands import Command, Letter, Told
from schemas.repayments import FACT_TYPES, PAID, PLANNED
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import GONE, NOW, SEALER, changed, everywhere, record

SOURCE = "/core"
AS_OF = "2026-11-18T13:00:00Z"
WHO = {"lender": "harbour", "borrower_ref": "b-1", "as_of": AS_OF}
DATA: dict[str, dict[str, Any]] = {
    PLANNED: {
        "lender": "harbour", "debt": "loan-1", "currency": "CNY", "as_of": AS_OF, "product": "cash-loan",
        "borrower": {"ref": "b-1", "locale": "zh-CN", "timezone": "Asia/Shanghai", "jurisdiction": "CN"},
        "contacts": [{"channel": "sms", "address": "+8613900001234"}, {"channel": "push", "address": "token-1"}],
        "instalments": [{"number": 1, "due_date": "2026-12-10", "amount": "100.00"}],
        "params": {"pay_url": "https://pay.example.com/1"},
    },
    PAID: {**WHO, "debt": "loan-1", "instalment": 1, "outstanding": "40.50"},
    "debt.stopped.v1": {**WHO, "debt": "loan-1", "reason": "disputed"},
    "debt.resumed.v1": {**WHO, "reason": "hardship"},
    "borrower.opted_in.v1": {**WHO},
    "repayment.debit_failed.v1": {**WHO, "debt": "loan-1", "instalment": 1},
    "borrower.opted_out.v1": {**WHO},
    "borrower.contact_changed.v1": {**WHO, "contacts": [{"channel": "push", "address": "token-2"}]},
}  # fmt: skip
(DEFAULT,) = load(PACKAGED).by_name["default"]


def cadence_of(lender: str, product: str | None, at: dt.datetime) -> Cadence | None:
    return None if product == "not-yet" else DEFAULT


DECODER = FactDecoder(
    lenders={"harbour": LenderFacts("Harbour Credit", "zh-CN"), "northwind": LenderFacts("Northwind")},
    catalogue=Catalogue.load(),
    sealer=SEALER,
    cadence_of=cadence_of,
)


def fact(kind: str = PLANNED, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    event = {"specversion": "1.0", "id": "e-1", "source": SOURCE, "type": kind, "data": copy.deepcopy(DATA[kind])}
    return changed(event, changes or {})


def raw(kind: str = PLANNED) -> bytes:
    return json.dumps(fact(kind)).encode()


def decode(what: Any) -> Command:
    read = what if isinstance(what, Record) else record(what)
    return DECODER.decode(read, IdSource(5), NOW).command


def letter(what: Any) -> Letter:
    command = decode(what)
    assert isinstance(command, Letter), type(command)
    return command


@pytest.mark.parametrize("kind", DATA)
def test_without_a_mistake_each_is_a_fact(kind: str) -> None:
    told = decode(fact(kind))
    assert isinstance(told, Told)
    assert isinstance(told.fact, FACT_TYPES[kind])
    assert (told.source, told.lender, told.borrower) == (SOURCE, "harbour", "b-1")
    assert told.subject == subject_key("harbour", "b-1")


BYTES: list[tuple[str, bytes | None, R]] = [
    ("null", None, R.NULL_VALUE),
    ("cut", raw()[:-1], R.NOT_JSON),
    ("latin-1", raw().replace(b"cash", b"c\xe4sh"), R.INVALID_UTF8),
    ("too large", raw() + b" " * MAX_BYTES, R.TOO_LARGE),
    ("key twice", raw().replace(b'"debt":', b'"debt": "loan-2", "debt":'), R.DUPLICATE_KEY),
    ("too deep", b"[" * 100, R.TOO_DEEP),
    ("no event", b"[]", R.NOT_A_CLOUDEVENT),
]


@pytest.mark.parametrize(("value", "reason"), [each[1:] for each in BYTES], ids=[each[0] for each in BYTES])
def test_bytes_that_tell_nothing_may_have_been_a_stop(value: bytes | None, reason: R) -> None:
    made = letter(record(value, key=b"b-1"))
    assert (made.reason, made.field_name, made.source) == (reason, None, None)
    if value is None:
        assert made.holds == ()
    elif b'"lender": "harbour"' in value and b'"ref": "b-1"' in value:
        assert made.holds == ((subject_key("harbour", "b-1"), "harbour", "b-1"),)
    else:
        assert made.holds == everywhere("b-1")
    assert unseal(made.sealed, made.id, SEALER).value == value


FIELDS: list[tuple[str, dict[str, Any], R, str | None]] = [
    # the event
    (PLANNED, {"specversion": "0.3"}, R.NOT_A_CLOUDEVENT, "specversion"),
    (PLANNED, {"id": GONE}, R.NOT_A_CLOUDEVENT, "id"),
    (PLANNED, {"type": "repayment.planned.v2"}, R.UNKNOWN_VERSION, "type"),
    (PLANNED, {"type": "borrower.moved.v1"}, R.UNKNOWN_VERSION, "type"),
    (PLANNED, {"type": "reminder.requested.v1"}, R.UNKNOWN_TYPE, "type"),  # it belongs on the other topic
    (PLANNED, {"type": "com.example.someevent"}, R.UNKNOWN_TYPE, "type"),
    (PLANNED, {"data": GONE}, R.MISSING_FIELD, "data"),
    # its fields
    (PLANNED, {"data.params.pay_url": "a\0b"}, R.NUL_CHARACTER, None),
    (PLANNED, {"data.as_of": GONE}, R.MISSING_FIELD, "data.as_of"),
    (PLANNED, {"data.surprise": 1}, R.WRONG_FIELD, "data"),
    (PLANNED, {"data.lender": "nobody"}, R.UNKNOWN_LENDER, "data.lender"),
    (PLANNED, {"data.contacts.0.channel": "fax"}, R.UNKNOWN_CHANNEL, "data.contacts[0].channel"),
    (PLANNED, {"data.currency": "RMB"}, R.UNKNOWN_CURRENCY, "data.currency"),
    (PLANNED, {"data.borrower.timezone": "Mars/Base"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    (PLANNED, {"data.borrower.locale": "zh_CN"}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
    (PLANNED, {"data.instalments.0.amount": "-1"}, R.BAD_AMOUNT, "data.instalments[0].amount"),
    (PLANNED, {"data.instalments.0.due_date": "2026-02-30"}, R.BAD_DATE, "data.instalments[0].due_date"),
    (PLANNED, {"data.contacts.0.address": "12"}, R.BAD_PHONE, "data.contacts[0].address"),
    (PLANNED, {"data.contacts.1.address": "no token"}, R.BAD_ADDRESS, "data.contacts[1].address"),
    (PLANNED, {"data.debt": "13900001234"}, R.BAD_REFERENCE, "data.debt"),
    # what is known cannot be known before it is: it would outlast whatever comes until then
    (PLANNED, {"data.as_of": (NOW + dt.timedelta(minutes=6)).isoformat()}, R.BAD_DATE, "data.as_of"),
    # what its reminders would need
    (PLANNED, {"data.product": "not-yet"}, R.NO_CADENCE, "data.product"),
    (PLANNED, {"data.params.pay_url": GONE}, R.BAD_PARAMS, "data.params.pay_url"),
    (PLANNED, {"data.lender": "northwind", "data.borrower.locale": "fr-FR"}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "reason", "field"), FIELDS)
def test_bad_facts(kind: str, changes: dict[str, Any], reason: R, field: str | None) -> None:
    made = letter(fact(kind, changes))
    assert (made.reason, made.field_name, made.source) == (reason, field, SOURCE)


ALLOWS = ("debt.resumed.v1", "borrower.opted_in.v1", "repayment.debit_failed.v1")


@pytest.mark.parametrize("kind", ALLOWS)
def test_what_could_only_allow_more_holds_nobody_and_says_why_it_was_refused(kind: str) -> None:
    made = letter(fact(kind, {"data.as_of": "tomorrow"}))
    assert (made.reason, made.field_name, made.holds, made.doubts) == (R.BAD_DATE, "data.as_of", (), ())


@pytest.mark.parametrize("kind", sorted(DATA.keys() - {PLANNED, *ALLOWS}))
@pytest.mark.parametrize(
    "changes",
    [
        {"data.as_of": "tomorrow"},
        {"data.as_of": (NOW + dt.timedelta(hours=25)).isoformat()},
        {"data.surprise": 1},
        {"type": "debt.halted.v1"},
    ],
)
def test_what_cannot_be_read_and_may_be_a_stop_holds_whom_it_names(kind: str, changes: dict[str, Any]) -> None:
    """Whatever is like a stop: it names a borrower and a moment."""
    made = letter(fact(kind, changes))
    assert made.reason is R.UNREADABLE_STOP
    assert made.holds == ((subject_key("harbour", "b-1"), "harbour", "b-1"),)


@pytest.mark.parametrize("kind", [PAID, "debt.stopped.v1", "borrower.opted_out.v1"])
def test_a_stop_whose_clock_is_in_another_zone_counts(kind: str) -> None:
    ahead = (NOW + dt.timedelta(hours=14)).isoformat()
    assert isinstance(decode(fact(kind, {"data.as_of": ahead})), Told)


def test_a_source_that_is_a_number_is_not_shown() -> None:
    made = letter(fact(changes={"source": "tel:+8613800138000"}))
    assert (made.reason, made.field_name, made.source) == (R.BAD_REFERENCE, "source", None)


def test_every_reason_that_decoding_can_give_is_seen_here() -> None:
    seen = {each[2] for each in BYTES} | {each[2] for each in FIELDS}
    # The ledger's own; seen above; and what only a request has: a stage, a template, an end.
    elsewhere = {R.CONFLICT, R.REFUSED_BY_LEDGER, R.UNREADABLE_STOP}
    requests_only = {R.UNKNOWN_STAGE, R.UNKNOWN_TEMPLATE, R.PAST_NOT_AFTER}
    assert seen == set(R) - elsewhere - requests_only


@pytest.mark.parametrize(
    ("kind", "changes", "doubts"),
    [
        (PLANNED, {"data.currency": "XYZ"}, [("harbour", "b-1", "loan-1")]),
        (PLANNED, {"data.debt": 7}, [("harbour", "b-1", None)]),
        (PLANNED, {"type": "repayment.planned.v2"}, [("harbour", "b-1", "loan-1")]),
        ("borrower.contact_changed.v1", {"data.borrower_ref": GONE}, [("harbour", "key-1", None)]),
        # It may stop somebody: he is held.  It is none of ours, or of nobody: it says nothing of anybody.
        (PAID, {"data.outstanding": "x"}, []),
        (PLANNED, {"type": "com.example.someevent"}, []),
        (PLANNED, {"type": "repayment.watermark.v1"}, []),
    ],
)
def test_what_else_cannot_be_read_leaves_in_doubt_what_is_known(
    kind: str, changes: dict[str, Any], doubts: list[tuple[str, str, str | None]]
) -> None:
    made = letter(record(fact(kind, changes), key=b"key-1"))
    lenders = ("harbour", "northwind") if doubts and doubts[0][1] == "key-1" else ("harbour",)
    assert set(made.doubts) == {(subject_key(each, ref), debt) for _, ref, debt in doubts for each in lenders}
    assert bool(made.holds) is (kind == PAID)

"""Stops: read exactly, and when they cannot be read, whoever they name is held."""

import datetime as dt
from typing import Any

import pytest

from gateway import ids
from gateway.ledger.commands import Stop
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import GONE, NOW, binary, cancel, decode, letter, record

SUBJECT = (ids.subject_key("harbour", "b-7f3a9c21"), "harbour", "b-7f3a9c21")


def stop(what: Any) -> Stop:
    command = decode(what).command
    assert isinstance(command, Stop), command
    return command


@pytest.mark.parametrize("mode", [record, binary])
def test_a_debt(mode: Any) -> None:
    made = stop(mode(cancel()))
    assert made.subject == SUBJECT[0]
    assert (made.lender, made.borrower, made.source) == ("harbour", "b-7f3a9c21", "/lenders/harbour/loan-core")
    assert (made.kind, made.value, made.request_key) == ("debt", "loan-5582-cn", None)
    assert made.as_of == dt.datetime(2026, 11, 18, 2, 2, 40, tzinfo=dt.UTC)
    assert ids.bucket_of(made.id) == ids.subject_bucket(made.subject)
    assert (made.origin.partition, made.origin.offset) == (3, 41)


def test_a_borrower() -> None:
    made = stop(cancel({"data.scope": {"kind": "borrower"}}))
    assert (made.kind, made.value, made.request_key) == ("borrower", "", None)


def test_a_request() -> None:
    made = stop(cancel({"data.scope": {"kind": "request", "source": "/lenders/harbour/loan-core", "id": "r-1"}}))
    key = ids.request_key("/lenders/harbour/loan-core", "r-1")
    assert (made.kind, made.value, made.request_key) == ("request", key.hex(), key)


def test_a_stop_is_not_refused_for_its_own_id_which_is_stored_nowhere() -> None:
    stop(cancel({"id": "13800138000"}))


def test_a_stop_whose_clock_is_in_another_zone_still_stops() -> None:
    stop(cancel({"data.as_of": (NOW + dt.timedelta(hours=14)).isoformat()}))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"specversion": GONE}, "specversion"),
    ({"id": GONE}, "id"),
    ({"type": "reminder.cancelled.v2"}, "type"),
    ({"type": "reminder.cancelled"}, "type"),
    ({"type": " Reminder.Cancelled.v1"}, "type"),
    ({"type": "repayment.paid.v1"}, "type"),
    ({"type": "debt.stopped.v1"}, "type"),
    ({"type": "borrower.opted_out.v1"}, "type"),
    ({"datacontenttype": "text/xml"}, "datacontenttype"),
    ({"time": "x"}, "time"),
    ({"data.scope": GONE}, "data.scope"),
    ({"data.scope": {"kind": "everything"}}, "data.scope.kind"),
    ({"data.scope.ref": GONE}, "data.scope.ref"),
    ({"data.scope.ref": "13800138000"}, "data.scope.ref"),
    ({"data.scope": {"kind": "request", "source": "/a"}}, "data.scope.id"),
    ({"data.as_of": GONE}, "data.as_of"),
    ({"data.as_of": "2026-11-18T10:02:40"}, "data.as_of"),
    ({"data.as_of": "9999-01-01T00:00:00Z"}, "data.as_of"),
    ({"data.as_of": (NOW + dt.timedelta(hours=25)).isoformat()}, "data.as_of"),
    ({"data.unknown": 1}, "data"),
]


@pytest.mark.parametrize(("changes", "field"), BAD)
def test_what_cannot_be_read_holds_whom_it_names(changes: dict[str, Any], field: str) -> None:
    made = letter(record(cancel(changes), key=b"another"))
    assert (made.reason, made.field_name) == (R.UNREADABLE_STOP, field)
    assert (made.subject, made.borrower) == (SUBJECT, None)
    assert made.source == "/lenders/harbour/loan-core"


@pytest.mark.parametrize("lender", [GONE, 5, "harbor", None, "13800138000"])
def test_without_a_lender_of_ours_the_borrower_is_held_under_every_one(lender: Any) -> None:
    made = letter(record(cancel({"data.lender": lender}), key=b"another"))
    assert (made.reason, made.field_name) == (R.UNREADABLE_STOP, "data.lender")
    assert (made.subject, made.borrower) == (None, "b-7f3a9c21")


@pytest.mark.parametrize("whom", [GONE, 5, None, "", "two words", "x" * 65, "+8613800138000", "13800138000", "a\0b"])
def test_without_a_borrower_the_key_names_one(whom: Any) -> None:
    made = letter(record(cancel({"data.borrower_ref": whom}), key=b"cust-9"))
    assert (made.reason, made.subject, made.borrower) == (R.UNREADABLE_STOP, None, "cust-9")


@pytest.mark.parametrize("data", [None, [], "x", {}, {"borrower": {"ref": 5}}, {"borrower": []}])
def test_data_of_any_shape(data: Any) -> None:
    made = letter(record(cancel({"data": data}), key=b"cust-9"))
    assert (made.reason, made.subject, made.borrower) == (R.UNREADABLE_STOP, None, "cust-9")


@pytest.mark.parametrize("borrower", ["cust-9", {"ref": "cust-9"}])
def test_a_stop_of_another_kind_may_name_its_borrower_in_another_way(borrower: Any) -> None:
    data = {"lender": "harbour", "borrower": borrower, "amount": "1.00"}
    made = letter(cancel({"type": "repayment.paid.v1", "data": data}))
    assert made.subject == (ids.subject_key("harbour", "cust-9"), "harbour", "cust-9")


@pytest.mark.parametrize("value", [b"hello", b"\xff", b"", None, b"[" * 100, b'{"a":1,"a":2}', b"x" * 300_000, b"7"])
def test_a_stop_that_only_its_headers_tell_of_holds_the_borrower_of_its_key(value: bytes | None) -> None:
    made = letter(record(value, list(binary(cancel()).headers)))
    assert (made.reason, made.subject, made.borrower) == (R.UNREADABLE_STOP, None, "b-7f3a9c21")
    assert made.source == "/lenders/harbour/loan-core"


@pytest.mark.parametrize("header", [("ce_id", b"\xff"), ("ce_source", b"\xff"), ("ce_specversion", b"2")])
def test_a_bad_header_does_not_hide_whom_the_stop_names(header: tuple[str, bytes]) -> None:
    plain = binary(cancel())
    others: list[tuple[str, bytes | None]] = [each for each in plain.headers if each[0] != header[0]]
    made = letter(record(plain.value, [*others, header]))
    assert (made.reason, made.subject) == (R.UNREADABLE_STOP, SUBJECT)


def test_a_stop_with_a_number_as_source_is_held_and_the_number_not_told() -> None:
    made = letter(cancel({"source": "tel:+8613800138000"}))
    assert (made.reason, made.field_name, made.source, made.subject) == (R.UNREADABLE_STOP, "source", None, SUBJECT)


def test_a_stop_without_a_source_is_held_too() -> None:
    made = letter(cancel({"source": GONE}))
    assert (made.reason, made.subject) == (R.UNREADABLE_STOP, SUBJECT)


def test_nobody_can_be_held_without_any_name() -> None:
    made = letter(record(cancel({"data": None}), key=None))
    assert (made.reason, made.subject, made.borrower) == (R.UNREADABLE_STOP, None, None)

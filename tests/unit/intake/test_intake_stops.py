"""Stops: read exactly, and when they cannot be read, whoever they name is held."""

import datetime as dt
import json
from typing import Any

import pytest

from gateway import ids
from gateway.intake.letters import unseal
from gateway.ledger.commands import Request, Stop
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import GONE, NOW, SEALER, binary, cancel, decode, everywhere, letter, record, request

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
    assert made.as_of == dt.datetime(2026, 11, 18, 8, 2, 40, tzinfo=dt.UTC)
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
    assert made.holds == (SUBJECT,)
    assert made.source == "/lenders/harbour/loan-core"


@pytest.mark.parametrize("lender", [GONE, 5, "harbor", None, "13800138000"])
def test_without_a_lender_of_ours_the_borrower_is_held_under_every_one(lender: Any) -> None:
    made = letter(record(cancel({"data.lender": lender}), key=b"another"))
    assert (made.reason, made.field_name) == (R.UNREADABLE_STOP, "data.lender")
    assert made.holds == everywhere("b-7f3a9c21")


@pytest.mark.parametrize("whom", [GONE, 5, None, "", "two words", "x" * 65, "+8613800138000", "13800138000", "a\0b"])
def test_without_a_borrower_the_key_names_one(whom: Any) -> None:
    made = letter(record(cancel({"data.borrower_ref": whom}), key=b"cust-9"))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, everywhere("cust-9"))


@pytest.mark.parametrize("data", [None, [], "x", {}, {"borrower": {"ref": 5}}, {"borrower": []}])
def test_data_of_any_shape(data: Any) -> None:
    made = letter(record(cancel({"data": data}), key=b"cust-9"))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, everywhere("cust-9"))


@pytest.mark.parametrize("borrower", ["cust-9", {"ref": "cust-9"}])
def test_a_stop_of_another_kind_may_name_its_borrower_in_another_way(borrower: Any) -> None:
    data = {"lender": "harbour", "borrower": borrower, "amount": "1.00"}
    made = letter(cancel({"type": "repayment.paid.v1", "data": data}))
    assert made.holds == ((ids.subject_key("harbour", "cust-9"), "harbour", "cust-9"),)


@pytest.mark.parametrize("value", [b"hello", b"\xff", b"", None, b"[" * 100, b'{"a":1,"a":2}', b"x" * 300_000, b"7"])
def test_a_stop_that_only_its_headers_tell_of_holds_the_borrower_of_its_key(value: bytes | None) -> None:
    made = letter(record(value, list(binary(cancel()).headers)))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, everywhere("b-7f3a9c21"))
    assert made.source == "/lenders/harbour/loan-core"


@pytest.mark.parametrize("header", [("ce_id", b"\xff"), ("ce_source", b"\xff"), ("ce_specversion", b"2")])
def test_a_bad_header_does_not_hide_whom_the_stop_names(header: tuple[str, bytes]) -> None:
    plain = binary(cancel())
    others: list[tuple[str, bytes | None]] = [each for each in plain.headers if each[0] != header[0]]
    made = letter(record(plain.value, [*others, header]))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, (SUBJECT,))


def test_a_stop_with_a_number_as_source_is_held_and_the_number_not_told() -> None:
    made = letter(cancel({"source": "tel:+8613800138000"}))
    assert (made.reason, made.field_name, made.source) == (R.UNREADABLE_STOP, "source", None)
    assert made.holds == (SUBJECT,)


def test_a_stop_without_a_source_is_held_too() -> None:
    made = letter(cancel({"source": GONE}))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, (SUBJECT,))


def test_nobody_can_be_held_without_any_name() -> None:
    made = letter(record(cancel({"data": None}), key=None))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, ())


# --- bytes nobody would agree on --------------------------------------------------------------------------------------


def broken(how: str, event: dict[str, Any]) -> bytes:
    raw = json.dumps(event).encode()
    match how:
        case "cut off":
            return raw[:-1]
        case "duplicate key":
            return raw.replace(b'"scope":', b'"as_of": "x", "scope":')
        case "too deep":
            return raw.replace(b'"scope":', b'"deep": ' + b"[" * 40 + b"]" * 40 + b', "scope":')
        case "too large":
            return raw.replace(b'"scope":', b'"padding": "' + b"x" * 300_000 + b'", "scope":')
        case "invalid utf-8":
            return raw.replace(b'"scope":', b'"note": "\xff", "scope":')
        case _:
            return raw.replace(b'"scope":', b'"note": "\\u0000", "scope":')


HOWS = ["cut off", "duplicate key", "too deep", "too large", "invalid utf-8", "nul"]


@pytest.mark.parametrize("how", HOWS)
def test_a_stop_in_broken_bytes_holds_whom_it_still_names(how: str) -> None:
    """Whatever the record's key says: correctness does not depend on it."""
    for key in (None, b"another"):
        made = letter(record(broken(how, cancel()), key=key))
        assert (made.reason, made.holds) == (R.UNREADABLE_STOP, (SUBJECT,))


@pytest.mark.parametrize("how", [how for how in HOWS if how != "nul"])
def test_a_request_in_broken_bytes_holds_nobody(how: str) -> None:
    made = letter(record(broken(how, request({"data.scope": 1}))))
    assert made.reason is not R.UNREADABLE_STOP
    assert made.holds == ()


def test_broken_bytes_with_both_types_are_taken_for_the_stop() -> None:
    raw = json.dumps(cancel()).encode()[:-1].replace(b'"type":', b'"type": "reminder.requested.v1", "type":')
    assert letter(record(raw)).holds == (SUBJECT,)


@pytest.mark.parametrize("type_", [GONE, None, 5, "", "reminder.canceled.v1", "loan.closed.v7"])
def test_what_is_shaped_like_a_stop_is_one_under_any_name(type_: Any) -> None:
    made = letter(record(cancel({"type": type_}), key=b"another"))
    assert (made.reason, made.holds) == (R.UNREADABLE_STOP, (SUBJECT,))


def test_an_unreadable_stop_of_one_request_says_which() -> None:
    scope = {"kind": "request", "source": "/lenders/harbour/loan-core", "id": "r-1"}
    made = letter(record(cancel({"data.scope": scope, "data.as_of": "never", "data.borrower_ref": GONE}), key=None))
    assert made.stops_request == ids.request_key("/lenders/harbour/loan-core", "r-1")
    assert made.holds == ()


# --- requests that were good once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"data.lender": "gone"}, {"data.template": "gone"}, {"data.not_after": "x"}])
def test_a_request_that_cannot_be_taken_now_is_known_by_its_key_and_data(changes: dict[str, Any]) -> None:
    event = request(changes)
    made = letter(record(event), NOW + dt.timedelta(days=365))
    assert made.known_as is not None
    key, hash_ = made.known_as
    assert key == ids.request_key(event["source"], event["id"])
    if not changes:
        taken = decode(record(event)).command
        assert isinstance(taken, Request)
        assert (taken.request_key, taken.hash) == (key, hash_)


def test_the_same_record_has_the_same_fingerprint_and_no_other() -> None:
    bad = record(request({"data.stage": "d5"}))
    first, again = letter(bad), letter(bad)
    assert first.fingerprint == again.fingerprint
    assert first.sealed != again.sealed
    others = [record(request({"data.stage": "d6"})), record(bad.value, key=b"x"), record(bad.value, [("a", b"b")])]
    assert len({first.fingerprint, *(letter(each).fingerprint for each in others)}) == 4


def test_a_letter_keeps_the_whole_record() -> None:
    bad = binary(request({"data.stage": "d5"}))
    made = letter(bad)
    kept = unseal(made.sealed, made.id, SEALER)
    assert (kept.value, kept.key, list(kept.headers)) == (bad.value, bad.key, bad.headers)
    assert "d5" not in repr(kept)

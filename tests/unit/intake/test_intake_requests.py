"""A valid request becomes exactly the command the ledger expects, in either mode."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ids, personal
from gateway.intake.decode import Record
from gateway.ledger.commands import Request, Validation
from schemas.vocabulary import Channel, Lane, Role, Stage
from tests.unit.intake.records import GONE, NOW, SEALER, binary, decode, overdue, record, request


def accepted(what: Any, now: dt.datetime = NOW) -> Request:
    command = decode(what, now).command
    assert isinstance(command, Request), command
    return command


def test_the_worked_example() -> None:
    made = accepted(request())
    east = dt.timezone(dt.timedelta(hours=8))
    subject = ids.subject_key("harbour", "b-7f3a9c21")
    assert made.origin.topic == "reminders.requests"
    assert (made.origin.partition, made.origin.offset) == (3, 41)
    assert made.request_key == ids.request_key("/lenders/harbour/loan-core", "20261118-000417")
    assert made.stage_key == ids.stage_key("harbour", "b-7f3a9c21", "loan-5582-cn", 7, "d3", "")
    assert made.subject == subject
    assert ids.bucket_of(made.id) == ids.subject_bucket(subject)
    assert (made.source, made.request_id) == ("/lenders/harbour/loan-core", "20261118-000417")
    assert (made.lender, made.borrower, made.debt) == ("harbour", "b-7f3a9c21", "loan-5582-cn")
    assert (made.instalment, made.product, made.stage, made.step) == (7, "consumer-12m", "d3", "")
    assert (made.template, made.lane, made.ladder) == ("repayment", Lane.BULK, "psv")
    assert made.send_at == dt.datetime(2026, 11, 18, 10, 30, tzinfo=east)
    assert made.not_after == dt.datetime(2026, 11, 19, 20, 0, tzinfo=east)
    assert made.state_as_of == dt.datetime(2026, 11, 18, 6, 0, tzinfo=east)


def test_what_is_sealed_opens_under_the_reminders_id_and_is_all_that_dispatch_needs() -> None:
    made = accepted(request())
    opened = personal.decode(SEALER.open(made.sealed, made.id, personal.SEALED_FIELD))
    assert opened.contacts == (
        (Channel.PUSH, "fcm-device-token-8d1f0c72e5"),
        (Channel.SMS, "+8613900001234"),
        (Channel.VOICE, "+8613900001234"),
    )
    assert (opened.name, opened.locale, opened.timezone) == ("王小明", "zh-CN", "Asia/Shanghai")
    assert (opened.jurisdiction, opened.role) == ("CN", Role.DEBTOR)
    assert (opened.amount, opened.currency, opened.stage) == ("1234.50", "CNY", Stage.D3)
    assert opened.due_date == dt.date(2026, 11, 21)
    assert opened.state_as_of == made.state_as_of
    assert opened.params["reference"] == "M-000417"
    assert repr(opened) == "Sealed(...)"


def test_the_event_comes_along_for_the_fast_path() -> None:
    decoded = decode(request())
    assert decoded.personal is not None
    assert decoded.personal.contacts[1][1] == "+8613900001234"
    assert "+8613900001234" not in repr(decoded)


def test_binary_mode_means_the_same() -> None:
    one, other = accepted(request()), accepted(binary(request()))
    for name in Request.__slots__:
        if name not in ("id", "sealed"):
            assert getattr(one, name) == getattr(other, name), name
    assert personal.decode(SEALER.open(one.sealed, one.id, "reminder")) == personal.decode(
        SEALER.open(other.sealed, other.id, "reminder")
    )


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"application/cloudevents+json",
        b"Application/CloudEvents+JSON; charset=UTF-8",
        b"application/cloudevents",
        b"application/json",
    ],
)
def test_structured_mode_with_any_content_type_that_says_so_or_none(content_type: bytes | None) -> None:
    accepted(record(request(), [("content-type", content_type), ("traceparent", b"\xff"), ("ce_other", b"\xff")]))


def test_copies_of_the_attributes_in_headers_mean_nothing_in_structured_mode() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("content-type", b"application/cloudevents+json"),
        ("ce_source", b"/another"),
        ("ce_id", b"\xff"),
    ]
    assert accepted(record(request(), headers)).source == "/lenders/harbour/loan-core"


@pytest.mark.parametrize("content_type", [None, b"application/json; charset=utf-8", b"application/vnd.lender+json"])
def test_binary_mode_with_any_json(content_type: bytes | None) -> None:
    plain = binary(request())
    headers = [each for each in plain.headers if each[0] != "content-type"]
    accepted(record(plain.value, [*headers, ("content-type", content_type), ("ce_traceparent", b"00-1-2-01")]))


@pytest.mark.parametrize(
    "changes",
    [
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "anyextension": [1, {"a": None}]},
        {"time": None, "subject": None, "datacontenttype": None, "dataschema": None, "extension": None},
        {"time": GONE, "datacontenttype": GONE},
        {"datacontenttype": "application/json; charset=utf-8"},
        {"data.borrower.name": GONE},
        {"data.borrower.name": None, "data.debt.product": None, "data.debt.instalment": None},
        {"data.step": None},
        {"data.step": ""},
        {"data.params": {"pay_url": "https://pay.harbour.example/r/1"}},
        {"data.debt.amount": "0.01"},
        {"data.debt.amount": "1234"},
        {"data.debt.amount": "1234.5"},
        {"data.debt.amount": "99999999999999999999.99"},
        {"data.debt.amount": "1.234", "data.debt.currency": "KWD"},
        {"data.debt.amount": "5000", "data.debt.currency": "JPY"},
        {"data.borrower.locale": "fr-FR"},  # this lender has a default
        {"data.borrower.timezone": "UTC"},
        {"data.borrower.ref": "12345678"},
        {"data.debt.ref": "20261118-000417"},
        {"data.debt.state_as_of": (NOW + dt.timedelta(minutes=4)).isoformat()},
        {"data.debt.due_date": "1990-01-01"},
        {"data.debt.due_date": "2076-12-31"},
    ],
)
def test_these_are_fine_too(changes: dict[str, Any]) -> None:
    accepted(request(changes))


def test_what_is_not_said_gets_its_default() -> None:
    made = accepted(
        request({"data.send_at": GONE, "data.priority": GONE, "data.debt.instalment": GONE, "data.debt.product": GONE})
    )
    assert (made.send_at, made.lane, made.instalment, made.product) == (NOW, Lane.BULK, None, None)


def test_an_urgent_request_takes_the_urgent_lane() -> None:
    assert accepted(overdue()).lane is Lane.URGENT


def test_a_validation_names_the_request_and_nothing_else() -> None:
    decoded = decode(request({"data.validate_only": True}))
    assert isinstance(decoded.command, Validation)
    assert decoded.personal is None
    made = decoded.command
    assert (made.source, made.request_id, made.lender) == ("/lenders/harbour/loan-core", "20261118-000417", "harbour")


@pytest.mark.parametrize(
    ("changes", "now", "step"),
    [
        ({}, NOW, "2026-11-18"),
        ({"data.step": GONE}, NOW, "2026-11-18"),
        ({"data.step": GONE}, dt.datetime(2026, 11, 18, 4, 59, tzinfo=dt.UTC), "2026-11-17"),  # 23:59 in New York
        ({"data.step": GONE, "data.send_at": "2026-11-18T01:30:00Z"}, NOW, "2026-11-17"),
        ({"data.step": "", "data.borrower.timezone": "Asia/Tokyo"}, NOW, "2026-11-18"),
        ({"data.step": "", "data.borrower.timezone": "Pacific/Auckland"}, NOW, "2026-11-19"),
        ({"data.step": "2026-11-20"}, NOW, "2026-11-20"),
    ],
)
def test_the_step_of_an_overdue_stage_is_the_planned_local_date(
    changes: dict[str, Any], now: dt.datetime, step: str
) -> None:
    made = accepted(overdue({"data.debt.state_as_of": "2026-11-17T00:00:00Z", **changes}), now)
    assert made.step == step
    assert made.stage_key == ids.stage_key("northwind", "cust-20418", "acct-99017", None, "overdue_early", step)


# --- the hash -----------------------------------------------------------------------------------------------------


def shuffled(value: Any, draw: Any) -> Any:
    if isinstance(value, dict):
        keys = draw(st.permutations(sorted(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return [shuffled(each, draw) for each in value] if isinstance(value, list) else value


@given(st.data(), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_key_order_space_and_escapes_do_not_change_the_hash(data: st.DataObject, ascii_only: bool, indent: Any) -> None:
    mixed = shuffled(request(), data.draw)
    raw = json.dumps(mixed, ensure_ascii=ascii_only, indent=indent).encode()
    assert accepted(record(raw)).hash == accepted(request()).hash


@pytest.mark.parametrize(
    "changes",
    [
        {"data.debt.amount": "1234.5"},
        {"data.priority": GONE},
        {"data.borrower.name": "王小朋"},
        {"data.send_at": "2026-11-18T02:30:00Z"},
    ],
)
def test_another_payload_has_another_hash(changes: dict[str, Any]) -> None:
    assert accepted(request(changes)).hash != accepted(request()).hash


def test_the_envelope_is_not_part_of_the_payload() -> None:
    assert accepted(request({"time": GONE, "id": "another"})).hash == accepted(request()).hash


def test_the_hash_needs_our_key() -> None:
    made = accepted(request())
    canonical = json.dumps(request()["data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert made.hash == SEALER.fingerprint(canonical, "request")


def test_a_record_shows_nothing_of_its_content() -> None:
    shown = repr(record(request(), [("ce_id", b"secret")], key=b"b-secret"))
    assert "secret" not in shown
    assert "harbour" not in shown
    assert shown == repr(Record("reminders.requests", 3, 41, None, None))

"""Every bad input is one dead letter, with its own reason and the place of the mistake."""

import datetime as dt
import json
from typing import Any

import pytest

from gateway.intake.letters import unseal
from gateway.intake.reading import MAX_BYTES, MAX_DEPTH
from schemas.vocabulary import Rejection as R
from tests.unit.intake.records import GONE, NOW, SEALER, binary, everywhere, letter, overdue, record, request

SOURCE = "/lenders/harbour/loan-core"


def raw(changes: dict[str, Any] | None = None) -> bytes:
    return json.dumps(request(changes), ensure_ascii=False).encode()


def padded(size: int) -> bytes:
    event = raw()
    return event + b" " * (size - len(event))


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"[" + b"]" + b"}" * (levels - 1)


BYTES: list[tuple[str, bytes | None, R]] = [
    ("null", None, R.NULL_VALUE),
    ("empty", b"", R.NOT_JSON),
    ("word", b"hello", R.NOT_JSON),
    ("cut", raw()[:-1], R.NOT_JSON),
    ("two values", raw() + raw(), R.NOT_JSON),
    ("trailing comma", raw().replace(b'"bulk"}', b'"bulk",}'), R.NOT_JSON),
    ("byte order mark", b"\xef\xbb\xbf" + raw(), R.NOT_JSON),
    ("utf-16", "{}".encode("utf-16-le"), R.NOT_JSON),
    ("raw nul", raw().replace(b"repayment", b"repay\x00ment"), R.NOT_JSON),
    ("nan", raw().replace(b'"instalment": 7', b'"instalment": NaN'), R.NOT_JSON),
    ("infinity", raw().replace(b'"instalment": 7', b'"instalment": -Infinity'), R.NOT_JSON),
    ("beyond a double", raw().replace(b'"instalment": 7', b'"instalment": 1e400'), R.NOT_JSON),
    ("endless number", raw().replace(b'"instalment": 7', b'"instalment": ' + b"7" * 5000), R.NOT_JSON),
    ("lone surrogate", raw().replace("王".encode(), b"\\ud800"), R.NOT_JSON),
    ("latin-1", raw({"data.borrower.name": "Zoë"}).decode().encode("latin-1", "replace"), R.INVALID_UTF8),
    ("overlong", raw().replace(b"bulk", b"\xc0\xafulk"), R.INVALID_UTF8),
    ("utf-8 surrogate", raw().replace(b"bulk", b"\xed\xa0\x80"), R.INVALID_UTF8),
    ("binary", bytes(range(256)), R.INVALID_UTF8),
    ("one byte too large", padded(MAX_BYTES + 1), R.TOO_LARGE),
    ("duplicate key", raw().replace(b'"stage": "d3"', b'"stage": "d3", "stage": "due"'), R.DUPLICATE_KEY),
    ("same twice", raw().replace(b'"stage": "d3"', b'"stage": "d3", "stage": "d3"'), R.DUPLICATE_KEY),
    ("duplicate in a contact", raw().replace(b'{"channel":', b'{"channel": "sms", "channel":'), R.DUPLICATE_KEY),
    ("duplicate in an extension", raw().replace(b"{", b'{"x": [{"a": 1, "a": 1}], ', 1), R.DUPLICATE_KEY),
    ("duplicate by escape", raw().replace(b'"stage": "d3"', b'"stage": "d3", "st\\u0061ge": "d3"'), R.DUPLICATE_KEY),
    ("duplicate far apart", raw().replace(b"{", b'{"data" \n : {}, ', 1), R.DUPLICATE_KEY),
    ("hidden duplicate", raw({"x": ": : :"}).replace(b"{", b'{"id":"\\u003a\\u003a",', 1), R.DUPLICATE_KEY),
    ("33 deep", nested(33), R.TOO_DEEP),
    ("33 deep in an extension", raw().replace(b"{", b'{"x": ' + nested(32) + b", ", 1), R.TOO_DEEP),
    ("100000 arrays", b"[" * 100_000, R.TOO_DEEP),
    ("100000 arrays, closed", b"[" * 100_000 + b"]" * 100_000, R.TOO_DEEP),
    ("deep objects", b'{"a":' * 40_000, R.TOO_DEEP),
    ("deep after an endless string", b"[" * 40 + b'"' + b'\\"' * 100_000, R.TOO_DEEP),
]


@pytest.mark.parametrize(("value", "reason"), [each[1:] for each in BYTES], ids=[each[0] for each in BYTES])
def test_bytes_that_everybody_would_not_read_alike(value: bytes | None, reason: R) -> None:
    made = letter(record(value))
    assert (made.reason, made.field_name, made.source) == (reason, None, None)
    # Bytes that tell nothing may have been a stop: the borrower of the key is held, unless they still call themselves a
    # request.  A null value has no bytes.
    tells_nothing = value is not None and b'"type": "reminder.requested.v1"' not in value
    assert made.holds == (everywhere("b-7f3a9c21") if tells_nothing else ())
    assert unseal(made.sealed, made.id, SEALER).value == value


@pytest.mark.parametrize(
    "value",
    [
        padded(MAX_BYTES),
        raw().replace(b"{", b'{"x": ' + nested(MAX_DEPTH - 1) + b", ", 1),
        raw({"x": "[" * 100 + '{"' * 100}),
        raw({"x": "\\"}),
        raw({"x": "\\u0000"}),  # six characters, no NUL
        raw({"x": '":' * 9, "y": {"a": 1}, "z": [{"a": 1}, {"a": 1}]}),
        raw({"x": "::::", "y:": ":\\u003a:"}),
        raw().replace(b": ", b" :\t"),
        json.dumps(request({"x": "é:\"':"})).encode(),
    ],
)
def test_close_to_the_limits_is_fine(value: bytes) -> None:
    with pytest.raises(AssertionError, match="Request"):
        letter(value)


ENVELOPE: list[tuple[dict[str, Any], R, str]] = [
    ({"specversion": GONE}, R.NOT_A_CLOUDEVENT, "specversion"),
    ({"specversion": "0.3"}, R.NOT_A_CLOUDEVENT, "specversion"),
    ({"specversion": 1.0}, R.NOT_A_CLOUDEVENT, "specversion"),
    ({"id": GONE}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": None}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": ""}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": 17}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": "x" * 257}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": "a\nb"}, R.NOT_A_CLOUDEVENT, "id"),
    ({"id": "+8613800138000"}, R.BAD_REFERENCE, "id"),
    ({"id": "13900001234"}, R.BAD_REFERENCE, "id"),
    ({"type": GONE}, R.NOT_A_CLOUDEVENT, "type"),
    ({"type": ""}, R.NOT_A_CLOUDEVENT, "type"),
    ({"time": "yesterday"}, R.NOT_A_CLOUDEVENT, "time"),
    ({"time": "2026-11-18T09:00:00"}, R.NOT_A_CLOUDEVENT, "time"),
    ({"subject": 5}, R.NOT_A_CLOUDEVENT, "subject"),
    ({"datacontenttype": "text/xml"}, R.WRONG_FIELD, "datacontenttype"),
    ({"datacontenttype": "application/avro"}, R.WRONG_FIELD, "datacontenttype"),
    ({"type": "reminder.requested.v2"}, R.UNKNOWN_VERSION, "type"),
    ({"type": "reminder.requested"}, R.UNKNOWN_VERSION, "type"),
    ({"type": "reminder.status.v1"}, R.UNKNOWN_TYPE, "type"),
    ({"type": "reminder.requestedly.v1"}, R.UNKNOWN_TYPE, "type"),
    ({"type": "com.example.someevent"}, R.UNKNOWN_TYPE, "type"),
    ({"data": GONE}, R.MISSING_FIELD, "data"),
    ({"data": GONE, "data_base64": "e30="}, R.WRONG_FIELD, "data_base64"),
    ({"data": None}, R.WRONG_FIELD, "data"),
    ({"data": None, "time": None}, R.WRONG_FIELD, "data"),  # only attributes may be null instead of absent
    ({"data": "{}"}, R.WRONG_FIELD, "data"),
    ({"data": []}, R.WRONG_FIELD, "data"),
]


@pytest.mark.parametrize(("changes", "reason", "field"), ENVELOPE)
def test_not_a_cloudevent_of_ours(changes: dict[str, Any], reason: R, field: str) -> None:
    made = letter(request(changes))
    assert (made.reason, made.field_name, made.source) == (reason, field, SOURCE)
    assert made.holds == ()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (GONE, R.NOT_A_CLOUDEVENT),
        ("", R.NOT_A_CLOUDEVENT),
        (5, R.NOT_A_CLOUDEVENT),
        ("x" * 257, R.NOT_A_CLOUDEVENT),
        ("/a\u202eb", R.NOT_A_CLOUDEVENT),
        ("tel:+8613800138000", R.BAD_REFERENCE),
        ("13800138000", R.BAD_REFERENCE),
    ],
)
def test_a_source_that_cannot_be_shown_is_not_shown(source: Any, reason: R) -> None:
    made = letter(request({"source": source}))
    assert (made.reason, made.field_name, made.source) == (reason, "source", None)
    assert made.holds == ()  # it calls itself a request: no stop was lost


@pytest.mark.parametrize(
    "value", [b"[]", b"7", b'"x"', b"null", b"{}", b'{"hello": "world"}', b'[{"specversion": "1.0"}]']
)
def test_json_that_is_no_cloudevent_at_all(value: bytes) -> None:
    made = letter(value)
    assert (made.reason, made.source) == (R.NOT_A_CLOUDEVENT, None)
    assert made.holds == everywhere("b-7f3a9c21")


@pytest.mark.parametrize(
    ("key", "held"),
    [(None, None), (b"", None), (b"\xff", None), (b"a b", None), (b"x" * 65, None), (b"+8613800138000", None),
     (b"13800138000", None), (b"cust-1", "cust-1")],
)  # fmt: skip
def test_only_a_key_that_could_be_a_reference_holds_anybody(key: bytes | None, held: str | None) -> None:
    assert letter(record(b"hello", key=key)).holds == (everywhere(held) if held else ())


HEADERS: list[tuple[list[tuple[str, bytes | None]], R, str]] = [
    ([("ce_specversion", None)], R.NOT_A_CLOUDEVENT, "specversion"),
    ([("ce_id", None)], R.NOT_A_CLOUDEVENT, "id"),
    ([("ce_id", b"\xff")], R.INVALID_UTF8, "id"),
    ([("ce_id", b"a\x00b")], R.NUL_CHARACTER, "id"),
    ([("ce_id", b"one"), ("ce_id", b"two")], R.DUPLICATE_KEY, "id"),
    ([("ce_type", b"reminder.requested.v9")], R.UNKNOWN_VERSION, "type"),
    ([("content-type", b"application/avro")], R.WRONG_FIELD, "datacontenttype"),
    ([("content-type", b"\xff")], R.INVALID_UTF8, "datacontenttype"),
    ([("content-type", b"application/cloudevents+avro")], R.NOT_A_CLOUDEVENT, "content-type"),
    ([("content-type", b"application/cloudevents-batch+json")], R.NOT_A_CLOUDEVENT, "content-type"),
]


@pytest.mark.parametrize(("headers", "reason", "field"), HEADERS)
def test_bad_headers(headers: list[tuple[str, bytes | None]], reason: R, field: str) -> None:
    plain = binary(request())
    names = {name for name, _ in headers}
    made = letter(record(plain.value, [*(each for each in plain.headers if each[0] not in names), *headers]))
    assert (made.reason, made.field_name, made.source) == (reason, field, SOURCE)


def test_unreadable_bytes_with_a_source_in_the_headers_hold_nobody() -> None:
    made = letter(record(b"hello", list(binary(request()).headers)))
    assert (made.reason, made.source, made.holds) == (R.NOT_JSON, SOURCE, ())


NUL = "a\0b"
FIELDS: list[tuple[dict[str, Any], R, str | None]] = [
    ({"data.borrower.name": NUL}, R.NUL_CHARACTER, None),
    ({f"data.params.{NUL}": "x"}, R.NUL_CHARACTER, None),
    ({"anything": {"deep": ["\\\0"]}}, R.NUL_CHARACTER, None),
    # missing
    ({"data.lender": GONE}, R.MISSING_FIELD, "data.lender"),
    ({"data.borrower": GONE}, R.MISSING_FIELD, "data.borrower"),
    ({"data.borrower.ref": GONE}, R.MISSING_FIELD, "data.borrower.ref"),
    ({"data.borrower.locale": GONE}, R.MISSING_FIELD, "data.borrower.locale"),
    ({"data.borrower.timezone": GONE}, R.MISSING_FIELD, "data.borrower.timezone"),
    ({"data.borrower.jurisdiction": GONE}, R.MISSING_FIELD, "data.borrower.jurisdiction"),
    ({"data.debt.amount": GONE}, R.MISSING_FIELD, "data.debt.amount"),
    ({"data.debt.state_as_of": GONE}, R.MISSING_FIELD, "data.debt.state_as_of"),
    ({"data.stage": GONE}, R.MISSING_FIELD, "data.stage"),
    ({"data.contacts": GONE}, R.MISSING_FIELD, "data.contacts"),
    ({"data.contacts.1.address": GONE}, R.MISSING_FIELD, "data.contacts[1].address"),
    ({"data.template": GONE}, R.MISSING_FIELD, "data.template"),
    ({"data.not_after": GONE}, R.MISSING_FIELD, "data.not_after"),
    # wrong
    ({"data.lender": 5}, R.WRONG_FIELD, "data.lender"),
    ({"data.borrower": []}, R.WRONG_FIELD, "data.borrower"),
    ({"data.borrower.ref": "has space"}, R.WRONG_FIELD, "data.borrower.ref"),
    ({"data.borrower.ref": "line\n"}, R.WRONG_FIELD, "data.borrower.ref"),
    ({"data.borrower.ref": "x" * 65}, R.WRONG_FIELD, "data.borrower.ref"),
    ({"data.borrower.ref": ""}, R.WRONG_FIELD, "data.borrower.ref"),
    ({"data.borrower.name": ""}, R.WRONG_FIELD, "data.borrower.name"),
    ({"data.borrower.name": "x" * 121}, R.WRONG_FIELD, "data.borrower.name"),
    ({"data.borrower.role": "mother"}, R.WRONG_FIELD, "data.borrower.role"),
    ({"data.borrower.role": None}, R.WRONG_FIELD, "data.borrower.role"),
    ({"data.borrower.jurisdiction": "China"}, R.WRONG_FIELD, "data.borrower.jurisdiction"),
    ({"data.debt.amount": 1234.5}, R.WRONG_FIELD, "data.debt.amount"),
    ({"data.debt.instalment": "7"}, R.WRONG_FIELD, "data.debt.instalment"),
    ({"data.debt.instalment": 7.0}, R.WRONG_FIELD, "data.debt.instalment"),
    ({"data.debt.instalment": True}, R.WRONG_FIELD, "data.debt.instalment"),
    ({"data.debt.instalment": 0}, R.WRONG_FIELD, "data.debt.instalment"),
    ({"data.debt.instalment": 10**30}, R.WRONG_FIELD, "data.debt.instalment"),
    ({"data.debt.due_date": 20261121}, R.WRONG_FIELD, "data.debt.due_date"),
    ({"data.stage": 3}, R.WRONG_FIELD, "data.stage"),
    ({"data.contacts": []}, R.WRONG_FIELD, "data.contacts"),
    ({"data.contacts": {}}, R.WRONG_FIELD, "data.contacts"),
    ({"data.contacts": [{"channel": "push", "address": "t"}] * 9}, R.WRONG_FIELD, "data.contacts"),
    ({"data.contacts.0": "sms"}, R.WRONG_FIELD, "data.contacts[0]"),
    ({"data.params": []}, R.WRONG_FIELD, "data.params"),
    ({"data.params": None}, R.WRONG_FIELD, "data.params"),
    ({"data.priority": "high"}, R.WRONG_FIELD, "data.priority"),
    ({"data.validate_only": 1}, R.WRONG_FIELD, "data.validate_only"),
    ({"data.step": "2026-11-18"}, R.WRONG_FIELD, "data.step"),  # d3 is met once
    ({"data.send_at": "2026-11-19T20:00:00+08:00"}, R.WRONG_FIELD, "data.not_after"),
    ({"data.not_after": 5}, R.WRONG_FIELD, "data.not_after"),
    # names that are not ours are not repeated
    ({"data.+8613800138000": 1}, R.WRONG_FIELD, "data"),
    ({"data.borrower.idcard": "x"}, R.WRONG_FIELD, "data.borrower"),
    ({"data.contacts.2.x` - at `$": "x"}, R.WRONG_FIELD, "data.contacts[2]"),
    # unknown
    ({"data.lender": "harbor"}, R.UNKNOWN_LENDER, "data.lender"),
    ({"data.lender": "no lender"}, R.UNKNOWN_LENDER, "data.lender"),
    ({"data.stage": "d1"}, R.UNKNOWN_STAGE, "data.stage"),
    ({"data.stage": "D3"}, R.UNKNOWN_STAGE, "data.stage"),
    ({"data.stage": "education"}, R.UNKNOWN_STAGE, "data.stage"),
    ({"data.contacts.1.channel": "fax"}, R.UNKNOWN_CHANNEL, "data.contacts[1].channel"),
    ({"data.debt.currency": "RMB"}, R.UNKNOWN_CURRENCY, "data.debt.currency"),
    ({"data.debt.currency": "cny"}, R.UNKNOWN_CURRENCY, "data.debt.currency"),
    ({"data.debt.currency": "XAU"}, R.UNKNOWN_CURRENCY, "data.debt.currency"),
    ({"data.borrower.timezone": "Asia/Peking"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.timezone": "+08:00"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.timezone": "localtime"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.timezone": "Factory"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.timezone": "../etc/passwd"}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.timezone": "x" * 65}, R.UNKNOWN_ZONE, "data.borrower.timezone"),
    ({"data.borrower.locale": "zh_CN"}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
    ({"data.borrower.locale": "x" * 36}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
    ({"data.lender": "northwind", "data.borrower.locale": "fr-FR"}, R.UNKNOWN_LOCALE, "data.borrower.locale"),
    ({"data.template": "no-such"}, R.UNKNOWN_TEMPLATE, "data.template"),
    ({"data.template": "no such"}, R.UNKNOWN_TEMPLATE, "data.template"),
    ({"data.template": "13800138000"}, R.BAD_REFERENCE, "data.template"),
    # parameters
    ({"data.params.pay_url": GONE}, R.BAD_PARAMS, "data.params.pay_url"),
    ({"data.params.pay_url": "http://pay.example/"}, R.BAD_PARAMS, "data.params.pay_url"),
    ({"data.params.unknown_slot": "x"}, R.BAD_PARAMS, "data.params"),
    ({"data.params.Not a name": "x"}, R.BAD_PARAMS, "data.params"),
    ({"data.params.reference": 5}, R.BAD_PARAMS, "data.params"),
    ({"data.params.reference": "x" * 201}, R.BAD_PARAMS, "data.params"),
    # amounts
    *(
        ({"data.debt.amount": amount}, R.BAD_AMOUNT, "data.debt.amount")
        for amount in (
            "0", "0.00", "-1", "+1", "", " 1", "1 ", "1,234.50", "1.234", "1.", ".5", "1e3", "0x10", "01.00", "NaN",
            "Infinity", "1_000", "１２３", "1" * 25, "12.3\n",
        )
    ),
    ({"data.debt.amount": "5000.00", "data.debt.currency": "JPY"}, R.BAD_AMOUNT, "data.debt.amount"),
    ({"data.debt.amount": "1.2345", "data.debt.currency": "KWD"}, R.BAD_AMOUNT, "data.debt.amount"),
    # dates
    ({"data.debt.due_date": "2026-02-30"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.due_date": "9999-12-31"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.due_date": "1989-12-31"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.due_date": "2077-01-01"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.due_date": "2026-11-21T00:00:00Z"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.due_date": "21.11.2026"}, R.BAD_DATE, "data.debt.due_date"),
    ({"data.debt.state_as_of": "9999-12-31T23:59:59-12:00"}, R.BAD_DATE, "data.debt.state_as_of"),
    ({"data.debt.state_as_of": "0001-01-01T00:00:00+14:00"}, R.BAD_DATE, "data.debt.state_as_of"),
    ({"data.debt.state_as_of": (NOW + dt.timedelta(minutes=6)).isoformat()}, R.BAD_DATE, "data.debt.state_as_of"),
    ({"data.send_at": "2026-11-18T10:30:00"}, R.BAD_DATE, "data.send_at"),
    ({"data.send_at": "9999-12-31T23:59:59Z"}, R.BAD_DATE, "data.send_at"),
    ({"data.not_after": "9999-12-31T23:59:59Z"}, R.BAD_DATE, "data.not_after"),
    ({"data.not_after": "2026-11-31T00:00:00Z"}, R.BAD_DATE, "data.not_after"),
    ({"data.not_after": "tomorrow"}, R.BAD_DATE, "data.not_after"),
    ({"data.not_after": NOW.isoformat()}, R.PAST_NOT_AFTER, "data.not_after"),
    # addresses
    *(
        ({"data.contacts.1.address": number}, R.BAD_PHONE, "data.contacts[1].address")
        for number in (
            "", "13900001234", "+86 139 0000 1234", "+861390000123", "+86013900001234", "008613900001234",
            "+0013900001234", "tel:+8613900001234", "+8613900001234;ext=1", "+12", "+99999999999", "+８６13900001234",
            "+4407911123456", "x" * 513,
        )
    ),
    ({"data.contacts.2.address": "+15555555555"}, R.BAD_PHONE, "data.contacts[2].address"),
    *(
        ({"data.contacts.0.address": token}, R.BAD_ADDRESS, "data.contacts[0].address")
        for token in ("", "two words", "line\n", "令牌", "x" * 513)
    ),
    # references
    *(
        ({"data.borrower.ref": ref}, R.BAD_REFERENCE, "data.borrower.ref")
        for ref in (
            "+8613800138000", "13800138000", "8613800138000", "11010519491231002X", "447911123456", "139-0000-1234",
        )
    ),
    ({"data.debt.ref": "110105491231002"}, R.BAD_REFERENCE, "data.debt.ref"),
    ({"data.debt.ref": "123-45-6789"}, R.BAD_REFERENCE, "data.debt.ref"),
    ({"data.debt.product": "13800138000"}, R.BAD_REFERENCE, "data.debt.product"),
    ({"data.lender": "13800138000"}, R.BAD_REFERENCE, "data.lender"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason", "field"), FIELDS)
def test_bad_fields(changes: dict[str, Any], reason: R, field: str | None) -> None:
    event = request(changes)
    made = letter(event)
    assert (made.reason, made.field_name, made.source) == (reason, field, SOURCE)
    assert made.holds == ()
    if all(path.startswith("data.") for path in changes):
        other = letter(binary(event))
        assert (other.reason, other.field_name, other.source) == (reason, field, SOURCE)


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("id", "id"),
        ("data.borrower.ref", "data.borrower.ref"),
        ("data.debt.ref", "data.debt.ref"),
        ("data.debt.product", "data.debt.product"),
    ],
)
def test_a_reference_that_is_one_of_the_requests_own_numbers(place: str, field: str) -> None:
    made = letter(overdue({place: "5005550006"}))  # the contact is +15005550006
    assert (made.reason, made.field_name) == (R.BAD_REFERENCE, field)


@pytest.mark.parametrize(
    "place", ["$.secret", "$.borrower.secret[1]", "$secret", "$.lender.+861", "$.lender[13800138000]"]
)
def test_a_name_that_looks_like_a_place_is_not_repeated(place: str) -> None:
    event = request()
    event["data"][f"x` - at `{place}"] = 1
    made = letter(event)
    assert made.reason is R.WRONG_FIELD
    assert made.field_name in ("data", "data.borrower", "data.lender")  # perhaps misled, but by our own words only


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("2026-02-30", R.BAD_DATE),
        ("20261118", R.BAD_DATE),
        ("2026-W47-3", R.BAD_DATE),
        ("9999-12-31", R.BAD_DATE),
        ("tomorrow", R.BAD_DATE),
        ("2026-11-18T", R.WRONG_FIELD),
        (20261118, R.WRONG_FIELD),
    ],
)
def test_bad_steps(step: Any, reason: R) -> None:
    made = letter(overdue({"data.step": step}))
    assert (made.reason, made.field_name) == (reason, "data.step")


def test_every_reason_that_decoding_can_give_is_seen_here() -> None:
    seen = {each[2] for each in BYTES} | {each[1] for each in ENVELOPE + HEADERS + FIELDS}
    elsewhere = {R.CONFLICT, R.REFUSED_BY_LEDGER, R.UNREADABLE_STOP}
    facts_only = {R.NO_CADENCE}
    assert seen == set(R) - elsewhere - facts_only

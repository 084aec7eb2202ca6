"""What looks like a phone or identity number, and what only has many digits."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.intake.references import is_number


@pytest.mark.parametrize(
    "reference",
    [
        "+8613800138000", "+86 138-0013-8000", "+1 (415) 555-2671", "+442079460958", "+4915123456789", "tel:95588123",
        "TEL:+1-415-555-2671", "sms:13800138000",
        "13800138000", "19912345678", "138-0013-8000", "138 0013 8000", "8613800138000", "008613800138000",
        "415-555-2671", "(415) 555-2671", "1-415-555-2671", "415.555.2671",
        "123-45-6789",
        "11010519491231002X", "11010519491231002x", "440308199901101512",
        "110105491231002",
    ],
)  # fmt: skip
def test_numbers(reference: str) -> None:
    assert is_number(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "", "a", "1", "12345", "12345678", "2026111800", "20261118-000417", "2026-11-18", "2026-11-18-0001",
        "c-13800138000", "13800138000-1", "cust:13800138000", "13800138000@sms", "loan13800138000",
        "0192f0c4-6b1e-7d35-a8f1-2f0e3a9b7c10", "12345678-1234-1234-1234-123456789012",
        "10000000000", "12800138000", "23800138000", "138001380000",
        "4155552671", "115-555-2671", "1234567890123456", "6222021234567890123",
        "110105194912310021", "110105194913310020", "990105194912310028", "110105491331002", "11010519491231002",
        "110105194912310X21", "1234567X", "+12", "+99999999999", "+1555555555555", "------------", "((((((((((0",
        "1" * 60, "/lenders/harbour/loan-core", "urn:uuid:1", "https://lender.example/13800138000",
    ],
)  # fmt: skip
def test_no_numbers(reference: str) -> None:
    assert not is_number(reference)


@pytest.mark.parametrize("reference", ["447911123456", "12025550123", "919812345678", "85291234567", "00447911123456"])
def test_a_bare_mobile_number_counts_where_a_person_is_meant(reference: str) -> None:
    assert is_number(reference, person=True)
    assert not is_number(reference)


@pytest.mark.parametrize("reference", ["12345678", "2026111800", "200000000017", "100000000001", "4155552671"])
def test_numeric_references_of_persons_that_are_fine(reference: str) -> None:
    assert not is_number(reference, person=True)


@pytest.mark.parametrize("reference", ["12025550123", "2025550123", "02025550123", "2025-550123", "202 5550123"])
def test_one_of_the_requests_own_numbers(reference: str) -> None:
    assert is_number(reference, contacts=["token", "+12025550123"])
    assert not is_number(reference, contacts=["token", "+12025550124", "12025550123"])


def test_the_end_of_a_long_number_is_not_that_number() -> None:
    assert not is_number("00001234", contacts=["+8613900001234"])
    assert not is_number("5550123", contacts=["+12025550123"])


@pytest.mark.parametrize("reference", ["c-12025550123", "loan/2025550123/3", "x202-555-0123", "b 1 202 555 0123"])
def test_one_of_the_requests_own_numbers_inside_a_reference(reference: str) -> None:
    assert is_number(reference, contacts=["+12025550123"])
    assert not is_number(reference, contacts=["+12025550124", "+123"])


@pytest.mark.parametrize(
    "reference",
    ["c-13800138000", "cust:8613800138000", "13800138000@sms", "li.lei@example.com", "id-11010519491231002x/1"],
)
def test_somebody_inside_the_reference_of_a_person(reference: str) -> None:
    assert is_number(reference, person=True)
    assert not is_number(reference)


@pytest.mark.parametrize("reference", ["loan@harbour", "20261118000417-138", "c-138001380001", "u-12800138000", "a@b"])
def test_nobody_inside_the_reference_of_a_person(reference: str) -> None:
    assert not is_number(reference, person=True)


@given(
    st.sampled_from(["110105", "440308", "650102", "820000"]),
    st.dates(dt.date(1900, 1, 1), dt.date(2026, 12, 31)),
    st.integers(0, 999),
)
def test_every_resident_id_is_found_by_its_checksum(region: str, born: dt.date, order: int) -> None:
    """The other direction of GB 11643: the weights are the powers of two modulo 11."""
    digits = f"{region}{born:%Y%m%d}{order:03d}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    check = "10X98765432"[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]
    assert is_number(digits + check)
    assert [is_number(digits + other) for other in "0123456789X"].count(True) == 1


@given(st.text(alphabet="0123456789+-(). xXtel:", max_size=80) | st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    assert is_number(text, person=True, contacts=[text]) in (True, False)

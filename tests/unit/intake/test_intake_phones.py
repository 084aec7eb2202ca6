"""Our short way to a phone number agrees with phonenumbers' own long one."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.intake.phones import is_international, is_phone


def by_parsing(address: str) -> bool:
    """Valid for phonenumbers, written exactly as it would write it, and no longer than E.164 allows."""
    try:
        parsed = phonenumbers.parse(address, None)
    except phonenumbers.NumberParseException:
        return False
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return phonenumbers.is_valid_number(parsed) and e164 == address and len(address) <= 16


TYPES = [
    phonenumbers.PhoneNumberType.FIXED_LINE,
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.VOIP,
    phonenumbers.PhoneNumberType.TOLL_FREE,
]
KNOWN = sorted(
    {
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for region in phonenumbers.SUPPORTED_REGIONS
        for kind in TYPES
        if (number := phonenumbers.example_number_for_type(region, kind)) is not None
    }
)


def test_the_example_numbers_of_every_country() -> None:
    assert len(KNOWN) > 500
    assert [each for each in KNOWN if not is_phone(each)] == []


@given(st.sampled_from(KNOWN), st.integers(1, 16), st.text("0123456789", max_size=3))
def test_numbers_close_to_real_ones(number: str, place: int, other: str) -> None:
    changed = number[:place] + other + number[place + 1 :]
    assert is_phone(changed) == by_parsing(changed)


@given(st.from_regex(r"\+[0-9]{1,17}", fullmatch=True))
def test_any_digits(number: str) -> None:
    assert is_phone(number) == by_parsing(number)


@pytest.mark.parametrize("number", ["+4407911123456", "+390000000000", "+390612345678", "+3900612345678"])
def test_zeros_in_front(number: str) -> None:
    assert is_phone(number) == by_parsing(number)


@given(st.text(max_size=20) | st.text("+0123456789 -()", max_size=20))
def test_whatever_is_accepted_is_e164(text: str) -> None:
    if is_phone(text):
        assert text[0] == "+"
        assert text[1:].isascii()
        assert text[1:].isdigit()


@pytest.mark.parametrize(
    ("digits", "mobile"), [("8613800138000", True), ("8621123456", False), ("442079460958", False)]
)
def test_mobile_numbers_are_told_from_others(digits: str, mobile: bool) -> None:
    assert is_international(digits, mobile=True) is mobile


def test_no_country_code_starts_with_zero() -> None:
    assert is_international("12025550123")
    assert not is_international("012025550123")

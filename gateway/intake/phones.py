"""Phone numbers, strictly as they will be dialled."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumber, PhoneNumberType

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " ().-/\u00a0\u2011\u202f")
_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})


def load() -> None:
    """Reads every country's numbering plan (0.2 s, 1 MB), so that no check reads anything later."""
    PhoneMetadata.load_all()


@lru_cache(maxsize=8192)  # one ladder often names one number twice, and one borrower comes back
def is_phone(address: str) -> bool:
    """Whether `address` is E.164 (`+` and digits only) and a number its country's plan has."""
    if _E164.fullmatch(address) is None:
        return False
    number = _number(address[1:])
    return number is not None and phonenumbers.is_valid_number(number)


def from_written(text: str) -> str | None:
    """The E.164 of a number as people write it, `+` first: +49 (30) 1234-567.  None for what is no phone number."""
    bare = text.translate(_SEPARATORS)
    return bare if is_phone(bare) else None


def is_international(digits: str, *, mobile: bool = False) -> bool:
    """Whether a `+` in front of `digits` makes a valid number; with `mobile`, one that may be a mobile phone."""
    number = _number(digits)
    if number is None or not phonenumbers.is_valid_number(number):
        return False
    return not mobile or phonenumbers.number_type(number) in _MOBILE


def _number(digits: str) -> PhoneNumber | None:
    """What parsing `+digits` gives, without its search for the many ways people write numbers (a third of its cost).

    Parsing also forgives a trunk prefix, as in +44 07911 123456.  Dialled like that the number fails, so it is not
    forgiven here.
    """
    if digits.startswith("0"):
        return None
    for length in (1, 2, 3):
        code = int(digits[:length])
        if code in COUNTRY_CODE_TO_REGION_CODE:
            national = digits[length:]
            zeros = len(national) - len(national.lstrip("0"))
            if not national or zeros == len(national):
                return None
            return PhoneNumber(
                country_code=code,
                national_number=int(national),
                italian_leading_zero=True if zeros else None,
                number_of_leading_zeros=zeros if zeros > 1 else None,
            )
    return None

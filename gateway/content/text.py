"""What a value from outside may look like before it stands in a message."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Printable for Python, yet blank or invisible on a screen: joiners, fillers, variation selectors, Braille blank.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# What a phone would turn into a link: a scheme, www, a dot inside a word, four numbers with dots.
_LINK: Final = re.compile(r"://|www|\w[.．｡][^\W\d_]{2}|\w。[a-z]{2}|\d\.\d+\.\d+\.\d", re.IGNORECASE)

_HTTPS: Final = re.compile(
    r"https://((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59}))(?::[0-9]{1,5})?"
    r"(?:[/?#][a-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?",
    re.IGNORECASE | re.ASCII,
)
_NUMBER: Final = re.compile(r"\d(?:[ .-]?\d){2}")
_PHONE: Final = re.compile(r"\+?[0-9](?:[ -]?[0-9]){2,}", re.ASCII)
_SPACES: Final = {0xA0: " ", 0x202F: " ", 0x3000: " "}


def plain(value: str, max_length: int) -> str | None:
    """`value` as one line of visible text in NFC, or None when it cannot be that.

    Refused: blank, longer than `max_length` UTF-16 units, or holding a control, newline, bidi, zero-width or otherwise
    invisible character, a surrogate, or anything a phone would show as a link.
    """
    if not value.isascii():
        value = unicodedata.normalize("NFC", value).translate(_SPACES)
        if _INVISIBLE.search(value) or _units(value) > max_length:
            return None
    # `isprintable` is false for the categories Cc, Cf, Cs, Co, Cn, Zl, Zp and for every Zs but the space.
    if not value.isprintable() or len(value) > max_length or not value.strip() or _LINK.search(value):
        return None
    return value


def name(value: str, max_length: int) -> str | None:
    """As `plain`, for somebody's name; what has three digits in a row is rather a number than a name."""
    return None if _NUMBER.search(value) else plain(value, max_length)


def url(value: str, max_length: int, hosts: tuple[str, ...] = ()) -> str | None:
    """An https URL of ASCII characters, without user or password; with `hosts`, on one of them or below it."""
    match = _HTTPS.fullmatch(value) if len(value) <= max_length else None
    if match is None:
        return None
    host = match[1].lower()
    return value if not hosts or any(host == known or host.endswith(f".{known}") for known in hosts) else None


def phone(value: str, max_length: int) -> str | None:
    """A number to show, such as 95588, 400-000-1234 or +1 500 555 0006."""
    return value if len(value) <= max_length and _PHONE.fullmatch(value) else None


def _units(value: str) -> int:
    return len(value) + sum(char > "\uffff" for char in value)

"""How many SMS segments a text takes.  Source: 3GPP TS 23.038 §6.2.1 (alphabet), TS 23.040 §9.2.3.24.1 (concatenation).

Guarantees the number a handset sees: an escape pair or a surrogate pair is never split over two segments.  Providers
that bill by other rules (smart encoding, language shift tables) may count less, never more.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Encoding(StrEnum):
    GSM7 = "gsm7"
    UCS2 = "ucs2"


GSM7_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION: Final = "\f^{}\\[~]|€"  # each takes two septets

_SINGLE: Final = {Encoding.GSM7: 160, Encoding.UCS2: 70}
_PART: Final = {Encoding.GSM7: 153, Encoding.UCS2: 67}  # a six-byte header takes the rest

_beyond_basic = re.compile(f"[^{re.escape(GSM7_BASIC)}]").search
_beyond_gsm7 = re.compile(f"[^{re.escape(GSM7_BASIC + GSM7_EXTENSION)}]").search
_wide = {
    Encoding.GSM7: re.compile(f"[{re.escape(GSM7_EXTENSION)}]").finditer,
    Encoding.UCS2: re.compile("[^\0-\uffff]").finditer,
}


def count(text: str) -> tuple[Encoding, int]:
    """The encoding `text` needs and its number of segments; an empty text takes one."""
    encoding = Encoding.UCS2 if _beyond_basic(text) and _beyond_gsm7(text) else Encoding.GSM7
    wide = [match.start() for match in _wide[encoding](text)]  # the characters that take two units
    units = len(text) + len(wide)
    if units <= _SINGLE[encoding]:
        return encoding, 1
    return encoding, _parts(len(text), wide, _PART[encoding])


def _parts(length: int, wide: list[int], room: int) -> int:
    """Segments of `room` units for `length` characters, those at the places `wide` taking two units unsplit."""
    padding = 0  # wide characters so far, and the units left empty because one did not fit
    for place in wide:
        if (place + padding) % room == room - 1:
            padding += 1
        padding += 1
    return -(-(length + padding) // room)

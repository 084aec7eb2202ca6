"""Reading what a vendor sent: total, and never passing on what was not asked for.

A vendor's identifiers and codes end up in SQL, events and metrics, so only short printable ASCII gets through: a NUL
is valid JSON and invalid text, and a free text may hold a phone number.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

UNREADABLE = "unreadable"
_CODE = re.compile(r"(?!.*[0-9]{10})[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_REFERENCE = re.compile(r"[!-~]{1,200}")


def read_json(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T | None:
    """The decoded value; None for anything else: other shapes, bad UTF-8, huge numbers, endless nesting."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        return None


def clean_code(value: object) -> str:
    """A vendor's code as short text; `unreadable` when it is not one."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if _CODE.fullmatch(text) else UNREADABLE


def clean_reference(value: str | None) -> str | None:
    """A vendor's message id as it came, None when it cannot be one."""
    return value if value is not None and _REFERENCE.fullmatch(value) else None

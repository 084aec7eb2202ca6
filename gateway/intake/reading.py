"""Bytes to a JSON value, strictly: whatever two readers might read differently is refused."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.intake.faults import Fault
from schemas.vocabulary import Rejection

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32  # of objects and arrays; the outermost is the first

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

# A whole string, or what is left of one that never ends; possessive, so that no input makes it slow.
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_ANY_STRING: Final = re.compile(_STRING, re.DOTALL)
_MAYBE_KEY: Final = re.compile(_STRING + rb"([ \t\n\r]*+:)?", re.DOTALL)
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(raw: bytes) -> Json | Fault:
    """The value, or why the bytes have none that everybody would agree on.

    Never raises and never recurses deeper than MAX_DEPTH.  NOT_JSON also means a number beyond a double's range, a
    byte order mark, and a lone surrogate, for these are no text or number anywhere else.
    """
    if len(raw) > MAX_BYTES:
        return Fault(Rejection.TOO_LARGE)
    # Brackets inside strings only make the count too high: then look closer.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        return Fault(Rejection.TOO_DEEP)
    try:
        value: Json = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Fault(Rejection.NOT_JSON if _is_utf8(raw) else Rejection.INVALID_UTF8)
    # A colon inside a string is written as itself or as \u003a.  Without such escapes a key written twice and read once
    # leaves fewer colons in the value written anew than in the text; equal counts prove that nothing was lost.
    counted = b"\\u00" not in raw and raw.count(b":") == _encode(value).count(b":")
    if not counted and _written_keys(raw) != _keys_in(value):
        return Fault(Rejection.DUPLICATE_KEY)
    return value


def has_nul(raw: bytes) -> bool:
    """Whether JSON text holds the character U+0000, which is valid there and in no column of the ledger."""
    return b"\\u0000" in raw and _NUL.search(raw) is not None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _depth(raw: bytes) -> int:
    """The deepest level that the bytes open, whether they are JSON or not."""
    deepest = level = 0
    for byte in _ANY_STRING.sub(b"", raw):
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def _written_keys(raw: bytes) -> int:
    return sum(1 for colon in _MAYBE_KEY.findall(raw) if colon)


def _keys_in(value: Any) -> int:
    count = 0
    if type(value) is dict:
        count = len(value)
        value = value.values()
    elif type(value) is not list:
        return 0
    for each in value:
        if type(each) is dict or type(each) is list:
            count += _keys_in(each)
    return count

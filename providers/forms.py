"""application/x-www-form-urlencoded, both ways.  Source: https://url.spec.whatwg.org/#application/x-www-form-urlencoded

The standard library does the same, character by character; a text in Chinese is then the dearest part of a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, unquote_to_bytes

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.~ -]+")

_DELIMITER = re.compile(rb"%26|%3[Dd]")
_SINGLE = {bytes([byte]): b"%%%02X" % byte for byte in range(256)}

Fields = list[tuple[str, str]]


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """What `urllib.parse.urlencode` makes of the fields, as bytes.  Raises UnicodeEncodeError for a lone surrogate."""
    return b"&".join([b"%b=%b" % (quote(name), quote(value)) for name, value in fields])


def decode(body: bytes) -> Fields:
    """The fields in order, blank ones included.  Raises ValueError for anything but UTF-8."""
    if not _DELIMITER.search(body):
        # Nothing that is encoded can be taken for a delimiter: all of it is decoded at once.
        text = unquote_to_bytes(body.replace(b"+", b" ")).decode()
        return [(name, value) for name, _, value in [field.partition("=") for field in text.split("&") if field]]
    fields = [field.partition("=") for field in body.decode().split("&") if field]
    return [(_unquoted(name), _unquoted(value)) for name, _, value in fields]


def quote(text: str) -> bytes:
    """One name or value, encoded."""
    return _UNSAFE.sub(_escaped, text.encode()).replace(b" ", b"+")


def _escaped(run: re.Match[bytes]) -> bytes:
    found = run[0]
    return _SINGLE[found] if len(found) == 1 else b"%" + found.hex("%").upper().encode()


def _unquoted(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text

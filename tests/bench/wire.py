"""As little HTTP/1.1 as the benchmark's own two processes need; it must cost next to nothing."""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


def first_message(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """Body and total length of the first message in the buffer, or None while it is incomplete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = _LENGTH.search(buffer, 0, end)
    total = end + 4 + (int(found[1]) if found else 0)
    return (bytes(buffer[end + 4 : total]), total) if len(buffer) >= total else None

"""Ids: 63 bits, ordered by time, unique across workers without asking anyone.

    41 bits  milliseconds since 2025-01-01 UTC (69 years)
     6 bits  number leased by this worker (`worker.number`)
     8 bits  counter
     8 bits  bucket of the borrower: relay order, lock order and later sharding use it

A reference (in callback URLs, provider fields, events) is the id as 13 Crockford base32 characters, which sort like
the ids.  Alibaba voice takes at most 15 bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

EPOCH_MS: Final = 1_735_689_600_000
WORKER_NUMBERS: Final = 64
BUCKETS: Final = 256
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)


class IdSource:
    """Makes ids for one worker number.  Never repeats one, even when the clock stands still or steps back."""

    def __init__(
        self,
        number: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        after: IdSource | None = None,
    ) -> None:
        """`after` is this process's source before it: the same number leased again must not repeat its ids."""
        if not 0 <= number < WORKER_NUMBERS:
            raise ValueError(f"worker number {number} is outside 0..{WORKER_NUMBERS - 1}")
        self._number = number
        self._now_ms = now_ms
        # Milliseconds and counter as one number, so that a full counter borrows the next millisecond.
        self._tick: int = 0
        if after is not None:
            self._tick = after._tick

    def next(self, bucket: int) -> int:
        """A new id in `bucket` (0..255)."""
        tick = (self._now_ms() - EPOCH_MS) << 8
        self._tick = tick = tick if tick > self._tick else self._tick + 1
        return (tick >> 8) << 22 | self._number << 16 | (tick & 0xFF) << 8 | bucket


def bucket_of(identifier: int) -> int:
    return identifier & 0xFF


def milliseconds_of(identifier: int) -> int:
    """Unix milliseconds at which the id was made."""
    return (identifier >> 22) + EPOCH_MS


def first_id_at(unix_ms: int) -> int:
    """The smallest id that can be made at `unix_ms`; bounds a range of ids by time."""
    return max(unix_ms - EPOCH_MS, 0) << 22


def to_reference(identifier: int) -> str:
    """13 base32 characters."""
    pairs = _PAIRS
    return (
        _ALPHABET[identifier >> 60]
        + pairs[identifier >> 50 & 1023]
        + pairs[identifier >> 40 & 1023]
        + pairs[identifier >> 30 & 1023]
        + pairs[identifier >> 20 & 1023]
        + pairs[identifier >> 10 & 1023]
        + pairs[identifier & 1023]
    )


def from_reference(reference: str) -> int | None:
    """The id, or None when the text is not a reference."""
    if len(reference) != 13 or reference[0] > "7":
        return None
    value = 0
    for char in reference:
        digit = _VALUES.get(char)
        if digit is None:
            return None
        value = value << 5 | digit
    return value


def _digest(*parts: str) -> bytes:
    """Unambiguous: each part is written with its length."""
    encoded = [part.encode() for part in parts]
    return hashlib.blake2b(b"".join([b"%d:%b" % (len(part), part) for part in encoded]), digest_size=16).digest()


def subject_key(lender: str, borrower_ref: str) -> bytes:
    """16 bytes naming one (lender, borrower); the order of these keys is the lock order."""
    return _digest("subject", lender, borrower_ref)


def subject_bucket(key: bytes) -> int:
    return key[0]


def request_key(source: str, request_id: str) -> bytes:
    """16 bytes naming one request: the idempotency key."""
    return _digest("request", source, request_id)


def stage_key(lender: str, borrower_ref: str, debt_ref: str, instalment: int | None, stage: str, step: str) -> bytes:
    """16 bytes naming the business key: one reminder per debt, instalment, stage and step.

    Of a lesson, which is told to a borrower and not of a debt, the debt is "" and the instalment None.
    """
    return _digest("stage", lender, borrower_ref, debt_ref, "" if instalment is None else str(instalment), stage, step)

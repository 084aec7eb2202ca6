"""The trace context of a message, as W3C Trace Context has it.  Pure; bad ones are no trace, and never an error.

Source: W3C Trace Context level 2, §3.2 (traceparent) and §4.3 (versions to come).  Only `traceparent` is taken: it is
ids and nothing else.  `tracestate` holds what vendors like to put there, up to 512 characters of it, which nobody could
check for personal data; so it is neither read nor kept nor passed on, as the recommendation permits.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_LONGEST: Final = 512  # of a version to come
_KNOWN_FLAGS: Final = 0b11  # sampled; random trace id
_SAMPLED: Final = 0b01
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


class Context(NamedTuple):
    """A place in a trace: the ids as hex, 32 and 16 characters."""

    trace: str
    span: str
    flags: int = _SAMPLED

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"


def read(value: object) -> Context | None:
    """The context in a `traceparent`; None when it is none.

    One of a later version is read by what it shares with ours.  Flags that mean nothing yet are left out.
    """
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    match = _SHAPE.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return Context(trace, span, int(flags, 16) & _KNOWN_FLAGS)


def clean(value: object) -> str | None:
    """The `traceparent` of version 00 that stands for the value; None when it is none.  Always 55 characters."""
    found = read(value)
    return None if found is None else str(found)


def is_sampled(traceparent: str | None) -> bool:
    """Whether one that `clean` has made is recorded: somebody keeps its spans."""
    return traceparent is not None and traceparent[-1] in "13"

"""Who may be reached in mode allowlist.

Addresses are known by their blind index, a fingerprint under the key of look-ups: a list can be kept on disk and in a
repository without a number in it, and who reads it cannot try out every number without the key.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from gateway.sealing import Sealer

_INDEX: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def index_of(address: str, sealer: Sealer) -> str:
    """The blind index of an address as a request has it: equal for equal addresses, on whatever channel."""
    return sealer.address(address).hex()


def is_index(text: str) -> bool:
    """Whether it has the form of an index; no phone number has."""
    return _INDEX.fullmatch(text) is not None


class Allowlist:
    """The listed addresses.  Fixed from the start: another list needs a restart."""

    def __init__(self, indexes: Collection[str], sealer: Sealer) -> None:
        self._indexes = frozenset(indexes)
        self._sealer = sealer

    def __repr__(self) -> str:
        return f"Allowlist({len(self._indexes)} listed)"

    def lists(self, address: str) -> bool:
        return index_of(address, self._sealer) in self._indexes

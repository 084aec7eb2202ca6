"""One error of a vendor: what it looks like on the wire."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    status: int
    message: str
    canonical: str = ""  # Google's status name

"""What is on this machine and cannot be anywhere else."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host` is 127.0.0.0/8, ::1 or `localhost`.

    No other name is, wherever it leads today, and no other way to write an address.
    """
    return host == "localhost" or is_loopback_address(host)


def is_loopback_address(address: str) -> bool:
    """As `is_loopback`, for addresses alone."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # What is mapped or scoped is not among what was promised, whatever this version of Python makes of it.
    return parsed.is_loopback and (parsed.version == 4 or parsed.compressed == "::1")

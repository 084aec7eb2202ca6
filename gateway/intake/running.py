"""The versions of cadences that running plans were made with, whichever process has brought them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.cadence import loading
from gateway.cadence.loading import Cadences
from gateway.cadence.model import Cadence
from gateway.ledger import in_use
from gateway.ledger.database import Connection
from gateway.ledger.in_use import Used


class CadenceGone(Exception):
    """Plans were made with a version that neither this process nor the ledger has: they could not be gone on with."""


def kept(used: Iterable[Used]) -> list[Cadence]:
    """Raises CadenceError for what this version of the service does not understand."""
    return [loading.decode(each.says) for each in used if each.says is not None]


async def with_running(connection: Connection, cadences: Cadences) -> Cadences:
    """With every version that plans were made with, as the ledger keeps it; adds to the ledger what it lacks.

    Raises CadenceError where a file says something else than its running plans were made with, CadenceGone where
    nobody has one.
    """
    used = await in_use.read(connection)
    together = cadences.along_with(kept(used))
    found = {each[:2]: together.version(*each[:2]) for each in used}
    if gone := sorted(version for version, cadence in found.items() if cadence is None):
        raise CadenceGone(", ".join(f"{name}/{version}" for name, version in gone))
    lacking = {each[:2] for each in used if each.says is None}
    await in_use.add(
        connection,
        [Used(*at, loading.encode(cadence)) for at, cadence in found.items() if cadence is not None and at in lacking],
    )
    return together

"""The versions of cadences that running plans were made with, whichever process has brought them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.cadence import loading
from gateway.cadence.loading import CadenceError, Cadences
from gateway.cadence.model import Cadence
from gateway.ledger import in_use
from gateway.ledger.database import Connection
from gateway.ledger.in_use import Used


class CadenceGone(Exception):
    """Plans were made with a version that neither this process nor the ledger has: they could not be gone on with."""


def kept(used: Iterable[Used], here: Cadences) -> list[Cadence]:
    """Raises CadenceError for what this version of the service does not understand, and has no file of: a later one
    may have more to say of a version, and a file that this one can read leaves that at its default.
    """
    found = []
    for each in used:
        try:
            found += [] if each.says is None else [loading.decode(each.says)]
        except CadenceError:
            if here.version(each.cadence, each.version) is None:
                raise
    return found


async def with_running(connection: Connection, cadences: Cadences) -> Cadences:
    """With every version that plans were made with, as the ledger keeps it.

    Raises CadenceError where a file says something else than its running plans were made with, CadenceGone where
    nobody has one.
    """
    used = await in_use.read(connection)
    together = cadences.along_with(kept(used, cadences))
    if gone := [each for each in used if together.version(*each[:2]) is None]:
        raise CadenceGone(", ".join(f"{each.cadence}/{each.version}" for each in gone))
    return together


async def complete(connection: Connection, cadences: Cadences) -> None:
    """Adds to the ledger what versions say that a process of the version before has kept without it."""
    lacking = [each[:2] for each in await in_use.read(connection) if each.says is None]
    found = [cadence for each in lacking if (cadence := cadences.version(*each)) is not None]
    await in_use.add(connection, [Used(each.name, each.version, loading.encode(each)) for each in found])

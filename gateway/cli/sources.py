"""`sources`: who tells facts, and up to when each is known to have told everything."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

from gateway.cli.common import DEFAULT_CONFIG, ConfigPath, ledger, read
from gateway.cli.lists import Json, Limit, about, show

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.ledger.freshness import Watermark


def sources(limit: Limit = 100, as_json: Json = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Show the watermarks of the sources of facts, the oldest first: everything up to then has been read.

    What is planned from facts older than its cadence allows is held until the watermark moves.
    """
    found = asyncio.run(_read(read(config), limit))
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "source": each.source,
            "topic": each.topic,
            "partition": each.partition,
            "as_of": each.as_of,
            "seconds": max(round((now - each.as_of).total_seconds()), 0),
            "beats": each.beats,
        }
        for each in found
    ]
    show(rows, ("source", "topic", "partition", "as_of", "seconds", "beats"), as_json=as_json)
    about(len(rows), "watermark")


async def _read(config: Config, limit: int) -> list[Watermark]:
    from gateway.ledger import freshness

    async with ledger(config) as connection:
        return await freshness.oldest(connection, limit)

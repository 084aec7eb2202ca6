"""Why the brokers cannot be reached.  aiokafka logs the causes and raises only that there is a failure, so they are
asked once more, each by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from gateway.observability.logs import get_logger
from gateway.unreachable import Unreachable, why

log = get_logger(__name__)

_WITHIN_SECONDS: Final = 5.0
_EVERY_SECONDS: Final = 10.0
_MOST: Final = 10  # brokers of a cluster
_CONNECTION: Final = (
    "client_id", "security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
)  # fmt: skip
# What a mistake of ours looks like comes before a broker that is only away.
_AWAY: Final = (Unreachable.REFUSED, Unreachable.SILENT, Unreachable.CLOSED)


class Brokers:
    """Looks when somebody is in trouble, at most so often, and remembers what it saw.  Values are codes."""

    def __init__(self, options: Callable[[], Mapping[str, Any]]) -> None:
        """`options` are those of the clients, as they are in force."""
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self.why: str | None = None

    def trouble(self) -> None:
        """Looks, if nobody has just done so.  Does not wait."""
        running = self._task is not None and not self._task.done()
        if not running and time.monotonic() - self._looked_at >= _EVERY_SECONDS:
            self._task = asyncio.create_task(self._look(), name="look at the brokers")

    def renewed(self) -> None:
        """What was seen was seen with another login or other certificates."""
        self._looked_at = float("-inf")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        found = await why_unreachable(self._options())
        if found != self.why and found is not None:
            log.error("kafka_unreachable", why=str(found))
        self.why = found


async def why_unreachable(options: Mapping[str, Any]) -> Unreachable | None:
    """None when one of the addresses, and the first brokers that it names, can be reached."""
    reasons: list[Unreachable] = []
    for address in options["bootstrap_servers"]:
        host, _, port = address.rpartition(":")
        named: list[tuple[str, int]] = []
        found = await _try(host, int(port), options, named)
        if found is None:
            looked = [await _try(*place, options) for place in named[:_MOST]]
            reasons = [each for each in looked if each is not None]
            break
        reasons.append(found)
    return next((each for each in reasons if each not in _AWAY), reasons[0] if reasons else None)


async def _try(
    host: str, port: int, options: Mapping[str, Any], named: list[tuple[str, int]] | None = None
) -> Unreachable | None:
    """Connects and logs in as a client does; `named` gets the brokers that are told of."""
    given = {name: options[name] for name in _CONNECTION if name in options}
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            connection = await create_conn(host, port, **given, request_timeout_ms=int(_WITHIN_SECONDS * 1000))
            try:
                if named is not None:
                    answer = await connection.send(MetadataRequest([]))
                    named += [(each[1], each[2]) for each in answer.brokers]
            finally:
                connection.close()
    except (OSError, KafkaError, ValueError) as error:  # the last of a name that is none, or an answer that is none
        return why(error) or Unreachable.CLOSED
    return None

"""A steady stream of mixed records, and the sums that must hold once everything has been read and has ended."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import asyncpg

from gateway.dev.host import free_port
from gateway.dev.settings import Development
from gateway.dev.simulator.journal import read
from gateway.ledger.gauges import ReadOutcome
from gateway.ledger.sums import Conservation, conservation
from tests.stack.gateway import GatewayProcess, World, cancelled, requested
from tests.stack.scene import SOURCE, fetch, until

CHANNELS = ("sms", "push", "voice")


class Load:
    """Numbered requests; every tenth comes twice, and with each tenth a cancel of nothing and a broken record."""

    def __init__(self, world: World, first: int = 0) -> None:
        self.world = world
        self._next = first
        self.numbers: list[int] = []
        self.expected: Counter[ReadOutcome] = Counter()

    async def pour(self, n: int, *, chunk: int = 10, pause: float = 0.1) -> None:
        """Publishes `n` requests in chunks, so that whatever happens meanwhile happens under load."""
        for _ in range(0, n, chunk):
            numbers = range(self._next, self._next + chunk)
            self._next += chunk
            events: list[Any] = [requested(each, [CHANNELS[each % 3]]) for each in numbers]
            events += [events[0], cancelled(numbers[0], {"kind": "debt", "ref": "no-such-debt"}), b"{cut off"]
            values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
            keys = [f"borrower-{each}".encode() for each in (*numbers, numbers[0], numbers[0])]
            await self.world.publish(values, [*keys, b"nobody"])
            self.numbers += numbers
            self.expected += Counter(
                {
                    ReadOutcome.ACCEPTED: chunk, ReadOutcome.DUPLICATE: 1, ReadOutcome.COMMAND: 1,
                    ReadOutcome.DEADLETTER: 1,
                }
            )  # fmt: skip
            await asyncio.sleep(pause)

    async def all_ended(self, within: float = 60) -> Counter[str]:
        """How the reminders ended, by state, once every one has."""

        async def ended() -> list[Any] | None:
            rows = await fetch(
                self.world.dsn, "select e.state::text, count(*) from ending e join reminder r on r.id = e.reminder "
                "where r.source = $1 group by 1", SOURCE,
            )  # fmt: skip
            return rows if sum(row[1] for row in rows) >= len(self.numbers) else None

        rows = await until(ended, f"{len(self.numbers)} endings", within, every=0.3)
        return Counter({row[0]: row[1] for row in rows})

    def sent(self) -> Counter[str]:
        """How often each marker was accepted by a vendor."""
        lines = read(self.world.home / "simulator.jsonl")
        return Counter(each["marker"] for each in lines if each["kind"] == "accepted")

    def assert_nothing_twice(self) -> None:
        assert {marker: n for marker, n in self.sent().items() if n > 1} == {}

    async def assert_conserved(self) -> Conservation:
        """Each term from another source: Kafka's offsets, the ledger's counts, its rows, and what was published."""
        topic = self.world.topics.requests
        log = {(topic, partition): (0, end) for partition, end in (await self.world.ends(topic)).items()}
        connection = await asyncpg.connect(self.world.dsn)
        try:
            sums = await conservation(connection, log)
        finally:
            await connection.close()
        assert sums.gaps == []
        assert sums.unread == 0
        assert {each: sums.outcome(each) for each in ReadOutcome} == dict.fromkeys(ReadOutcome, 0) | self.expected
        assert sums.read == sum(end for _, end in log.values()) == sum(self.expected.values())
        return sums


def another(first: GatewayProcess, home: Any, name: str, **changes: Any) -> GatewayProcess:
    """One more gateway with the same secrets.  Receipts go to the first one, as through one load balancer."""
    tree = deepcopy(first.settings.tree) | changes
    tree["http"] |= {"public_port": free_port(), "internal_port": free_port()}
    return GatewayProcess(Development(tree, first.settings.environ), home, name)


def events_in(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """The lines of its log; every one must be a JSON object."""
    lines: Sequence[str] = gateway.log.read_text().splitlines()
    return [json.loads(line) for line in lines]

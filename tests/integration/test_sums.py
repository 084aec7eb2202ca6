"""The conservation sums of a gateway at work, asked for as an operator does: offsets, rows and counters agree."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.gateway import GatewayProcess, World
from tests.stack.load import Load
from tests.stack.scene import QUICK, empty_world, fetch, until

FIRST = "reminder = (select min(reminder) from ending)"


@pytest.fixture
async def here(postgres: Any, kafka: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with empty_world(postgres, kafka, tmp_path) as world:
        yield world


def sums(gateway: GatewayProcess, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "sums", "--config", str(gateway.config), *more],
        env=gateway.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_a_gateways_counters_agree_with_the_ledger_and_the_broker(here: World) -> None:
    gateway = here.gateway(QUICK)
    gateway.spawn()
    try:
        await gateway.ready(60)
        load = Load(here)
        await load.pour(40)
        await load.all_ended()
        await load.assert_conserved()
        metrics = f"{gateway.url}/metrics"
        found = sums(gateway, "--metrics", metrics)
        assert (found.returncode, found.stderr) == (0, "")
        assert "everything adds up" in found.stdout
        shown = await gateway.metrics()

        async def told() -> bool:
            """The gauges of the ledger carry the same terms, a few seconds later."""
            text = await gateway.metrics()
            return (
                f"reminder_gateway_ledger_records_passed {float(sum(load.expected.values()))}" in text
                and 'reminder_gateway_ledger_records{outcome="accepted"} 40.0' in text
            )

        await until(told, "the gauges")
        assert 'reminder_gateway_records_read_total{outcome="accepted"} 40.0' in shown

        # The totals agree still.
        await fetch(here.dsn, f"update ending set state = 'expired' where {FIRST}")
        found = sums(gateway, "--metrics", metrics)
        assert found.returncode == 1
        assert "does not add up: delivered by the counters: 40, by the ledger: 39" in found.stdout
        assert "does not add up: expired by the counters: 0, by the ledger: 1" in found.stdout
        assert found.stdout.count("does not add up") == 2
        await fetch(here.dsn, f"delete from ending where {FIRST}")
        found = sums(gateway, "--metrics", metrics)
        assert found.returncode == 1
        assert "does not add up: reminders: 40, live and ended: 39" in found.stdout
        assert "does not add up: delivered by the counters: 40, by the ledger: 39" in found.stdout
        assert sums(gateway, "--metrics", f"{gateway.url}/nothing").returncode == 2
    finally:
        await gateway.child.kill()

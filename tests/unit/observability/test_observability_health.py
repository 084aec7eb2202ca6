"""What the platform hears: alive, ready, why not, and the metrics."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from gateway.internal import Health, build

Client = TestClient[web.Request, web.Application]


class Lag:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def lag() -> Lag:
    return Lag()


@pytest.fixture
def health(lag: Lag) -> Health:
    return Health(["intake", "database"], lag=lag, max_lag=5.0)


@pytest.fixture
async def client(health: Health) -> AsyncIterator[Client]:
    registry = CollectorRegistry()
    Counter("things", "Things.", ("kind",), registry=registry).labels("odd").inc(3)
    async with TestClient(TestServer(build(registry, health))) as client:
        yield client


async def ask(client: Client, path: str) -> tuple[int, object]:
    async with client.get(path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


async def test_ready_when_all_have_spoken(client: Client, health: Health) -> None:
    starting = {"intake": "starting", "database": "starting"}
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": starting})
    health.set("intake", True)
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": {"database": "starting"}})
    health.set("database", True)
    assert await ask(client, "/readyz") == (200, {"ready": True, "reasons": {}})
    assert await ask(client, "/livez") == (200, {"alive": True, "reasons": {}})


async def test_a_component_may_come_and_go(client: Client, health: Health) -> None:
    health.set("intake", True)
    health.set("database", False, "unreachable")
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": {"database": "unreachable"}})
    assert (await ask(client, "/livez"))[0] == 200
    health.set("database", True)
    health.set("relay", False, "no_broker")  # also one that was not expected
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": {"relay": "no_broker"}})


async def test_stopping_is_not_ready_but_alive(client: Client, health: Health) -> None:
    health.set("intake", True)
    health.set("database", True)
    health.stop()
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": {"process": "stopping"}})
    assert (await ask(client, "/livez"))[0] == 200
    health.set("intake", True)
    assert (await ask(client, "/readyz"))[0] == 503


async def test_dead_for_good(client: Client, health: Health) -> None:
    health.set("intake", True)
    health.set("database", True)
    health.die("intake", "consumer_silent")
    health.set("intake", True)
    assert await ask(client, "/livez") == (503, {"alive": False, "reasons": {"intake": "consumer_silent"}})
    assert await ask(client, "/readyz") == (503, {"ready": False, "reasons": {"intake": "consumer_silent"}})


async def test_a_stuck_loop_is_dead_until_it_moves(client: Client, lag: Lag) -> None:
    lag.seconds = 4.9
    assert (await ask(client, "/livez"))[0] == 200
    lag.seconds = 5.1
    assert await ask(client, "/livez") == (503, {"alive": False, "reasons": {"event_loop": "stuck"}})
    lag.seconds = 0.0
    assert (await ask(client, "/livez"))[0] == 200


async def test_metrics_are_in_prometheus_format(client: Client) -> None:
    async with client.get("/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(await response.text())
            for sample in family.samples
        }
    assert samples["things_total", "odd"] == 3


async def test_nothing_else_is_served(client: Client) -> None:
    for path in ("/", "/callbacks/one/two", "/metrics/x"):
        async with client.get(path) as response:
            assert response.status == 404
    async with client.post("/livez") as response:
        assert response.status == 405

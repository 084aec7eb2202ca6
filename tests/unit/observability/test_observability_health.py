"""What the platform hears: alive, ready, why not, and the metrics."""

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from gateway.internal import Health, build
from schemas.vocabulary import Mode

Client = TestClient[web.Request, web.Application]


class Lag:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def lag() -> Lag:
    return Lag()


class Parts:
    """Components that say of themselves what the test has them say."""

    def __init__(self) -> None:
        self.trouble: dict[str, str | None] = {"ledger": None, "intake": "no_consumer"}

    def of(self, component: str) -> Callable[[], str | None]:
        return lambda: self.trouble[component]


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def health(lag: Lag, parts: Parts) -> Health:
    health = Health(lag=lag, max_lag=5.0)
    health.needs("ledger", parts.of("ledger"))
    health.follows("intake", parts.of("intake"))
    return health


@pytest.fixture
async def client(health: Health) -> AsyncIterator[Client]:
    registry = CollectorRegistry()
    Counter("things", "Things.", ("kind",), registry=registry).labels("odd").inc(3)
    async with TestClient(TestServer(build(registry, health, Mode.ALLOWLIST))) as client:
        yield client


async def ask(client: Client, path: str) -> tuple[int, object]:
    async with client.get(path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


def unready(degraded: dict[str, str] | None = None, **reasons: str) -> tuple[int, object]:
    return 503, {"ready": False, "reasons": reasons, "degraded": degraded or {}, "mode": "allowlist"}


def ready(**degraded: str) -> tuple[int, object]:
    return 200, {"ready": True, "reasons": {}, "degraded": degraded, "mode": "allowlist"}


async def test_ready_when_it_has_started_and_everything_was_well_once(
    client: Client, health: Health, parts: Parts
) -> None:
    assert await ask(client, "/readyz") == unready(process="starting", intake="no_consumer")
    health.started()
    assert await ask(client, "/readyz") == unready(intake="no_consumer")
    parts.trouble["intake"] = None
    assert await ask(client, "/readyz") == ready()
    assert await ask(client, "/livez") == (200, {"alive": True, "reasons": {}})


async def test_without_what_callbacks_need_it_is_not_ready(client: Client, health: Health, parts: Parts) -> None:
    health.started()
    parts.trouble |= {"intake": None, "ledger": "lease_lapsed"}
    assert await ask(client, "/readyz") == unready(ledger="lease_lapsed")
    assert (await ask(client, "/livez"))[0] == 200
    parts.trouble["ledger"] = None
    assert await ask(client, "/readyz") == ready()


async def test_later_trouble_with_kafka_turns_no_callback_away(client: Client, health: Health, parts: Parts) -> None:
    health.started()
    parts.trouble["intake"] = None
    assert await ask(client, "/readyz") == ready()
    parts.trouble["intake"] = "silent"
    assert await ask(client, "/readyz") == ready(intake="silent")
    parts.trouble["ledger"] = "lease_lapsed"
    assert await ask(client, "/readyz") == unready({"intake": "silent"}, ledger="lease_lapsed")


async def test_stopping_is_not_ready_but_alive(client: Client, health: Health, parts: Parts) -> None:
    health.started()
    parts.trouble["intake"] = None
    health.stop()
    assert await ask(client, "/readyz") == unready(process="stopping")
    assert (await ask(client, "/livez"))[0] == 200
    health.started()  # a start that ends after the stop began
    assert (await ask(client, "/readyz"))[0] == 503


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

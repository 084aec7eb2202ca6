"""TLS and logins to a real Apache Kafka: what works, what is said when it does not, and how it is mended."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.brokers import why_unreachable
from gateway.config import Kafka
from tests.stack.certificates import Authority, swap
from tests.stack.gateway import GatewayProcess, requested
from tests.stack.scene import QUICK, Scene, empty_world, until
from tests.stack.secure_kafka import SecureKafka

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real_kafka, pytest.mark.timeout(600)]

# A group that waits for a member whose connection has just broken waits for `rebalance_timeout_seconds`, a minute.
_WITHIN = 150
_SOON: Any = {"secrets": {"reload_seconds": 0.5}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureKafka]:
    async with SecureKafka(tmp_path_factory.mktemp("secure")) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def scenes(postgres: Any, secure: SecureKafka, tmp_path: Path) -> AsyncIterator[Any]:
    """Starts gateways around one world of this test's own."""
    started: list[GatewayProcess] = []
    async with empty_world(postgres, secure, tmp_path) as here:

        def start(kafka: dict[str, Any], name: str = "gateway", environ: dict[str, str] | None = None) -> Scene:
            tree = {**{key: dict(value) for key, value in QUICK.items()}, **_SOON, "kafka": kafka}
            gateway = here.gateway(tree, name)
            gateway.environ |= environ or {}
            gateway.spawn()
            started.append(gateway)
            return Scene(here, gateway)

        try:
            yield start
        finally:
            for gateway in started:
                await gateway.child.kill()


async def readiness(gateway: GatewayProcess) -> dict[str, Any]:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
            found: dict[str, Any] = await response.json()
            return found
    except aiohttp.ClientError:
        return {}


async def says(scene: Scene, why: str, within: float = 60) -> None:
    """Waits until `/readyz` gives this reason for intake, and the log too."""

    async def told() -> bool:
        found = await readiness(scene.gateway)
        return why in (found.get("reasons", {}).get("intake"), found.get("degraded", {}).get("intake"))

    await until(told, f"readiness that says {why}", within)
    lines = [json.loads(each) for each in scene.gateway.log.read_text().splitlines() if each.startswith("{")]
    assert [each for each in lines if each["event"] == "kafka_unreachable" and each.get("why") == why]


async def well(scene: Scene, within: float = 60) -> None:
    async def so() -> bool:
        found = await readiness(scene.gateway)
        return bool(found.get("ready")) and not found["degraded"]

    await until(so, "readiness without a complaint", within)


async def delivered(scene: Scene, *numbers: int) -> None:
    await scene.world.publish([requested(number) for number in numbers])
    for number in numbers:
        assert await scene.ended(number, within=_WITHIN) == ("delivered", None)


async def test_a_request_travels_there_and_back(secure: SecureKafka, scenes: Any, tmp_path: Path) -> None:
    """Under our own certificate, whose key is encrypted, by the service's clients and by those of the commands."""
    mine = secure.authority.pair("client", password="opens-the-key")
    scene = scenes(
        secure.encrypted("MUTUAL", cert_file=str(mine.cert), key_file=str(mine.key), key_password="env:KEY_PASSWORD"),
        environ={"KEY_PASSWORD": "opens-the-key"},
    )
    await scene.gateway.ready(60)
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"id": "request-1", "source": "loan-core", **requested(1)["data"]}))
    code, said = await scene.gateway.command("request", str(file))
    assert (code, "1 requests sent" in said) == (0, True), said
    assert await scene.ended(1, within=_WITHIN) == ("delivered", None)
    assert (await scene.told(1, 3, within=60))[-1]["state"] == "delivered"
    code, said = await scene.gateway.command("request", "--validate-only", str(file))  # listens to the answers
    assert (code, "1 validated" in said) == (0, True), said
    await scene.relayed()
    code, said = await scene.gateway.command("sums")
    assert code == 0, said
    assert "opens-the-key" not in scene.gateway.log.read_text() + said


async def test_a_plain_password_goes_through_tls(secure: SecureKafka, scenes: Any) -> None:
    password = secure.passwords["PLAIN"]
    scene = scenes(secure.login("PLAIN", sasl_password="env:KAFKA_PASSWORD"), environ={"KAFKA_PASSWORD": password})
    await scene.gateway.ready(60)
    await delivered(scene, 1)
    assert password not in scene.gateway.log.read_text()


async def test_a_login_goes_wrong_is_mended_and_rotates(secure: SecureKafka, scenes: Any, tmp_path: Path) -> None:
    first, wrong, second = secure.passwords["SCRAM-SHA-512"], secrets.token_hex(12), secrets.token_hex(12)
    password, ca = tmp_path / "password", tmp_path / "ca.pem"
    swap(password, wrong.encode())
    swap(ca, secure.authority.file.read_bytes())
    scene = scenes(secure.login(sasl_password=f"file:{password}", ca_file=str(ca)))

    await says(scene, "login_refused")
    assert (await readiness(scene.gateway))["ready"] is False
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(requested(1)["data"]))
    for each in (("request", str(file)), ("sums",)):
        code, said = await scene.gateway.command(*each)
        assert code == 1
        assert "login_refused" in said
        assert wrong not in said
    swap(password, first.encode())
    await well(scene)
    await delivered(scene, 2)

    # An authority that did not sign the broker's certificate, while it runs; what is sent does not wait for Kafka.
    swap(ca, Authority(tmp_path, "stranger").file.read_bytes())
    await says(scene, "certificate_untrusted")
    assert (await readiness(scene.gateway))["ready"] is True
    await scene.world.publish([requested(3)])
    swap(ca, secure.authority.file.read_bytes())
    await well(scene)
    assert await scene.ended(3, within=_WITHIN) == ("delivered", None)

    # The password changes at the broker, then here; requests keep coming.
    numbers = iter(range(10, 10_000))
    asked: list[int] = []

    enough = asyncio.Event()

    async def flow() -> None:
        while not enough.is_set():
            batch = [next(numbers) for _ in range(3)]
            await scene.world.publish([requested(number) for number in batch])
            asked.extend(batch)
            await asyncio.sleep(0.1)

    async def some_more() -> None:
        have = len(asked)
        await until(lambda: _at_least(asked, have + 10), "requests")
        await scene.ended(asked[have + 9], within=_WITHIN)

    flowing = asyncio.create_task(flow())
    try:
        await some_more()
        await secure.set_password(second)
        secure.passwords["SCRAM-SHA-512"] = second
        assert await looked(secure.login(sasl_password=first)) == "login_refused"
        await some_more()  # connections that stand go on
        renewed = scene.gateway.log.read_text().count('"consumer_renewed"')
        swap(password, second.encode())
        os.kill(scene.gateway.child.pid, signal.SIGHUP)

        async def taken() -> bool:
            return scene.gateway.log.read_text().count('"consumer_renewed"') > renewed

        await until(taken, "clients made anew", 30)
        await some_more()
    finally:
        enough.set()
        await flowing
    await secure.restart()  # none of the connections of before is left: each that is made now logs in
    asked.append(next(numbers))
    await scene.world.publish([requested(asked[-1])])
    for number in asked:
        assert await scene.ended(number, within=_WITHIN) == ("delivered", None)
    await scene.relayed(60)
    numbers_sent = Counter(each["marker"] for each in scene.log())
    assert numbers_sent == {f"M-{number}": 1 for number in [2, 3, *asked]}
    ended = Counter(each["data"].get("state") for each in await scene.world.read(scene.world.topics.events))
    assert ended["delivered"] >= len(asked) + 2
    code, said = await scene.gateway.command("sums")
    assert code == 0, said
    log = scene.gateway.log.read_text()
    assert not [each for each in (first, wrong, second) if each in log]


async def test_our_certificate_is_refused_and_renewed_in_place(secure: SecureKafka, scenes: Any) -> None:
    """As cert-manager does it, at a time of its own choosing: nobody sends a signal."""
    mine = secure.authority.pair("renewed", since=_days(-3), until=_days(-1))
    scene = scenes(secure.encrypted("MUTUAL", cert_file=str(mine.cert), key_file=str(mine.key)))
    await says(scene, "our_certificate_refused")
    secure.authority.pair("renewed")
    await well(scene)
    await delivered(scene, 1)

    # A certificate whose key is still to come changes nothing.
    fresh = secure.authority.pair("elsewhere")
    swap(mine.cert, fresh.cert.read_bytes())
    await until(lambda: _metric(scene, "secrets_reload_failed", 1), "a reload that failed", 20)
    assert "kafka.security.key_file: bad_certificate" in scene.gateway.log.read_text()
    await delivered(scene, 2)
    renewed = scene.gateway.log.read_text().count('"consumer_renewed"')
    swap(mine.key, fresh.key.read_bytes())
    await until(lambda: _metric(scene, "secrets_reload_failed", 0), "a reload", 20)

    async def taken() -> bool:
        return scene.gateway.log.read_text().count('"consumer_renewed"') > renewed

    await until(taken, "clients made anew", 30)
    await delivered(scene, 3)


async def test_the_brokers_certificate_is_wrong_and_renewed(secure: SecureKafka, scenes: Any) -> None:
    """Nothing changes here: both gateways find the way by themselves."""
    expired = scenes(secure.encrypted("EXPIRED"), "expired")
    named = scenes(secure.encrypted("NAMED"), "named")
    await says(expired, "certificate_expired")
    await says(named, "certificate_for_another_name")
    for listener in ("EXPIRED", "NAMED"):
        await secure.renew_certificate(listener)
    for scene in (expired, named):
        await well(scene, within=90)
    await delivered(named, 1, 2)


def _days(n: int) -> dt.timedelta:
    return dt.timedelta(days=n)


async def _at_least(found: list[int], n: int) -> bool:
    return len(found) >= n


async def _metric(scene: Scene, name: str, value: float) -> bool:
    return await scene.metric(name) == value


async def looked(kafka: dict[str, Any]) -> str | None:
    return await why_unreachable(Kafka.model_validate(kafka).client_options())

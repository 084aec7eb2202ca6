"""compose.yaml, without an engine: it is a Compose file, all it names is there, and its processes, started from what is
in the image, with its own configuration and secrets, deliver a reminder.
"""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import jsonschema
import pytest
import yaml

from gateway.dev.host import free_port
from gateway.dev.process import Child
from tests.image.replay import Image
from tests.stack.prometheus import FILES, MISSING, RULES, promtool, there_is_none

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
SECRETS = "/var/run/secrets/reminder-gateway"

Service = dict[str, Any]

pytestmark = pytest.mark.timeout(900)  # a replay of the image installs everything anew


def compose() -> dict[str, Any]:
    """As YAML, with its anchors and merges followed."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return read


SERVICES: dict[str, Service] = compose()["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


def mounts(service: Service) -> dict[str, str]:
    """What stands where: by the path in the container, the path here or the volume's name."""
    parts = (volume.split(":") for volume in service.get("volumes", []))
    return {target: source for source, target, *_ in parts}


# --- the file ---------------------------------------------------------------------------------------------------------


def test_it_is_a_compose_file() -> None:
    schema = json.loads((VECTORS / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(compose())


def test_all_services_are_there() -> None:
    assert SERVICES.keys() == {
        "prepare", "postgres", "kafka", "topics", "migrate", "simulator", "gateway", "prometheus", "grafana",
    }  # fmt: skip


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for source in mounts(service).values():
            if not source.startswith("./"):
                assert source in compose()["volumes"]
            else:
                assert (ROOT / source).exists()


def test_who_waits_for_whom_can_be_told() -> None:
    """Nobody waits for the health of something that has none, for the end of something that stays, or in a circle."""
    after: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        after[name] = set(waits)
        for other, how in waits.items():
            match how["condition"]:
                case "service_healthy":
                    assert "healthcheck" in SERVICES[other]
                case "service_completed_successfully":
                    assert other in ("prepare", "topics", "migrate")
                case other_condition:
                    pytest.fail(other_condition)
    order: list[str] = []
    while len(order) < len(after):
        free = [name for name in after if name not in order and after[name] <= set(order)]
        assert free, "a circle"
        order += free
    assert order.index("gateway") > max(order.index(name) for name in ("migrate", "topics", "simulator"))


def test_secrets_are_files_and_nowhere_else() -> None:
    text = (ROOT / "compose.yaml").read_text() + (ROOT / "compose" / "gateway.yaml").read_text()
    for name in re.findall(r"(?im)^\s*(\S*(?:password|secret|token|key)\S*): (\S.*)$", text):
        assert name[0].startswith(("current", "access_key_id", "private_key_id", "token_url", "secrets")) or (
            SECRETS in name[1] or name[1].startswith("secrets:")
        ), name


def test_nothing_is_open_but_to_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_our_containers_may_do_as_little_as_in_a_cluster() -> None:
    for name, service in OURS.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert ("user" in service) == (name == "prepare")


def test_nobody_is_reached_and_the_rest_finds_each_other() -> None:
    config = yaml.safe_load((ROOT / "compose" / "gateway.yaml").read_text(encoding="utf-8"))
    assert config["mode"] == "simulate"
    kafka = SERVICES["kafka"]["environment"]
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{config['kafka']['bootstrap']}"
    assert SERVICES["topics"]["command"] == [config["kafka"]["bootstrap"]]
    # The simulator listens on loopback, so both live in one network, where Prometheus finds the gateway by its name.
    assert SERVICES["gateway"]["network_mode"] == "service:simulator"
    assert SERVICES["simulator"]["networks"]["default"]["aliases"] == ["gateway"]
    scraped = yaml.safe_load((ROOT / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"gateway:{config['http']['internal_port']}"]
    source = yaml.safe_load((ROOT / "compose" / "grafana" / "datasources.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    board = yaml.safe_load((ROOT / "compose" / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    assert board["options"]["path"] in mounts(SERVICES["grafana"])
    assert SERVICES["gateway"]["stop_grace_period"] == "40s"


def test_grafana_finds_every_dashboard_of_the_chart() -> None:
    board = yaml.safe_load((ROOT / "compose" / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    mounted = ROOT / mounts(SERVICES["grafana"])[board["options"]["path"]]
    assert mounted.resolve() == FILES / "dashboards"
    assert len(list(mounted.glob("*.json"))) == 3


@pytest.mark.skipif(there_is_none(), reason=MISSING)
def test_prometheus_loads_the_rules_of_the_chart(tmp_path: Path) -> None:
    """Its configuration by promtool, with the mounted files where they would be."""
    places = {target: tmp_path / target.lstrip("/") for target in mounts(SERVICES["prometheus"])}
    for target, source in mounts(SERVICES["prometheus"]).items():
        if source.startswith("./"):
            places[target].parent.mkdir(parents=True, exist_ok=True)
            places[target].write_text((ROOT / source).read_text().replace("/etc/", f"{tmp_path}/etc/"))
    done = promtool("check", "config", places["/etc/prometheus/prometheus.yml"])
    assert done.returncode == 0, done.stdout + done.stderr
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout
    [job] = yaml.safe_load((ROOT / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["job_name"] == "reminder-gateway"
    # A label `environment`, and another than that which wants the mode to be live.
    assert [each["labels"] for each in job["static_configs"]] == [{"environment": "compose"}]


# --- its processes ----------------------------------------------------------------------------------------------------


class Stack:
    """Where the containers' paths, names and ports are here."""

    def __init__(self, image: Image, home: Path, bootstrap: str) -> None:
        self._image = image
        self.home = home
        self.internal = free_port()
        public, simulator = free_port(), free_port()
        self._here = {
            SECRETS: str(home / "secrets"),
            "/etc/reminder-gateway": str(home),
            "/tmp/": f"{home}/",
            "127.0.0.1:8080": f"127.0.0.1:{public}",
            "127.0.0.1:8025": f"127.0.0.1:{simulator}",
            "public_port: 8080": f"public_port: {public}",
            "internal_port: 8081": f"internal_port: {self.internal}",
            "port=8025": f"port={simulator}",
            "kafka:9092": bootstrap,
        }
        (home / "secrets").mkdir()

    def here(self, text: str, mounted: Mapping[str, str] = MappingProxyType({})) -> str:
        """All at once, so that what stands here is not looked at again."""
        table = {**mounted, **self._here}
        return re.sub("|".join(map(re.escape, table)), lambda match: table[match[0]], text)

    def environ(self) -> dict[str, str]:
        environ = self._image.environment()
        return environ | {"REMINDER_GATEWAY_CONFIG": self.here(self._image.environ["REMINDER_GATEWAY_CONFIG"])}

    def words(self, service: Service) -> list[str]:
        """Its entry point and command, found by the image's PATH; what it mounts from here is here."""
        words = [*service.get("entrypoint", self._image.entrypoint), *service["command"]]
        mounted = {f"{at}/": f"{ROOT / source}/" for at, source in mounts(service).items() if source.startswith("./")}
        return self._image.process([self.here(word, mounted) for word in words])

    def once(self, service: Service) -> None:
        done = self.run(self.words(service))
        assert done.returncode == 0, done.stderr

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd="/", env=self.environ(), capture_output=True, text=True, check=False)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec gateway reminder-gateway …`."""
        return self.run(self._image.process([*self._image.entrypoint, *words]))

    def rewrite(self, source: Path, target: Path) -> None:
        target.write_text(self.here(source.read_text(encoding="utf-8")), encoding="utf-8")

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[Child]:
        child = Child(name, self.home / f"{name}.log").spawn(self.words(SERVICES[name]), self.environ())
        try:
            yield child
        finally:
            await child.kill()


async def answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def test_secrets_are_made_once(image: Image, tmp_path: Path) -> None:
    def made() -> Mapping[str, str]:
        command = image.process(["python", str(ROOT / "compose" / "prepare.py"), str(tmp_path)])
        subprocess.run(command, env=image.environment(), cwd="/", check=True)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = made()
    assert made() == first
    environment = SERVICES["postgres"]["environment"]
    assert environment["POSTGRES_PASSWORD_FILE"] == f"{SECRETS}/postgres-password"
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    assert first["dsn"] == f"postgresql://{user}:{first['postgres-password']}@postgres:5432/{database}"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o444}


@pytest.mark.real_kafka
async def test_a_reminder_is_delivered(image: Image, postgres: Any, kafka: Any, tmp_path: Path) -> None:
    """Every service that is ours, by its own command, in the start order; the servers are the tests'."""
    await postgres.heal()
    await kafka.heal()
    stack = Stack(image, tmp_path, kafka.bootstrap)
    stack.once(SERVICES["prepare"])
    address = await postgres.create_database("compose")
    dsn, simulator = tmp_path / "secrets" / "dsn", tmp_path / "secrets" / "simulator.yaml"
    for path in (dsn, simulator):
        path.chmod(0o600)
    dsn.write_text(address)
    stack.rewrite(simulator, simulator)
    stack.rewrite(ROOT / "compose" / "gateway.yaml", tmp_path / "gateway.yaml")

    checked = stack.command("check-config")
    assert checked.returncode == 0, checked.stderr
    stack.once(SERVICES["topics"])
    stack.once(SERVICES["migrate"])
    async with stack.running("simulator") as providers, stack.running("gateway") as gateway:
        await providers.ready(lambda: logged(providers, "simulator.ready"), within=120)
        await gateway.ready(lambda: answers(f"http://127.0.0.1:{stack.internal}/readyz"), within=120)
        sent = stack.command("request", str(ROOT / "docs" / "examples" / "request.json"))
        assert sent.returncode == 0, sent.stderr
        async with asyncio.timeout(120):
            while "delivered" not in (listed := stack.command("reminders", "list", "--json")).stdout:
                assert listed.returncode == 0, listed.stderr
                await asyncio.sleep(0.2)
        [reminder] = [json.loads(line) for line in listed.stdout.splitlines()]
        assert reminder["state"] == "delivered"
        assert await gateway.stop(within=60) == 0
    await postgres.drop_database("compose")


async def logged(child: Child, text: str) -> bool:
    return text in child.log.read_text()

"""Every rule and every panel against a gateway at work: what they select is there, and what they say of it is right."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.dev.host import free_port
from tests.stack.prometheus import FILES, RULES, PrometheusServer, selectors

DEMO = "demo"
# What stands for Grafana's variables.
VARIABLES = {"$environment": DEMO, "$provider": ".*", "$__rate_interval": "10s", "$__range": "1h"}

# Selectors without a series in a demo that is well, each with its reason.
EXCEPTIONS = {
    "reminder_gateway_certificate_expiry_timestamp_seconds": "the demo's configuration names no certificate",
}

# The cast has nine dead letters among some sixty records.  The same process is scraped three times: as what it is, as
# if it were production, and without a label.
FIRING = {
    DEMO: {"DeadLetterShareHigh"},
    "production": {"DeadLetterShareHigh", "ModeNotAsLabelled"},
    "": {"DeadLetterShareHigh"},
}
PENDING = {DEMO: {"TargetDown"}, "production": set(), "": {"EnvironmentNotLabelled"}}
# What a slow machine may do to a process, and what the cast does to a circuit for some seconds.
PERHAPS_FIRING = {"LoopBlocked"}
PERHAPS_PENDING = {"LoopLate", "PoolFull", "AccountCircuitOpen", "CircuitOpen"}


@asynccontextmanager
async def prometheus_of_the_demo(home: Path) -> AsyncIterator[PrometheusServer]:
    """Scrapes the demo that is starting under `home`, from before its first record on."""
    target = f"127.0.0.1:{await _port(home)}"
    targets = {
        "demo-reminder-gateway": [(target, {"environment": DEMO}), (f"127.0.0.1:{free_port()}", {"environment": DEMO})],
        "reminder-gateway": [(target, {"environment": "production"}), (target, {})],
    }
    async with PrometheusServer(targets) as server:
        yield server


async def _port(home: Path) -> int:
    """Where the demo's metrics will be, read from its configuration as soon as that is there."""

    async def there() -> int | None:
        for path in home.glob("reminder-gateway-demo-*/gateway.yaml"):
            tree = yaml.safe_load(path.read_text())
            if tree and "http" in tree and "shutdown" in tree:
                return int(tree["http"]["internal_port"])
        return None

    return await _until(there, "a configuration of the demo", 60)


async def _until(probe: Callable[[], Awaitable[Any]], what: str, within: float = 30) -> Any:
    end = time.monotonic() + within
    while not (found := await probe()):
        assert time.monotonic() < end, f"no {what} within {within:g} s"
        await asyncio.sleep(0.1)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the rules and of the panels, with where it stands; variables filled in."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for path in sorted((FILES / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", filled(target["expr"])


def filled(text: str) -> str:
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    return text


async def everything_selected_is_there(prometheus: PrometheusServer) -> None:
    where = defaultdict(list)
    for name, expression in expressions():
        for each in selectors(expression):
            where[each].append(name)
    assert len(where) > 100
    nowhere = 'reminder_gateway_mode{mode="nobody"}'
    assert await prometheus.without_series([nowhere, "reminder_gateway_mode"]) == [nowhere]

    async def missing() -> list[str]:
        return [
            each for each in await prometheus.without_series(list(where)) if each.partition("{")[0] not in EXCEPTIONS
        ]

    end = time.monotonic() + 30  # recorded series come with the next evaluations
    while (lacking := await missing()) and time.monotonic() < end:
        await asyncio.sleep(0.5)
    assert not lacking, {each: where[each] for each in lacking}
    # An exception that has come to be there is none.
    named = [each for each in where if each.partition("{")[0] in EXCEPTIONS]
    assert set(await prometheus.without_series(named)) == set(named) != set()


async def every_rule_is_evaluated_and_every_panel_answered(prometheus: PrometheusServer) -> None:
    async def evaluated() -> list[Any] | None:
        rules = [rule for group in (await prometheus.ask("rules"))["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = await _until(evaluated, "evaluation of every rule")
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"])
    panels = [expression for name, expression in expressions() if ":" in name and " " in name]
    await asyncio.gather(*(prometheus.ask("query", query=expression) for expression in panels))


async def alerts(prometheus: PrometheusServer) -> dict[str, dict[str, set[str]]]:
    """Names by state and environment; what they say was made without an error."""
    found: dict[str, dict[str, set[str]]] = {"firing": defaultdict(set), "pending": defaultdict(set)}
    for each in (await prometheus.ask("alerts"))["alerts"]:
        assert not any("error expanding" in text for text in each["annotations"].values()), each
        found[each["state"]][each["labels"].get("environment", "")].add(each["labels"]["alertname"])
    return found


async def what_must_fire_fires_and_nothing_else(prometheus: PrometheusServer) -> None:
    async def as_expected() -> bool:
        told = await alerts(prometheus)
        return all(FIRING[each] <= told["firing"][each] and PENDING[each] <= told["pending"][each] for each in FIRING)

    try:
        await _until(as_expected, "alerts that must fire")
    finally:
        told = await alerts(prometheus)
    for environment in {*told["firing"], *told["pending"], *FIRING}:
        assert FIRING[environment] <= told["firing"][environment] <= FIRING[environment] | PERHAPS_FIRING
        assert PENDING[environment] <= told["pending"][environment] <= PENDING[environment] | PERHAPS_PENDING


async def a_freeze_is_seen(prometheus: PrometheusServer, command: Callable[..., Awaitable[None]]) -> None:
    """`command` runs the command line on the demo."""

    async def pending() -> bool:
        return "FreezeInForce" in (await alerts(prometheus))["pending"][DEMO]

    assert not await pending()
    await command("freeze", "lender", "harbour", "--reason", "a test of the alert", "--author", "test")
    await _until(pending, "alert of the freeze")

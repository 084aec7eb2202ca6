"""Every rule and every panel against a gateway at work: what they select is there, and what they say of it is right."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.cli.kafka import producing
from gateway.config import load
from gateway.dev.host import free_port
from tests.stack.prometheus import FILES, RULES, PrometheusServer, promtool, selectors, singled

DEMO = "demo"
# What stands for Grafana's variables.
VARIABLES = {"$environment": DEMO, "$provider": ".*", "$__rate_interval": "10s", "$__range": "1h"}

# A share of dead letters: the cast has some, and `some_records_are_refused` sends more.  The same process is scraped
# three times: as what it is, as if it were production, and without a label.
REFUSED = 8  # five must be seen, twenty would be a flood
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
        "demo-reminder-gateway": [
            (target, {"environment": DEMO}),
            (f"127.0.0.1:{free_port()}", {"environment": DEMO}),
        ],
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
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", filled(target["expr"])
        for each in dashboard["annotations"]["list"]:
            yield f"{path.stem}: annotation {each['name']}", filled(each["expr"])
        for each in dashboard["templating"]["list"]:
            if each["type"] == "query":
                [(selector, label)] = re.findall(r"^label_values\((.+), (\w+)\)$", each["query"]["query"])
                matchers = [*re.findall(r"{(.*)}", filled(selector)), f'{label}!=""']
                yield f"{path.stem}: variable {each['name']}", f"{selector.partition('{')[0]}{{{', '.join(matchers)}}}"


def filled(text: str) -> str:
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    return text


async def everything_selected_is_there(prometheus: PrometheusServer) -> None:
    where = defaultdict(list)
    for name, expression in expressions():
        for selector in selectors(expression):
            for each in (selector, *singled(selector)):
                where[each].append(name)
    assert len(where) > 150
    # One that is wrong is told: a name, a value, one value of several, one that is left out.
    right, *wrong = [
        *singled('reminder_gateway_mode{mode=~"simulate|nobody", mode!="none"}'),
        'reminder_gateway_mode{mode="nobody"}',
        "reminder_gateway_moods",
    ]
    assert await prometheus.without_series([right, *wrong]) == wrong
    assert len(wrong) == 4

    end = time.monotonic() + 30  # recorded series come with the next evaluations
    while (lacking := await prometheus.without_series(list(where))) and time.monotonic() < end:
        await asyncio.sleep(0.5)
    assert not lacking, {each: where[each] for each in lacking}


async def the_metrics_are_named_as_they_should_be(prometheus: PrometheusServer) -> None:
    """promtool's own lint: units, `_total`, help, what may not be in a name."""
    [target] = {each["scrapeUrl"] for each in (await prometheus.ask("targets"))["activeTargets"] if _is_the_demo(each)}
    async with aiohttp.ClientSession() as session, session.get(target) as response:
        text = await response.text()
    done = promtool("check", "metrics", told=text)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = text + "# HELP some_milliseconds A duration.\n# TYPE some_milliseconds counter\nsome_milliseconds 1\n"
    assert promtool("check", "metrics", told=wrong).returncode != 0


def _is_the_demo(target: Mapping[str, Any]) -> bool:
    return bool(target["labels"].get("environment") == "production")


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


async def some_records_are_refused(prometheus: PrometheusServer, config: str) -> None:
    """Once the counters have been seen by every scrape: what was counted before the first one has no increase."""
    seen = 'count(count_over_time(reminder_gateway_records_read_total{outcome="deadletter"}[1h]) > 1)'

    async def by_all() -> bool:
        found = (await prometheus.ask("query", query=seen))["result"]
        return bool(found) and found[0]["value"][1] == str(len(FIRING))

    await _until(by_all, "counters, seen twice by every scrape")
    kafka = load(Path(config), {}).kafka
    async with producing(kafka, kafka.requests_topic) as producer:
        for _ in range(REFUSED):
            await producer.send_and_wait(kafka.requests_topic, b"{")


async def what_must_fire_fires_and_nothing_else(prometheus: PrometheusServer) -> None:
    """Once it has settled: while a gateway starts, nobody has a partition for a moment."""
    told: dict[str, dict[str, set[str]]] = {}

    def between(state: str, least: Mapping[str, set[str]], perhaps: set[str]) -> bool:
        return told[state].keys() <= least.keys() and all(
            names <= told[state][each] <= names | perhaps for each, names in least.items()
        )

    async def as_expected() -> bool:
        told.update(await alerts(prometheus))
        return between("firing", FIRING, PERHAPS_FIRING) and between("pending", PENDING, PERHAPS_PENDING)

    try:
        await _until(as_expected, "moment at which all that must fire fires, and nothing else", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {told}") from None


async def a_freeze_is_seen(prometheus: PrometheusServer, command: Callable[..., Awaitable[None]]) -> None:
    """`command` runs the command line on the demo."""

    async def pending() -> bool:
        return "FreezeInForce" in (await alerts(prometheus))["pending"][DEMO]

    assert not await pending()
    await command("freeze", "lender", "harbour", "--reason", "a test of the alert", "--author", "test")
    await _until(pending, "alert of the freeze")

"""Labels that an alert's words name are ones that it can have: another is rendered as nothing, and nobody says so."""

import asyncio
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.config import Config
from gateway.observability.certificates import Certificates
from gateway.observability.gauges import GaugeRefresher
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Door, Metrics
from gateway.observability.process import Capacity, show_mode, show_roles
from gateway.observability.reloads import Reloads
from schemas.vocabulary import Mode
from tests.stack.prometheus import RULES, labels
from tests.unit.observability.test_certificates import authority, configured

OF_A_TARGET = {"environment", "instance", "job"}
EVERY_RULE = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in EVERY_RULE if "alert" in rule]


@pytest.fixture
async def metrics(tmp_path: Path) -> Mapping[str, Set[str]]:
    """Of each name that a rule may select its labels: as the gateway tells it, or as an earlier rule records it."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority(90))
    found: dict[str, Set[str]] = {"up": OF_A_TARGET}
    for family in (await told(configured(ca_file=ca_file))).collect():
        for sample in family.samples:
            found[sample.name] = {*sample.labels, *OF_A_TARGET}
    for rule in EVERY_RULE:
        if "record" in rule:
            found[rule["record"]] = labels(rule["expr"], found)
    return found


async def told(config: Config) -> CollectorRegistry:
    registry = CollectorRegistry()
    unused: Any = None  # what is read of a ledger is not read here
    ProcessCollector(registry=registry)
    LoopLag(registry)
    metrics = Metrics(registry, {})
    metrics.reads(Door.REQUESTS)
    metrics.assigned(Door.REQUESTS, [0])
    show_mode(registry, Mode.SIMULATE)
    show_roles(registry, [])
    Capacity(registry)
    Reloads(registry)
    GaugeRefresher(registry, unused, unused)
    running = asyncio.create_task(Certificates(registry, config).run())
    async with asyncio.timeout(20):
        while not any(family.samples for family in registry.collect() if "certificate" in family.name):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return registry


def misspelt(rule: Mapping[str, Any], metrics: Mapping[str, Set[str]]) -> set[str]:
    """The labels that the words of the alert name and that it cannot have."""
    text = " ".join(rule["annotations"].values())
    named = re.findall(r"[$.]labels\.(\w+)", text, flags=re.IGNORECASE)
    assert len(named) == len(re.findall("labels", text, flags=re.IGNORECASE)), "a label that is named in another way"
    return set(named) - labels(rule["expr"], metrics)


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
async def test_the_words_name_no_label_that_an_alert_cannot_have(
    rule: Mapping[str, Any], metrics: Mapping[str, Set[str]]
) -> None:
    assert not misspelt(rule, metrics)


async def test_a_misspelt_label_is_found_wherever_it_stands(metrics: Mapping[str, Set[str]]) -> None:
    """In the words, one after the other, and in what the expression keeps."""
    tried = 0
    for rule in ALERTS:
        for name, text in rule["annotations"].items():
            for each in re.finditer(r"\$labels\.\w+", text):
                slip = f"{text[: each.end()]}s{text[each.end() :]}"
                found = misspelt({**rule, "annotations": {**rule["annotations"], name: slip}}, metrics)
                assert found == {f"{each[0].removeprefix('$labels.')}s"}, (rule["alert"], slip)
                tried += 1
    assert tried > len(ALERTS)
    expired = next(rule for rule in ALERTS if rule["alert"] == "CertificateExpired")
    assert misspelt({**expired, "expr": expired["expr"].replace("key)", "keys)")}, metrics) == {"key"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m", "abc"),
        ("sum(m)", ""),
        ("sum by (a, x) (m)", "a"),
        ("count without (a) (m)", "bc"),
        ("m > 1", "abc"),
        ("1 - m", "abc"),
        ("time() - m", "abc"),
        ("m and on (d) n", "abc"),
        ("n unless m", "cd"),
        ("n or m", "abcd"),
        ("absent(m) or sum by (b) (m)", "b"),
        ("m / on (c) n", "c"),
        ("m / ignoring (a) m", "bc"),
        ("histogram_quantile(0.9, sum by (c, le) (rate(h_bucket[5m])))", "c"),
        ("-max_over_time((sum by (d) (n))[1d:1h] offset 1h)", "d"),
    ],
)
def test_which_labels_a_result_can_have(expression: str, expected: str) -> None:
    metrics = {"m": set("abc"), "n": set("cd"), "h_bucket": {"c", "le"}}
    assert labels(expression, metrics) == set(expected)

"""What Helm renders, held to the schemas of Kubernetes and of the operators whose objects the chart can make."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from tests.e2e.chart import CHART, ROOT, VALUE_SETS, Object, each_value_set, kind, needs_helm, render, rendered

pytestmark = needs_helm

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "custom-resources.json").read_text(encoding="utf-8"))
TRIGGERS = VECTOR.pop("triggers")
# From the oldest that the chart takes to the newest that is known, every second one.
VERSIONS = sorted(set(utils.all_versions()), key=lambda version: [int(part) for part in version.split(".")])[::2]


def own(each: Object) -> str | None:
    """The key of a custom resource's schema; None for what is Kubernetes' own."""
    key = f"{each['apiVersion']} {each['kind']}"
    return key if key in VECTOR else None


def closed(schema: Any) -> Any:
    """The schema with no room for fields it does not name, where it does not say that anything may stand."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(each) for name, each in schema.items()}
    named = "properties" in shut and isinstance(shut.get("type"), str)
    if named and "additionalProperties" not in shut and not shut.get("x-kubernetes-preserve-unknown-fields"):
        shut["additionalProperties"] = False
    if shut.get("x-kubernetes-int-or-string"):
        shut.pop("type", None)
    return shut


def judge(each: Object) -> jsonschema.Draft202012Validator:
    schema = closed(VECTOR[own(each)])
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def test_the_versions_begin_with_the_oldest_that_the_chart_takes() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={VERSIONS[0]}-0"
    assert VERSIONS[-1] in utils.all_versions()[-3:]
    assert len(VERSIONS) > 5


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_kubernetes_takes_it(kubernetes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly: a field that this version does not know is an error."""
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))  # a file of a megabyte, for each object
    seen = set()
    for values in VALUE_SETS:
        for each in rendered(values, kubernetes).values():
            text = json.dumps(each, sort_keys=True)
            if own(each) is None and text not in seen:
                seen.add(text)
                assert kubernetes.startswith(kubernetes_validate.validate(each, kubernetes, strict=True))
    assert len(seen) > 40


def test_a_field_that_a_version_does_not_know_is_found() -> None:
    """The judge of the test above: what is right for 1.31 is not for 1.25."""
    [budget] = kind(render(), "PodDisruptionBudget")
    with pytest.raises(kubernetes_validate.ValidationError, match="unhealthyPodEvictionPolicy"):
        kubernetes_validate.validate(budget, "1.25.0", strict=True)


@each_value_set
def test_the_operators_take_it(values: Path) -> None:
    for each in rendered(values).values():
        if own(each) is not None:
            judge(each).validate(each)


def test_every_custom_resource_is_among_them() -> None:
    every = list(chain.from_iterable(rendered(values).values() for values in VALUE_SETS))
    assert {own(each) for each in every} - {None} == set(VECTOR)


def test_an_unknown_field_of_a_custom_resource_is_found() -> None:
    [monitor] = kind(render("--set", "serviceMonitor.enabled=true,serviceMonitor.environment=test"), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["scrapeTimeOut"] = "10s"
    with pytest.raises(jsonschema.ValidationError, match="scrapeTimeOut"):
        judge(monitor).validate(monitor)


def triggers() -> Iterator[Object]:
    for values in VALUE_SETS:
        for each in kind(rendered(values), "ScaledObject"):
            yield from each["spec"]["triggers"]


def test_keda_knows_every_name_of_a_trigger() -> None:
    found = list(triggers())
    assert {each["type"] for each in found} == TRIGGERS.keys()
    for each in found:
        assert set(TRIGGERS[each["type"]]["needed"]) <= each["metadata"].keys() <= set(TRIGGERS[each["type"]]["known"])
        assert all(isinstance(value, str) for value in each["metadata"].values())


def test_by_default_nothing_needs_an_operator() -> None:
    assert not [name for name, each in render().items() if own(each)]
    assert {each["apiVersion"] for each in render().values()} == {
        "v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1",
    }  # fmt: skip


def test_rules_and_dashboards_are_carried_as_they_are() -> None:
    objects = render("--set", "prometheusRule.enabled=true,dashboards.enabled=true")
    [rule] = kind(objects, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    carried = {
        name: json.loads(text)
        for each in kind(objects, "ConfigMap")
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    files = (CHART / "files" / "dashboards").glob("*.json")
    assert carried == {path.name: json.loads(path.read_text(encoding="utf-8")) for path in files} != {}


def test_every_alert_links_its_runbook_where_the_copy_stands() -> None:
    base = "https://git.example.com/reminder-gateway/blob/v1"
    [rule] = kind(render("--set", f"prometheusRule.enabled=true,prometheusRule.runbooks={base}"), "PrometheusRule")
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]
    assert len(alerts) > 40
    for each in alerts:
        url = each["annotations"].pop("runbook_url")
        assert url.startswith(f"{base}/docs/runbooks/")
        assert (ROOT / url.removeprefix(f"{base}/").partition("#")[0]).is_file()
    assert base not in json.dumps(rule)

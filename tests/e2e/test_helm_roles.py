"""Roles together and apart: each pod gets what its roles need, each is scaled by what it does, and nothing else."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from gateway.config import Role
from gateway.observability.gauges import GaugeRefresher
from tests.e2e.chart import (
    CHART,
    NAME,
    Object,
    config,
    deployments,
    each_value_set,
    kind,
    needs_helm,
    render,
    rendered,
    selects,
)

pytestmark = needs_helm

APART, KEDA = CHART / "ci" / "apart-values.yaml", CHART / "ci" / "keda-values.yaml"
TOGETHER_KEDA, FULL = CHART / "ci" / "together-keda-values.yaml", CHART / "ci" / "full-values.yaml"


def roles(deployment: Object) -> set[Role]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [value] = [each["value"] for each in container["env"] if each["name"] == "GATEWAY__ROLES"]
    return {Role(each) for each in json.loads(value)}


def by_component(objects: dict[str, Object], wanted: str) -> dict[str, Object]:
    return {each["metadata"]["labels"].get("app.kubernetes.io/component"): each for each in kind(objects, wanted)}


# --- who does what ----------------------------------------------------------------------------------------------------


def test_together_is_the_default() -> None:
    assert {name: roles(each) for name, each in deployments(render()).items()} == {"gateway": set(Role)}


def test_apart_each_role_has_its_deployment() -> None:
    found = deployments(rendered(APART))
    assert {name: roles(each) for name, each in found.items()} == {role.value: {role} for role in Role}


@each_value_set
def test_no_pod_is_two_deployments_own(values: Path) -> None:
    objects = rendered(values)
    for each in deployments(objects).values():
        owners = [other for other in deployments(objects).values()
                  if selects(other["spec"]["selector"], each["spec"]["template"])]  # fmt: skip
        assert owners == [each]


def test_a_role_has_its_own_size_and_place() -> None:
    found = deployments(rendered(APART))
    pods = {name: each["spec"]["template"]["spec"] for name, each in found.items()}
    assert {name for name, pod in pods.items() if "nodeSelector" in pod} == {"dispatch"}
    assert found["callbacks"]["spec"]["replicas"] == 3
    requested = {name: pod["containers"][0]["resources"]["requests"]["cpu"] for name, pod in pods.items()}
    assert requested == {"intake": "250m", "dispatch": "500m", "callbacks": "250m", "relay": "100m"}


@each_value_set
def test_pods_are_spread_and_some_always_stay(values: Path) -> None:
    objects = rendered(values)
    budgets = by_component(objects, "PodDisruptionBudget")
    for component, each in deployments(objects).items():
        template = each["spec"]["template"]
        constraints = template["spec"]["topologySpreadConstraints"]
        assert constraints
        assert all(selects(constraint["labelSelector"], template) for constraint in constraints)
        assert (component in budgets) == ((values, component) != (APART, "relay"))
        if component in budgets:
            spec = budgets[component]["spec"]
            assert selects(spec["selector"], template)
            assert len({"minAvailable", "maxUnavailable"} & spec.keys()) == 1
    assert budgets.keys() <= deployments(objects).keys()


# --- who is scaled, and by what ---------------------------------------------------------------------------------------


@each_value_set
def test_what_scales_a_deployment_is_one_thing(values: Path) -> None:
    objects = rendered(values)
    scalers = [(each, each["spec"]["scaleTargetRef"]["name"])
               for each in kind(objects, "HorizontalPodAutoscaler") + kind(objects, "ScaledObject")]  # fmt: skip
    for each in deployments(objects).values():
        mine = [scaler for scaler, target in scalers if target == each["metadata"]["name"]]
        assert len(mine) == (0 if "replicas" in each["spec"] else 1)
    assert {target for _, target in scalers} <= {each["metadata"]["name"] for each in deployments(objects).values()}


def test_readers_are_never_more_than_partitions() -> None:
    [intake] = [each for each in kind(rendered(KEDA), "ScaledObject") if each["metadata"]["name"] == f"{NAME}-intake"]
    assert intake["spec"]["maxReplicaCount"] == 24
    assert intake["spec"]["minReplicaCount"] >= 1
    apart = by_component(rendered(APART), "HorizontalPodAutoscaler")
    assert apart.keys() == {"intake", "dispatch"}
    assert apart["intake"]["spec"]["maxReplicas"] == 12


def triggers(values: Path) -> dict[str, dict[str, Object]]:
    found = by_component(rendered(values), "ScaledObject")
    return {name: {each["type"]: each for each in scaled["spec"]["triggers"]} for name, scaled in found.items()}


@pytest.mark.parametrize("values", [KEDA, TOGETHER_KEDA], ids=["apart", "together"])
def test_keda_asks_for_the_lag_of_the_configurations_own_group(values: Path) -> None:
    kafka = config(rendered(values))["kafka"]
    scaled = by_component(rendered(values), "ScaledObject")["gateway" if values == TOGETHER_KEDA else "intake"]
    found = [each for each in scaled["spec"]["triggers"] if each["type"] == "kafka"]
    group = kafka.get("group", "reminder-gateway")
    read = [(group, kafka.get("requests_topic", "reminders.requests"))]
    if "repayments_topic" in kafka:
        read.append((f"{group}-repayments", kafka["repayments_topic"]))
    assert [(each["metadata"]["consumerGroup"], each["metadata"]["topic"]) for each in found] == read
    assert len({each["name"] for each in scaled["spec"]["triggers"]}) == len(scaled["spec"]["triggers"])
    for each in found:
        assert each["metadata"]["bootstrapServers"] == kafka["bootstrap"]
        assert each["metadata"]["allowIdleConsumers"] == "false"
        assert each["metadata"]["offsetResetPolicy"] == "earliest"
        assert each.get("authenticationRef") == found[0].get("authenticationRef")


def test_both_ways_are_tried() -> None:
    """One set of values has facts read, another has not."""
    has = ["repayments_topic" in config(rendered(values))["kafka"] for values in (KEDA, TOGETHER_KEDA)]
    assert has == [True, False]


def test_each_is_scaled_by_its_own_trigger() -> None:
    assert {name: set(each) for name, each in triggers(KEDA).items()} == {
        "intake": {"kafka"}, "dispatch": {"prometheus"},
    }  # fmt: skip
    assert triggers(TOGETHER_KEDA)["gateway"].keys() == {"kafka", "prometheus"}
    assert triggers(KEDA)["intake"]["kafka"]["authenticationRef"] == {"name": "kafka-login"}
    assert triggers(TOGETHER_KEDA)["gateway"]["prometheus"]["authenticationRef"] == {"name": "prometheus-login"}


def test_the_age_is_taken_once_however_many_show_it() -> None:
    trigger = triggers(KEDA)["dispatch"]["prometheus"]
    query = trigger["metadata"]["query"]
    registry = CollectorRegistry()
    GaugeRefresher(registry, database=Any, clock=Any)  # only its names are asked for
    gauge = "reminder_gateway_queue_oldest_age_seconds"
    assert gauge in {family.name for family in registry.collect()}
    assert query == f'max({gauge}{{namespace="default",service="{NAME}-internal"}})'
    assert (
        triggers(TOGETHER_KEDA)["gateway"]["prometheus"]["metadata"]["query"] == f'max({gauge}{{namespace="default"}})'
    )
    # An average would be divided by the replicas; and nothing known is not nothing due.
    assert trigger["metricType"] == "Value"
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert trigger["metadata"]["threshold"] == "30"


# --- who reaches whom -------------------------------------------------------------------------------------------------

WAYS = {
    53: "dns",
    443: "providers",
    3128: "proxy",
    4318: "collector",
    5432: "postgres",
    6432: "postgres",
    8081: "internal",
    9092: "kafka",
    9093: "kafka",
    15012: "extra",
}
OUT = {
    Role.INTAKE: {"kafka"},
    Role.DISPATCH: {"providers"},
    Role.CALLBACKS: set(),
    Role.RELAY: {"kafka"},
}


def ways_out(policy: Object) -> set[str]:
    """By name; a port without one is open to nobody knows whom, and a rule without ports is all of them."""
    assert all(rule["ports"] for rule in policy["spec"]["egress"])
    return {WAYS[port["port"]] for rule in policy["spec"]["egress"] for port in rule["ports"]}


@each_value_set
def test_the_network_is_closed_but_for_what_roles_need(values: Path) -> None:
    objects = rendered(values)
    policies = kind(objects, "NetworkPolicy")
    if values == FULL:
        assert policies == []
        return
    assert all(set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"} for each in policies)
    by_name = {each["metadata"]["name"]: each for each in policies}
    deny = by_name.pop(f"{NAME}-default-deny")["spec"]
    assert not {"ingress", "egress"} & deny.keys()
    for each in deployments(objects).values():
        template = each["spec"]["template"]
        assert selects(deny["podSelector"], template)
        [mine] = [policy for policy in by_name.values() if selects(policy["spec"]["podSelector"], template)]
        needed = {"dns", "postgres", "internal"}.union(*(OUT[role] for role in roles(each)))
        if values == APART:
            needed = {"proxy" if way == "providers" else way for way in needed} | {"collector", "extra"}
        assert ways_out(mine) == needed
        listens = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["port"] for rule in mine["spec"]["ingress"] for port in rule["ports"]} == listens
    [job] = kind(objects, "Job")
    [migration] = [
        policy for policy in by_name.values() if selects(policy["spec"]["podSelector"], job["spec"]["template"])
    ]
    assert ways_out(migration) == {"dns", "postgres"}
    assert "ingress" not in migration["spec"]


def test_whoever_is_named_gets_in_and_nobody_else() -> None:
    [policy] = [
        each for each in kind(rendered(APART), "NetworkPolicy") if each["metadata"]["name"] == f"{NAME}-callbacks"
    ]
    public, internal, own = policy["spec"]["ingress"]
    names = [each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for each in public["from"]]
    assert names == ["ingress-nginx"]
    assert [set(each) for each in internal["from"]] == [{"namespaceSelector"}, {"ipBlock"}]
    assert [set(each) for each in own["from"]] == [{"podSelector"}]


@pytest.mark.parametrize("values", [APART, KEDA, TOGETHER_KEDA], ids=["named", "apart", "together"])
def test_the_pods_of_a_release_reach_each_others_metrics(values: Path) -> None:
    """Also where nobody but a Prometheus may scrape; the migration is none of them."""
    objects = rendered(values)
    policies = {each["metadata"]["name"]: each["spec"] for each in kind(objects, "NetworkPolicy")}
    found = deployments(objects).values()
    templates = [each["spec"]["template"] for each in found]
    [job] = kind(objects, "Job")
    for each in found:
        policy = policies[each["metadata"]["name"]]
        [to] = peers(policy["egress"], 8081, "to")
        [own] = [by for by in peers(policy["ingress"], "internal", "from") if by.keys() == {"podSelector"}]
        for peer in (to, own):
            assert peer.keys() == {"podSelector"}
            assert all(selects(peer["podSelector"], template) for template in templates)
            assert not selects(peer["podSelector"], job["spec"]["template"])


def peers(rules: list[Object], port: int | str, side: str) -> list[Object]:
    wanted = [{"protocol": "TCP", "port": port}]
    return [peer for rule in rules if rule["ports"] == wanted for peer in rule[side]]


def test_spans_are_let_out_where_they_go() -> None:
    objects = rendered(APART)
    port = urlsplit(config(objects)["tracing"]["endpoint"]).port
    assert port is not None
    for component in deployments(objects):
        [policy] = [
            each for each in kind(objects, "NetworkPolicy") if each["metadata"]["name"] == f"{NAME}-{component}"
        ]
        [to] = peers(policy["spec"]["egress"], port, "to")
        assert to["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "tracing"}


def test_by_default_providers_are_outside_and_nothing_private_is() -> None:
    [policy] = [each for each in kind(render(), "NetworkPolicy") if each["metadata"]["name"] == NAME]
    [rule] = [each for each in policy["spec"]["egress"] if each["ports"] == [{"protocol": "TCP", "port": 443}]]
    blocks = [each["ipBlock"] for each in rule["to"]]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]
    assert "169.254.0.0/16" in blocks[0]["except"]  # where clouds tell credentials


def test_an_empty_list_of_peers_is_anywhere_and_no_ports_are_no_rule() -> None:
    objects = render("--set-json", 'networkPolicy.egress.providers={"to": [], "ports": []}')
    [policy] = [each for each in kind(objects, "NetworkPolicy") if each["metadata"]["name"] == NAME]
    assert ways_out(policy) == {"dns", "postgres", "kafka", "internal"}
    [named] = [rule for rule in policy["spec"]["egress"] if "to" in rule]
    assert named["ports"] == [{"protocol": "TCP", "port": 8081}]


# --- who watches ------------------------------------------------------------------------------------------------------


def test_what_is_scraped_is_labelled_as_the_rules_want_it() -> None:
    objects = rendered(KEDA)
    [monitor] = kind(objects, "ServiceMonitor")
    services = {each["metadata"]["name"]: each for each in kind(objects, "Service")}
    [mine] = [name for name, each in services.items()
              if monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()]  # fmt: skip
    assert mine == f"{NAME}-internal"
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in services[mine]["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "environment", "replacement": "staging"}]
    assert services[mine]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "reminder-gateway"

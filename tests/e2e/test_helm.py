"""The chart, rendered by Helm itself: it lints, and what it would apply keeps the promises a cluster relies on."""

import math
from pathlib import Path

import pytest
import yaml

from gateway.config.model import Shutdown
from schemas.vocabulary import Mode
from tests.e2e.chart import (
    CHART,
    NAME,
    VALUE_SETS,
    Object,
    config,
    deployment,
    deployments,
    each_value_set,
    helm,
    kind,
    needs_helm,
    notes,
    pods,
    render,
    rendered,
    selects,
    template,
)

pytestmark = needs_helm


@pytest.fixture
def objects(values: Path) -> dict[str, Object]:
    return rendered(values)


def test_there_are_value_sets() -> None:
    assert {path.name for path in VALUE_SETS} >= {"minimal-values.yaml", "full-values.yaml", "apart-values.yaml"}


@pytest.mark.parametrize("values", [None, *VALUE_SETS], ids=lambda path: path.stem if path else "defaults")
def test_it_lints(values: Path | None) -> None:
    result = helm("lint", "--strict", CHART, *(("--values", values) if values else ("--set", "config.mode=live")))
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_a_mode_nothing_is_rendered_and_the_choice_is_explained() -> None:
    result = template()
    assert result.returncode != 0
    assert "config.mode is needed" in result.stderr
    assert [mode for mode in Mode if f"`{mode}`" in result.stderr] == list(Mode)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_that_was_chosen_is_the_gateways(mode: Mode) -> None:
    objects = render("--set", f"config.mode={mode}")
    for name in (NAME, f"{NAME}-migrate"):
        assert yaml.safe_load(objects[f"ConfigMap/{name}"]["data"]["gateway.yaml"])["mode"] == mode


@pytest.mark.parametrize("mode", list(Mode))
def test_whoever_installs_is_told_what_the_mode_does_and_that_there_is_no_way_back(mode: Mode, tmp_path: Path) -> None:
    told = notes(tmp_path, "--set", f"config.mode={mode}")
    assert f"mode {mode}" in told.lower()
    assert ("It sends nothing either" in told) == (mode is Mode.SIMULATE)
    assert "no way back by `helm rollback`" in told


@each_value_set
def test_kubernetes_waits_longer_than_the_gateway_needs(objects: dict[str, Object]) -> None:
    """From SIGTERM to SIGKILL there is the whole budget, as the gateway itself reads it, and some more."""
    shutdown = Shutdown.model_validate(config(objects)["shutdown"])
    assert shutdown.not_ready_seconds + shutdown.drain_seconds < shutdown.budget_seconds
    assert shutdown.not_ready_seconds >= 5  # whoever routes callbacks hears of it by the API server, not at once
    for each in deployments(objects).values():
        grace = each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert isinstance(grace, int)
        assert grace >= math.ceil(shutdown.budget_seconds) + 5
        names = {variable["name"] for variable in each["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert not [name for name in names if name.upper().startswith("GATEWAY__SHUTDOWN")]


@each_value_set
def test_every_pod_fits_the_restricted_profile(objects: dict[str, Object]) -> None:
    for each in pods(objects):
        pod = each["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    for account in kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@each_value_set
def test_secrets_come_by_reference_only(objects: dict[str, Object]) -> None:
    assert not kind(objects, "Secret")
    for each in pods(objects):
        pod = each["spec"]
        references = [source["secretRef"]["name"] for part in pod["containers"] for source in part.get("envFrom", [])]
        references += [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert len(references) == 1


def test_a_mounted_secret_may_rotate() -> None:
    """By default it is files; a subPath would never be updated, and a variable never changes."""
    for pod in (each["spec"] for each in pods(render())):
        [volume] = [each for each in pod["volumes"] if "secret" in each]
        [container] = pod["containers"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
        assert mount == {"name": "secrets", "mountPath": "/var/run/secrets/reminder-gateway", "readOnly": True}
        assert "envFrom" not in container


@each_value_set
def test_probes_are_internal_and_services_find_their_pods(objects: dict[str, Object]) -> None:
    services = {name.removeprefix(f"Service/{NAME}-"): each["spec"] for name, each in objects.items()
                if each["kind"] == "Service"}  # fmt: skip
    assert services.keys() == {"callbacks", "internal"}
    assert services["internal"]["type"] == "ClusterIP"
    for component, each in deployments(objects).items():
        [container] = each["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        public = {"callbacks": 8080} if component in ("gateway", "callbacks") else {}
        assert ports == {"internal": 8081, **public}
        paths = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {get["port"] for get in paths.values()} == {"internal"}
        assert {name: get["path"] for name, get in paths.items()} == {
            "startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz",
        }  # fmt: skip
        for name, service in services.items():
            [port] = service["ports"]
            assert port["targetPort"] == name
            found = selects({"matchLabels": service["selector"]}, each["spec"]["template"])
            assert found == (name in ports)
    for job in kind(objects, "Job"):
        for service in services.values():
            assert not selects({"matchLabels": service["selector"]}, job["spec"]["template"])


def test_annotations_ask_to_be_scraped_only_where_no_monitor_does() -> None:
    asked, monitored = (
        render("--set", f"serviceMonitor.enabled={enabled},serviceMonitor.environment=test")[
            f"Service/{NAME}-internal"
        ]["metadata"]
        for enabled in ("false", "true")
    )
    assert asked["annotations"]["prometheus.io/port"] == "8081"
    assert "annotations" not in monitored


def test_the_migration_brings_all_that_it_needs() -> None:
    """Hooks run before the chart's other objects exist: what its pod names comes earlier, or is the user's."""
    objects = render()
    hooks = {name: each for name, each in objects.items() if "helm.sh/hook" in each["metadata"].get("annotations", {})}
    notes = {name: each["metadata"]["annotations"] for name, each in hooks.items()}
    assert {note["helm.sh/hook"] for note in notes.values()} == {"pre-install,pre-upgrade"}
    [job] = kind(hooks, "Job")
    pod = job["spec"]["template"]["spec"]
    needed = {f"ServiceAccount/{pod['serviceAccountName']}", f"NetworkPolicy/{NAME}-migrate"}
    needed |= {f"ConfigMap/{volume['configMap']['name']}" for volume in pod["volumes"] if "configMap" in volume}
    assert needed | {f"Job/{NAME}-migrate"} == hooks.keys()
    for name in needed:
        assert int(notes[name]["helm.sh/hook-weight"]) < int(notes[f"Job/{NAME}-migrate"]["helm.sh/hook-weight"])
    assert hooks[f"ConfigMap/{NAME}-migrate"]["data"] == objects[f"ConfigMap/{NAME}"]["data"]
    [policy] = kind(hooks, "NetworkPolicy")
    assert selects(policy["spec"]["podSelector"], job["spec"]["template"])
    assert not selects(deployment(objects)["spec"]["selector"], job["spec"]["template"])


def test_the_migration_ends_before_helm_gives_up() -> None:
    """By itself Helm waits five minutes for a hook."""
    [job] = kind(render(), "Job")
    assert job["spec"]["activeDeadlineSeconds"] < 5 * 60


def test_the_migrations_pod_is_told_apart_from_a_meshs() -> None:
    """Beside the labels by which its policy finds it; the pods of the service are told nothing of it."""
    objects = rendered(CHART / "ci" / "apart-values.yaml")
    [job] = kind(objects, "Job")
    metadata = job["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"linkerd.io/inject": "disabled"}
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    policy = objects[f"NetworkPolicy/{NAME}-migrate"]
    assert selects(policy["spec"]["podSelector"], job["spec"]["template"])
    for each in deployments(objects).values():
        assert "sidecar.istio.io/inject" not in each["spec"]["template"]["metadata"]["labels"]


def test_a_new_configuration_rolls_the_pods() -> None:
    before, after = (
        deployment(render("--set", f"config.shutdown.budget_seconds={seconds}"))["spec"]["template"]["metadata"][
            "annotations"
        ]
        for seconds in (30, 31)
    )
    assert before["checksum/config"] != after["checksum/config"]

"""The chart, rendered by Helm itself: it lints, and what it would apply keeps the promises a cluster relies on."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from gateway.config.model import Config
from providers.catalog import discover
from schemas.vocabulary import Mode
from tests.stack.tools import required

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "reminder-gateway"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
HELM = os.environ.get("HELM") or str(ROOT / ".cache" / "bin" / "helm")

pytestmark = pytest.mark.skipif(
    not Path(HELM).exists() and not required("go"), reason="!!! Go is missing: no Helm, the chart is not tested"
)

Object = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return helm("template", "test", CHART, "--kube-version", "1.30.0", *arguments)


def render(*arguments: str | Path) -> dict[str, Object]:
    """What Helm would apply, by "kind/name"; the mode is live where nothing else is said."""
    result = template("--set", "config.mode=live", *arguments)
    assert result.returncode == 0, result.stderr
    objects = [each for each in yaml.safe_load_all(result.stdout) if each]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}


@pytest.fixture(params=VALUE_SETS, ids=lambda path: path.stem)
def objects(request: pytest.FixtureRequest) -> dict[str, Object]:
    return render("--values", request.param)


def pods(objects: dict[str, Object]) -> list[Object]:
    return [each["spec"]["template"]["spec"] for each in objects.values() if each["kind"] in ("Deployment", "Job")]


def deployment(objects: dict[str, Object]) -> Object:
    return next(each for each in objects.values() if each["kind"] == "Deployment")


def test_there_are_two_value_sets() -> None:
    assert len(VALUE_SETS) == 2


@pytest.mark.parametrize("values", [None, *VALUE_SETS], ids=lambda path: path.stem if path else "defaults")
def test_it_lints(values: Path | None) -> None:
    result = helm("lint", "--strict", CHART, *(("--values", values) if values else ()))
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_a_mode_nothing_is_rendered_and_the_choice_is_explained() -> None:
    result = template()
    assert result.returncode != 0
    assert "config.mode is needed" in result.stderr
    assert [mode for mode in Mode if f"`{mode}`" in result.stderr] == list(Mode)


@pytest.mark.parametrize(
    ("setting", "word"), [("mode=Live", "mode"), ("mode=", "mode"), ("allowlist.indexes={+8613912345678}", "indexes")]
)
def test_another_mode_and_an_address_in_the_list_are_refused(setting: str, word: str) -> None:
    result = template("--set", "config.mode=allowlist", "--set", f"config.{setting}")
    assert result.returncode != 0
    assert word in result.stderr


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_that_was_chosen_is_the_gateways(mode: Mode) -> None:
    rendered = render("--set", f"config.mode={mode}")
    for name in ("ConfigMap/test-reminder-gateway", "ConfigMap/test-reminder-gateway-migrate"):
        assert yaml.safe_load(rendered[name]["data"]["gateway.yaml"])["mode"] == mode


def test_kubernetes_waits_longer_than_the_gateway_needs(objects: dict[str, Object]) -> None:
    config = yaml.safe_load(objects["ConfigMap/test-reminder-gateway"]["data"]["gateway.yaml"])
    spec = deployment(objects)["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= config["shutdown"]["budget_seconds"] + 5


def test_every_pod_fits_the_restricted_profile(objects: dict[str, Object]) -> None:
    for pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_secrets_come_by_reference_only(objects: dict[str, Object]) -> None:
    assert not [name for name in objects if name.startswith("Secret/")]
    for pod in pods(objects):
        references = [source["secretRef"]["name"] for part in pod["containers"] for source in part.get("envFrom", [])]
        references += [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert len(references) == 1


def test_a_mounted_secret_may_rotate() -> None:
    """By default it is files; a subPath would never be updated, and a variable never changes."""
    for pod in pods(render()):
        [volume] = [each for each in pod["volumes"] if "secret" in each]
        [container] = pod["containers"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
        assert mount == {"name": "secrets", "mountPath": "/var/run/secrets/reminder-gateway", "readOnly": True}
        assert "envFrom" not in container


@pytest.mark.parametrize(
    "setting", ["database.dsn=hunter2", "http.app_tokens={env:A,hunter2}", "sealing.keys.1=hunter2"]
)
def test_a_secret_in_the_configuration_is_refused(setting: str) -> None:
    result = template("--set", "config.mode=live", "--set", f"config.{setting}")
    assert result.returncode != 0
    assert setting.split(".")[0] in result.stderr
    assert "hunter2" not in result.stderr
    render("--set", f"config.{setting}".replace("hunter2", "env:HUNTER"))


def test_the_chart_knows_which_settings_are_secret() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    [pattern] = schema["$defs"]["settings"]["patternProperties"]
    models: list[type[BaseModel]] = [Config, *(adapter.settings_type for adapter in discover().values())]
    named = {name: secret for model in models for name, secret in secrets_and_others(model.model_json_schema())}
    assert len(named) > 40
    assert {name for name, secret in named.items() if secret} == {name for name in named if re.search(pattern, name)}


def secrets_and_others(schema: Object) -> Iterator[tuple[str, bool]]:
    """Every property a model names, and whether a secret stands there."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, described in part.get("properties", {}).items():
            yield name, '"writeOnly": true' in json.dumps(described)


def test_probes_are_internal_and_services_find_their_ports(objects: dict[str, Object]) -> None:
    template = deployment(objects)["spec"]["template"]
    container = template["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"callbacks": 8080, "internal": 8081}
    paths = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {get["port"] for get in paths.values()} == {"internal"}
    assert paths["livenessProbe"]["path"] == "/livez"
    assert paths["readinessProbe"]["path"] == "/readyz"
    services = {name: each["spec"] for name, each in objects.items() if each["kind"] == "Service"}
    assert len(services) == 2
    for name, service in services.items():
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        [port] = service["ports"]
        assert name.endswith(port["targetPort"])
    assert services["Service/test-reminder-gateway-internal"]["type"] == "ClusterIP"


def test_the_migration_brings_its_own_configuration() -> None:
    rendered = render()
    job = rendered["Job/test-reminder-gateway-migrate"]
    config = rendered["ConfigMap/test-reminder-gateway-migrate"]
    assert job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert config["data"] == rendered["ConfigMap/test-reminder-gateway"]["data"]
    hooks = [each["metadata"]["annotations"] for each in (config, job)]
    assert {hook["helm.sh/hook"] for hook in hooks} == {"pre-install,pre-upgrade"}
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])
    selector = deployment(rendered)["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_a_new_configuration_rolls_the_pods() -> None:
    before, after = (
        deployment(render("--set", f"config.shutdown.budget_seconds={seconds}"))["spec"]["template"]["metadata"][
            "annotations"
        ]
        for seconds in (30, 31)
    )
    assert before["checksum/config"] != after["checksum/config"]

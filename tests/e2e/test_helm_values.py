"""What the chart is told: refused with a sentence where it makes no sense, and every value documented."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel

from gateway.config.model import Config
from gateway.ids import WORKER_NUMBERS
from providers.catalog import discover
from tests.e2e.chart import CHART, Object, needs_helm, render, template

pytestmark = needs_helm

BOOTSTRAP = "config.kafka.bootstrap=kafka:9092"
TRACING = "config.tracing.endpoint=https://collector.example.com:4318/v1/traces"
REFUSED = {
    "another mode": ("config.mode=Live", "config.mode must be one of"),
    "an address in the list": ("config.allowlist.indexes={+8613912345678}", "config.allowlist.indexes"),
    "roles in the configuration": ("config.roles={intake}", "config.roles is the chart's business"),
    "roles by a variable": ("env.GATEWAY__ROLES=x", "env.GATEWAY__ROLES would contradict"),
    "a port by a variable": ("env.gateway__http__internal_port=x", "env.gateway__http__internal_port would contradict"),
    "a budget by a variable": ("env.GATEWAY__SHUTDOWN__BUDGET_SECONDS=90", "would contradict what the chart relies on"),
    **{
        f"Kafka by a variable: {name}": (f"env.GATEWAY__{name}=x", f"env.GATEWAY__{name} would contradict")
        for name in (
            "KAFKA",
            "KAFKA__BOOTSTRAP",
            "KAFKA__GROUP",
            "KAFKA__REQUESTS_TOPIC",
            "KAFKA__SECURITY",
            "KAFKA__SECURITY__PROTOCOL",
        )
    },
    "hpa and keda": (
        "requestPartitions=6,together.hpa.enabled=true,together.keda.enabled=true",
        "together.hpa and together.keda are both enabled",
    ),
    "no partitions": ("together.hpa.enabled=true", "requestPartitions is needed where together is scaled"),
    "no partitions, apart": ("scaleApart=true,roles.intake.keda.enabled=true", "requestPartitions is needed"),
    "more than partitions": ("requestPartitions=4,together.hpa.enabled=true", "the request topic has 4 partitions"),
    "more readers than partitions": (
        "scaleApart=true,requestPartitions=3,roles.intake.replicas=4",
        "roles.intake may have 4 replicas, but the request topic has 3 partitions",
    ),
    "less than least": (
        "scaleApart=true,roles.dispatch.hpa.enabled=true,roles.dispatch.hpa.minReplicas=9",
        "roles.dispatch: minReplicas is 9 and maxReplicas only 6",
    ),
    "scaled to none": ("together.keda.minReplicas=0", "together.keda.minReplicas"),
    "keda without a measure": (
        "scaleApart=true,roles.relay.keda.enabled=true",
        "roles.relay.keda has nothing to go by",
    ),
    "keda without Kafka": (
        "scaleApart=true,requestPartitions=4,roles.intake.keda.enabled=true",
        "config.kafka.bootstrap is needed",
    ),
    "keda without a login": (
        f"requestPartitions=6,together.keda.enabled=true,config.kafka.security.protocol=SSL,{BOOTSTRAP}",
        "keda.lag.authenticationRef must name a TriggerAuthentication",
    ),
    "keda without Prometheus": (
        "scaleApart=true,roles.dispatch.keda.enabled=true",
        "keda.oldestDue.serverAddress is needed",
    ),
    "cpu of nothing": (
        "scaleApart=true,roles.callbacks.hpa.enabled=true,roles.callbacks.resources.requests.cpu=null",
        "set roles.callbacks.resources.requests.cpu",
    ),
    "more processes than numbers": (f"together.replicas={WORKER_NUMBERS}", f"numbers for {WORKER_NUMBERS}"),
    "a variable nobody sets": ("config.database.dsn=env:DSN", "config reads the variable DSN, which nobody sets"),
    "files nobody mounts": (
        "secretAsFiles=false,config.database.dsn=file:/var/run/secrets/reminder-gateway/dsn",
        "secretAsFiles: false puts none",
    ),
    "spans that are kept in": (TRACING, "networkPolicy.egress.collector.ports, or write a rule"),
    "a monitor without a name for the ledger": ("serviceMonitor.enabled=true", "serviceMonitor.environment is needed"),
    "a label the migration is found by": (
        r"migration.podLabels.app\.kubernetes\.io/name=x",
        'Property name of "app.kubernetes.io/name" does not match',
    ),
    "an unknown value": ("replicas=3", "replicas is not allowed"),
    "a margin too small": ("graceMarginSeconds=1", "graceMarginSeconds"),
}


@pytest.mark.parametrize(("setting", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_with_a_sentence(setting: str, sentence: str) -> None:
    result = template("--set", "config.mode=allowlist", "--set", setting)
    assert result.returncode != 0
    assert sentence in result.stderr


EXTRA = '[{"to": [], "ports": [{"protocol": "TCP", "port": 4318}]}]'


@pytest.mark.parametrize(
    "way",
    [
        ("--set", "networkPolicy.egress.collector.ports={4318}"),
        ("--set-json", f"networkPolicy.egress.extra={EXTRA}"),
        ("--set", "networkPolicy.enabled=false"),
    ],
    ids=["collector", "extra", "no policy"],
)
def test_spans_that_are_let_out_are_not_refused(way: tuple[str, str]) -> None:
    render("--set", TRACING, *way)


def test_as_many_processes_as_there_are_numbers() -> None:
    """The last that fits: one more of a Deployment is there while a version is rolled out."""
    render("--set", f"together.replicas={WORKER_NUMBERS - 1}")


SECRETS = [
    "config.database.dsn=hunter2",
    "config.http.app_tokens={env:A,hunter2}",
    "config.sealing.keys.1=hunter2",
    "config.providers.twilio.settings.auth_tokens={hunter2}",
    "config.tracing.headers.authorization=hunter2",
    "env.GATEWAY__DATABASE__DSN=hunter2",
    "env.gateway__sealing__keys__1=hunter2",
]


@pytest.mark.parametrize("setting", SECRETS)
def test_a_secret_in_the_open_is_refused_and_not_shown(setting: str) -> None:
    result = template("--set", "config.mode=live", "--set", setting)
    assert result.returncode != 0
    [where] = re.findall(r"(\S+) is a secret and must not stand in the values", result.stderr)
    assert setting.startswith(where)
    assert "hunter2" not in result.stderr
    allowed = "secretAsEnv=true,networkPolicy.egress.collector.ports={4318}"
    render("--set", allowed, "--set", setting.replace("hunter2", "env:HUNTER"))


def test_the_chart_knows_which_settings_are_secret() -> None:
    checks = (CHART / "templates" / "_checks.tpl").read_text(encoding="utf-8")
    [pattern] = re.findall(r'regexMatch "(\(\^\|_\)[^"]*)"', checks)
    models: list[type[BaseModel]] = [Config, *(adapter.settings_type for adapter in discover().values())]
    named = {name: secret for model in models for name, secret in secrets_and_others(model.model_json_schema())}
    assert len(named) > 40
    assert {name for name, secret in named.items() if secret} == {name for name in named if re.search(pattern, name)}


def secrets_and_others(schema: Object) -> Iterator[tuple[str, bool]]:
    """Every property a model names, and whether a secret stands there."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, described in part.get("properties", {}).items():
            yield name, '"writeOnly": true' in json.dumps(described)


# --- documented -------------------------------------------------------------------------------------------------------

# Below these the user writes what Kubernetes or the gateway defines, not the chart.
WHOLE = {"config", "resources", "env", "labels", "annotations", "to", "from"}


def documented() -> set[str]:
    """The values that the README's table has a row for; ROLE stands for each of the roles."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", text[text.index("| value |") :], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def values_of(tree: Object, at: str = "") -> Iterator[str]:
    for name, value in tree.items():
        path = f"{at}{name}"
        if isinstance(value, dict) and value and name not in WHOLE:
            yield from values_of(value, f"{path}.")
        else:
            yield re.sub(r"^roles\.[a-z]+\.", "roles.ROLE.", path)


def test_every_value_is_documented_and_every_documented_value_exists() -> None:
    values = set(values_of(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))))
    # Singled out below `config`.
    extra = {"config.mode", "config.shutdown.not_ready_seconds", "config.shutdown.budget_seconds"}
    assert documented() - extra == values


def test_every_value_is_in_the_schema() -> None:
    """With nothing left out: an object that the chart defines takes no name that it does not know."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def closed(part: Object, tree: Object, at: str) -> Iterator[str]:
        part = schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for name, value in tree.items():
            if isinstance(value, dict) and value and name not in WHOLE:
                yield from closed(part["properties"][name], value, f"{at}{name}.")
            elif name not in part["properties"]:
                yield f"{at}{name}"
        if part.get("additionalProperties") is not False:
            yield f"{at}*"

    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert list(closed(schema, values, "")) == []

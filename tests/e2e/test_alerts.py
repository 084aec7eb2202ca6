"""The rules by promtool: each alert has a story that fires it, one that does not, and a page among the runbooks."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml

from gateway.cli import app
from tests.stack.prometheus import MISSING, ROOT, RULES, promtool, selectors, singled, there_is_none

STORIES = sorted((ROOT / "tests" / "alerts").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
PARTS = ["What the borrower sees", "How to tell", "What to do now", "What not to do"]

needs_promtool = pytest.mark.skipif(there_is_none(), reason=MISSING)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = [rule["alert"] for rule in ALERTS]


@needs_promtool
def test_the_rules_are_good() -> None:
    done = promtool("check", "rules", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_stories(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_story_that_is_wrong_fails(tmp_path: Path) -> None:
    """promtool takes an alert that does not exist for one that does not fire: here it is told to expect one."""
    text = STORIES[0].read_text().replace("../../helm", str(ROOT / "helm"))
    story = yaml.safe_load(text)
    story["tests"] = story["tests"][:1]
    for wrong in ([], [{"labels": '{environment="elsewhere"}', "value": 1}]):
        story["tests"][0]["promql_expr_test"][-1]["exp_samples"] = wrong
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(story))
        assert promtool("test", "rules", tmp_path / "wrong.yaml").returncode != 0


def told() -> Iterator[tuple[str, set[str], set[str]]]:
    """Of each alert's test: the environments it was tried with, and those in which it fires at some moment."""
    for path in STORIES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            every = {environment(each["series"]) for each in test["input_series"]}
            fires = set()
            for probe in test.get("promql_expr_test", ()):
                assert f'alertname="{test["name"]}", alertstate="firing"' in probe["expr"]
                fires |= {environment(each["labels"]) for each in probe["exp_samples"]}
            yield test["name"], every, fires


def environment(labels: str) -> str:
    found = re.search(r'environment="([^"]*)"', labels)
    return found[1] if found else ""


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_story_that_fires_it_and_one_that_does_not(name: str) -> None:
    [(every, fires)] = [(every, fires) for alert, every, fires in told() if alert == name and fires]
    assert fires <= every
    assert every - fires


def test_every_story_is_about_an_alert() -> None:
    assert {name for name, _, _ in told()} == set(NAMES)
    assert [name for name, n in Counter(NAMES).items() if n > 1] == []


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_every_alert_says_what_somebody_sees_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["labels"]["service"] == "reminder-gateway"
    summary = rule["annotations"]["summary"]
    first = re.split(r"[,;]", summary)[0].lower()
    assert "borrower" in first or "lender" in first, summary
    assert rule["annotations"]["description"]
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in sections((ROOT / path).read_text())


def sections(page: str) -> dict[str, str]:
    """By the title of each second heading what stands under it."""
    found = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


PAGES = sorted(each for each in RUNBOOKS.glob("*.md") if each.name != "README.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_page_is_about_alerts_and_begins_with_the_borrower(path: Path) -> None:
    for name, text in sections(path.read_text()).items():
        [rule] = [rule for rule in ALERTS if rule["alert"] == name]
        assert rule["annotations"]["runbook_url"].startswith(f"docs/runbooks/{path.name}#")
        assert re.findall(r"^\*\*([^*]+)\.\*\*", text, flags=re.MULTILINE) == PARTS, name


def test_the_index_names_every_alert_with_its_severity() -> None:
    index = (RUNBOOKS / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\((\S+)\) \| (\w+) \|", index, flags=re.MULTILINE)
    assert rows == [
        (rule["alert"], rule["annotations"]["runbook_url"].removeprefix("docs/runbooks/"), rule["labels"]["severity"])
        for rule in ALERTS
    ]


def commands() -> Iterator[tuple[str, str]]:
    for path in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.DOTALL):
            for line in block.splitlines():
                if line.startswith("reminder-gateway "):
                    yield path.name, line.partition(" #")[0]


def test_every_command_of_a_runbook_is_one_of_ours() -> None:
    """As it stands there: names, arguments and options are parsed by the command line itself."""
    found = list(commands())
    assert len(found) > 30
    for page, line in found:
        command: Any = typer.main.get_command(app)
        arguments = shlex.split(line)[1:]
        while isinstance(command, click.Group) or hasattr(command, "commands"):
            name, *arguments = arguments
            assert name in command.commands, (page, line)
            command = command.commands[name]
        try:
            command.make_context(command.name, arguments)
        except Exception as error:
            raise AssertionError(f"{page}: {line}: {error}") from error


def test_what_a_runbook_looks_for_is_there() -> None:
    """In the log the names of what we log, in the metrics theirs; and the panels that it names, in part at least."""
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    boards = [json.loads(path.read_text()) for path in (RULES.parent / "dashboards").glob("*.json")]
    titles = [panel["title"].lower() for board in boards for panel in board["panels"]]
    titles += [board["title"].lower() for board in boards]
    looked = set()
    for path in PAGES:
        text = path.read_text()
        for line in re.findall(r"kubectl logs .*\| grep (?:-E )?(.+)$", text, flags=re.MULTILINE):
            for name in line.strip("'").split("|"):
                assert f'"{name}"' in sources, (path.name, name)
                looked.add(name)
        for title in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text.replace("\n", " ")):
            assert title == "matured" or any(title.lower() in each for each in titles), (path.name, title)
            looked.add(title)
    assert len(looked) > 40


def test_what_an_expression_selects() -> None:
    expression = """
        histogram_quantile(0.9, sum by (le) (rate(a_bucket{p=~"x|y", q!=""}[5m] offset 1h))) > 1
        and on (e) -max_over_time((b{c!~"d"} / 2)[1d:1h]) unless absent(d:e:f) or vector(0)
    """
    first, second, third = selectors(expression)
    assert (first, second, third) == ('a_bucket{p=~"x|y", q!=""}', 'b{c!~"d"}', "d:e:f{}")
    assert list(singled(first)) == ['a_bucket{p="x", q!=""}', 'a_bucket{p="y", q!=""}']
    assert list(singled(second)) == ['b{c="d"}']
    assert list(singled(third)) == list(singled('a{b=~".*", c="d"}')) == []


def test_what_is_said_of_metrics_is_true_of_the_code() -> None:
    """Every metric that a runbook names is in a rule, a panel or the README."""
    known = RULES.read_text() + "".join(each.read_text() for each in (RULES.parent / "dashboards").glob("*.json"))
    for path in sorted(RUNBOOKS.glob("*.md")):
        for name in set(re.findall(r"reminder_gateway_\w+", path.read_text())):
            assert name in known, (path.name, name)

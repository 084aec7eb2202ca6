"""`plan` and `cadence`: what would go out, and what would change, without touching anyone."""

import datetime as dt
import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cadence.loading import PACKAGED
from gateway.cli import app, common
from tests.unit.cli.test_cli_brakes import CONFIG, SECRETS

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "plan.jsonl"
FACTS = EXAMPLE.with_name("facts.jsonl")
DEFAULT = PACKAGED / "default" / "1.yaml"


def run(*arguments: object, code: int = 0, columns: int = 200) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Another version: no grace, and t15 a day earlier."""
    path = tmp_path / "2.yaml"
    text = DEFAULT.read_text()
    for was, becomes in (("version: 1", "version: 2"), ("days: 15", "days: 14"), ("grace_days: 1", "grace_days: 0")):
        assert was in text
        text = text.replace(was, becomes)
    path.write_text(text)
    return path


def test_the_example_is_told_line_by_line_and_adds_up() -> None:
    table, total = run("plan", EXAMPLE)
    assert total == "40 = 17 contact + 4 merged + 19 skipped\n"
    assert len([line for line in table.splitlines() if line.lstrip()[:1].isdecimal()]) == 40
    (due,) = [line for line in table.splitlines() if "debit_failed" in line]
    assert re.split("  +", due.strip()) == [
        "1", "due", "2026-12-10 10:30", "12-10 02:30", "sms", "contact", "debit_failed",
    ]  # fmt: skip
    assert [line.strip() for line in table.splitlines() if line.startswith("loan-")] == [
        "loan-7001 of b-1001, northwind; Asia/Shanghai", "loan-7002 of b-1001, northwind; Asia/Shanghai",
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_narrow_terminal_nothing_of_a_table_is_lost(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(common, "_PIPE_WIDTH", columns)
    table, _ = run("plan", EXAMPLE)
    assert "2026-12-10 10:30  12-10 02:30" in table
    explained, _ = run("cadence", "explain")
    assert "2026-11-22" in explained
    assert "09:00-20:00" in explained
    assert "…" not in table + explained


def test_heartbeats_among_the_facts_say_nothing(tmp_path: Path) -> None:
    beat = {"type": "repayment.watermark.v1", "data": {"as_of": "2026-12-01T00:00:00Z"}}
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps(beat) + "\n" + EXAMPLE.read_text() + json.dumps(beat) + "\n")
    assert run("plan", file) == run("plan", EXAMPLE)


def test_as_json() -> None:
    text, _ = run("plan", EXAMPLE, "--json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 40
    (due,) = [line for line in lines if line["rule"] == "debit_failed"]
    assert due == {
        "lender": "northwind", "borrower": "b-1001", "debt": "loan-7001", "instalment": 1, "occasion": "due",
        "stage": "due", "cadence": "default/1", "zone": "Asia/Shanghai", "fate": "contact", "date": "2026-12-10",
        "at": "2026-12-10T02:30:00Z", "reason": None, "channels": ["sms"], "rule": "debit_failed",
    }  # fmt: skip


def test_from_and_to_are_the_ends_of_what_is_shown() -> None:
    text, _ = run("plan", EXAMPLE, "--json", "--from", "2026-12-10", "--to", "2026-12-14")
    lines = [json.loads(line) for line in text.splitlines()]
    gone = [line["at"] for line in lines if line["fate"] in ("contact", "merged")]
    assert {at[:10] for at in gone} == {"2026-12-10", "2026-12-11", "2026-12-13"}
    assert {line["fate"] for line in lines} == {"contact", "merged", "skipped", "ahead"}
    assert min(line["date"] for line in lines) == "2026-12-10"
    _, total = run("plan", EXAMPLE, "--from", "2026-12-10", "--to", "2026-12-13")
    assert total.endswith("+ 12 earlier\n")


def test_as_a_gateway_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lender has SMS alone, and a cadence of his own for one product."""
    for name, value in {**SECRETS, "DSN": "postgresql://nobody@127.0.0.1:9/none"}.items():
        monkeypatch.setenv(name, value)
    for name in ("default", "gentle"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.yaml").write_text(DEFAULT.read_text().replace("name: default", f"name: {name}"))
    lender = {**CONFIG["lenders"]["acme"], "cadences": {"cash-loan": "gentle"}}
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "lenders": {"acme": lender}, "cadences_path": str(tmp_path)}))
    lines = [json.loads(line) for line in run("plan", FACTS, "--json", "--config", path)[0].splitlines()]
    assert {line["cadence"] for line in lines} == {"gentle/1"}
    assert {each for line in lines for each in line["channels"]} == {"sms"}
    assert "unknown_lender (data.lender)" in run("plan", EXAMPLE, "--config", path, code=2)[1]


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_the_picture_has_a_mark_with_words_for_every_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plan{suffix}"
    run("plan", EXAMPLE, "--picture", path)
    text = path.read_text()
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    space = "{http://www.w3.org/2000/svg}"
    titles = [group.findtext(f"{space}title") for group in svg.findall(f"{space}g")]
    assert len(titles) == 40
    assert "due of instalment 1, 2026-12-10 10:30 Asia/Shanghai, contact, sms, debit_failed" in titles
    assert svg.findtext(f"{space}title") == "What goes out from 2026-11-22 to 2027-03-12"
    assert svg.findtext(f"{space}desc") == "40 = 17 contact + 4 merged + 19 skipped"
    assert text.startswith("<!doctype html>") == (suffix == ".html")
    assert text.count("<tr>") == (41 if suffix == ".html" else 0)


def test_nothing_in_the_picture_lies_on_anything_else(tmp_path: Path) -> None:
    """Of a plan so dense that several occasions fall on most of its days."""
    row = json.loads(EXAMPLE.read_text().splitlines()[0])
    first = dt.date(2026, 12, 10)
    row["data"]["instalments"] = [
        {"number": n + 1, "due_date": (first + n * dt.timedelta(days=2)).isoformat(), "amount": "10.00"}
        for n in range(30)
    ]
    facts, path = tmp_path / "facts.jsonl", tmp_path / "plan.svg"
    facts.write_text(json.dumps(row))
    run("plan", facts, "--picture", path)
    space = "{http://www.w3.org/2000/svg}"
    boxes: list[tuple[float, float, float, float]] = []
    for group in ET.fromstring(path.read_text()).findall(f"{space}g"):
        sign, above, below = group.findall(f"{space}text")
        x, y = float(above.get("x", "")), float(above.get("y", ""))
        half = max(8.0, 2.8 * max(len(above.text or ""), len(below.text or "")))
        assert float(sign.get("x", "")) == x
        boxes.append((x - half, x + half, y - 10, float(below.get("y", "")) + 3))
    assert len(boxes) == 30 * 8 + 4
    assert not [
        (one, other) for one, other in combinations(boxes, 2)
        if one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"type": "repayment.paid.v1"}', "missing_field (data)"),
        ('{"type": "repayment.forgiven.v1", "data": {}}', "unknown_type (type)"),
        ('{"type": "repayment.paid.v1", "data": {"lender": "a", "borrower_ref": "13900001234"}}', "missing_field"),
        ("[1]", "is not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_row_is_told_by_its_place_and_nothing_is_planned(tmp_path: Path, row: str, problem: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(EXAMPLE.read_text() + row + "\n")
    out, err = run("plan", path, code=2)
    assert out == ""
    assert f"{path}:9: " in err
    assert problem in err
    assert "13900001234" not in err
    assert err.endswith("1 bad row\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("plan", EXAMPLE, "--cadence", "gentle"), "no cadence 'gentle'; there are: default"),
        (("plan", EXAMPLE, "--picture", "plan.png"), "--picture must end in .svg or .html"),
        (("plan", "missing.jsonl"), "missing.jsonl:0: cannot be read: No such file or directory"),
        (("plan", EXAMPLE, "--from", "soon"), "must be a date"),
        (("plan", EXAMPLE, "--from", "2026-12-02", "--to", "2026-12-01"), "--from is after --to"),
        (("plan", EXAMPLE, "--config", "gateway.yaml", "--cadence", "default"), "give either it, or --cadence"),
        (("cadence", "check", "nowhere"), "nowhere: is missing"),
        (("cadence", "explain", "--due", "9999-12-31"), "--due is at an end of the calendar"),
        (("cadence", "explain", "gentle"), "no cadence 'gentle'; there are: default/1"),
        (("cadence", "explain", "default/9"), "no cadence 'default/9'"),
        (("cadence", "explain", "--due", "soon"), "--due must be a date"),
        (("cadence", "diff", "default/1", "missing.yaml"), "missing.yaml: is missing"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[object, ...], problem: str) -> None:
    _, err = run(*arguments, code=2)
    assert problem in err


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "plan.svg"
    assert run("plan", EXAMPLE, "--picture", path, code=1) == (
        "", f"{path}: cannot be written: No such file or directory\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DEFAULT.read_text().replace("2026-01-01", "2026-13-01"), "month must be in 1..12"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: \x00", "control characters are not allowed"),
        ("", "Expected `object`, got `null`"),
    ],
)
def test_whatever_is_no_cadence_is_said(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "2.yaml"
    path.write_text(text)
    _, err = run("cadence", "check", path, code=2)
    assert err.startswith("2.yaml: ")
    assert problem in err


def test_what_is_no_file_of_a_cadence_is_said(tmp_path: Path) -> None:
    (tmp_path / "a" / "1.yaml").mkdir(parents=True)
    assert run("cadence", "explain", tmp_path / "a" / "1.yaml", code=2)[1] == (
        "1.yaml: cannot be read: Is a directory\n1 problem\n"
    )
    (tmp_path / "a" / "2.yml").write_text(DEFAULT.read_text())
    assert run("cadence", "check", tmp_path, code=2)[1].splitlines() == [
        "a/2.yml: must end in .yaml", "a/1.yaml: cannot be read: Is a directory", "2 problems",
    ]  # fmt: skip


def test_no_version_is_in_force_yet(tmp_path: Path) -> None:
    folder = tmp_path / "default"
    folder.mkdir()
    (folder / "1.yaml").write_text(DEFAULT.read_text().replace("effective: 2026-01-01", "effective: 2027-01-01"))
    _, err = run("plan", EXAMPLE, "--cadences", tmp_path, code=2)
    assert err == "no version of default is effective on 2026-11-20\n"


def test_check_tells_every_problem(tmp_path: Path, second: Path) -> None:
    assert run("cadence", "check") == ("default/1: 12 occasions, effective 2026-01-01\n", "")
    assert run("cadence", "check", second)[0] == "default/2: 12 occasions, effective 2026-01-01\n"
    text = DEFAULT.read_text()
    (tmp_path / "bad.yaml").write_text(text.replace("days: -7", "days: 7").replace("days: 3\n", "days: 1\n"))
    _, err = run("cadence", "check", tmp_path / "bad.yaml", code=2)
    assert err.splitlines() == [
        "bad.yaml: d7: days: stage d7 is before the due date",
        "bad.yaml: t3: has the stage and step of t1: one contact cannot be both",
        "2 problems",
    ]
    (tmp_path / "mute.yaml").write_text(text.replace("template: repayment", "template: nothing", 1))
    _, err = run("cadence", "check", tmp_path / "mute.yaml", code=2)
    assert err.splitlines() == ["default/1: d7: template: there is none of that name", "1 problem"]


def test_explain_says_when_by_an_example() -> None:
    text, _ = run("cadence", "explain", "--due", "2026-12-10")
    assert text.startswith("default/1, effective 2026-01-01.")
    (due,) = [line for line in text.splitlines() if line.startswith(" due ")]
    assert "2026-12-11" in due
    assert "at once after debit_failed" in due


def test_diff_says_what_would_change(second: Path) -> None:
    text, total = run("cadence", "diff", "default/1", second)
    assert text.splitlines() == ["grace_days: 1 -> 0", "t15.days: 15 -> 14"]
    assert total == "2 changed\n"
    text, total = run("cadence", "diff", "default/1", second, "--facts", EXAMPLE)
    assert total == "2 changed, 9 moved\n"
    assert "loan-7001/2 t1: skipped (in_grace) -> contact 2027-01-11 02:10Z by sms" in text
    lines = [json.loads(line) for line in run("cadence", "diff", "default/1", second, "--json")[0].splitlines()]
    assert lines == [
        {"occasion": "", "field": "grace_days", "was": 1, "becomes": 0},
        {"occasion": "t15", "field": "days", "was": 15, "becomes": 14},
    ]
    assert run("cadence", "diff", "default", "default/1") == ("", "0 changed\n")

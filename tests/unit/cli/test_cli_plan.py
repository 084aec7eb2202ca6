"""`plan` and `cadence`: what would go out, and what would change, without touching anyone."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cadence.loading import PACKAGED
from gateway.cli import app

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "plan.jsonl"
DEFAULT = PACKAGED / "default" / "1.yaml"


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})
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
    assert len([line for line in table.splitlines() if line.startswith("│")]) == 40
    (due,) = [line for line in table.splitlines() if "debit_failed" in line]
    assert [cell.strip() for cell in due.strip("│").split("│")] == [
        "loan-7001", "1", "due", "2026-12-10 10:30", "Asia/Shanghai", "12-10 02:30", "sms", "contact", "debit_failed",
    ]  # fmt: skip


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
    assert all("2026-12-10" <= at < "2026-12-14" for at in gone)
    assert {line["fate"] for line in lines} == {"contact", "merged", "skipped", "ahead"}
    _, total = run("plan", EXAMPLE, "--from", "2026-12-10", "--to", "2026-12-14")
    assert total.endswith("+ 4 earlier\n")


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
    assert text.startswith("<!doctype html>") == (suffix == ".html")


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
        (("cadence", "explain", "gentle"), "no cadence 'gentle'; there are: default/1"),
        (("cadence", "explain", "default/9"), "no cadence 'default/9'"),
        (("cadence", "explain", "--due", "soon"), "--due must be a date"),
        (("cadence", "diff", "default/1", "missing.yaml"), "missing.yaml: is missing"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[object, ...], problem: str) -> None:
    _, err = run(*arguments, code=2)
    assert problem in err


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
    (due,) = [line for line in text.splitlines() if line.startswith("│ due ")]
    assert "2026-12-11" in due
    assert "at once after debit_failed" in due


def test_diff_says_what_would_change(second: Path) -> None:
    text, total = run("cadence", "diff", "default/1", second)
    assert text.splitlines() == ["grace_days: 1 -> 0", "t15.days: 15 -> 14"]
    assert total == "2 changed\n"
    text, total = run("cadence", "diff", "default/1", second, "--facts", EXAMPLE)
    assert total == "2 changed, 9 moved\n"
    assert "loan-7001/2 t1: skipped (in_grace) -> contact 2027-01-11 02:04Z by sms" in text
    lines = [json.loads(line) for line in run("cadence", "diff", "default/1", second, "--json")[0].splitlines()]
    assert lines == [
        {"occasion": "", "field": "grace_days", "was": 1, "becomes": 0},
        {"occasion": "t15", "field": "days", "was": 15, "becomes": 14},
    ]
    assert run("cadence", "diff", "default", "default/1") == ("", "0 changed\n")

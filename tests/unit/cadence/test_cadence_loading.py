"""Cadences that contradict themselves do not load, and say where."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cadence.loading import PACKAGED, CadenceError, load, read
from gateway.content import Catalogue

OCCASION: dict[str, Any] = {
    "name": "t3", "stage": "overdue_early", "days": 3, "window": {"opens": "09:00", "closes": "20:00", "spread": "2h"},
    "template": "repayment", "tone": "neutral", "ladder": [{"channel": "sms"}], "max_fact_age": "1d",
}  # fmt: skip
CADENCE: dict[str, Any] = {"name": "short", "version": 1, "effective": dt.date(2026, 1, 1), "occasions": [OCCASION]}


def write(root: Path, *cadences: dict[str, Any]) -> Path:
    for each in cadences:
        path = root / each["name"] / f"{each['version']}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(each))
    return root


def occasion(**values: Any) -> dict[str, Any]:
    return {**OCCASION, **values}


def problems(root: Path, **values: Any) -> list[str]:
    with pytest.raises(CadenceError) as caught:
        load(write(root, {**CADENCE, **values}))
    return caught.value.problems


def test_what_is_packaged_loads_and_its_templates_have_words_for_all_of_it() -> None:
    catalogue = Catalogue.load()
    cadences = load(PACKAGED)
    assert "default" in cadences.by_name
    for versions in cadences.by_name.values():
        for cadence in versions:
            for each in cadence.occasions:
                assert catalogue.covers(each.template, each.stage, [rung.channel for rung in each.ladder]) is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"days": 0}, "t3: days: stage overdue_early is after the due date"),
        ({"stage": "d7"}, "t3: days: stage d7 is before the due date"),
        ({"stage": "due"}, "t3: days: stage due is on the due date"),
        ({"pulled_by": "debit_failed"}, "t3: pulled_by: only the due notice can be the answer to a debit"),
        ({"window": {"opens": "20:00", "closes": "09:00"}}, "t3: window: must close later than it opens"),
        ({"window": {"opens": "09:00", "closes": "10:00", "spread": "61m"}}, "t3: window.spread: must fit"),
        ({"ladder": [{"channel": "sms"}, {"channel": "sms"}]}, "t3: ladder: has a channel twice"),
        ({"ladder": [{"channel": "sms", "confirm": "opened"}]}, "t3: ladder: only push can be opened, not sms"),
        ({"ladder": [{"channel": "push", "confirm": "answered"}]}, "t3: ladder: only voice can be answered, not push"),
        ({"ladder": [{"channel": "sms", "advance_after": "1h"}]}, "t3: ladder: there is nothing to advance to"),
        (
            {"ladder": [{"channel": "push", "confirm": "accepted", "advance_after": "1h"}, {"channel": "sms"}]},
            "t3: ladder: nothing is waited for where it is enough that the provider accepts",
        ),
        ({"on_unknown": "lookup"}, "t3: on_unknown: no provider can be asked yet what became of a message"),
        ({"on_unknown": "resend"}, "t3: on_unknown: only a push that is sent again replaces"),
    ],
)  # fmt: skip
def test_an_occasion_that_contradicts_itself(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    (found,) = problems(tmp_path, occasions=[occasion(**values)])
    assert found.startswith(f"short/1.yaml: {problem}")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"days": 999}, "Expected `int` <= 365 - at `$.occasions[0].days`"),
        ({"window": {"opens": "24:00", "closes": "20:00"}}, "at `$.occasions[0].window.opens`"),
        ({"max_fact_age": "soon"}, "at `$.occasions[0].max_fact_age`"),
        ({"ladder": []}, "at `$.occasions[0].ladder`"),
        ({"tone": "harsh"}, "Invalid enum value 'harsh' - at `$.occasions[0].tone`"),
        ({"surprise": 1}, "Object contains unknown field `surprise`"),
        ({"requires": ["rumour"]}, "Invalid enum value 'rumour'"),
    ],
)
def test_a_value_that_cannot_be(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    (found,) = problems(tmp_path, occasions=[occasion(**values)])
    assert problem in found


def test_two_occasions_that_are_one_contact(tmp_path: Path) -> None:
    same = problems(tmp_path, occasions=[occasion(), occasion(name="again")])
    assert same == ["short/1.yaml: again: has the stage and step of t3: one contact cannot be both"]
    named = problems(tmp_path, occasions=[occasion(), occasion(days=4)])
    assert named == ["short/1.yaml: t3: is there twice"]
    before = {"stage": "d7", "days": -7}
    assert problems(tmp_path, occasions=[occasion(**before), occasion(name="d8", stage="d7", days=-8)]) == [
        "short/1.yaml: d8: has the stage and step of t3: one contact cannot be both"
    ]


def test_versions_follow_each_other(tmp_path: Path) -> None:
    later = {**CADENCE, "version": 2, "effective": dt.date(2026, 6, 1)}
    cadences = load(write(tmp_path, CADENCE, later))
    assert [str(each) for each in cadences.by_name["short"]] == ["short/1", "short/2"]
    in_force = [cadences.in_force("short", dt.date(2026, month, 1)) for month in (1, 5, 6, 12)]
    assert [each and each.version for each in in_force] == [1, 1, 2, 2]
    assert cadences.in_force("short", dt.date(2025, 12, 31)) is None
    assert cadences.in_force("long", dt.date(2026, 12, 1)) is None
    assert cadences.version("short", 1) == cadences.by_name["short"][0]
    assert cadences.version("short", 3) is None
    with pytest.raises(CadenceError, match=r"short/2\.yaml: effective: must be after that of 1"):
        load(write(tmp_path, CADENCE, {**later, "effective": dt.date(2026, 1, 1)}))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CadenceError, match="no cadence"):
        load(tmp_path)
    write(tmp_path, CADENCE)
    (tmp_path / "short" / "1.yaml").rename(tmp_path / "short" / "one.yaml")
    (tmp_path / "short" / "2.yaml").write_text("a: [")
    (tmp_path / "short" / "3.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(CadenceError) as caught:
        load(tmp_path)
    assert [each.split(":")[0] for each in caught.value.problems] == ["short/2.yaml", "short/3.yaml", "short/one.yaml"]
    with pytest.raises(CadenceError, match="is missing"):
        read(tmp_path / "short" / "4.yaml")

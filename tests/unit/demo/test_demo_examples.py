"""What the demo offers to be sent where the files of the README are not at hand."""

import datetime as dt
import json
from pathlib import Path

from gateway.cli.events import event
from gateway.cli.facts import Row, read
from gateway.dev.demo import cast
from schemas.repayments import RepaymentPlanned

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)


def test_the_request_is_one() -> None:
    assert event(cast.example(), "s", NOW).id == "my-request-1"


def test_the_plan_is_one(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(cast.plan()))
    ((_, row),) = read([path], "s", NOW)
    assert isinstance(row, Row), row
    assert isinstance(row.fact, RepaymentPlanned)
    assert [each.due_date for each in row.fact.instalments] == [dt.date(2026, 11, 30)]
